/* libtiff, kept busy; see ../driver.h. */
#include "../driver.h"

#include "tiffio.h"

/* The library's memory comes from here: the allocation that `failing` counts down to is refused. */
static int failing;

void *malloc(size_t wanted) {
    static void *(*real)(size_t);
    if (real == NULL) {
        real = (void *(*)(size_t))GetProcAddress(GetModuleHandleA("msvcrt.dll"), "malloc");
    }
    return failing > 0 && --failing == 0 ? NULL : real(wanted);
}

/* A file in memory. */
static unsigned char file[200000];
static toff_t size, place;

static tmsize_t read_file(thandle_t handle, void *bytes, tmsize_t count) {
    (void)handle;
    tmsize_t left = place < size ? (tmsize_t)(size - place) : 0;
    count = count < left ? count : left;
    memcpy(bytes, file + place, (size_t)count);
    place += (toff_t)count;
    return count;
}
static tmsize_t write_file(thandle_t handle, void *bytes, tmsize_t count) {
    (void)handle;
    if (place + (toff_t)count > sizeof file) {
        return 0;
    }
    memcpy(file + place, bytes, (size_t)count);
    place += (toff_t)count;
    size = place > size ? place : size;
    return count;
}
static toff_t seek_file(thandle_t handle, toff_t offset, int origin) {
    (void)handle;
    return place = offset + (origin == SEEK_CUR ? place : origin == SEEK_END ? size : 0);
}
static int close_file(thandle_t handle) { return (void)handle, 0; }
static toff_t size_file(thandle_t handle) { return (void)handle, size; }

static TIFF *open_memory(const char *mode) {
    place = 0;
    if (*mode == 'w') {
        size = 0;
    }
    return TIFFClientOpen("memory", mode, NULL, read_file, write_file, seek_file, close_file, size_file, NULL, NULL);
}

#define WIDTH 50
#define HEIGHT 40

static void write_image(int compression, int photometric, int samples, int bits, int rows, int predictor) {
    static unsigned char line[WIDTH * 4 * 4];
    TIFF *tiff = open_memory("w");
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, WIDTH);
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, HEIGHT);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, bits);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, samples);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, photometric);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, compression);
    TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, rows);
    TIFFSetField(tiff, TIFFTAG_SOFTWARE, "hpgen");
    TIFFSetField(tiff, TIFFTAG_XRESOLUTION, 72.5);
    if (predictor) {
        TIFFSetField(tiff, TIFFTAG_PREDICTOR, predictor);
    }
    if (compression == COMPRESSION_SGILOG) {
        TIFFSetField(tiff, TIFFTAG_SGILOGDATAFMT, SGILOGDATAFMT_FLOAT);
    }
    for (uint32_t row = 0; row < HEIGHT; row++) {
        for (size_t i = 0; i < sizeof line; i++) {
            line[i] = (unsigned char)(i / 3 + row * 7 + i * row / 50);
        }
        if (compression == COMPRESSION_SGILOG) {
            for (size_t i = 0; i < sizeof line / 4; i++) {
                ((float *)line)[i] = 0.01f * (float)(i + row);
            }
        }
        note_number(TIFFWriteScanline(tiff, line, row, 0));
    }
    TIFFClose(tiff);
    note(file, (size_t)size);
}

static void read_image(int damaged) {
    static unsigned char line[WIDTH * 4 * 8];
    static uint32_t raster[WIDTH * HEIGHT];
    if (damaged) {
        file[size / 3] ^= 0x55;
        file[size / 2] ^= 0x0f;
    }
    TIFF *tiff = open_memory("r");
    if (tiff == NULL) {
        note_number(-1);
        return;
    }
    for (uint32_t row = 0; row < HEIGHT && TIFFScanlineSize(tiff) <= (tmsize_t)sizeof line; row++) {
        memset(line, 0, sizeof line);
        note_number(TIFFReadScanline(tiff, line, row, 0));
        note(line, sizeof line);
    }
    memset(raster, 0, sizeof raster);
    note_number(TIFFReadRGBAImageOriented(tiff, WIDTH, HEIGHT, raster, ORIENTATION_TOPLEFT, 0));
    note(raster, sizeof raster);
    memset(raster, 0, sizeof raster);
    note_number(TIFFReadRGBAStrip(tiff, 0, raster));
    note(raster, sizeof raster);
    const char *software = NULL;
    note_number(TIFFGetField(tiff, TIFFTAG_SOFTWARE, &software));
    note_text(software);
    note_number(TIFFNumberOfDirectories(tiff));
    TIFFClose(tiff);
}

static void quiet(const char *module, const char *format, va_list arguments) {
    (void)arguments;
    note_text(module);
    note_text(format);
}

static void regression(void) {
    static const struct {
        int compression, photometric, samples, bits, rows, predictor;
    } kinds[] = {
        {COMPRESSION_NONE, PHOTOMETRIC_RGB, 3, 8, 10, 0},          {COMPRESSION_LZW, PHOTOMETRIC_RGB, 3, 8, 16, 2},
        {COMPRESSION_PACKBITS, PHOTOMETRIC_MINISBLACK, 1, 8, 7, 0}, {COMPRESSION_ADOBE_DEFLATE, PHOTOMETRIC_RGB, 4, 16, 40, 2},
        {COMPRESSION_CCITTFAX3, PHOTOMETRIC_MINISWHITE, 1, 1, 40, 0}, {COMPRESSION_CCITTFAX4, PHOTOMETRIC_MINISWHITE, 1, 1, 40, 0},
        {COMPRESSION_SGILOG, PHOTOMETRIC_LOGLUV, 3, 32, 10, 0},     {COMPRESSION_LZW, PHOTOMETRIC_SEPARATED, 4, 8, 9, 0},
    };
    TIFFSetErrorHandler(quiet);
    TIFFSetWarningHandler(quiet);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        write_image(kinds[i].compression, kinds[i].photometric, kinds[i].samples, kinds[i].bits, kinds[i].rows, kinds[i].predictor);
        read_image(0);
    }
    write_image(COMPRESSION_PACKBITS, PHOTOMETRIC_RGB, 3, 8, 10, 0);
    read_image(1);
    size = 5;
    note_number(open_memory("r") != NULL);
}

static int done;

/* A raster that is wider than the image and has fewer rows: what comes first was written before its start. */
static void smaller_raster(void) {
    TIFF *tiff = open_memory("r");
    static uint32_t *memory;
    if (memory == NULL) {
        unsigned char *pages = (unsigned char *)VirtualAlloc(NULL, 0x20000, MEM_RESERVE, PAGE_NOACCESS);
        memory = (uint32_t *)VirtualAlloc(pages + 0x10000, 0x10000, MEM_COMMIT, PAGE_READWRITE);
    }
    done = TIFFReadRGBAImageOriented(tiff, WIDTH, HEIGHT / 2, memory, ORIENTATION_BOTLEFT, 0);
    TIFFClose(tiff);
}

#define TILE_WIDTH 1024

/* An image of one tile, which is higher than the image. */
static void write_tile(int photometric) {
    static unsigned char tile[TILE_WIDTH * 16 * 3];
    TIFF *tiff = open_memory("w");
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, TILE_WIDTH);
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, 8);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 3);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, photometric);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(tiff, TIFFTAG_TILEWIDTH, TILE_WIDTH);
    TIFFSetField(tiff, TIFFTAG_TILELENGTH, 16);
    if (photometric == PHOTOMETRIC_YCBCR) {
        TIFFSetField(tiff, TIFFTAG_YCBCRSUBSAMPLING, 4, 4);
    }
    TIFFWriteTile(tiff, tile, 0, 0, 0, 0);
    TIFFClose(tiff);
}

/* The entry of the file's directory that has a tag: 2 bytes of tag, 2 of type, 4 of count, 4 of value. */
static unsigned char *entry_of(unsigned tag) {
    uint32_t start;
    memcpy(&start, file + 4, 4);
    unsigned char *entry = file + start + 2;
    while (entry[0] + 256u * entry[1] != tag) {
        entry += 12;
    }
    return entry;
}

static void set_long(unsigned tag, uint32_t value) {
    unsigned char *entry = entry_of(tag);
    uint16_t type = TIFF_LONG;
    memcpy(entry + 2, &type, 2);
    memcpy(entry + 8, &value, 4);
}

/* A tile that begins on the right of the image. */
static void tile_beyond(void) {
    static uint32_t *raster;
    if (raster == NULL) {
        raster = (uint32_t *)guarded(NULL, TILE_WIDTH * 16 * 4);
    }
    TIFF *tiff = open_memory("r");
    done = TIFFReadRGBATile(tiff, TILE_WIDTH, 0, raster);
    TIFFClose(tiff);
}

/* An image that is 2^29 pixels wide and has only its first tile: the reading ends at the second one. Of the raster's eight rows only
 * the beginnings are there, and nothing is for as long before it: steps of several rows that are kept in 32 bits lead there. */
#define IMAGE_WIDTH (0x20000000u + TILE_WIDTH)
#define ROW_SIZE ((size_t)IMAGE_WIDTH * 4)

static unsigned char *sparse_raster(void) {
    unsigned char *raster = (unsigned char *)VirtualAlloc(NULL, ROW_SIZE * 16, MEM_RESERVE, PAGE_NOACCESS) + ROW_SIZE * 8;
    for (size_t row = 0; row < 8; row++) {
        VirtualAlloc(raster + row * ROW_SIZE, TILE_WIDTH * 4, MEM_COMMIT, PAGE_READWRITE);
    }
    return raster;
}

static void wide_image(void) {
    static unsigned char *raster;
    if (raster == NULL) {
        raster = sparse_raster();
    }
    unsigned char *last = raster + 7 * ROW_SIZE + TILE_WIDTH * 4 - 1;
    *last = 0;
    TIFF *tiff = open_memory("r");
    TIFFReadRGBAImageOriented(tiff, IMAGE_WIDTH, 8, (uint32_t *)raster, ORIENTATION_TOPLEFT, 1);
    TIFFClose(tiff);
    done = *last == 0xff;
}

/* A colour that is no number. */
static void no_number(void) {
    static float line[WIDTH * 3];
    for (size_t i = 0; i < WIDTH * 3; i++) {
        line[i] = i % 3 == 1 ? 1.0f : __builtin_nanf("");
    }
    TIFF *tiff = open_memory("w");
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, WIDTH);
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, 1);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 32);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 3);
    TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_IEEEFP);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_LOGLUV);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, COMPRESSION_SGILOG24);
    TIFFSetField(tiff, TIFFTAG_SGILOGDATAFMT, SGILOGDATAFMT_FLOAT);
    done = TIFFWriteScanline(tiff, line, 0, 0) == 1;
    TIFFClose(tiff);
}

/* How often a strip was decoded until its bytes were used up. */
static int used_up;

static void count_ends(const char *module, const char *format, va_list arguments) {
    (void)module;
    (void)arguments;
    used_up += strstr(format, "not terminated with EOI code") != NULL;
}

/* A strip that ends before its end mark. Behind the error, reading on means to decode again from a state that is half old. */
static const char *read_on(void) {
    static unsigned char line[WIDTH * 3];
    write_image(COMPRESSION_LZW, PHOTOMETRIC_RGB, 3, 8, HEIGHT, 0);
    set_long(TIFFTAG_STRIPBYTECOUNTS, 200);
    TIFFSetErrorHandler(count_ends);
    used_up = 0;
    TIFF *tiff = open_memory("r");
    for (uint32_t row = 0; row < HEIGHT; row++) {
        TIFFReadScanline(tiff, line, row, 0);
    }
    TIFFClose(tiff);
    return used_up == 0 ? "whole" : used_up > 1 ? "decoded-again" : "refused";
}

static void open_and_close(void) {
    TIFF *tiff = open_memory("r");
    done = tiff != NULL;
    if (done) {
        TIFFClose(tiff);
    }
}

/* A file with an unknown tag, each of the allocations refused in turn. */
static const char *short_of_memory(void) {
    unsigned char *software = entry_of(TIFFTAG_SOFTWARE);
    software[0] = 0xe8;
    software[1] = 0xfd;
    int faulted_ever = 0;
    for (int which = 1, left = 0; left == 0; which++) {
        failing = which;
        faulted_ever += faults(open_and_close);
        left = failing;
        failing = 0;
    }
    return faulted_ever ? "fault" : "survived";
}

static const char *probe(const char *name) {
    TIFFSetErrorHandler(NULL);
    TIFFSetWarningHandler(NULL);
    if (strcmp(name, "tile-beyond") == 0) {
        write_tile(PHOTOMETRIC_RGB);
        return faults(tile_beyond) ? "fault" : done ? "read" : "refused";
    }
    if (strcmp(name, "wide-image") == 0) {
        write_tile(PHOTOMETRIC_YCBCR);
        set_long(TIFFTAG_IMAGEWIDTH, IMAGE_WIDTH);
        return faults(wide_image) ? "fault" : done ? "read" : "refused";
    }
    if (strcmp(name, "no-number") == 0) {
        return faults(no_number) ? "fault" : done ? "written" : "refused";
    }
    if (strcmp(name, "read-on") == 0) {
        return read_on();
    }
    write_image(COMPRESSION_NONE, PHOTOMETRIC_RGB, 3, 8, 10, 0);
    if (strcmp(name, "smaller-raster") == 0) {
        return faults(smaller_raster) ? "fault" : done ? "read" : "refused";
    }
    return strcmp(name, "short-of-memory") == 0 ? short_of_memory() : "unknown";
}
