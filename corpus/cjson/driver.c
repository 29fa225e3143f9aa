/* cJSON, kept busy; see ../driver.h. */
#include "../driver.h"

#include "cJSON.h"
#include "cJSON_Utils.h"

static const char document[] =
    "{\"name\":\"hpgen \\u00fc\\ud83d\\ude00\",\"list\":[1,-2.5,3e5,true,false,null,\"\\t\\\"\"],"
    "\"inner\":{\"a\":{\"b\":[{\"c\":1},{\"c\":2}]}},\"empty\":[],\"none\":{}}";

static void note_json(cJSON *json, int formatted) {
    char *text = formatted ? cJSON_Print(json) : cJSON_PrintUnformatted(json);
    note_text(text);
    free(text);
}

static void regression(void) {
    cJSON *json = cJSON_Parse(document);
    note_json(json, 1);
    cJSON *copy = cJSON_Duplicate(json, 1);
    note_number(cJSON_Compare(json, copy, 1));

    cJSON *list = cJSON_GetObjectItem(copy, "list");
    /* At the front: the fix of CVE-2023-50471 also refuses any other place but the end, which a later version took back. */
    note_number(cJSON_InsertItemInArray(list, 0, cJSON_CreateString("inserted")));
    note_number(cJSON_InsertItemInArray(list, 100, cJSON_CreateNumber(0.1)));
    cJSON_DeleteItemFromArray(list, 3);
    note_text(cJSON_SetValuestring(cJSON_GetObjectItem(copy, "name"), "another, longer than it was before"));
    cJSON_AddItemToObject(copy, "more", cJSON_CreateIntArray((int[]){3, 1, 2}, 3));
    note_json(copy, 0);

    cJSON *difference = cJSONUtils_GeneratePatches(json, copy);
    note_json(difference, 0);
    note_number(cJSONUtils_ApplyPatches(json, difference));
    note_number(cJSON_Compare(json, copy, 1));
    cJSON *found = cJSONUtils_GetPointer(json, "/inner/a/b/1/c");
    note_number(found == NULL ? -1 : found->valueint);
    note_number(cJSONUtils_GetPointer(json, "/inner/a/b/7") != NULL);
    cJSONUtils_SortObject(json);
    note_json(json, 0);

    static const char *const wrong[] = {"", "{", "[1,", "{\"a\" 1}", "[01x]", "\"\\u12\"", "nul", "[1]]", "{\"a\":}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cJSON *none = cJSON_ParseWithOpts(wrong[i], NULL, 1);
        note_number(none != NULL);
        cJSON_Delete(none);
    }
    char spaces[] = "{ \"a\" : [ 1 , 2 ] /* comment */ }";
    cJSON_Minify(spaces);
    note_text(spaces);
    cJSON_Delete(difference);
    cJSON_Delete(copy);
    cJSON_Delete(json);
}

static int accepted;

/* Null, which link-time optimisation must not know. */
static cJSON *volatile no_item;
static const char *volatile no_text;

static void insert_null(void) {
    cJSON *array = cJSON_CreateIntArray((int[]){1, 2}, 2);
    accepted = cJSON_InsertItemInArray(array, 0, no_item);
    cJSON_Delete(array);
}

static void set_null(void) {
    cJSON *string = cJSON_CreateString("text");
    accepted = cJSON_SetValuestring(string, no_text) != NULL;
    cJSON_Delete(string);
}

/* `{"1":1,` and nothing behind it. */
static void trailing_comma(void) {
    static unsigned char *text;
    if (text == NULL) {
        text = guarded("{\"1\":1,", 7);
    }
    cJSON *json = cJSON_ParseWithLength((const char *)text, 7);
    accepted = json != NULL;
    cJSON_Delete(json);
}

/* More digits than the buffer held. */
static void long_number(void) {
    char text[120] = "[0.";
    memset(text + 3, '1', 90);
    strcpy(text + 93, "]");
    cJSON *json = cJSON_Parse(text);
    accepted = json != NULL;
    cJSON_Delete(json);
}

/* "0A" is no index of an array; it was taken for one, far beyond the end. */
static void pointer(void) {
    cJSON *array = cJSON_CreateArray();
    for (int i = 0; i < 30; i++) {
        cJSON_AddItemToArray(array, cJSON_CreateNumber(i));
    }
    accepted = cJSONUtils_GetPointer(array, "/1A") != NULL;
    cJSON_Delete(array);
}

static const char *probe(const char *name) {
    static const struct {
        const char *name;
        void (*call)(void);
    } probes[] = {{"insert-null", insert_null},       {"set-null", set_null}, {"long-number", long_number},
                  {"trailing-comma", trailing_comma}, {"pointer", pointer}};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        if (strcmp(name, probes[i].name) == 0) {
            return faults(probes[i].call) ? "fault" : accepted ? "accepted" : "refused";
        }
    }
    return "unknown";
}
