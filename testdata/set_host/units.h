/* What the program and its DLL agree on. */
#pragma once

#ifdef UNITS
#define UNITS_API __declspec(dllexport)
#else
#define UNITS_API __declspec(dllimport)
#endif

#ifdef EXPORT
UNITS_API const char *unit_name(unsigned grams);
#endif

/* The amount in the unit that the program names. */
UNITS_API unsigned units_of(unsigned grams);
