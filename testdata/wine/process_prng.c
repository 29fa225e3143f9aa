/* process_prng: the bcryptprimitives.dll that Rust's standard library asks for random numbers, and that Wine 8 lacks.
 *
 * A Rust program under Wine finds it when it lies in the program's folder. Windows has its own and does not need it.
 */
#include <windows.h>

/* Called RtlGenRandom in the documentation; advapi32.dll exports it under this name. */
BOOLEAN NTAPI SystemFunction036(PVOID bytes, ULONG count);

__declspec(dllexport) BOOL ProcessPrng(PBYTE bytes, SIZE_T count) {
    return SystemFunction036(bytes, (ULONG)count);
}
