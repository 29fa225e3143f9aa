// Frames that stay: they catch types that the new build alone has, by what both have.
#include "throw_host.h"

NOINLINE Weighty::Weighty(uint32 weight) : weight(weight) {}
NOINLINE Weighty::Weighty(const Weighty &other) : weight(other.weight) { unwound += 10; }
NOINLINE Weighty::~Weighty() { unwound += 100; }

NOINLINE uint32 kept_fresh_by_base(uint32 n) {
    const Guard guard;
    try {
        return changed_throw_fresh(n);
    } catch (const Special &) {
        return 2;
    } catch (const Error &error) {
        return error.code;
    }
}

NOINLINE uint32 kept_fresh_by_any(uint32 n) {
    const Guard guard;
    try {
        return changed_throw_fresh(n);
    } catch (...) {
        return 3;
    }
}

NOINLINE uint32 kept_pass(uint32 n) {
    const Guard guard;
    return changed_throw_fresh(n) + 1;
}

NOINLINE uint32 kept_fresh_rethrown(uint32 n) {
    try {
        return changed_rethrow_fresh(n);
    } catch (const Error &error) {
        return error.code;
    }
}

NOINLINE uint32 kept_weighty(uint32 n) {
    try {
        return changed_throw_weighty(n);
    } catch (Weighty weighty) {
        return weighty.weight;
    }
}

NOINLINE uint32 kept_number(uint32 n) {
    try {
        return changed_throw_number(n);
    } catch (const char *text) {
        return 1000000 + static_cast<uint32>(text[0]);
    } catch (const Error &error) {
        return error.code;
    }
}
