/* hooked: a hooking library has put a jump over the function that changes. */
#include <stdio.h>
#include <string.h>
#include <windows.h>
#ifdef NEW_BUILD
#define SHARE 10
#else
#define SHARE 1
#endif

__attribute__((noinline)) int give(int x) {
    __asm__ volatile("" : "+r"(x));
    return x * 3 + SHARE;
}

__attribute__((noinline)) int hook(int x) {
    __asm__ volatile("" : "+r"(x));
    return x + 7;
}

int main(void) {
    DWORD before;
    char *entry = (char *)give;
    __asm__ volatile("" : "+r"(entry)); /* As a library does that is told where to hook. */
    int distance = (int)((char *)hook - (entry + 5));
    VirtualProtect(entry, 5, PAGE_EXECUTE_READWRITE, &before);
    *entry = (char)0xe9;
    memcpy(entry + 1, &distance, sizeof distance);
    VirtualProtect(entry, 5, before, &before);
    for (;;) {
        printf("sum %d\n", give(100));
        fflush(stdout);
        Sleep(10);
    }
}
