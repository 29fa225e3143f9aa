// Frames that a thread stays in, for whoever looks from outside.
#include "throw_host.h"

extern "C" __declspec(dllimport) void Sleep(uint32 milliseconds);

NOINLINE uint32 kept_rest(uint32 depth) {
    volatile uint32 sum = changed_rest(depth - 1);
    return sum + 1;
}

NOINLINE uint32 changed_rest(uint32 depth) {
    volatile uint32 large[1500];
    large[depth] = MARK;
    if (depth == 0) {
        Sleep(20);
    } else {
        large[depth] += kept_rest(depth - 1);
    }
    return large[depth];
}
