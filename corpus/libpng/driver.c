/* libpng, kept busy; see ../driver.h. */
#include "../driver.h"

#include "png.h"

#define SIZE 24

static unsigned char pixels[SIZE * SIZE * 4], file[20000], back[SIZE * SIZE * 8];

/* Writes an image with the simplified interface, and reads it in another format. */
static void round_trip(png_uint_32 format, png_uint_32 as) {
    png_image image = {0};
    image.version = PNG_IMAGE_VERSION;
    image.width = SIZE;
    image.height = SIZE;
    image.format = format;
    png_alloc_size_t size = sizeof file;
    note_number(png_image_write_to_memory(&image, file, &size, 0, pixels, 0, NULL));
    note(file, size);
    png_image in = {0};
    in.version = PNG_IMAGE_VERSION;
    note_number(png_image_begin_read_from_memory(&in, file, size));
    in.format = as;
    png_color background = {10, 20, 30};
    note_number(png_image_finish_read(&in, &background, back, 0, NULL));
    note(back, PNG_IMAGE_SIZE(in));
    png_image_free(&in);
    file[size / 2] ^= 1;
    note_number(png_image_begin_read_from_memory(&in, file, size));
    note_number(png_image_finish_read(&in, &background, back, 0, NULL));
    png_image_free(&in);
}

static void regression(void) {
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (unsigned char)(i * i / 5 + i / 11);
    }
    round_trip(PNG_FORMAT_RGBA, PNG_FORMAT_RGBA);
    round_trip(PNG_FORMAT_RGB, PNG_FORMAT_GRAY);
    round_trip(PNG_FORMAT_RGBA, PNG_FORMAT_RGB);
    round_trip(PNG_FORMAT_GRAY, PNG_FORMAT_ARGB);
    round_trip(PNG_FORMAT_GA, PNG_FORMAT_LINEAR_RGB_ALPHA);
}

/* The library's memory, from here: each block ends (but for alignment) at a page that is not there, and is gone when it is freed. Each
 * probe starts anew, whatever the last one left. */
#define ARENA_SIZE 0x2000000
static unsigned char *arena;
static size_t arena_used;

static void clear_arena(void) {
    if (arena == NULL) {
        arena = (unsigned char *)VirtualAlloc(NULL, ARENA_SIZE, MEM_RESERVE, PAGE_NOACCESS);
    } else {
        VirtualFree(arena, ARENA_SIZE, MEM_DECOMMIT);
    }
    arena_used = 0;
}

static png_voidp arena_alloc(png_structp png, png_alloc_size_t wanted) {
    (void)png;
    /* Structures may need this alignment; small arrays of bytes do not. */
    size_t aligned = wanted > 256 ? (wanted + 15) & ~(size_t)15 : wanted;
    size_t pages = (aligned + 0xfff) & ~(size_t)0xfff;
    if (arena_used + pages + 0x1000 > ARENA_SIZE) {
        return NULL;
    }
    unsigned char *block = (unsigned char *)VirtualAlloc(arena + arena_used, pages, MEM_COMMIT, PAGE_READWRITE);
    arena_used += pages + 0x1000;
    return block + pages - aligned;
}

static void arena_free(png_structp png, png_voidp block) {
    (void)png;
    /* A block begins in its first page, and no other block is there. */
    if (block != NULL) {
        MEMORY_BASIC_INFORMATION about;
        VirtualQuery(block, &about, sizeof about);
        VirtualFree(about.BaseAddress, about.RegionSize, MEM_DECOMMIT);
    }
}

/* The file in memory, as the library's full interface wants it. */
static size_t file_size, file_place;

static void write_file(png_structp png, png_bytep bytes, size_t count) {
    if (file_size + count > sizeof file) {
        png_error(png, "the file is too large");
    }
    memcpy(file + file_size, bytes, count);
    file_size += count;
}

static void flush_file(png_structp png) { (void)png; }

