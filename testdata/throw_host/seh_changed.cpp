/* `__try` in frames that a payload replaces, filters included. */
#include "throw_host.h"

extern "C" __declspec(dllimport) void RaiseException(uint32 code, uint32 flags, uint32 count, const uint64 *arguments);

NOINLINE void changed_fault(uint32 n) {
    if (n % 2 == 0) {
        RaiseException(0xe0000000u + n * MARK, 0, 0, 0);
    } else {
        unwound += MARK;
        *(volatile uint32 *)(uint64)24 = n;
    }
}

static NOINLINE int changed_filter(uint32 code) {
    unwound += MARK;
    caught_code = code;
    return code == 0xc0000005u || code >= 0xe0000000u;
}

uint32 changed_except(uint32 n) {
    __try {
        kept_fault(n);
        return 0;
    } __except (changed_filter(_exception_code())) {
        return caught_code % 100000 + MARK;
    }
}

uint32 changed_finally(uint32 n) {
    __try {
        return kept_finally(n);
    } __finally {
        unwound += MARK;
    }
}

uint32 changed_except_far(uint32 n) {
    __try {
        return kept_finally(n);
    } __except (changed_filter(_exception_code())) {
        return caught_code % 100000 + MARK;
    }
}
