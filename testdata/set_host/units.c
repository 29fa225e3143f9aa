/* The DLL: counts in grams, and with FIX in tenths of them. */
#define UNITS
#include "units.h"

UNITS_API unsigned units_of(unsigned grams) {
#ifdef FIX
    return grams * 10;
#else
    return grams;
#endif
}
