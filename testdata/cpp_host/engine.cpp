// The engine's commands and how their errors are handled.
#include "engine.h"

// Notes when a scope is left, by whatever way.
class Guard {
  public:
    explicit Guard(Engine &engine) : engine_(engine) {}
    ~Guard() { engine_.unwound_++; }

  private:
    Engine &engine_;
};

namespace {

// shapes.cpp has functions and variables of these names too, which do something else.
uint32 calls = 100;

NOINLINE uint32 scale(uint32 value) {
    calls += 2;
    return value * 5 ^ calls;
}

// Filled before main.
uint32 squares[16];
struct Squares {
    Squares() {
        for (uint32 i = 0; i < 16; i++) {
            squares[i] = i * i + scale(i) % 1;
        }
    }
    uint32 operator[](uint32 index) const { return squares[index % 16]; }
} const table;

thread_local uint32 depth_reached = 0;
thread_local uint32 history[4] = {1, 2, 3, 4};

uint32 add(uint32 a, uint32 b) { return a + b; }
uint32 subtract(uint32 a, uint32 b) { return a - b; }
uint32 multiply(uint32 a, uint32 b) { return a * b; }
uint32 divide(uint32 a, uint32 b) {
    if (b == 0) {
        throw Error(7);
    }
    return a / b;
}

struct Operation {
    const char *name;
    uint32 (*apply)(uint32, uint32);
    uint32 weight;
};

const Operation operations[] = {
    {"add", add, 1},
    {"subtract", subtract, 2},
    {"multiply", multiply, 3},
    {"divide", divide, 4},
};

// A local static that is filled when it is first needed, with a guard.
const Operation &heaviest() {
    static const Operation *const found = [] {
        const Operation *best = operations;
        for (const Operation &operation : operations) {
            best = operation.weight > best->weight ? &operation : best;
        }
        return best;
    }();
    return *found;
}

// A jump table: the cases do different things.
NOINLINE uint32 dispatch(uint32 command, uint32 x) {
    switch (command) {
    case 0: return scale(x);
    case 1: return table[x] + 1;
    case 2: return x << (x & 7);
    case 3: return mix(x, x >> 3);
    case 4: return mix_text(x, "four");
    case 5: return ++history[x & 3];
    case 6: throw OutOfRange{x, command};
    case 7: return operations[x & 3].apply(x, x & 3);
    case 8: return heaviest().weight + x;
    case 9: throw x;
    default: return ~x;
    }
}

// A table of strings, which compilers make of a switch that returns them.
NOINLINE const char *describe(uint32 command) {
    switch (command) {
    case 0: return "scaling";
    case 1: return "a square";
    case 2: return "a shift";
    case 3: return "a mixture";
    case 4: return "text";
    case 5: return "history";
    case 6: return "out of range";
    case 7: return "an operation";
    default: return "something else";
    }
}

template <typename Function> NOINLINE uint32 twice(Function function, uint32 value) {
    return function(function(value));
}

} // namespace

uint32 Engine::descend(uint32 depth) {
    const Guard guard(*this);
    if (depth > depth_reached) {
        depth_reached = depth;
    }
    if (depth >= 5) {
        throw Overflow(3, depth);
    }
    return descend(depth + 1) + 1;
}

uint32 Engine::execute(uint32 command, uint32 operand) {
    const Guard guard(*this);
    if (command == 10) {
        return descend(operand % 4);
    }
    if (command == 11) {
        Vector<uint32> empty;
        return empty.at(operand);
    }
    return mix_text(dispatch(command, operand), describe(command));
}

uint32 Engine::guarded(uint32 command, uint32 operand) {
    try {
        try {
            return execute(command, operand);
        } catch (const Overflow &overflow) {
            caught_++;
            if (overflow.depth() != 5) {
                throw;
            }
            return overflow.code();
        } catch (uint32 value) {
            caught_++;
            throw Error(value % 1000);
        }
    } catch (const Error &error) {
        caught_++;
        return error.code() + 1;
    } catch (const OutOfRange &range) {
        caught_ += 2;
        return static_cast<uint32>(range.index * 10 + range.size);
    } catch (...) {
        return 0;
    }
}

uint32 Engine::step(uint32 number) {
    Vector<uint32> results;
    for (uint32 command = 0; command < 13; command++) {
        const uint32 result = guarded(command, number * 7 + command);
        results.push(mix(result, seen_.count(result % 64) + small_.count(static_cast<uint8>(result))));
    }
    const bool up = number % 2 != 0;
    sort(results.begin(), results.end(), [up](uint32 a, uint32 b) { return up ? a < b : b < a; });
    sort(results.begin(), results.end(), [](uint32 a, uint32 b) { return (a & 15) < (b & 15); });
    const uint32 bias = sum_ & 0xff;
    sum_ = fold(results.begin(), results.end(), sum_, [&](uint32 sum, uint32 value) {
        return mix(sum, twice([bias](uint32 x) { return x * 3 + bias; }, value));
    });
    sum_ = mix(sum_, twice([](uint32 x) { return x ^ x >> 5; }, seen_.sum() + small_.sum()) + depth_reached);
    return sum_;
}
