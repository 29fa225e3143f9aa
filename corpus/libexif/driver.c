/* libexif, kept busy; see ../driver.h. */
#include "../driver.h"

#include <libexif/exif-data.h>
#include <libexif/exif-loader.h>
#include <libexif/exif-mnote-data-priv.h>
#include <libexif/fuji/exif-mnote-data-fuji.h>
#include <libexif/olympus/exif-mnote-data-olympus.h>

static void note_entry(ExifEntry *entry, void *unused) {
    char text[200];
    (void)unused;
    note_number(entry->tag);
    note_text(exif_tag_get_name_in_ifd(entry->tag, exif_entry_get_ifd(entry)));
    note_text(exif_entry_get_value(entry, text, sizeof text));
    note_text(exif_format_get_name(entry->format));
}

static void note_content(ExifContent *content, void *unused) {
    (void)unused;
    exif_content_foreach_entry(content, note_entry, NULL);
}

static void note_data(ExifData *data) {
    exif_data_foreach_content(data, note_content, NULL);
    ExifMnoteData *notes = exif_data_get_mnote_data(data);
    for (unsigned i = 0; notes != NULL && i < exif_mnote_data_count(notes); i++) {
        char text[300];
        note_text(exif_mnote_data_get_name(notes, i));
        note_text(exif_mnote_data_get_value(notes, i, text, sizeof text));
        note_text(exif_mnote_data_get_value(notes, i, text, 12));
    }
}

static ExifEntry *add(ExifData *data, ExifIfd ifd, ExifTag tag) {
    ExifEntry *entry = exif_entry_new();
    entry->tag = tag;
    exif_content_add_entry(data->ifd[ifd], entry);
    exif_entry_initialize(entry, tag);
    exif_entry_unref(entry);
    return entry;
}

/* A note of a maker: a heading, and entries of six kinds that hold numbers. */
static size_t make_note(unsigned char *out, const char *heading, size_t heading_size, int tag) {
    size_t size = heading_size;
    memcpy(out, heading, heading_size);
    out[size++] = 6;
    out[size++] = 0;
    for (int i = 0; i < 6; i++) {
        unsigned char entry[12] = {(unsigned char)(tag + i), (unsigned char)((tag + i) >> 8), (unsigned char)(i % 2 ? 3 : 4), 0, 1, 0, 0, 0,
                                   (unsigned char)(i + 1)};
        memcpy(out + size, entry, sizeof entry);
        size += sizeof entry;
    }
    memset(out + size, 0, 8);
    return size + 8;
}

