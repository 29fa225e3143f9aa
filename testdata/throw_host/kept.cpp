// Frames that stay: they catch what the changed functions throw, and are left by exceptions on their way.
#include "throw_host.h"

extern "C" uint32 unwound = 0;

NOINLINE uint32 kept_throw(uint32 n) {
    throw Error{n};
}

NOINLINE uint32 kept_throw_special(uint32 n) {
    throw Special{{n}};
}

NOINLINE uint32 kept_catch(uint32 n) {
    const Guard guard;
    try {
        return changed_throw(n);
    } catch (const Error &error) {
        return error.code;
    }
}

NOINLINE uint32 kept_outer(uint32 n) {
    try {
        return changed_middle(n);
    } catch (const Special &) {
        return 1;
    } catch (const Error &error) {
        return error.code;
    }
}

NOINLINE uint32 kept_inner(uint32 n) {
    const Guard guard;
    return changed_throw(n) + 1;
}

NOINLINE uint32 kept_middle(uint32 n) {
    const Guard guard;
    return changed_inner(n) + 1;
}

NOINLINE uint32 kept_rethrown(uint32 n) {
    try {
        return changed_rethrow(n);
    } catch (const Special &special) {
        return special.code;
    }
}

NOINLINE uint32 kept_rethrow(uint32 n) {
    const Guard guard;
    try {
        return changed_throw_special(n);
    } catch (...) {
        unwound++;
        throw;
    }
}

NOINLINE uint32 kept_translated(uint32 n) {
    try {
        return changed_translate(n);
    } catch (const Special &special) {
        return special.code;
    } catch (const Error &) {
        return 2;
    }
}
