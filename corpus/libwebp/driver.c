/* libwebp, kept busy; see ../driver.h. */
#include "../driver.h"

#include "src/webp/decode.h"
#include "src/webp/demux.h"
#include "src/webp/encode.h"
#include "src/webp/mux.h"

/* The library's memory comes from here. The allocation that `failing` counts down to is refused; while `watching`, blocks that are
 * freed are remembered until they are given out again, and a second free of one is counted, not done. */
static int failing, watching, freed_twice;
static void *freed[4096];
static size_t freed_count;

static FARPROC c_library(const char *name) {
    return GetProcAddress(GetModuleHandleA("msvcrt.dll"), name);
}

static size_t place_in_freed(const void *block) {
    size_t i = 0;
    while (i < freed_count && freed[i] != block) {
        i++;
    }
    return i;
}

static void *given_out(void *block) {
    size_t i = watching ? place_in_freed(block) : freed_count;
    if (i < freed_count) {
        freed[i] = freed[--freed_count];
    }
    return block;
}

void *malloc(size_t size) {
    static void *(*real)(size_t);
    real = real != NULL ? real : (void *(*)(size_t))c_library("malloc");
    return failing > 0 && --failing == 0 ? NULL : given_out(real(size));
}

void *calloc(size_t count, size_t size) {
    static void *(*real)(size_t, size_t);
    real = real != NULL ? real : (void *(*)(size_t, size_t))c_library("calloc");
    return failing > 0 && --failing == 0 ? NULL : given_out(real(count, size));
}

void free(void *block) {
    static void (*real)(void *);
    real = real != NULL ? real : (void (*)(void *))c_library("free");
    if (watching && block != NULL) {
        if (place_in_freed(block) < freed_count) {
            freed_twice++;
            return;
        }
        if (freed_count < sizeof freed / sizeof *freed) {
            freed[freed_count++] = block;
        }
    }
    real(block);
}

#define WIDTH 70
#define HEIGHT 50

static uint8_t pixels[WIDTH * HEIGHT * 4];

static void note_decoded(const uint8_t *file, size_t size) {
    int width = 0, height = 0;
    WebPBitstreamFeatures features;
    note_number(WebPGetFeatures(file, size, &features));
    uint8_t *decoded = WebPDecodeRGBA(file, size, &width, &height);
    note_number(decoded != NULL);
    if (decoded != NULL) {
        note(decoded, (size_t)width * (size_t)height * 4);
    }
    WebPFree(decoded);
    WebPDecoderConfig config;
    WebPInitDecoderConfig(&config);
    config.options.use_scaling = 1;
    config.options.scaled_width = 31;
    config.options.scaled_height = 17;
    config.options.use_cropping = 1;
    config.options.crop_left = 4;
    config.options.crop_width = 40;
    config.options.crop_height = 30;
    config.output.colorspace = MODE_BGRA;
    note_number(WebPDecode(file, size, &config));
    if (config.output.u.RGBA.rgba != NULL) {
        note(config.output.u.RGBA.rgba, 31 * 17 * 4);
    }
    WebPFreeDecBuffer(&config.output);
    WebPIDecoder *decoder = WebPINewRGB(MODE_RGB, NULL, 0, 0);
    VP8StatusCode status = VP8_STATUS_SUSPENDED;
    for (size_t done = 0; done < size && status == VP8_STATUS_SUSPENDED; done += 200) {
        status = WebPIAppend(decoder, file + done, size - done < 200 ? size - done : 200);
    }
    note_number(status);
    WebPIDelete(decoder);
}

static void round_trip(int lossless, int method, int alpha, float quality) {
    WebPConfig config;
    WebPPicture picture;
    WebPMemoryWriter writer;
    WebPConfigInit(&config);
    WebPPictureInit(&picture);
    WebPMemoryWriterInit(&writer);
    config.lossless = lossless;
    config.method = method;
    config.quality = quality;
    config.use_sharp_yuv = method == 2;
    picture.use_argb = lossless;
    picture.width = WIDTH;
    picture.height = HEIGHT;
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = &writer;
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (uint8_t)(i % 4 == 3 && !alpha ? 255 : i * i / 999 + i % 4 * (i / 300));
    }
    note_number(WebPPictureImportRGBA(&picture, pixels, WIDTH * 4));
    note_number(WebPEncode(&config, &picture));
    WebPPictureFree(&picture);
    note(writer.mem, writer.size);
    note_decoded(writer.mem, writer.size);
    WebPData data = {writer.mem, writer.size};
    WebPDemuxer *demuxer = WebPDemux(&data);
    note_number(demuxer != NULL ? (long long)WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH) : -1);
    WebPDemuxDelete(demuxer);
    WebPMux *mux = WebPMuxCreate(&data, 1);
    WebPData meta = {(const uint8_t *)"meta", 4}, assembled;
    note_number(WebPMuxSetChunk(mux, "XMP ", &meta, 1));
    note_number(WebPMuxAssemble(mux, &assembled));
    note(assembled.bytes, assembled.size);
    WebPDataClear(&assembled);
    WebPMuxDelete(mux);
    note_decoded(writer.mem, writer.size / 2);
    writer.mem[writer.size / 2] ^= 0x41;
    note_decoded(writer.mem, writer.size);
    WebPMemoryWriterClear(&writer);
}

static void regression(void) {
    round_trip(0, 4, 0, 60);
    round_trip(0, 2, 1, 90);
    round_trip(1, 3, 1, 70);
    round_trip(1, 0, 0, 20);
    note_decoded((const uint8_t *)"RIFFxxxxWEBPVP8 ", 16);
}

static int ignore_output(const uint8_t *bytes, size_t size, const WebPPicture *picture) {
    (void)bytes;
    (void)size;
    (void)picture;
    return 1;
}

/* Encodes a small picture whose transparency is tried with all filters, where one allocation is refused; false if there was none so
 * late. */
static int encode_short_of_memory(int which) {
    WebPConfig config;
    WebPPicture picture;
    WebPConfigInit(&config);
    WebPPictureInit(&picture);
    config.method = 0;
    config.alpha_filtering = 2;
    picture.width = picture.height = 16;
    picture.writer = ignore_output;
    for (size_t i = 0; i < 16 * 16 * 4; i++) {
        pixels[i] = (uint8_t)(i * i / 99 + i % 4 * (i / 30));
    }
    WebPPictureImportRGBA(&picture, pixels, 16 * 4);
    freed_count = 0;
    watching = 1;
    failing = which;
    WebPEncode(&config, &picture);
    int refused = failing == 0;
    failing = watching = 0;
    WebPPictureFree(&picture);
    return refused;
}

/* Each allocation refused in turn, until there are no more of them. */
static const char *short_of_memory(void) {
    int which = 1;
    freed_twice = 0;
    while (freed_twice == 0 && encode_short_of_memory(which)) {
        which++;
    }
    return freed_twice > 0 ? "freed-twice" : "freed-once";
}

static const char *probe(const char *name) {
    return strcmp(name, "short-of-memory") == 0 ? short_of_memory() : "unknown";
}
