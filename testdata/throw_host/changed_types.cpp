// What the new build throws in place of the old: types that the old one has no word for.
#include "throw_host.h"

#ifdef NEW
struct changed_Fresh : Error {
    explicit changed_Fresh(uint32 code) : Error{code} {}
    NOINLINE changed_Fresh(const changed_Fresh &other) : Error{other.code} { unwound += 1000; }
    NOINLINE ~changed_Fresh() { unwound += 10000; }
};
struct changed_Heavy : Weighty {
    explicit changed_Heavy(uint32 weight) : Weighty(weight * MARK) {}
};
#define FRESH(code) changed_Fresh(code)
#define HEAVY(weight) changed_Heavy(weight)
typedef const changed_Fresh &Caught;
typedef changed_Fresh Copied;
#else
#define FRESH(code) (Error{code})
#define HEAVY(weight) Weighty(weight)
typedef const Error &Caught;
typedef Error Copied;
#endif

NOINLINE uint32 changed_throw_fresh(uint32 n) {
    if (n == 0) {
        return MARK;
    }
    throw FRESH(n * MARK);
}

NOINLINE uint32 changed_fresh_by_itself(uint32 n) {
    try {
        return kept_pass(n);
    } catch (Caught fresh) {
        return fresh.code + MARK;
    }
}

NOINLINE uint32 changed_fresh_by_value(uint32 n) {
    try {
        return kept_pass(n);
    } catch (Copied fresh) {
        return fresh.code + 2 * MARK;
    }
}

NOINLINE uint32 changed_rethrow_fresh(uint32 n) {
    const Guard guard;
    try {
        return kept_pass(n);
    } catch (...) {
        unwound += MARK;
        throw;
    }
}

NOINLINE uint32 changed_throw_weighty(uint32 n) {
    throw HEAVY(n);
}

// The old build catches pointers to text, and throws none.
NOINLINE uint32 changed_throw_number(uint32 n) {
#ifdef NEW
    if (n % 2 == 0) {
        throw "text";
    }
#endif
    throw Error{n * MARK};
}
