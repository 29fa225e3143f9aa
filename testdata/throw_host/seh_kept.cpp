/* `__try` in frames that stay. */
#include "throw_host.h"

extern "C" __declspec(dllimport) void RaiseException(uint32 code, uint32 flags, uint32 count, const uint64 *arguments);

/* An exception of software for even numbers, one of the processor for odd ones. */
NOINLINE void kept_fault(uint32 n) {
    if (n % 2 == 0) {
        RaiseException(0xe0000000u + n, 0, 0, 0);
    } else {
        *(volatile uint32 *)(uint64)16 = n;
    }
}

uint32 caught_code = 0;

/* Notes the code: Wine tells it to filters only. */
static NOINLINE int kept_filter(uint32 code) {
    caught_code = code;
    return code == 0xc0000005u || code >= 0xe0000000u;
}

uint32 kept_except(uint32 n) {
    __try {
        changed_fault(n);
        return 0;
    } __except (kept_filter(_exception_code())) {
        return caught_code % 100000;
    }
}

uint32 kept_finally(uint32 n) {
    __try {
        changed_fault(n);
    } __finally {
        unwound++;
    }
    return n;
}

uint32 kept_except_far(uint32 n) {
    __try {
        return changed_finally(n);
    } __except (kept_filter(_exception_code())) {
        return caught_code % 100000;
    }
}
