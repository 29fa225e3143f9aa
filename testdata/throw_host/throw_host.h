/* What the files of throw_host share. Functions called kept_... are the same in both builds, those called changed_... are not. */
#pragma once

using uint32 = unsigned int;
using uint64 = unsigned long long;

extern "C" {

/* Keeps a function a frame of its own. */
#define NOINLINE __attribute__((noinline, disable_tail_calls))

/* What tells the builds apart: 1 or 1000. */
#ifdef NEW
#define MARK 1000u
#else
#define MARK 1u
#endif

/* Guards destroyed, and clean-ups run, so far. */
extern uint32 unwound;

/* seh_kept.cpp, seh_changed.cpp */
extern uint32 caught_code;
uint32 kept_except(uint32 n);
uint32 changed_except(uint32 n);
uint32 kept_finally(uint32 n);
uint32 changed_finally(uint32 n);
void kept_fault(uint32 n);
void changed_fault(uint32 n);
uint32 kept_except_far(uint32 n);
uint32 changed_except_far(uint32 n);

/* walk.cpp, walk_changed.cpp: notes where the caller will return to; counts what a walk of the stack from here on up finds of what was noted. */
void note_return(void *const *place);
void forget_return(void);
uint32 walk(void);
uint32 kept_walk(uint32 depth);
uint32 changed_walk(uint32 depth);

/* rest.cpp: sleeps for 20 ms below so many frames of both kinds. */
uint32 kept_rest(uint32 depth);
uint32 changed_rest(uint32 depth);

}

/* kept.cpp, changed.cpp */
struct Error {
    uint32 code;
};
struct Special : Error {};

struct Guard {
    NOINLINE ~Guard() { unwound++; }
};

/* Copies and ends are counted: kept_types.cpp. */
struct Weighty {
    uint32 weight;
    explicit Weighty(uint32 weight);
    Weighty(const Weighty &other);
    ~Weighty();
};

uint32 kept_throw(uint32 n);
uint32 changed_throw(uint32 n);
uint32 kept_throw_special(uint32 n);
uint32 changed_throw_special(uint32 n);
uint32 kept_catch(uint32 n);
uint32 changed_catch(uint32 n);
uint32 kept_outer(uint32 n);
uint32 changed_middle(uint32 n);
uint32 kept_inner(uint32 n);
uint32 changed_outer(uint32 n);
uint32 kept_middle(uint32 n);
uint32 changed_inner(uint32 n);
uint32 kept_rethrown(uint32 n);
uint32 changed_rethrow(uint32 n);
uint32 changed_rethrown(uint32 n);
uint32 kept_rethrow(uint32 n);
uint32 kept_translated(uint32 n);
uint32 changed_translate(uint32 n);
uint32 changed_nested(uint32 n);

/* kept_types.cpp, changed_types.cpp */
uint32 kept_fresh_by_base(uint32 n);
uint32 kept_fresh_by_any(uint32 n);
uint32 kept_pass(uint32 n);
uint32 kept_fresh_rethrown(uint32 n);
uint32 kept_weighty(uint32 n);
uint32 kept_number(uint32 n);
uint32 changed_throw_fresh(uint32 n);
uint32 changed_fresh_by_itself(uint32 n);
uint32 changed_fresh_by_value(uint32 n);
uint32 changed_rethrow_fresh(uint32 n);
uint32 changed_throw_weighty(uint32 n);
uint32 changed_throw_number(uint32 n);
