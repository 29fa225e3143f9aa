/* The part of Microsoft's C runtime that is linked into a program, for programs of ours in Microsoft's ABI.
 *
 * The rest of that runtime is in ucrtbase.dll and vcruntime140.dll, which Wine ships as Windows does; import libraries for them are made
 * from the DLLs (xtask/src/msvc_abi.rs). Here is what no DLL can hold: the entry point, thread-local storage of the
 * image, and what the compiler calls by name.
 */
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef void (*Initialiser)(void);

/* Set by the compiler's code that uses floating point; its value is never looked at. */
int _fltused = 0x9875;

/* Dynamic initialisers: the linker sorts sections by what follows the `$`. */
#pragma section(".CRT$XCA", long, read)
#pragma section(".CRT$XCZ", long, read)
__declspec(allocate(".CRT$XCA")) static const Initialiser first_initialiser = 0;
__declspec(allocate(".CRT$XCZ")) static const Initialiser last_initialiser = 0;

/* Thread-local storage: the template between `.tls` and `.tls$ZZZ`, the callbacks between .CRT$XLA and .CRT$XLZ. */
#pragma section(".tls", long, read, write)
#pragma section(".tls$ZZZ", long, read, write)
#pragma section(".CRT$XLA", long, read)
#pragma section(".CRT$XLZ", long, read)
#pragma section(".rdata$T", long, read)
__declspec(allocate(".tls")) char _tls_start = 0;
__declspec(allocate(".tls$ZZZ")) char _tls_end = 0;
__declspec(allocate(".CRT$XLA")) const void *const __xl_a = 0;
__declspec(allocate(".CRT$XLZ")) const void *const __xl_z = 0;
uint32 _tls_index = 0;

/* IMAGE_TLS_DIRECTORY64 */
typedef struct {
    const void *start, *end;
    const uint32 *index;
    const void *const *callbacks;
    uint32 zero_fill, characteristics;
} TlsDirectory;

__declspec(allocate(".rdata$T")) const TlsDirectory _tls_used = {
    &_tls_start, &_tls_end, &_tls_index, &__xl_a + 1, 0, 0,
};

/* Probes the stack page by page for frames larger than one page. RAX: the frame's size, kept like all other registers. */
__attribute__((naked)) void __chkstk(void) {
    __asm__("pushq %rcx\n"
            "pushq %rax\n"
            "cmpq $0x1000, %rax\n"
            "leaq 24(%rsp), %rcx\n"
            "jb 2f\n"
            "1: subq $0x1000, %rcx\n"
            "testb %cl, (%rcx)\n"
            "subq $0x1000, %rax\n"
            "cmpq $0x1000, %rax\n"
            "ja 1b\n"
            "2: subq %rax, %rcx\n"
            "testb %cl, (%rcx)\n"
            "popq %rax\n"
            "popq %rcx\n"
            "retq\n");
}

/* The table of virtual functions of `type_info`, which every type descriptor begins with. Nobody calls through it. */
const void *const type_info_table[2] __asm__("??_7type_info@@6B@") = {0, 0};

/* Local statics that are initialised once, as the compiler asks for it: 0 not yet, -1 in progress, else the epoch at which
 * it was done; a thread whose own epoch is not older need not ask. */
__declspec(dllimport) void Sleep(unsigned long milliseconds);
static volatile long in_initialiser;
static int global_epoch = (int)0x80000000;
__declspec(thread) int _Init_thread_epoch = (int)0x80000000;

static void enter(void) {
    while (__sync_lock_test_and_set(&in_initialiser, 1)) {
        Sleep(0);
    }
}

static void leave(void) {
    __sync_lock_release(&in_initialiser);
}

void _Init_thread_header(int *state) {
    enter();
    while (*state == -1) {
        leave();
        Sleep(0);
        enter();
    }
    if (*state == 0) {
        *state = -1;
    } else {
        _Init_thread_epoch = global_epoch;
    }
    leave();
}

void _Init_thread_footer(int *state) {
    enter();
    *state = ++global_epoch;
    _Init_thread_epoch = global_epoch;
    leave();
}

void _Init_thread_abort(int *state) {
    enter();
    *state = 0;
    leave();
}

__declspec(dllimport) int _crt_atexit(Initialiser function);
int atexit(Initialiser function) {
    return _crt_atexit(function);
}

/* _crt_argv_unexpanded_arguments */
#define ARGUMENTS_AS_GIVEN 1
__declspec(dllimport) int _configure_narrow_argv(int mode);
__declspec(dllimport) int _initialize_narrow_environment(void);
__declspec(dllimport) int *__p___argc(void);
__declspec(dllimport) char ***__p___argv(void);
__declspec(dllimport) void exit(int code);
int main(int argc, char **argv);

void mainCRTStartup(void) {
    _configure_narrow_argv(ARGUMENTS_AS_GIVEN);
    _initialize_narrow_environment();
    for (const volatile Initialiser *i = &first_initialiser; i < &last_initialiser; i++) {
        const Initialiser initialiser = *i;
        if (initialiser != 0) {
            initialiser();
        }
    }
    exit(main(*__p___argc(), *__p___argv()));
}
