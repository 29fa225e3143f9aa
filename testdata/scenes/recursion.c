/* recursion GO: walks down, waits at the bottom of the first walk until the file GO exists, and comes back up; each frame adds its build's share. */
#include <stdio.h>
#include <windows.h>
#ifdef NEW_BUILD
#define SHARE 10
#else
#define SHARE 1
#endif

static const char *go;

__attribute__((noinline)) static void bottom(void) {
    static int has_waited;
    if (!has_waited) {
        printf("bottom\n");
        fflush(stdout);
        while (GetFileAttributesA(go) == INVALID_FILE_ATTRIBUTES) {
            Sleep(10);
        }
        has_waited = 1;
    }
}

__attribute__((noinline)) int walk(int depth) {
    if (depth == 0) {
        bottom();
        return 0;
    }
    int below = walk(depth - 1);
    __asm__ volatile("" : "+r"(below)); /* No loop is made of it. */
    return below + SHARE;
}

int main(int count, char **arguments) {
    go = arguments[count - 1];
    for (;;) {
        printf("sum %d\n", walk(8));
        fflush(stdout);
        Sleep(20);
    }
}
