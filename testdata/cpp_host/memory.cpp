// Memory for objects. In a file of its own: where the compiler sees these bodies it inlines them, and then the copies of an inline
// function that the files bring differ; which one a program has would depend on the link order.
#include "host.h"

void *operator new(size_t size) { return malloc(size); }
void operator delete(void *memory) noexcept { free(memory); }
void operator delete(void *memory, size_t) noexcept { free(memory); }
