/* tail_call: the function that changes is never called, only jumped to. */
#include <stdio.h>
#include <windows.h>
#ifdef NEW_BUILD
#define SHARE 10
#else
#define SHARE 1
#endif

__attribute__((noinline)) int last(int x) {
    __asm__ volatile("" : "+r"(x));
    return x * 3 + SHARE;
}

__attribute__((noinline)) int first(int x) {
    __asm__ volatile("" : "+r"(x));
    __attribute__((musttail)) return last(x);
}

int main(void) {
    for (;;) {
        printf("sum %d\n", first(100));
        fflush(stdout);
        Sleep(10);
    }
}
