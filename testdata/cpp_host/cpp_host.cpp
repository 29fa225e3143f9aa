// cpp_host: a long-running C++ program in Microsoft's ABI, for hpgen to compare and to patch.
//
//     cpp_host SECONDS [STOP_FILE]
//
// It ends after SECONDS, or as soon as STOP_FILE exists, with exit code 0 (1 for a failure, 2 for wrong usage).
// About every 20 ms it does a step and prints one line:
//
//     seq N sum S shapes A caught C unwound U
//
//   N  1, 2, 3, ... without a gap
//   S  a checksum over all steps so far of the engine: commands in tables, lambdas, templates, exceptions
//   A  a checksum over the shapes, which are told apart by virtual functions and dynamic_cast
//   C  exceptions caught so far
//   U  guards destroyed so far, most of them by an exception on its way
//
// The last line is `done N S`. The values depend on N alone: two runs print the same lines.
#include "engine.h"
#include "shapes.h"

namespace {

constexpr uint32 standard_output = static_cast<uint32>(-11);
constexpr uint32 no_file = static_cast<uint32>(-1);

// Collects a line and writes it at once.
class Line {
  public:
    Line &operator<<(const char *text) {
        for (; *text != 0; text++) {
            put(*text);
        }
        return *this;
    }

    Line &operator<<(uint32 number) {
        char digits[11];
        char *first = digits + sizeof digits - 1;
        *first = 0;
        do {
            *--first = static_cast<char>('0' + number % 10);
            number /= 10;
        } while (number != 0);
        return *this << static_cast<const char *>(first);
    }

    // The destructor ends the line.
    ~Line() {
        put('\n');
        uint32 written;
        WriteFile(GetStdHandle(standard_output), text_, static_cast<uint32>(length_), &written, nullptr);
    }

  private:
    void put(char c) {
        if (length_ < sizeof text_) {
            text_[length_++] = c;
        }
    }

    char text_[200];
    size_t length_ = 0;
};

uint32 number(const char *text) {
    uint32 value = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + static_cast<uint32>(*text - '0');
    }
    if (*text != 0) {
        throw Error(2);
    }
    return value;
}

int run(uint32 seconds, const char *stop_file) {
    const uint32 start = GetTickCount();
    Engine engine;
    Shapes shapes;
    make_shapes(shapes);
    uint32 step = 0, sum = 0;
    while (GetTickCount() - start < seconds * 1000) {
        if (stop_file != nullptr && GetFileAttributesA(stop_file) != no_file) {
            break;
        }
        sum = engine.step(++step);
        Line() << "seq " << step << " sum " << sum << " shapes " << step_shapes(shapes, step) << " caught "
               << engine.caught() << " unwound " << engine.unwound();
        Sleep(20);
    }
    Line() << "done " << step << " " << sum;
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        Line() << "usage: cpp_host SECONDS [STOP_FILE]";
        return 2;
    }
    try {
        return run(number(argv[1]), argc == 3 ? argv[2] : nullptr);
    } catch (const Error &error) {
        Line() << "cpp_host: error " << error.code();
        return static_cast<int>(error.code());
    }
}
