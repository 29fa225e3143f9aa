/* births: threads that live for one call of the function, as many as the machine makes. */
#include <stdio.h>
#include <windows.h>
#ifdef NEW_BUILD
#define SHARE 10
#else
#define SHARE 1
#endif

static volatile LONG born, old_results, new_results, wrong;

__attribute__((noinline)) int give(int x) {
    __asm__ volatile("" : "+r"(x));
    return x * 3 + SHARE;
}

static DWORD WINAPI live(void *nothing) {
    (void)nothing;
    int given = give(100);
    InterlockedIncrement(given == 301 ? &old_results : given == 310 ? &new_results : &wrong);
    return 0;
}

static DWORD WINAPI bear(void *nothing) {
    for (;;) {
        HANDLE child = CreateThread(NULL, 0, live, nothing, 0, NULL);
        if (child == NULL || WaitForSingleObject(child, INFINITE) != WAIT_OBJECT_0) {
            InterlockedIncrement(&wrong);
        }
        CloseHandle(child);
        InterlockedIncrement(&born);
    }
}

int main(void) {
    for (int count = 0; count < 4; count++) {
        CloseHandle(CreateThread(NULL, 0, bear, NULL, 0, NULL));
    }
    for (;;) {
        LONG before_old = old_results, before_new = new_results;
        Sleep(50);
        printf("born %ld old %ld new %ld wrong %ld\n", born, old_results - before_old, new_results - before_new, wrong);
        fflush(stdout);
    }
}
