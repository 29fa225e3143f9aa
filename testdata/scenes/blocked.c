/* blocked FOLDER: four threads wait in the system, each called by a function that changes. They are woken when the file 1, 2, 3... of the folder
 * exists, and print what their function gives. */
#include <stdio.h>
#include <windows.h>
#ifdef NEW_BUILD
#define SHARE 10
#else
#define SHARE 1
#endif

static HANDLE event, reading, writing;
static volatile LONG entered;

static int given(int x) {
    __asm__ volatile("" : "+r"(x));
    return x * SHARE;
}

__attribute__((noinline)) int in_wait(void) {
    InterlockedIncrement(&entered);
    WaitForSingleObject(event, INFINITE);
    return given(1);
}

__attribute__((noinline)) int in_sleep(void) {
    InterlockedIncrement(&entered);
    SleepEx(INFINITE, TRUE);
    return given(2);
}

__attribute__((noinline)) int in_read(void) {
    char byte;
    DWORD done;
    InterlockedIncrement(&entered);
    ReadFile(reading, &byte, 1, &done, NULL);
    return given(3);
}

__attribute__((noinline)) int in_message(void) {
    MSG message;
    InterlockedIncrement(&entered);
    GetMessageA(&message, NULL, 0, 0);
    return given(4);
}

static int (*const functions[])(void) = {in_wait, in_sleep, in_read, in_message};
static HANDLE threads[4];
static DWORD ids[4];
static volatile LONG results[4], finished, told;

static DWORD WINAPI work(void *index) {
    MSG message;
    PeekMessageA(&message, NULL, 0, 0, PM_NOREMOVE); /* Makes the queue. */
    for (;;) {
        results[(size_t)index] = functions[(size_t)index]();
        LONG round = (InterlockedIncrement(&finished) + 3) / 4;
        /* All come back, and are told of, before one goes in again. */
        while (told < round) {
            Sleep(1);
        }
    }
}

static void CALLBACK nothing(ULONG_PTR parameter) { (void)parameter; }

int main(int count, char **arguments) {
    char file[MAX_PATH];
    DWORD done;
    event = CreateEventA(NULL, FALSE, FALSE, NULL);
    CreatePipe(&reading, &writing, NULL, 0);
    for (size_t index = 0; index < 4; index++) {
        threads[index] = CreateThread(NULL, 0, work, (void *)index, 0, &ids[index]);
    }
    for (LONG round = 1;; round++) {
        while (entered < 4 * round) {
            Sleep(1);
        }
        printf("blocked %ld\n", round);
        fflush(stdout);
        snprintf(file, sizeof file, "%s\\%ld", arguments[count - 1], round);
        while (GetFileAttributesA(file) == INVALID_FILE_ATTRIBUTES) {
            Sleep(10);
        }
        Sleep(50); /* The last one is really in the system by now. */
        SetEvent(event);
        QueueUserAPC(nothing, threads[1], 0);
        WriteFile(writing, "x", 1, &done, NULL);
        PostThreadMessageA(ids[3], WM_USER, 0, 0);
        while (finished < 4 * round) {
            Sleep(1);
        }
        printf("gave %ld %ld %ld %ld\n", results[0], results[1], results[2], results[3]);
        fflush(stdout);
        told = round;
    }
}
