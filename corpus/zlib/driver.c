/* zlib, kept busy; see ../driver.h. */
#include "../driver.h"

#include "zlib.h"

static unsigned char text[60000], packed[80000], unpacked[60000];

/* Text that repeats itself now and then. */
static void make_text(void) {
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof text; i++) {
        random = random * 1664525 + 1013904223;
        text[i] = i > 300 && random >> 29 != 0 ? text[i - 300 + (random >> 24 & 3)] : 'a' + (random >> 16) % 26;
    }
}

/* Packs in small steps, so that states live long, and unpacks. */
static void round_trip(int level, int strategy, int window) {
    z_stream stream = {0};
    stream.next_out = packed;
    stream.avail_out = sizeof packed;
    note_number(deflateInit2(&stream, level, Z_DEFLATED, window, 8, strategy));
    for (size_t done = 0; done < sizeof text;) {
        size_t size = sizeof text - done < 7777 ? sizeof text - done : 7777;
        stream.next_in = text + done;
        stream.avail_in = (uInt)size;
        done += size;
        note_number(deflate(&stream, done == sizeof text ? Z_FINISH : Z_NO_FLUSH));
    }
    uLong size = stream.total_out;
    note_number(deflateEnd(&stream));
    note(packed, size);

    z_stream back = {0};
    back.next_in = packed;
    back.avail_in = (uInt)size;
    note_number(inflateInit2(&back, window < 0 ? window : 47));
    int result = Z_OK;
    for (size_t done = 0; result == Z_OK; done = back.total_out) {
        size_t left = sizeof unpacked - done;
        back.next_out = unpacked + done;
        back.avail_out = (uInt)(left < 5000 ? left : 5000);
        result = inflate(&back, Z_NO_FLUSH);
    }
    note_number(result);
    note_number(inflateEnd(&back));
    note_number(memcmp(text, unpacked, sizeof text));
}

static void regression(void) {
    make_text();
    note_number(crc32(0, text, sizeof text));
    note_number(adler32(1, text, sizeof text));
    round_trip(1, Z_DEFAULT_STRATEGY, 15);
    round_trip(6, Z_DEFAULT_STRATEGY, 31);
    round_trip(9, Z_FILTERED, -15);
    round_trip(6, Z_HUFFMAN_ONLY, 12);
    round_trip(6, Z_RLE, 15);
    round_trip(6, Z_FIXED, 15);
    uLong size = 100;
    packed[20] ^= 0x55;
    note_number(uncompress(unpacked, &size, packed, 1000));
}

/* A gzip header with an extra field of 200 bytes, given in parts, for a buffer of 16: with the second part, a size below
 * zero was copied. */
static void extra_field(void) {
    static const unsigned char start[] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 200, 0};
    static unsigned char *buffer, *input;
    if (buffer == NULL) {
        buffer = guarded(NULL, 64);
        input = guarded(NULL, sizeof start + 200);
        memset(input, 'x', sizeof start + 200);
        memcpy(input, start, sizeof start);
    }
    z_stream stream = {0};
    gz_header header = {0};
    header.extra = buffer;
    header.extra_max = 16;
    unsigned char out[8];
    stream.next_out = out;
    stream.avail_out = sizeof out;
    inflateInit2(&stream, 31);
    inflateGetHeader(&stream, &header);
    stream.next_in = input;
    for (int part = 0; part < 4; part++) {
        stream.avail_in = 53;
        inflate(&stream, Z_NO_FLUSH);
    }
    inflateEnd(&stream);
}

static const char *probe(const char *name) {
    return strcmp(name, "extra-field") != 0 ? "none" : faults(extra_field) ? "fault" : "no-fault";
}
