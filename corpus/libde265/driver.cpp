/* libde265, kept busy with pictures that the driver makes up: headers as the standard has them, and noise for what is coded by
 * them, which is a picture too; see ../driver.h. */
#include "../driver.h"

#include <fcntl.h>
#include <io.h>

#include "de265.h"

static unsigned char raw[6000], stream[20000];
static size_t raw_bits, stream_size;

static void bits(unsigned value, int count) {
    for (int i = count - 1; i >= 0; i--) {
        if (raw_bits % 8 == 0) {
            raw[raw_bits / 8] = 0;
        }
        raw[raw_bits / 8] |= (unsigned char)((value >> i & 1) << (7 - raw_bits % 8));
        raw_bits++;
    }
}

/* Exp-Golomb. */
static void ue(unsigned value) {
    int size = 0;
    while ((value + 1) >> (size + 1)) {
        size++;
    }
    bits(0, size);
    bits(value + 1, size + 1);
}

/* The bits so far, as a unit of the stream. */
static void unit(int type) {
    static const unsigned char start[] = {0, 0, 0, 1};
    bits(1, 1);
    while (raw_bits % 8 != 0) {
        bits(0, 1);
    }
    memcpy(stream + stream_size, start, 4);
    stream_size += 4;
    stream[stream_size++] = (unsigned char)(type << 1);
    stream[stream_size++] = 1;
    int zeros = 0;
    for (size_t i = 0; i < raw_bits / 8; i++) {
        if (zeros == 2 && raw[i] <= 3) {
            stream[stream_size++] = 3;
            zeros = 0;
        }
        zeros = raw[i] == 0 ? zeros + 1 : 0;
        stream[stream_size++] = raw[i];
    }
    raw_bits = 0;
}

static void sequence_parameters(unsigned width, unsigned height) {
    bits(0, 4);
    bits(0, 3);
    bits(1, 1);
    bits(1, 8);
    bits(0x60000000, 32);
    bits(9, 4);
    bits(0, 32);
    bits(0, 12);
    bits(93, 8);
    ue(0);
    ue(1);
    ue(width);
    ue(height);
    bits(0, 1);
    ue(0);
    ue(0);
    ue(4);
    bits(1, 1);
    ue(2);
    ue(0);
    ue(0);
    ue(0);
    ue(1);
    ue(0);
    ue(2);
    ue(1);
    ue(1);
    bits(2, 4);
    ue(0);
    bits(0, 1);
    bits(1, 1);
    bits(0, 3);
    unit(33);
}

static void picture_parameters(unsigned number, bool dependent_slices) {
    ue(number);
    ue(0);
    bits(dependent_slices, 1);
    bits(0, 6);
    ue(0);
    ue(0);
    ue(0);
    bits(0, 3);
    ue(0);
    ue(0);
    bits(0, 6);
    bits(1, 1);
    bits(0, 3);
    ue(0);
    bits(0, 2);
    unit(34);
}

static void picture(int number, uint32_t seed) {
    bits(1, 1);
    if (number == 0) {
        bits(0, 1);
    }
    ue(0);
    ue(number == 0 ? 2 : 1);
    if (number != 0) {
        bits((unsigned)number, 8);
        bits(0, 1);
        ue(1);
        ue(0);
        ue(0);
        bits(1, 1);
        bits(1, 1);
    }
    if (number != 0) {
        bits(0, 1);
        ue(0);
    }
    ue(0);
    bits(1, 1);
    bits(1, 1);
    while (raw_bits % 8 != 0) {
        bits(0, 1);
    }
    for (int i = 0; i < 900; i++) {
        seed = seed * 1664525 + 1013904223;
        bits(seed >> 24, 8);
    }
    unit(number == 0 ? 19 : 1);
}

/* Noise says soon that a slice is over, and nobody writes the rest of its picture, nor what others take from there. The first
 * block of the first picture is decoded whatever the noise is. */
