/* hpgen_hooks.h: functions of a fix that are called as its patch goes in and out.
 *
 *     static int convert(void) {
 *         ...
 *         return 0;                     anything else keeps the patch out
 *     }
 *     HPGEN_PRE_APPLY(convert)
 *
 * Write the macro in one C or C++ file of the fixed build, outside of any function, without a semicolon. Of a kind there may be several: they are
 * called in the order in which they are linked, in a file from top to bottom, behind those that are found by their names (`hpgen_pre_apply…`).
 * They run in the patched process while its threads run. A hook before applying keeps the patch out, one before a rollback keeps it in, by returning
 * another value than 0; what the others return is not looked at.
 *
 * The macro puts a record into the section `.hpgen` of the image: the kind, a mark, and the function's address.
 */
#ifndef HPGEN_HOOKS_H
#define HPGEN_HOOKS_H

struct hpgen_hook {
    unsigned kind; /* 1 before applying, 2 after applying, 3 before a rollback, 4 after a rollback */
    unsigned mark;
    int (*function)(void);
};

#define HPGEN_HOOK_MARK 0x4b4f4f48u /* "HOOK" */

#ifdef __cplusplus
#define HPGEN_HOOK_LINKAGE extern "C"
#else
#define HPGEN_HOOK_LINKAGE extern
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#pragma section(".hpgen", read)
#define HPGEN_HOOK(kind, name, function)                                                                                         \
    __pragma(comment(linker, "/include:" #name)) HPGEN_HOOK_LINKAGE const struct hpgen_hook name;                                \
    __declspec(allocate(".hpgen")) const struct hpgen_hook name = {kind, HPGEN_HOOK_MARK, function};
#else
#define HPGEN_HOOK(kind, name, function)                                                                                         \
    HPGEN_HOOK_LINKAGE const struct hpgen_hook name;                                                                             \
    __attribute__((section(".hpgen"), used)) const struct hpgen_hook name = {kind, HPGEN_HOOK_MARK, function};
#endif

#define HPGEN_PRE_APPLY(function) HPGEN_HOOK(1, hpgen_hook_1_##function, function)
#define HPGEN_POST_APPLY(function) HPGEN_HOOK(2, hpgen_hook_2_##function, function)
#define HPGEN_PRE_ROLLBACK(function) HPGEN_HOOK(3, hpgen_hook_3_##function, function)
#define HPGEN_POST_ROLLBACK(function) HPGEN_HOOK(4, hpgen_hook_4_##function, function)

#endif /* HPGEN_HOOKS_H */
