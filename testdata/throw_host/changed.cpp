// Frames that a payload replaces: each differs between the builds in MARK.
#include "throw_host.h"

NOINLINE uint32 changed_throw(uint32 n) {
    throw Error{n * MARK};
}

NOINLINE uint32 changed_throw_special(uint32 n) {
    throw Special{{n * MARK}};
}

NOINLINE uint32 changed_catch(uint32 n) {
    const Guard guard;
    try {
        return kept_throw(n);
    } catch (const Error &error) {
        return error.code * MARK;
    }
}

NOINLINE uint32 changed_middle(uint32 n) {
    const Guard guard;
    return kept_inner(n + MARK) + 1;
}

NOINLINE uint32 changed_outer(uint32 n) {
    try {
        return kept_middle(n);
    } catch (const Error &error) {
        return error.code * MARK;
    }
}

NOINLINE uint32 changed_inner(uint32 n) {
    const Guard guard;
    return kept_throw(n + MARK) + 1;
}

NOINLINE uint32 changed_rethrow(uint32 n) {
    const Guard guard;
    try {
        return kept_throw_special(n);
    } catch (...) {
        unwound += MARK;
        throw;
    }
}

NOINLINE uint32 changed_rethrown(uint32 n) {
    try {
        return kept_rethrow(n);
    } catch (const Special &special) {
        return special.code + MARK;
    }
}

NOINLINE uint32 changed_translate(uint32 n) {
    try {
        return kept_throw(n);
    } catch (const Error &error) {
        const Guard guard;
        throw Special{{error.code * MARK}};
    }
}

// A catch block in which something is thrown and caught again, while the first exception lives.
NOINLINE uint32 changed_nested(uint32 n) {
    try {
        return kept_throw(n);
    } catch (const Error &error) {
        uint32 inner = 0;
        try {
            inner = kept_rethrow(n + 1);
        } catch (const Special &special) {
            inner = special.code;
        }
        return error.code * MARK + inner;
    }
}
