/* The DLL: counts in grams, and with FIX in tenths of them. */
#define UNITS
#include "units.h"

#ifdef EXPORT
/* Only the fix's program asks for it, and only the fix has it. */
UNITS_API const char *unit_name(unsigned grams) {
    return grams ? "decigrams" : "nothing";
}
#endif

UNITS_API unsigned units_of(unsigned grams) {
#ifdef FIX
    return grams * 10;
#else
    return grams;
#endif
}
