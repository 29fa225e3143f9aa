/* Walks of the stack, as debuggers, profilers and crash reporters do them: frame by frame with the system's function tables. */
#include "throw_host.h"

constexpr uint32 MOST = 64;

/* CONTEXT: 1232 bytes, aligned to 16; RSP and RIP stand at 0x98 and 0xf8. */
typedef struct {
    __attribute__((aligned(16))) char bytes[1232];
} Context;

static uint64 *rsp_of(Context *context) { return reinterpret_cast<uint64 *>(context->bytes + 0x98); }
static uint64 *rip_of(Context *context) { return reinterpret_cast<uint64 *>(context->bytes + 0xf8); }

extern "C" __declspec(dllimport) void RtlCaptureContext(Context *context);
extern "C" __declspec(dllimport) unsigned short RtlCaptureStackBackTrace(uint32 skip, uint32 count, void **frames, uint32 *hash);
extern "C" __declspec(dllimport) const void *RtlLookupFunctionEntry(uint64 rip, uint64 *base, void *history);
extern "C" __declspec(dllimport) void *RtlVirtualUnwind(uint32 type, uint64 base, uint64 rip, const void *function, Context *context, void **data,
                                             uint64 *frame, void *pointers);

static uint64 noted[MOST];
static uint32 notes;

/* Takes the address that a frame will return to from its place on the stack. */
void note_return(void *const *place) {
    if (notes < MOST) {
        noted[notes] = (uint64)*place;
    }
    notes++;
}

void forget_return(void) { notes--; }

/* How many of the noted addresses are among these, in order, one directly behind the other, from the newest on. */
static uint32 in_order(const uint64 *found, uint32 count) {
    uint32 first = 0;
    while (first < count && found[first] != noted[notes - 1]) {
        first++;
    }
    uint32 matched = 0;
    while (matched < notes && first + matched < count && found[first + matched] == noted[notes - 1 - matched]) {
        matched++;
    }
    return matched;
}

/* By the two functions that debuggers use, one frame at a time. */
static uint32 by_unwinding(void) {
    uint64 found[MOST];
    uint32 count = 0;
    Context context;
    RtlCaptureContext(&context);
    while (count < MOST && *rip_of(&context) != 0) {
        uint64 base = 0, frame = 0;
        void *data = 0;
        const void *function = RtlLookupFunctionEntry(*rip_of(&context), &base, 0);
        if (function != 0) {
            RtlVirtualUnwind(0, base, *rip_of(&context), function, &context, &data, &frame, 0);
        } else {
            *rip_of(&context) = *(uint64 *)*rsp_of(&context);
            *rsp_of(&context) += 8;
        }
        found[count++] = *rip_of(&context);
    }
    return in_order(found, count);
}

static uint32 by_capture(void) {
    void *frames[MOST];
    uint64 found[MOST];
    const uint32 count = RtlCaptureStackBackTrace(0, MOST, frames, 0);
    for (uint32 i = 0; i < count; i++) {
        found[i] = (uint64)frames[i];
    }
    return in_order(found, count);
}

/* 0 where both walks find every frame that was noted; else what each of them misses. */
NOINLINE uint32 walk(void) {
    return (notes - by_unwinding()) * 100 + (notes - by_capture());
}

NOINLINE uint32 kept_walk(uint32 depth) {
    note_return(static_cast<void *const *>(_AddressOfReturnAddress()));
    const uint32 missed = depth == 0 ? walk() : changed_walk(depth - 1);
    forget_return();
    return missed;
}
