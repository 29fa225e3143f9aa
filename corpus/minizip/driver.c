/* minizip, kept busy; see ../driver.h. */
#include "../driver.h"

#include "unzip.h"
#include "zip.h"

/* A file in memory. */
static unsigned char file[400000];
static size_t file_size, file_place;

static voidpf open_file(voidpf opaque, const void *name, int mode) {
    (void)opaque;
    (void)name;
    if (mode & ZLIB_FILEFUNC_MODE_CREATE) {
        file_size = 0;
    }
    file_place = 0;
    return file;
}
static uLong read_file(voidpf opaque, voidpf stream, void *bytes, uLong size) {
    size_t count = file_size - file_place < size ? file_size - file_place : size;
    memcpy(bytes, file + file_place, count);
    file_place += count;
    return (uLong)count;
}
static uLong write_file(voidpf opaque, voidpf stream, const void *bytes, uLong size) {
    if (file_place + size > sizeof file) {
        return 0;
    }
    memcpy(file + file_place, bytes, size);
    file_place += size;
    file_size = file_place > file_size ? file_place : file_size;
    return size;
}
static ZPOS64_T tell_file(voidpf opaque, voidpf stream) { return file_place; }
static long seek_file(voidpf opaque, voidpf stream, ZPOS64_T offset, int origin) {
    file_place = (size_t)offset + (origin == ZLIB_FILEFUNC_SEEK_CUR ? file_place : origin == ZLIB_FILEFUNC_SEEK_END ? file_size : 0);
    return 0;
}
static int close_file(voidpf opaque, voidpf stream) { return 0; }
static int error_file(voidpf opaque, voidpf stream) { return 0; }

static zlib_filefunc64_def memory = {open_file, read_file, write_file, tell_file, seek_file, close_file, error_file, NULL};
static unsigned char text[30000], back[30000];

static int add(zipFile zip, const char *name, const char *comment, int level, const char *password) {
    zip_fileinfo info = {{10, 20, 12, 5, 6, 2020}, 0, 0, 32};
    int result = zipOpenNewFileInZip3(zip, name, &info, "local", 5, "global", 6, comment, level ? Z_DEFLATED : 0, level, 0, -MAX_WBITS,
                                      DEF_MEM_LEVEL, Z_DEFAULT_STRATEGY, password, password != NULL ? crc32(0, text, sizeof text) : 0);
    if (result == ZIP_OK) {
        result = zipWriteInFileInZip(zip, text, sizeof text);
        zipCloseFileInZip(zip);
    }
    return result;
}

static void regression(void) {
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (unsigned char)(i * i / 99 + i / 7);
    }
    zipFile zip = zipOpen2_64("x", APPEND_STATUS_CREATE, NULL, &memory);
    note_number(add(zip, "first", "comment", 9, NULL));
    note_number(add(zip, "folder/second", NULL, 0, NULL));
    note_number(add(zip, "", "none", 1, NULL));
    note_number(zipClose(zip, "all"));
    note(file, file_size);
    unzFile unzip = unzOpen2_64("x", &memory);
    unz_global_info64 global;
    note_number(unzGetGlobalInfo64(unzip, &global));
    note_number((long long)global.number_entry);
    for (int result = unzGoToFirstFile(unzip); result == UNZ_OK; result = unzGoToNextFile(unzip)) {
        char name[100], comment[100];
        unsigned char extra[20];
        unz_file_info64 info;
        note_number(unzGetCurrentFileInfo64(unzip, &info, name, 100, extra, 20, comment, 100));
        note_text(name);
        note_number((long long)info.compressed_size);
        note_number(unzOpenCurrentFile(unzip));
        note_number(unzReadCurrentFile(unzip, back, sizeof back));
        note(back, sizeof back);
        note_number(unzCloseCurrentFile(unzip));
    }
    note_number(unzLocateFile(unzip, "FOLDER/SECOND", 2));
    note_number(unzLocateFile(unzip, "nothing", 1));
    note_number(unzClose(unzip));
    file[40] ^= 0x11;
    unzip = unzOpen2_64("x", &memory);
    note_number(unzip != NULL && unzOpenCurrentFile(unzip) == UNZ_OK ? unzReadCurrentFile(unzip, back, sizeof back) : 77);
    unzClose(unzip);
    file_size /= 2;
    note_number(unzOpen2_64("x", &memory) != NULL);
}

/* A name of more than 65535 letters, whose length does not fit. */
static const char *long_name(void) {
    static char name[70001];
    memset(name, 'n', sizeof name - 1);
    zipFile zip = zipOpen2_64("x", APPEND_STATUS_CREATE, NULL, &memory);
    int result = add(zip, name, NULL, 1, NULL);
    zipClose(zip, NULL);
    return result == ZIP_OK ? "accepted" : "refused";
}

static const char *probe(const char *name) {
    return strcmp(name, "long-name") == 0 ? long_name() : "unknown";
}