static void with_note(const char *maker, const char *heading, size_t heading_size, int tag) {
    ExifData *data = exif_data_new();
    exif_data_set_byte_order(data, EXIF_BYTE_ORDER_INTEL);
    exif_data_set_option(data, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
    exif_data_fix(data);
    ExifEntry *make = add(data, EXIF_IFD_0, EXIF_TAG_MAKE);
    free(make->data);
    make->size = strlen(maker) + 1;
    make->data = (unsigned char *)strdup(maker);
    make->components = make->size;
    make->format = EXIF_FORMAT_ASCII;
    unsigned char note_bytes[200];
    ExifEntry *entry = add(data, EXIF_IFD_EXIF, EXIF_TAG_MAKER_NOTE);
    entry->size = (unsigned)make_note(note_bytes, heading, heading_size, tag);
    entry->data = (unsigned char *)malloc(entry->size);
    memcpy(entry->data, note_bytes, entry->size);
    entry->components = entry->size;
    entry->format = EXIF_FORMAT_UNDEFINED;
    exif_set_short(add(data, EXIF_IFD_0, EXIF_TAG_ORIENTATION)->data, EXIF_BYTE_ORDER_INTEL, 3);
    unsigned char *saved = NULL;
    unsigned size = 0;
    exif_data_save_data(data, &saved, &size);
    note(saved, size);
    exif_data_unref(data);
    data = exif_data_new_from_data(saved, size);
    note_data(data);
    unsigned char *again = NULL;
    unsigned again_size = 0;
    exif_data_save_data(data, &again, &again_size);
    note(again, again_size);
    free(again);
    exif_data_unref(data);
    data = exif_data_new_from_data(saved, size / 2);
    note_data(data);
    exif_data_unref(data);
    free(saved);
}

static void regression(void) {
    with_note("Canon", "", 0, 1);
    with_note("FUJIFILM", "FUJIFILM\x0c\0\0\0", 12, 0x1000);
    with_note("OLYMPUS", "OLYMP\0\1\0", 8, 0x200);
    with_note("PENTAX", "AOC\0II", 6, 1);
    with_note("unknown", "none", 4, 1);
}

static int found;

static void empty_note(void) {
    ExifMem *memory = exif_mem_new_default();
    ExifMnoteData *notes = exif_mnote_data_fuji_new(memory);
    char text[50];
    found = exif_mnote_data_get_value(notes, 1, text, sizeof text) != NULL;
    exif_mnote_data_unref(notes);
    exif_mem_unref(memory);
}

/* The first text of a note, into no room at all: `room` is where nothing can be written. */
static ExifMnoteData *note_of_text;
static char *room;

static void into_nothing(void) {
    found = exif_mnote_data_get_value(note_of_text, 0, room, 0) != NULL;
}

static const char *no_room(void) {
    ExifMem *memory = exif_mem_new_default();
    unsigned char bytes[206] = {0};
    size_t size = 6 + make_note(bytes + 6, "FUJIFILM\x0c\0\0\0", 12, 0x1001);
    room = room != NULL ? room : (char *)guarded(NULL, 0);
    note_of_text = exif_mnote_data_fuji_new(memory);
    exif_mnote_data_load(note_of_text, bytes, (unsigned)size);
    int count = (int)exif_mnote_data_count(note_of_text);
    const char *seen = count == 0 ? "empty" : faults(into_nothing) ? "fault" : found ? "found" : "refused";
    exif_mnote_data_unref(note_of_text);
    exif_mem_unref(memory);
    return seen;
}

/* Looks for what the library says of the entries that an offset leads to. */
static void on_log(ExifLog *log, ExifLogCode code, const char *domain, const char *format, va_list arguments, void *unused) {
    (void)log;
    (void)code;
    (void)domain;
    (void)arguments;
    (void)unused;
    found |= strncmp(format, "Too much tags", 13) == 0;
}

/* A Nikon note whose offset leads, from where the offset itself stands, behind the end. It is followed from four bytes before that,
 * to a number of entries that is too large. (The sum that would wrap does so only where a size has 32 bits.) */
static const char *offset_behind(void) {
    static const unsigned char bytes[] = {0, 0, 0, 0, 0, 0, 'N', 'i', 'k', 'o', 'n', 0, 2, 0, 0, 0, 'I', 'I', 0x2a, 0, 10, 0, 0, 0, 0, 0, 0xff, 0x7f};
    ExifMem *memory = exif_mem_new_default();
    ExifLog *log = exif_log_new();
    exif_log_set_func(log, on_log, NULL);
    ExifMnoteData *notes = exif_mnote_data_olympus_new(memory);
    exif_mnote_data_log(notes, log);
    found = 0;
    exif_mnote_data_load(notes, bytes, sizeof bytes);
    exif_mnote_data_unref(notes);
    exif_log_unref(log);
    exif_mem_unref(memory);
    return found ? "followed" : "refused";
}

static const char *probe(const char *name) {
    if (strcmp(name, "empty-note") == 0) {
        return faults(empty_note) ? "fault" : found ? "found" : "refused";
    }
    if (strcmp(name, "no-room") == 0) {
        return no_room();
    }
    return strcmp(name, "offset-behind") == 0 ? offset_behind() : "unknown";
}
