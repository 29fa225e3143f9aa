// mingw_throw_host: types that only the new build throws, in the Itanium ABI as mingw's compilers follow it.
//
//     mingw_throw_host STOP_FILE
//
// Every 20 ms it does a step, until STOP_FILE exists, and prints a line of numbers that depend on the number of the step and on the build alone.
// Functions called kept_... are the same in both builds, those called changed_... are not.
extern "C" {
__declspec(dllimport) void Sleep(unsigned milliseconds);
__declspec(dllimport) unsigned GetFileAttributesA(const char *name);
int printf(const char *format, ...);
int fflush(void *file);
}

#define NOINLINE __attribute__((noinline))

// Clean-ups run, and objects ended.
static unsigned unwound;

struct Error {
    unsigned code;
};

struct Guard {
    NOINLINE ~Guard() { unwound++; }
};

#ifdef NEW
#define MARK 1000u
struct changed_Fresh : Error {
    explicit changed_Fresh(unsigned code) : Error{code} {}
    changed_Fresh(const changed_Fresh &other) : Error{other.code} { unwound += 100; }
    NOINLINE ~changed_Fresh() { unwound += 10000; }
};
#define THROWN changed_Fresh
typedef const changed_Fresh &Caught;
#else
#define MARK 1u
#define THROWN Error
typedef const Error &Caught;
#endif

NOINLINE unsigned changed_throw(unsigned n) {
    if (n == 0) {
        return 0;
    }
    throw THROWN{n * MARK};
}

NOINLINE unsigned kept_by_base(unsigned n) {
    Guard guard;
    try {
        return changed_throw(n);
    } catch (const Error &error) {
        return error.code;
    }
}

NOINLINE unsigned kept_by_any(unsigned n) {
    Guard guard;
    try {
        return changed_throw(n) + 1;
    } catch (...) {
        return 3;
    }
}

NOINLINE unsigned kept_pass(unsigned n) {
    Guard guard;
    return changed_throw(n) + 1;
}

NOINLINE unsigned changed_by_itself(unsigned n) {
    try {
        return kept_pass(n);
    } catch (Caught caught) {
        return caught.code + MARK;
    }
}

NOINLINE unsigned changed_rethrow(unsigned n) {
    try {
        return kept_pass(n);
    } catch (...) {
        unwound += MARK;
        throw;
    }
}

NOINLINE unsigned kept_rethrown(unsigned n) {
    try {
        return changed_rethrow(n);
    } catch (const Error &error) {
        return error.code;
    }
}

static void item(const char *name, unsigned (*run)(unsigned), unsigned n) {
    unwound = 0;
    const unsigned value = run(n);
    printf(" %s %u/%u", name, value, unwound);
}

int main(int argc, char **argv) {
    for (unsigned n = 1; argc < 2 || GetFileAttributesA(argv[1]) == ~0u; n++) {
        printf("seq %u", n);
        item("by-base", kept_by_base, n);
        item("by-any", kept_by_any, n);
        item("by-itself", changed_by_itself, n);
        item("rethrown", kept_rethrown, n);
        printf("\n");
        fflush(nullptr);
        Sleep(20);
    }
}
