// throw_host: exceptions and stack walks through frames of old and new code.
//
//     throw_host SECONDS [STOP_FILE]
//
// It ends after SECONDS, or as soon as STOP_FILE exists, with exit code 0 (2 for wrong usage). About every 20 ms it does a step
// and prints one line of numbers that depend on the number of the step and on the build alone: `seq N`, then a name and a
// value for each case. The last line is `done N`. The walk's numbers are what the two walks miss: 0 is right (1000000 for each
// frame of the new build on the stack is added).
#include "throw_host.h"

extern "C" {
__declspec(dllimport) void *GetStdHandle(uint32 which);
__declspec(dllimport) int WriteFile(void *file, const void *bytes, uint32 count, uint32 *written, void *overlapped);
__declspec(dllimport) uint32 GetFileAttributesA(const char *name);
__declspec(dllimport) uint32 GetTickCount();
}

namespace {

// Collects a line and writes it at once.
class Line {
  public:
    void text(const char *text) {
        while (*text != 0 && length_ < sizeof bytes_) {
            bytes_[length_++] = *text++;
        }
    }

    void number(uint32 number) {
        char digits[11];
        char *first = digits + sizeof digits - 1;
        *first = 0;
        do {
            *--first = static_cast<char>('0' + number % 10);
            number /= 10;
        } while (number != 0);
        text(first);
    }

    void item(const char *name, uint32 value) {
        text(name);
        number(value);
    }

    void write() {
        text("\n");
        uint32 written;
        WriteFile(GetStdHandle(static_cast<uint32>(-11)), bytes_, length_, &written, nullptr);
    }

  private:
    char bytes_[1024];
    uint32 length_ = 0;
};

// A case, and how much it unwound.
void item(Line &line, const char *name, uint32 (*run)(uint32), uint32 n) {
    unwound = 0;
    line.item(name, run(n));
    line.item("/", unwound);
}

} // namespace

// One step. Noted as the frame that every walk must reach: what called it is main.
NOINLINE static void step(uint32 n) {
    note_return(static_cast<void *const *>(_AddressOfReturnAddress()));
    Line line;
    line.item("seq ", n);
    item(line, " old-catches-new ", kept_catch, n);
    item(line, " new-catches-old ", changed_catch, n);
    item(line, " old-over-new-over-old ", kept_outer, n);
    item(line, " new-over-old-over-new ", changed_outer, n);
    item(line, " new-rethrows ", kept_rethrown, n);
    item(line, " old-rethrows ", changed_rethrown, n);
    item(line, " new-translates ", kept_translated, n);
    item(line, " nested ", changed_nested, n);
    item(line, " fresh-by-base ", kept_fresh_by_base, n);
    item(line, " fresh-by-any ", kept_fresh_by_any, n);
    item(line, " fresh-by-itself ", changed_fresh_by_itself, n);
    item(line, " fresh-by-value ", changed_fresh_by_value, n);
    item(line, " fresh-rethrown ", kept_fresh_rethrown, n);
    item(line, " weighty ", kept_weighty, n);
    item(line, " number ", kept_number, n);
    item(line, " old-excepts-new ", kept_except, n);
    item(line, " new-excepts-old ", changed_except, n);
    item(line, " finally-in-new ", kept_except_far, n);
    item(line, " finally-in-old ", changed_except_far, n);
    item(line, " walk-from-old ", kept_walk, 1 + n % 2 * 2);
    item(line, " walk-from-new ", changed_walk, 2 + n % 2 * 2);
    forget_return();
    line.write();
}

int main(int argc, char **argv) {
    note_return(static_cast<void *const *>(_AddressOfReturnAddress()));
    uint32 seconds = 0;
    for (const char *digit = argc > 1 ? argv[1] : ""; *digit >= '0' && *digit <= '9'; digit++) {
        seconds = seconds * 10 + static_cast<uint32>(*digit - '0');
    }
    if (seconds == 0) {
        return 2;
    }
    const uint32 start = GetTickCount();
    uint32 n = 0;
    while (GetTickCount() - start < seconds * 1000 && (argc < 3 || GetFileAttributesA(argv[2]) == static_cast<uint32>(-1))) {
        step(++n);
        kept_rest(3);
    }
    Line line;
    line.item("done ", n);
    line.write();
    return 0;
}
