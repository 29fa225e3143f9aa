/* hpgen_runtime.h: a C or C++ program that takes hpgen's payloads into itself while it runs.
 *
 *     hpgen_patcher *patcher;
 *     hpgen_applied applied;
 *     char error[512];
 *     if (hpgen_patcher_open(HPGEN_ABI, &patcher) != HPGEN_OK) return;
 *     hpgen_trust(patcher, release_key);
 *     if (hpgen_apply_file(patcher, "fix.hpx", &applied, error, sizeof error) == HPGEN_OK)
 *         log("patch %s: %u functions are new", applied.patch_id, applied.functions);
 *     else
 *         log("%s", error);
 *     ...
 *     hpgen_rollback(patcher, NULL, NULL, error, sizeof error);
 *     hpgen_patcher_close(patcher);
 *
 * Link with hpgen_runtime.dll (its import library), or with the static library and the system's ntdll, userenv, ws2_32 and dbghelp.
 * Windows on x64. `cargo xtask runtime` builds them, each twice: those in `embed` are small and lack hpgen_follow_files, hpgen_follower_close and hpgen_stand_probation; those in
 * `embed-full` have all.
 *
 * Rules
 * - A function that returns int32_t returns one of the HPGEN_ codes below, which are the exit codes of `hpgen`. With any other than HPGEN_OK
 *   the process is as it was before, and `error` has a sentence for people, in UTF-8, cut to the room that is there and always ended by a
 *   zero. `error` may be NULL; after HPGEN_OK it is empty.
 * - Nothing is handed out that must be freed, but the handles: `..._open` has its `..._close`. What a pointer of the caller's leads to
 *   is used during the call only.
 * - Functions that apply and roll back stop all other threads for a moment. Any thread may call them that holds no lock of the
 *   system's loader: not DllMain, nor a thread that it waits for. A patcher may be used by several threads at once, but not while it is changed
 *   (hpgen_trust, hpgen_allow_unsigned, hpgen_set_patience) or closed.
 * - Closing a patcher leaves the patches where they are: they are the process's. Unload the DLL only when hpgen_status tells of none.
 */
#ifndef HPGEN_RUNTIME_H
#define HPGEN_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. */
#define HPGEN_ABI 1u

/* How a call ended. */
#define HPGEN_OK 0        /* done */
#define HPGEN_ERROR 1     /* something given is wrong: a file that is no payload, a patch that is not there */
#define HPGEN_USAGE 2     /* a call that is wrong whatever the process: a null pointer, another header's version */
#define HPGEN_REFUSED 5   /* the process or the policy refuses: another build, a signature that does not count, a thread in the way */
#define HPGEN_DEFECT 101  /* the library failed: please report the text */

/* How far a patch is. */
#define HPGEN_PREPARED 1u /* in memory, nothing redirected: an apply is going on, or was interrupted */
#define HPGEN_APPLIED 2u  /* the old functions lead to the new ones */
#define HPGEN_RETIRED 3u  /* rolled back; its memory is kept because a thread may still return into it */
#define HPGEN_REPLACED 4u /* a payload of a higher series took its place */

/* How a probation ended. */
#define HPGEN_NOT_ON_PROBATION 0u /* the payload asks for none, or its time is over */
#define HPGEN_PASSED 1u           /* nothing speaks against the patch */
#define HPGEN_FAILED 2u           /* the patch was found bad, and is rolled back */
#define HPGEN_STUCK 3u            /* the same, but it could not be rolled back */
#define HPGEN_MOOT 4u             /* somebody took the patch out, or put another one in its place */

/* Whose payloads are let in, and how long it is tried. */
typedef struct hpgen_patcher hpgen_patcher;

/* A patch in this process, as it is in one of its images. */
typedef struct hpgen_patch {
    uint64_t sequence;        /* counts up with every patch that goes into the process */
    uint64_t image_base;      /* where the patched image is */
    uint64_t region_base;     /* where the patch's memory is */
    uint64_t region_size;
    uint64_t applied_at;      /* seconds since 1970 */
    uint64_t stopped_us;      /* for how long threads stood still, in microseconds */
    uint32_t state;           /* HPGEN_APPLIED and so on */
    uint32_t series;          /* place among the payloads of the image */
    uint32_t threads_stopped; /* how many threads stood still */
    uint32_t functions;       /* how many functions the patch redirects */
    uint32_t redirected;      /* how many lead to their new body at this moment: others were overwritten by somebody else */
    uint32_t reserved;
    char patch_id[24];        /* 16 hexadecimal digits: the first eight bytes of the payload's seal */
    char image[264];          /* the image's file name, UTF-8 */
} hpgen_patch;