static void read_file(png_structp png, png_bytep bytes, size_t count) {
    if (file_place + count > file_size) {
        png_error(png, "the file is too short");
    }
    memcpy(bytes, file + file_place, count);
    file_place += count;
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

#define COLORS 16
static const unsigned char last_color[SIZE * 8] = {[0 ... SIZE * 8 - 1] = COLORS - 1};

/* Writes an image of which each row is `row`; a palette is half white and half transparent. */
static void write_png(int type, int depth, int interlace, const unsigned char *row) {
    png_color palette[COLORS];
    png_byte alpha[COLORS];
    memset(palette, 0xff, sizeof palette);
    for (int i = 0; i < COLORS; i++) {
        alpha[i] = (png_byte)(i * 17);
    }
    alpha[COLORS - 1] = 0x80;
    file_size = 0;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, on_warning);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, NULL, write_file, flush_file);
    png_set_benign_errors(png, 1);
    png_set_IHDR(png, info, SIZE, SIZE, depth, type, interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (type == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, COLORS);
        png_set_tRNS(png, info, alpha, COLORS, NULL);
    }
    png_write_info(png, info);
    for (int left = SIZE * png_set_interlace_handling(png); left > 0; left--) {
        png_write_row(png, row);
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
}

static int done;

static png_structp arena_reader(void) {
    file_place = 0;
    png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, NULL, NULL, on_warning, NULL, arena_alloc, arena_free);
    png_set_read_fn(png, NULL, read_file);
    png_set_benign_errors(png, 1);
    return png;
}

static void read_first_row(png_structp png, png_infop info) {
    done = 0;
    if (setjmp(png_jmpbuf(png)) == 0) {
        png_read_update_info(png, info);
        png_read_row(png, back, NULL);
        done = 1;
    }
    png_destroy_read_struct(&png, &info, NULL);
}

/* Colours that the palette does not have, where a palette is made smaller. */
static void no_color(void) {
    png_structp png = arena_reader();
    png_infop info = png_create_info_struct(png);
    png_read_info(png, info);
    static png_color palette[COLORS];
    png_set_quantize(png, palette, COLORS, COLORS, NULL, 0);
    read_first_row(png, info);
}

/* Three colours of which one is to remain: the two that are left in the end are far apart. */
static void three_colors(void) {
    static const png_color colors[3] = {{189, 204, 110}, {53, 254, 36}, {185, 57, 113}};
    static png_color palette[3];
    memcpy(palette, colors, sizeof palette);
    png_structp png = arena_reader();
    png_set_quantize(png, palette, 3, 1, NULL, 0);
    png_destroy_read_struct(&png, NULL, NULL);
    done = 1;
}

/* The palette and its transparency, taken from `info` before the first row is read. */
static void freed_palette(void) {
    png_structp png = arena_reader();
    png_infop info = png_create_info_struct(png);
    png_read_info(png, info);
    png_set_expand(png);
    png_free_data(png, info, PNG_FREE_TRNS | PNG_FREE_PLTE, -1);
    read_first_row(png, info);
}

/* A palette that is set to what it is. */
static void same_palette(void) {
    png_structp png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, NULL, NULL, on_warning, NULL, arena_alloc, arena_free);
    png_infop info = png_create_info_struct(png);
    png_color colors[4] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}}, *palette = NULL;
    int count = 0;
    png_set_IHDR(png, info, 1, 1, 8, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    png_set_PLTE(png, info, colors, 4);
    png_get_PLTE(png, info, &palette, &count);
    png_set_PLTE(png, info, palette, count);
    png_get_PLTE(png, info, &palette, &count);
    done = count == 4 && memcmp(palette, colors, sizeof colors) == 0;
    png_destroy_write_struct(&png, &info);
}

static int write_image(png_uint_32 format, const void *from, int stride, int to_8bit) {
    png_image image = {0};
    image.version = PNG_IMAGE_VERSION;
    image.width = SIZE;
    image.height = SIZE;
    image.format = format;
    png_alloc_size_t size = sizeof file;
    return png_image_write_to_memory(&image, file, &size, to_8bit, from, stride, NULL);
}

static int read_image(png_uint_32 format, void *to, int stride) {
    png_image image = {0};
    image.version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_memory(&image, file, file_size)) {
        return 0;
    }
    image.format = format;
    return png_image_finish_read(&image, NULL, to, stride, NULL);
}

/* Pixels of 8 bits that are to become pixels of 8 bits. */
static void short_pixels(void) {
    static unsigned char *rgb;
    if (rgb == NULL) {
        rgb = guarded(pixels, SIZE * SIZE * 3);
    }
    done = write_image(PNG_FORMAT_RGB, rgb, 0, 1);
}

/* An image whose rows are stored from the last one to the first. There is nothing behind it for as long as any 16-bit steps lead. */
static void bottom_up(void) {
    enum { IMAGE = SIZE * SIZE * 8, PAGES = (IMAGE + 0xfff) & ~0xfff };
    static unsigned char *linear;
    if (linear == NULL) {
        unsigned char *pages = (unsigned char *)VirtualAlloc(NULL, PAGES + SIZE * 0x10000, MEM_RESERVE, PAGE_NOACCESS);
        linear = (unsigned char *)VirtualAlloc(pages, PAGES, MEM_COMMIT, PAGE_READWRITE) + PAGES - IMAGE;
    }
    done = write_image(PNG_FORMAT_LINEAR_RGB_ALPHA, linear, -SIZE * 4, 0);
}

/* 16 bits and interlaced, read as 8 bits. */
static void narrowed(void) {
    static unsigned char *rgb;
    if (rgb == NULL) {
        rgb = guarded(NULL, SIZE * SIZE * 3);
    }
    done = read_image(PNG_FORMAT_RGB, rgb, 0);
}

/* The same, into rows with room behind them, in which nothing is to be written. */
#define PADDING 8
static const char *padded_rows(void) {
    enum { ROW = SIZE * 3 + PADDING };
    static unsigned char rows[SIZE * ROW];
    memset(rows, 0xee, sizeof rows);
    if (!read_image(PNG_FORMAT_RGB, rows, ROW)) {
        return "refused";
    }
    /* What is behind the last row is the caller's own choice. */
    for (int i = 0; i < (SIZE - 1) * ROW; i++) {
        if (i % ROW >= SIZE * 3 && rows[i] != 0xee) {
            return "overwritten";
        }
    }
    return "kept";
}

/* White that is half transparent, read onto white. */
static const char *white_on_white(void) {
    memset(back, 0xff, sizeof back);
    if (!read_image(PNG_FORMAT_RGB, back, 0)) {
        return "refused";
    }
    for (int i = 0; i < SIZE * SIZE * 3; i++) {
        if (back[i] != 0xff) {
            return "another-color";
        }
    }
    return "white";
}

static const char *seen(void (*call)(void)) {
    clear_arena();
    return faults(call) ? "fault" : done ? "done" : "refused";
}

static const char *probe(const char *name) {
    if (strcmp(name, "no-color") == 0) {
        static unsigned char row[SIZE];
        memset(row, 0xff, sizeof row);
        write_png(PNG_COLOR_TYPE_PALETTE, 8, PNG_INTERLACE_NONE, row);
        return seen(no_color);
    }
    if (strcmp(name, "freed-palette") == 0) {
        write_png(PNG_COLOR_TYPE_PALETTE, 8, PNG_INTERLACE_NONE, last_color);
        return seen(freed_palette);
    }
    if (strcmp(name, "white-on-white") == 0) {
        write_png(PNG_COLOR_TYPE_PALETTE, 8, PNG_INTERLACE_NONE, last_color);
        return white_on_white();
    }
    if (strcmp(name, "narrowed") == 0) {
        write_png(PNG_COLOR_TYPE_RGB, 16, PNG_INTERLACE_ADAM7, last_color);
        return seen(narrowed);
    }
    if (strcmp(name, "padded-rows") == 0) {
        write_png(PNG_COLOR_TYPE_RGB, 16, PNG_INTERLACE_ADAM7, last_color);
        return padded_rows();
    }
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {{"three-colors", three_colors}, {"same-palette", same_palette}, {"short-pixels", short_pixels}, {"bottom-up", bottom_up}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(name, calls[i].name) == 0) {
            return seen(calls[i].call);
        }
    }
    return "unknown";
}
