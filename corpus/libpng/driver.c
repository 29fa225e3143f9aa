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

static const char *probe(const char *name) {
    (void)name;
    return "unknown";
}