/* A patch that was just applied, in all of its images. */
typedef struct hpgen_applied {
    uint64_t stopped_us;
    uint32_t images;         /* how many images it changed */
    uint32_t functions;      /* how many functions it redirected */
    uint32_t threads_stopped;
    uint32_t series;
    char patch_id[24];
} hpgen_applied;

/* A finished rollback. */
typedef struct hpgen_rolled_back {
    uint64_t stopped_us;
    uint32_t functions;      /* how many have their old entry again */
    uint32_t threads_stopped;
    uint32_t memory_kept;    /* not 0: something still leads into the patch's memory; roll back again later to have it freed */
    uint32_t kept_by_thread; /* id of the thread that may return into it, where it is one */
    char patch_id[24];
} hpgen_rolled_back;

/* What applies payloads to DLLs that are loaded later. */
typedef struct hpgen_follower hpgen_follower;
typedef void (*hpgen_told)(void *context, const char *patch_id, int32_t code, const hpgen_applied *applied, const char *error);

/* How a patch stood its probation. */
typedef struct hpgen_probation {
    uint32_t end;            /* HPGEN_PASSED and so on */
    uint32_t reserved;
    char patch_id[24];       /* empty for HPGEN_NOT_ON_PROBATION */
    char why[512];           /* what speaks against it, UTF-8 */
} hpgen_probation;

/* The version of the library: that of its header, and of hpgen ("0.1.0"). */
uint32_t hpgen_runtime_abi(void);
const char *hpgen_runtime_version(void);

/* Makes a patcher that trusts nobody yet. Pass HPGEN_ABI. On failure *patcher is NULL. */
int32_t hpgen_patcher_open(uint32_t abi, hpgen_patcher **patcher);
void hpgen_patcher_close(hpgen_patcher *patcher);

/* Lets payloads in that are signed with this Ed25519 public key of 32 bytes (RFC 8032). Keys add up. */
int32_t hpgen_trust(hpgen_patcher *patcher, const uint8_t *key);

/* Lets payloads in that nobody signed, or somebody unknown: for development. 0 takes it back. */
int32_t hpgen_allow_unsigned(hpgen_patcher *patcher, int32_t allow);

/* How long it is tried again while a thread stands where bytes have to be written; 2000 without this. */
int32_t hpgen_set_patience(hpgen_patcher *patcher, uint32_t milliseconds);

/* Applies a payload: a file by its name in UTF-8 or UTF-16, or its bytes. `applied` may be NULL. */
int32_t hpgen_apply_file(const hpgen_patcher *patcher, const char *path, hpgen_applied *applied, char *error, size_t error_size);
int32_t hpgen_apply_file_w(const hpgen_patcher *patcher, const wchar_t *path, hpgen_applied *applied, char *error, size_t error_size);
int32_t hpgen_apply_memory(const hpgen_patcher *patcher, const void *payload, size_t payload_size, hpgen_applied *applied, char *error,
                           size_t error_size);

/* Takes the patch of that id out, or with NULL the newest. `result` may be NULL. */
int32_t hpgen_rollback(const hpgen_patcher *patcher, const char *patch_id, hpgen_rolled_back *result, char *error, size_t error_size);

/* Applies payloads to DLLs that are loaded later, as soon as they are, and to what is loaded now; anew when a DLL is unloaded and loaded again. Each payload is let in as by
 * hpgen_apply_file, now; if one is not, none is followed. A thread of the follower's own applies them: a DLL's entry point and initialisers run unpatched. That thread calls
 * `told`, unless it is NULL, with how each attempt ended: HPGEN_OK and the patch, or another code and why. Not told: that no image of a payload is loaded yet, and that a thread
 * stood in the way, since it is tried again then. What it is given is there during the call. It may apply and roll back, but not close the follower. */
int32_t hpgen_follow_files(const hpgen_patcher *patcher, const char *const *paths, size_t count, hpgen_told told, void *context,
                           hpgen_follower **follower, char *error, size_t error_size);

/* Ends it and waits for its thread; what was applied stays. Not to be called by `told`, nor by a thread that holds the loader's lock (DllMain). */
void hpgen_follower_close(hpgen_follower *follower);

/* Watches the patch of that id, or with NULL the newest, where its payload asks for that (`hpgen build --probation`): calls its health checks on this thread, and looks at exceptions that
 * nobody handles. It returns when the probation has ended, and so is called by a thread that has nothing else to do; one that has failed is rolled back by then. */
int32_t hpgen_stand_probation(const hpgen_patcher *patcher, const char *patch_id, hpgen_probation *result, char *error, size_t error_size);

/* Tells the patches in this process, the oldest first, one record for each image of a patch: at most `capacity` are written, and *count is how many there are.
 * `patches` may be NULL to have them counted. */
int32_t hpgen_status(const hpgen_patcher *patcher, hpgen_patch *patches, size_t capacity, size_t *count, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif
