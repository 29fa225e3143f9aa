/* libtiff, kept busy; see ../driver.h. */
#include "../driver.h"

#include "tiffio.h"

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

static uint32_t *before_guard(size_t count) {
    static uint32_t *memory;
    if (memory == NULL) {
        memory = (uint32_t *)guarded(NULL, WIDTH * HEIGHT * 4 * 4);
    }
    return memory + WIDTH * HEIGHT * 4 - count;
}

/* A strip that begins at a row far behind the image's last one. */
static void row_beyond(void) {
    TIFF *tiff = open_memory("r");
    done = TIFFReadRGBAStrip(tiff, 10u * 1000 * 1000, before_guard(WIDTH * HEIGHT));
    TIFFClose(tiff);
}

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

static const char *probe(const char *name) {
    TIFFSetErrorHandler(NULL);
    TIFFSetWarningHandler(NULL);
    write_image(COMPRESSION_NONE, PHOTOMETRIC_RGB, 3, 8, 10, 0);
    if (strcmp(name, "row-beyond") == 0) {
        return faults(row_beyond) ? "fault" : done ? "read" : "refused";
    }
    if (strcmp(name, "smaller-raster") == 0) {
        return faults(smaller_raster) ? "fault" : done ? "read" : "refused";
    }
    return "unknown";
}
