/* The program: names the unit that the DLL counts in. Whoever has one build of the DLL must have the same build of the program. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

#include "units.h"

__attribute__((noinline)) static const char *unit(unsigned round) {
#if defined EXPORT
    return unit_name(round);
#elif defined FIX
    return round ? "decigrams" : "fix";
#else
    return round ? "grams" : "base";
#endif
}

int main(int count, char **arguments) {
    unsigned rounds = count > 1 ? (unsigned)strtoul(arguments[1], NULL, 10) : 1;
    for (unsigned round = 1; round <= rounds; round++) {
        unsigned amount = units_of(round);
        printf("round %u is %u %s\n", round, amount, unit(round));
        fflush(stdout);
        Sleep(10);
    }
    return 0;
}
