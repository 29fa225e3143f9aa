/* The frame of the corpus's drivers: a program that keeps calling a library.
 *
 *     driver PROBE STOPFILE SECONDS
 *
 * About every 20 ms it does all of `regression` and one input that a fix is about, and prints
 *     seq N regression HEX probe TEXT
 * N counts from 1; HEX is a checksum over everything that the library gave, the same in every line; TEXT, one word, says what
 * the library made of the input; `none` if PROBE is. It ends after SECONDS, or when STOPFILE exists; the last line is `done N`.
 * Exit code: 0, or 2 for wrong usage.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

/* What each driver has: a broad use of the library, and the inputs by name. */
static void regression(void);
static const char *probe(const char *name);

/* Functions of their own in every build: a payload can be told not to go in while they run. */
static __attribute__((noinline)) void run_regression(void) {
    regression();
}

static __attribute__((noinline)) const char *run_probe(const char *name) {
    return strcmp(name, "none") == 0 ? "none" : probe(name);
}

static uint64_t checksum;

/* Takes bytes into the checksum (FNV-1a). */
static void note(const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        checksum = (checksum ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    }
}

static void note_number(long long number) {
    note(&number, sizeof number);
}

static void note_text(const char *text) {
    note_number(text != NULL);
    if (text != NULL) {
        note(text, strlen(text) + 1);
    }
}

/* A probe's answer that is made of a number. */
static const char *numbered(const char *word, long long number) {
    static char text[64];
    snprintf(text, sizeof text, "%s:%lld", word, number);
    return text;
}

/* `faults(call)` does `call`, which may touch memory that it must not: true if it did. Whatever the library holds at that
 * moment is lost, so inputs that fault are small. */
static CONTEXT before_call;
static volatile int calling, faulted;

static LONG CALLBACK on_fault(EXCEPTION_POINTERS *pointers) {
    if (!calling || pointers->ExceptionRecord->ExceptionCode != EXCEPTION_ACCESS_VIOLATION) {
        return EXCEPTION_CONTINUE_SEARCH;
    }
    faulted = 1;
    calling = 0;
    *pointers->ContextRecord = before_call;
    return EXCEPTION_CONTINUE_EXECUTION;
}

static __attribute__((noinline, unused)) int faults(void (*call)(void)) {
    faulted = 0;
    calling = 1;
    RtlCaptureContext(&before_call);
    if (!faulted) {
        call();
    }
    calling = 0;
    return faulted;
}

/* `size` bytes right before a page that cannot be touched. */
static __attribute__((unused)) unsigned char *guarded(const void *bytes, size_t size) {
    size_t pages = (size + 0xfff) & ~(size_t)0xfff;
    unsigned char *memory = (unsigned char *)VirtualAlloc(NULL, pages + 0x1000, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    DWORD old;
    VirtualProtect(memory + pages, 0x1000, PAGE_NOACCESS, &old);
    if (bytes != NULL) {
        memcpy(memory + pages - size, bytes, size);
    }
    return memory + pages - size;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: driver PROBE STOPFILE SECONDS\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    AddVectoredExceptionHandler(1, on_fault);
    DWORD start = GetTickCount(), length = (DWORD)atoi(argv[3]) * 1000;
    long long steps = 0;
    do {
        char line[200];
        checksum = 0xcbf29ce484222325u;
        run_regression();
        uint64_t sum = checksum;
        snprintf(line, sizeof line, "seq %lld regression %016llx probe %s\n", ++steps, (unsigned long long)sum,
                 run_probe(argv[1]));
        fputs(line, stdout);
        Sleep(20);
    } while (GetTickCount() - start < length && GetFileAttributesA(argv[2]) == INVALID_FILE_ATTRIBUTES);
    printf("done %lld\n", steps);
    return 0;
}