static void note_plane(const de265_image *image, int channel) {
    int stride = 0, size = channel == 0 ? 16 : 8;
    const uint8_t *pixels = de265_get_image_plane(image, channel, &stride);
    for (int y = 0; pixels != nullptr && y < size; y++) {
        note(pixels + y * stride, (size_t)size);
    }
}

static void decode(size_t step, bool whole) {
    de265_decoder_context *decoder = de265_new_decoder();
    size_t done = 0;
    int more = 1, pictures = whole ? 0 : 1;
    for (int round = 0; more && round < 400; round++) {
        if (done < stream_size) {
            size_t size = stream_size - done < step ? stream_size - done : step;
            note_number(de265_push_data(decoder, stream + done, (int)size, 0, nullptr));
            done += size;
            if (done == stream_size) {
                note_number(de265_flush_data(decoder));
            }
        }
        de265_error error = de265_decode(decoder, &more);
        note_text(de265_get_error_text(error));
        more |= done < stream_size;
        while (const de265_image *image = de265_get_next_picture(decoder)) {
            note_number(de265_get_image_width(image, 0) * 1000 + de265_get_image_height(image, 1));
            for (int channel = 0; channel < 3 && pictures == 0; channel++) {
                note_plane(image, channel);
            }
            pictures++;
        }
        for (int i = 0; i < 50; i++) {
            de265_error warning = de265_get_warning(decoder);
            if (warning == DE265_OK) {
                break;
            }
            note_number(warning);
        }
    }
    de265_free_decoder(decoder);
}

static void regression(void) {
    stream_size = 0;
    sequence_parameters(64, 48);
    picture_parameters(0, false);
    picture(0, 1);
    picture(1, 7);
    picture(2, 99);
    decode(1000000, true);
    decode(333, true);
    stream[stream_size / 2] ^= 0x55;
    decode(1000000, false);
    stream_size = 30;
    decode(7, false);
}

/* Gives all of the stream to a decoder that writes to the standard error what `dump` says. The decoder is lost where a step faults. */
static de265_param dump;
static bool refused;

static void decode_all(void) {
    de265_decoder_context *decoder = de265_new_decoder();
    if (dump != de265_param()) {
        de265_set_parameter_int(decoder, dump, 2);
    }
    de265_push_data(decoder, stream, (int)stream_size, 0, nullptr);
    de265_flush_data(decoder);
    int more = 1;
    for (int round = 0; more && round < 50; round++) {
        de265_decode(decoder, &more);
    }
    refused = false;
    for (de265_error warning; (warning = de265_get_warning(decoder)) != DE265_OK;) {
        refused |= warning == DE265_WARNING_NONEXISTING_PPS_REFERENCED || warning == DE265_WARNING_PPS_HEADER_INVALID;
    }
    de265_free_decoder(decoder);
}

/* A slice that depends on another one, whose picture parameters are gone: a new sequence took them away. */
static const char *parameters_gone(void) {
    stream_size = 0;
    sequence_parameters(64, 48);
    picture_parameters(0, true);
    picture(0, 1);
    sequence_parameters(80, 48);
    picture_parameters(1, true);
    bits(0, 2);
    ue(1);
    bits(1, 1);
    bits(1, 4);
    bits(1, 1);
    unit(19);
    return faults(decode_all) ? "fault" : refused ? "refused" : "decoded";
}

/* The same, with what the library reads of slices written out, to nowhere: it uses both outputs. */
static const char *slice_written_out(void) {
    int ours = _dup(1), nowhere = _open("NUL", _O_WRONLY);
    _dup2(nowhere, 1);
    _dup2(nowhere, 2);
    dump = DE265_DECODER_PARAM_DUMP_SLICE_HEADERS;
    const char *seen = parameters_gone();
    _dup2(ours, 1);
    _close(ours);
    _close(nowhere);
    return seen;
}

static const char *probe(const char *name) {
    if (strcmp(name, "parameters-gone") == 0) {
        return parameters_gone();
    }
    return strcmp(name, "slice-written-out") == 0 ? slice_written_out() : "unknown";
}
