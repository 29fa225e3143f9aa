/* OpenJPEG, kept busy; see ../driver.h. */
#include "../driver.h"

#include "openjpeg.h"

/* A file in memory. */
static unsigned char file[200000];
static size_t size, place;

static OPJ_SIZE_T read_file(void *bytes, OPJ_SIZE_T count, void *unused) {
    (void)unused;
    if (place >= size) {
        return (OPJ_SIZE_T)-1;
    }
    count = count < size - place ? count : size - place;
    memcpy(bytes, file + place, count);
    place += count;
    return count;
}
static OPJ_SIZE_T write_file(void *bytes, OPJ_SIZE_T count, void *unused) {
    (void)unused;
    if (place + count > sizeof file) {
        return (OPJ_SIZE_T)-1;
    }
    memcpy(file + place, bytes, count);
    place += count;
    size = place > size ? place : size;
    return count;
}
static OPJ_OFF_T skip_file(OPJ_OFF_T count, void *unused) {
    (void)unused;
    place += (size_t)count;
    return count;
}
static OPJ_BOOL seek_file(OPJ_OFF_T offset, void *unused) {
    (void)unused;
    place = (size_t)offset;
    return OPJ_TRUE;
}

static opj_stream_t *stream(OPJ_BOOL input) {
    place = 0;
    if (!input) {
        size = 0;
    }
    opj_stream_t *made = opj_stream_create(4096, input);
    opj_stream_set_read_function(made, read_file);
    opj_stream_set_write_function(made, write_file);
    opj_stream_set_skip_function(made, skip_file);
    opj_stream_set_seek_function(made, seek_file);
    opj_stream_set_user_data_length(made, size);
    return made;
}

static void on_message(const char *message, void *unused) {
    (void)unused;
    note_text(message);
}

static void on_ignored(const char *message, void *unused) {
    (void)message;
    (void)unused;
}

#define WIDTH 60
#define HEIGHT 45

static void encode(OPJ_CODEC_FORMAT format, int components, int irreversible, int style, int layers, OPJ_PROG_ORDER order, int tile) {
    opj_image_cmptparm_t parameters[3] = {{0}};
    for (int i = 0; i < components; i++) {
        parameters[i].dx = parameters[i].dy = 1;
        parameters[i].w = WIDTH;
        parameters[i].h = HEIGHT;
        parameters[i].prec = 8;
    }
    opj_image_t *image = opj_image_create((OPJ_UINT32)components, parameters, components == 3 ? OPJ_CLRSPC_SRGB : OPJ_CLRSPC_GRAY);
    image->x1 = WIDTH;
    image->y1 = HEIGHT;
    for (int i = 0; i < components; i++) {
        for (int pixel = 0; pixel < WIDTH * HEIGHT; pixel++) {
            image->comps[i].data[pixel] = (pixel * (i + 2) / 9 + pixel % WIDTH * 3) & 255;
        }
    }
    opj_cparameters_t settings;
    opj_set_default_encoder_parameters(&settings);
    settings.irreversible = irreversible;
    settings.csty = style;
    settings.prog_order = order;
    settings.tcp_numlayers = layers;
    settings.cp_disto_alloc = 1;
    settings.tcp_mct = components == 3;
    settings.numresolution = 4;
    for (int i = 0; i < layers; i++) {
        settings.tcp_rates[i] = (float)(layers - i - 1) * 10;
    }
    if (tile) {
        settings.tile_size_on = OPJ_TRUE;
        settings.cp_tdx = settings.cp_tdy = tile;
    }
    opj_codec_t *codec = opj_create_compress(format);
    opj_set_error_handler(codec, on_message, NULL);
    opj_set_warning_handler(codec, on_message, NULL);
    note_number(opj_setup_encoder(codec, &settings, image));
    opj_stream_t *out = stream(OPJ_FALSE);
    note_number(opj_start_compress(codec, image, out) && opj_encode(codec, out) && opj_end_compress(codec, out));
    opj_stream_destroy(out);
    opj_destroy_codec(codec);
    opj_image_destroy(image);
}

