/* Frames of several shapes for walks to go through: a large one, one with saved registers, one that allocates. */
#include "throw_host.h"

NOINLINE uint32 sum_of(const volatile uint32 *numbers, uint32 count) {
    uint32 sum = 0;
    for (uint32 i = 0; i < count; i++) {
        sum += numbers[i];
    }
    return sum;
}

/* What the walk below misses, and in the thousands which build this is. */
NOINLINE uint32 changed_walk(uint32 depth) {
    volatile uint32 large[1500];
    volatile uint32 *moving = (volatile uint32 *)__builtin_alloca(16 * (depth + 1));
    note_return(static_cast<void *const *>(_AddressOfReturnAddress()));
    for (uint32 i = 0; i < 1500; i++) {
        large[i] = i;
    }
    for (uint32 i = 0; i < 4 * (depth + 1); i++) {
        moving[i] = i;
    }
    const uint32 missed = depth == 0 ? walk() : kept_walk(depth - 1);
    const uint32 sum = sum_of(large, 1500) + sum_of(moving, 4 * (depth + 1));
    forget_return();
    return missed + (sum == 0) + (MARK == 1000 ? 1000000 : 0);
}
