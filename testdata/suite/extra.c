/* Functions and data that nothing uses, for the metamorphic suite (xtask/src/suite): as an object of its own in front of all others, and
 * in front of each source. Nothing that was there before may change by it.
 *
 * Everything that is new has HPGEN_EXTRA in its name, so that the suite tells it from what should be there; the macro
 * HPGEN_EXTRA is a name that differs from file to file.
 */
#ifndef HPGEN_EXTRA
#define HPGEN_EXTRA hpgen_extra
#endif
#define HPGEN_JOIN2(a, b) a##_##b
#define HPGEN_JOIN(a, b) HPGEN_JOIN2(a, b)
#define HPGEN_NAME(name) HPGEN_JOIN(HPGEN_EXTRA, name)
#define HPGEN_KEEP __attribute__((used, noinline))

#ifdef __cplusplus
extern "C" {
#endif

unsigned HPGEN_NAME(counter) = 7;
extern const unsigned HPGEN_NAME(table)[5];
const unsigned HPGEN_NAME(table)[5] = {2, 3, 5, 7, 11};

/* A local static, a string, an end of an array. */
HPGEN_KEEP const char *HPGEN_NAME(text)(unsigned n) {
    static unsigned hpgen_extra_calls;
    hpgen_extra_calls += n;
    for (const unsigned *p = HPGEN_NAME(table); p != HPGEN_NAME(table) + 5; p++) {
        hpgen_extra_calls ^= *p + HPGEN_NAME(counter);
    }
    return hpgen_extra_calls % 2 ? "an odd string that nobody reads" : "an even one";
}

/* A jump table. */
HPGEN_KEEP unsigned HPGEN_NAME(choose)(unsigned n) {
    switch (n) {
    case 0: return HPGEN_NAME(counter)++;
    case 1: return HPGEN_NAME(text)(n)[0];
    case 2: return n << HPGEN_NAME(counter);
    case 3: return HPGEN_NAME(table)[HPGEN_NAME(counter) % 5];
    case 4: HPGEN_NAME(counter) = 12; return 9;
    case 5: return n / (HPGEN_NAME(counter) | 1);
    default: return ~n;
    }
}

/* Floating point constants, which compilers keep as anonymous data. They need a symbol of the C runtime. */
#ifndef HPGEN_NO_RUNTIME
HPGEN_KEEP double HPGEN_NAME(scale)(double x) {
    return x * 1.2345678 + HPGEN_NAME(choose)((unsigned)x) * 3.25;
}
#endif

#ifdef __cplusplus
}
#endif