static int decode(OPJ_CODEC_FORMAT format, int reduce, opj_msg_callback message) {
    opj_dparameters_t settings;
    opj_set_default_decoder_parameters(&settings);
    settings.cp_reduce = (OPJ_UINT32)reduce;
    opj_codec_t *codec = opj_create_decompress(format);
    opj_set_error_handler(codec, message, NULL);
    opj_set_warning_handler(codec, message, NULL);
    opj_setup_decoder(codec, &settings);
    opj_stream_t *in = stream(OPJ_TRUE);
    opj_image_t *image = NULL;
    int good = opj_read_header(in, codec, &image) && opj_decode(codec, in, image) && opj_end_decompress(codec, in);
    if (good) {
        for (OPJ_UINT32 i = 0; i < image->numcomps; i++) {
            note(image->comps[i].data, (size_t)image->comps[i].w * image->comps[i].h * 4);
        }
    }
    note_number(good);
    opj_image_destroy(image);
    opj_stream_destroy(in);
    opj_destroy_codec(codec);
    return good;
}

static void regression(void) {
    static const struct {
        OPJ_CODEC_FORMAT format;
        int components, irreversible, style, layers;
        OPJ_PROG_ORDER order;
        int tile;
    } kinds[] = {{OPJ_CODEC_J2K, 3, 0, 0, 1, OPJ_LRCP, 0},
                 {OPJ_CODEC_JP2, 3, 1, 0, 3, OPJ_RLCP, 0},
                 {OPJ_CODEC_J2K, 1, 0, 6, 2, OPJ_RPCL, 32},
                 {OPJ_CODEC_JP2, 1, 1, 4, 1, OPJ_CPRL, 20}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        encode(kinds[i].format, kinds[i].components, kinds[i].irreversible, kinds[i].style, kinds[i].layers, kinds[i].order, kinds[i].tile);
        note(file, size);
        decode(kinds[i].format, 0, on_message);
        decode(kinds[i].format, 2, on_message);
    }
    encode(OPJ_CODEC_J2K, 3, 0, 0, 1, OPJ_LRCP, 0);
    size_t whole = size;
    size = whole / 2;
    decode(OPJ_CODEC_J2K, 0, on_message);
    size = 20;
    decode(OPJ_CODEC_J2K, 0, on_message);
}

/* Promises a mark behind each packet's header, and has none. */
static const char *no_end_of_header(void) {
    encode(OPJ_CODEC_J2K, 1, 0, 0, 1, OPJ_LRCP, 0);
    for (size_t i = 0; i + 4 < size; i++) {
        if (file[i] == 0xff && file[i + 1] == 0x52) {
            file[i + 4] |= 4;
            break;
        }
    }
    return decode(OPJ_CODEC_J2K, 0, on_ignored) ? "accepted" : "refused";
}

/* Where a tile-part's marker begins. */
static size_t start_of_tile_part(void) {
    size_t i = 0;
    while (i + 1 < size && !(file[i] == 0xff && file[i + 1] == 0x90)) {
        i++;
    }
    return i;
}

/* A tile of two parts, of which the first does not say how many there are: at that moment the index has room for none that the file
 * promised. What the index then says of the first part, read again after the second. */
static const char *part_not_promised(void) {
    static const unsigned char second[] = {0xff, 0x90, 0, 10, 0, 0, 0, 0, 0, 14, 1, 2, 0xff, 0x93, 0xff, 0xd9};
    encode(OPJ_CODEC_J2K, 1, 0, 0, 1, OPJ_LRCP, 0);
    file[start_of_tile_part() + 11] = 0;
    memcpy(file + size - 2, second, sizeof second);
    size += sizeof second - 2;
    opj_dparameters_t settings;
    opj_set_default_decoder_parameters(&settings);
    opj_codec_t *codec = opj_create_decompress(OPJ_CODEC_J2K);
    opj_setup_decoder(codec, &settings);
    opj_stream_t *in = stream(OPJ_TRUE);
    opj_image_t *image = NULL;
    int good = opj_read_header(in, codec, &image) && opj_decode(codec, in, image);
    opj_codestream_index_t *index = good ? opj_get_cstr_index(codec) : NULL;
    const char *seen = "refused";
    if (index != NULL && index->tile_index[0].nb_tps == 2 && index->tile_index[0].tp_index != NULL) {
        seen = index->tile_index[0].tp_index[0].start_pos != 0 ? "recorded" : "left-out";
    }
    opj_destroy_cstr_index(&index);
    opj_image_destroy(image);
    opj_stream_destroy(in);
    opj_destroy_codec(codec);
    return seen;
}

static const char *probe(const char *name) {
    if (strcmp(name, "no-end-of-header") == 0) {
        return no_end_of_header();
    }
    return strcmp(name, "part-not-promised") == 0 ? part_not_promised() : "unknown";
}
