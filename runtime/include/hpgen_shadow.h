/* hpgen_shadow.h: new state for objects that a running process has already.
 *
 * A fix may need one more field in a structure of which the process holds live objects. Their layout cannot change under
 * its feet, but memory can be attached to each: keyed by the object's address and a number that the fix chooses.
 *
 *     struct extra *e = hpgen_shadow_get_or_make(object, MY_FIX, sizeof *e);   zeroed the first time
 *     if (e) e->hits++;
 *     ...
 *     hpgen_shadow_drop(object, MY_FIX);                                       when the object dies
 *
 * The table is a variable of the payload like any other new one: the next payload of the series takes it over with all that hangs
 * on it. A rollback leaves it: call `hpgen_shadow_drop_all` from a hook called `hpgen_post_rollback` to give the memory back.
 *
 * In one C or C++ file of the fixed build, define HPGEN_SHADOW_IMPLEMENTATION before including this. Needs nothing but kernel32.
 * All functions may be called from any thread. None of them calls back.
 */
#ifndef HPGEN_SHADOW_H
#define HPGEN_SHADOW_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The memory attached to an object under a number, or null. */
void *hpgen_shadow_get(const void *object, unsigned number);

/* The same; where there is none yet, `size` zeroed bytes are attached. Null when memory is out. */
void *hpgen_shadow_get_or_make(const void *object, unsigned number, size_t size);

/* Gives back what is attached to an object under a number. */
void hpgen_shadow_drop(const void *object, unsigned number);

/* Gives back what is attached under a number to any object. */
void hpgen_shadow_drop_all(unsigned number);

#ifdef __cplusplus
}
#endif

#endif /* HPGEN_SHADOW_H */

#ifdef HPGEN_SHADOW_IMPLEMENTATION
#ifndef HPGEN_SHADOW_IMPLEMENTED
#define HPGEN_SHADOW_IMPLEMENTED

#ifndef _WINDOWS_
/* As windows.h declares them. */
#ifdef __cplusplus
extern "C" {
#endif
__declspec(dllimport) void *__stdcall GetProcessHeap(void);
__declspec(dllimport) void *__stdcall HeapAlloc(void *heap, unsigned long flags, size_t size);
__declspec(dllimport) int __stdcall HeapFree(void *heap, unsigned long flags, void *memory);
__declspec(dllimport) void __stdcall Sleep(unsigned long milliseconds);
#ifdef __cplusplus
}
#endif
#endif

#define HPGEN_SHADOW_BUCKETS 256
#define HPGEN_SHADOW_ZEROED 8u

struct hpgen_shadow {
    struct hpgen_shadow *next;
    const void *object;
    unsigned number;
};

/* On the heap, so that new code never computes with the address of a new array. */
static struct hpgen_shadow **hpgen_shadow_table;
static volatile long hpgen_shadow_lock;

static void hpgen_shadow_enter(void) {
    while (__atomic_exchange_n(&hpgen_shadow_lock, 1, __ATOMIC_ACQUIRE)) {
        Sleep(0);
    }
}

static void hpgen_shadow_leave(void) { __atomic_store_n(&hpgen_shadow_lock, 0, __ATOMIC_RELEASE); }

static size_t hpgen_shadow_bucket(const void *object, unsigned number) {
    size_t key = (size_t)object >> 4;
    return (key ^ key >> 8 ^ number * 37u) % HPGEN_SHADOW_BUCKETS;
}

/* Where the link to the wanted entry is, or would be. Needs the lock and the table. */
static struct hpgen_shadow **hpgen_shadow_find(const void *object, unsigned number) {
    struct hpgen_shadow **link = hpgen_shadow_table + hpgen_shadow_bucket(object, number);
    while (*link && ((*link)->object != object || (*link)->number != number)) {
        link = &(*link)->next;
    }
    return link;
}

static void hpgen_shadow_unlink(struct hpgen_shadow **link) {
    struct hpgen_shadow *entry = *link;
    *link = entry->next;
    HeapFree(GetProcessHeap(), 0, entry);
}

void *hpgen_shadow_get(const void *object, unsigned number) {
    struct hpgen_shadow *entry;
    hpgen_shadow_enter();
    entry = hpgen_shadow_table ? *hpgen_shadow_find(object, number) : 0;
    hpgen_shadow_leave();
    return entry ? entry + 1 : 0;
}

void *hpgen_shadow_get_or_make(const void *object, unsigned number, size_t size) {
    struct hpgen_shadow *entry = 0;
    hpgen_shadow_enter();
    if (!hpgen_shadow_table) {
        hpgen_shadow_table = (struct hpgen_shadow **)HeapAlloc(
            GetProcessHeap(), HPGEN_SHADOW_ZEROED, HPGEN_SHADOW_BUCKETS * sizeof *hpgen_shadow_table);
    }
    if (hpgen_shadow_table) {
        struct hpgen_shadow **link = hpgen_shadow_find(object, number);
        if (!*link && size <= (size_t)-1 - sizeof *entry) {
            entry = (struct hpgen_shadow *)HeapAlloc(GetProcessHeap(), HPGEN_SHADOW_ZEROED, sizeof *entry + size);
            if (entry) {
                entry->object = object;
                entry->number = number;
                *link = entry;
            }
        }
        entry = *link;
    }
    hpgen_shadow_leave();
    return entry ? entry + 1 : 0;
}

void hpgen_shadow_drop(const void *object, unsigned number) {
    hpgen_shadow_enter();
    if (hpgen_shadow_table) {
        struct hpgen_shadow **link = hpgen_shadow_find(object, number);
        if (*link) {
            hpgen_shadow_unlink(link);
        }
    }
    hpgen_shadow_leave();
}

void hpgen_shadow_drop_all(unsigned number) {
    size_t bucket;
    hpgen_shadow_enter();
    for (bucket = 0; hpgen_shadow_table && bucket < HPGEN_SHADOW_BUCKETS; bucket++) {
        struct hpgen_shadow **link = hpgen_shadow_table + bucket;
        while (*link) {
            if ((*link)->number == number) {
                hpgen_shadow_unlink(link);
            } else {
                link = &(*link)->next;
            }
        }
    }
    hpgen_shadow_leave();
}

#endif /* HPGEN_SHADOW_IMPLEMENTED */
#endif /* HPGEN_SHADOW_IMPLEMENTATION */
