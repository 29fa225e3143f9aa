/* YAJL, kept busy; see ../driver.h. */
#include "../driver.h"

#include <signal.h>

#include <yajl/yajl_gen.h>
#include <yajl/yajl_parse.h>
#include <yajl/yajl_tree.h>

static const char document[] =
    "{\"name\":\"hpgen \\u00fc\\ud83d\\ude00\",\"list\":[1,-2.5,3e5,true,false,null,\"\\t\\\"\"],/* comment */"
    "\"inner\":{\"a\":{\"b\":[{\"c\":1},{\"c\":2}]}},\"empty\":[],\"none\":{}}";

static int on_null(void *gen) { return yajl_gen_null((yajl_gen)gen) == yajl_gen_status_ok; }
static int on_bool(void *gen, int value) { return yajl_gen_bool((yajl_gen)gen, value) == yajl_gen_status_ok; }
static int on_number(void *gen, const char *text, size_t size) {
    return yajl_gen_number((yajl_gen)gen, text, size) == yajl_gen_status_ok;
}
static int on_string(void *gen, const unsigned char *text, size_t size) {
    return yajl_gen_string((yajl_gen)gen, text, size) == yajl_gen_status_ok;
}
static int on_map(void *gen) { return yajl_gen_map_open((yajl_gen)gen) == yajl_gen_status_ok; }
static int on_map_end(void *gen) { return yajl_gen_map_close((yajl_gen)gen) == yajl_gen_status_ok; }
static int on_array(void *gen) { return yajl_gen_array_open((yajl_gen)gen) == yajl_gen_status_ok; }
static int on_array_end(void *gen) { return yajl_gen_array_close((yajl_gen)gen) == yajl_gen_status_ok; }

static const yajl_callbacks callbacks = {on_null,   on_bool, NULL,       NULL,     on_number,   on_string,
                                         on_map,    on_string, on_map_end, on_array, on_array_end};

/* Parses in pieces and generates again. */
static void reformat(const char *text, size_t step, int beautify) {
    yajl_gen gen = yajl_gen_alloc(NULL);
    yajl_gen_config(gen, yajl_gen_beautify, beautify);
    yajl_gen_config(gen, yajl_gen_validate_utf8, 1);
    yajl_handle handle = yajl_alloc(&callbacks, NULL, gen);
    yajl_config(handle, yajl_allow_comments, 1);
    yajl_status status = yajl_status_ok;
    for (size_t done = 0, size = strlen(text); done < size && status == yajl_status_ok; done += step) {
        status = yajl_parse(handle, (const unsigned char *)text + done, size - done < step ? size - done : step);
    }
    if (status == yajl_status_ok) {
        status = yajl_complete_parse(handle);
    }
    note_number(status);
    if (status != yajl_status_ok) {
        unsigned char *message = yajl_get_error(handle, 1, (const unsigned char *)text, strlen(text));
        note_text((const char *)message);
        yajl_free_error(handle, message);
    }
    const unsigned char *made;
    size_t size;
    yajl_gen_get_buf(gen, &made, &size);
    note(made, size);
    yajl_free(handle);
    yajl_gen_free(gen);
}

static void regression(void) {
    reformat(document, 1000, 1);
    reformat(document, 7, 0);
    char text[200], message[200];
    static const char *const wrong[] = {"{", "[1,", "{\"a\" 1}", "[01x]", "[\"\\u12\"]", "nul", "{\"a\":}", "[\"\xff\"]", "[1]]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        reformat(wrong[i], 3, 0);
    }
    yajl_val tree = yajl_tree_parse(document, message, sizeof message);
    const char *path[] = {"inner", "a", "b", NULL};
    yajl_val found = yajl_tree_get(tree, path, yajl_t_array);
    note_number(YAJL_IS_ARRAY(found) ? (long long)found->u.array.len : -1);
    path[0] = "list";
    path[1] = NULL;
    found = yajl_tree_get(tree, path, yajl_t_any);
    snprintf(text, sizeof text, "%f %lld", YAJL_GET_DOUBLE(found->u.array.values[1]), YAJL_GET_INTEGER(found->u.array.values[0]));
    note_text(text);
    yajl_tree_free(tree);
}

static char seen[64];
static size_t seen_size;

static int on_seen(void *unused, const unsigned char *text, size_t size) {
    (void)unused;
    memcpy(seen, text, size < sizeof seen ? size : sizeof seen);
    seen_size = size;
    return 1;
}

/* The first half of a pair, and a letter where a backslash should be: the letter was lost, and what follows read with it. */
static const char *lone_surrogate(void) {
    static const yajl_callbacks strings = {NULL, NULL, NULL, NULL, NULL, on_seen};
    static const char text[] = "\"\\ud800xyz\"";
    yajl_handle handle = yajl_alloc(&strings, NULL, NULL);
    seen_size = 0;
    yajl_parse(handle, (const unsigned char *)text, sizeof text - 1);
    yajl_complete_parse(handle);
    yajl_free(handle);
    return seen_size == 4 && memcmp(seen, "?xyz", 4) == 0 ? "kept" : "swallowed";
}

static size_t heap_blocks(void) {
    PROCESS_HEAP_ENTRY entry = {0};
    size_t blocks = 0;
    HANDLE heap = (HANDLE)_get_heap_handle();
    HeapLock(heap);
    while (HeapWalk(heap, &entry)) {
        blocks += (entry.wFlags & PROCESS_HEAP_ENTRY_BUSY) != 0;
    }
    HeapUnlock(heap);
    return blocks;
}

/* A document that breaks off. */
static const char *leak(void) {
    char message[100];
    size_t before = heap_blocks();
    for (int i = 0; i < 20; i++) {
        yajl_tree_parse("{\"a\":{\"b\":[1,2,{\"c\":3", message, sizeof message);
    }
    return heap_blocks() > before + 20 ? "leaks" : "frees";
}

static int aborted, wrapped;

/* Ends the call: what follows would end the process. */
static void leave_call(void) {
    *(volatile int *)NULL = 0;
}

static void on_abort(int signal) {
    aborted = 1;
    leave_call();
}

static void *allocate(void *unused, size_t size) { return malloc(size); }
static void release(void *unused, void *block) { free(block); }
static void *resize(void *unused, void *block, size_t size) {
    if (size == 0) {
        wrapped = 1;
        leave_call();
    }
    return realloc(block, size);
}

static yajl_gen huge;

static void generate_huge(void) {
    yajl_gen_number(huge, "1", (size_t)1 << 63);
}

/* A size that a buffer's size cannot be doubled to: it became 0, and much more than that was copied. */
static const char *huge_number(void) {
    static yajl_alloc_funcs functions = {allocate, resize, release, NULL};
    huge = yajl_gen_alloc(&functions);
    yajl_gen_array_open(huge);
    aborted = wrapped = 0;
    signal(SIGABRT, on_abort);
    int faulty = faults(generate_huge);
    yajl_gen_free(huge);
    return wrapped ? "wraps" : aborted ? "aborts" : faulty ? "fault" : "accepted";
}

static const char *probe(const char *name) {
    if (strcmp(name, "huge-number") == 0) {
        return huge_number();
    }
    return strcmp(name, "lone-surrogate") == 0 ? lone_surrogate() : strcmp(name, "leak") == 0 ? leak() : "unknown";
}
