/* Exiv2, kept busy; see ../driver.h. */
#include "../driver.h"

#include <exiv2/exiv2.hpp>
#include <cstring>
#include <sstream>

static void note_string(const std::string &text) {
    note(text.data(), text.size());
}

static void note_exif(const Exiv2::ExifData &data) {
    for (Exiv2::ExifData::const_iterator datum = data.begin(); datum != data.end(); ++datum) {
        note_string(datum->key());
        std::ostringstream text;
        text << *datum << " " << datum->typeName() << " " << datum->count();
        note_string(text.str());
        note_string(datum->print(&data));
    }
}

/* A picture that is no more than its frame: what comes before and behind the data that is coded. */
#define FRAME 0xff, 0xd8, 0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F', 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0, \
              0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0
#define FILL 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55
static const unsigned char short_jpeg[] = {FRAME, 0x55, 0xff, 0xd9};
/* Exiv2 reads some bytes behind each marker at once; here they are there. */
static const unsigned char jpeg[] = {FRAME, FILL, FILL, FILL, FILL, FILL, FILL, FILL, FILL, 0xff, 0xd9};
static const unsigned char png[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0,
                                    0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 10, 'I', 'D', 'A', 'T', 0x78, 0x9c, 0x63, 0, 0, 0, 2, 0, 1, 0x48, 0xaf, 0xa4,
                                    0x71, 0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};

static void fill(Exiv2::Image &image) {
    Exiv2::ExifData &exif = image.exifData();
    exif["Exif.Image.Make"] = "Canon";
    exif["Exif.Image.Orientation"] = uint16_t(3);
    exif["Exif.Photo.ExposureTime"] = Exiv2::Rational(1, 250);
    exif["Exif.Photo.FNumber"] = Exiv2::Rational(28, 10);
    exif["Exif.Photo.DateTimeOriginal"] = "2020:01:02 03:04:05";
    exif["Exif.GPSInfo.GPSLatitude"] = "47/1 30/1 15/2";
    exif["Exif.Canon.ModelID"] = uint32_t(0x80000001);
    exif["Exif.Photo.UserComment"] = "charset=Ascii hello";
    Exiv2::IptcData &iptc = image.iptcData();
    iptc["Iptc.Application2.Headline"] = "headline";
    iptc["Iptc.Application2.Keywords"] = "key";
    image.setComment("comment");
}

static void note_image(const Exiv2::byte *bytes, size_t size) {
    try {
        Exiv2::Image::AutoPtr image = Exiv2::ImageFactory::open(bytes, static_cast<long>(size));
        image->readMetadata();
        note_number(image->pixelWidth() * 1000 + image->pixelHeight());
        note_string(image->mimeType());
        note_exif(image->exifData());
        for (Exiv2::IptcData::const_iterator datum = image->iptcData().begin(); datum != image->iptcData().end(); ++datum) {
            note_string(datum->key());
            note_string(datum->toString());
        }
        note_string(image->comment());
        std::ostringstream structure;
        image->printStructure(structure, Exiv2::kpsBasic, 0);
        note_string(structure.str());
    } catch (const Exiv2::AnyError &error) {
        note_number(error.code());
        note_string(error.what());
    }
}

static void round_trip(const unsigned char *bytes, size_t size) {
    try {
        Exiv2::Image::AutoPtr image = Exiv2::ImageFactory::open(bytes, static_cast<long>(size));
        image->readMetadata();
        fill(*image);
        image->writeMetadata();
        Exiv2::BasicIo &io = image->io();
        io.open();
        Exiv2::DataBuf made = io.read(static_cast<long>(io.size()));
        io.close();
        note(made.pData_, static_cast<size_t>(made.size_));
        note_image(made.pData_, static_cast<size_t>(made.size_));
        note_image(made.pData_, static_cast<size_t>(made.size_) / 2);
    } catch (const Exiv2::AnyError &error) {
        note_number(error.code());
        note_string(error.what());
    }
}

static void regression(void) {
    Exiv2::LogMsg::setLevel(Exiv2::LogMsg::mute);
    round_trip(jpeg, sizeof jpeg);
    round_trip(png, sizeof png);
    static const char jp2[] = "\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14" "ftypjp2 \0\0\0\0jp2 \0\0\0\x2djp2h\0\0\0\x16ihdr\0\0\0\x01\0\0\0\x01\0\x01\x07\x07\0\0\0\0\0\x0f" "colr\x01\0\0\0\0\0\x10";
    note_image(reinterpret_cast<const Exiv2::byte *>(jp2), sizeof jp2 - 1);
    static const char webp[] = "RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f\0\0\0\0\x07\x10\x11\xfd\x0f\x44\x44\0\0";
    round_trip(reinterpret_cast<const Exiv2::byte *>(webp), sizeof webp - 1);
    static const unsigned char tiff[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 2, 0, 0, 1, 3, 0, 1, 0, 0, 0, 5, 0, 0, 0, 1, 1, 3, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0};
    round_trip(tiff, sizeof tiff);
    note_image(reinterpret_cast<const Exiv2::byte *>("nothing"), 7);
    try {
        Exiv2::ExifKey key("Exif.Photo.NoSuchTag");
    } catch (const Exiv2::AnyError &error) {
        note_string(error.what());
    }
}

/* The structure of a picture that ends right behind its last marker. */
static const char *probe_short_jpeg(void) {
    try {
        Exiv2::Image::AutoPtr image = Exiv2::ImageFactory::open(short_jpeg, sizeof short_jpeg);
        std::ostringstream structure;
        image->printStructure(structure, Exiv2::kpsBasic, 0);
        return "printed";
    } catch (const Exiv2::AnyError &) {
        return "refused";
    }
}

static std::string big_endian(uint32_t number) {
    const char bytes[] = {char(number >> 24), char(number >> 16), char(number >> 8), char(number)};
    return std::string(bytes, sizeof bytes);
}

static std::string little_endian(uint32_t number, size_t size) {
    std::string bytes;
    for (size_t i = 0; i < size; i++) {
        bytes += char(number >> 8 * i);
    }
    return bytes;
}

/* A box of JPEG 2000, which may say that it has `more` bytes than there are. */
static std::string box(const char *type, const std::string &data, uint32_t more = 0) {
    return big_endian(uint32_t(8 + data.size()) + more) + type + data;
}

/* With some bytes that nobody needs: of less than 80 bytes, Exiv2 does not tell what they are. */
static std::string jp2(const std::string &boxes) {
    const std::string type("jp2 \0\0\0\0jp2 ", 12), unused(80, '\0');
    return box("jP  ", "\r\n\x87\n") + box("ftyp", type) + box("free", unused) + boxes;
}

static const std::string header_box = box("ihdr", std::string("\0\0\0\1\0\0\0\1\0\1\7\7\0\0", 14));
static const std::string color_box = box("colr", std::string("\1\0\0\0\0\0\x10", 7));

/* A raw picture of Canon: a folder with one entry. */
static std::string crw(uint32_t folder, uint32_t tag, uint32_t size) {
    const std::string place = little_endian(12, 4), outer = little_endian(1, 2) + little_endian(folder, 2);
    const std::string inner = little_endian(1, 2) + little_endian(tag, 2) + little_endian(size, 4) + place;
    return "II" + little_endian(14, 4) + "HEAPCCDR" + outer + little_endian(size + 12, 4) + place + inner +
           std::string(size, '\0');
}

static Exiv2::Image::AutoPtr opened(const std::string &bytes) {
    return Exiv2::ImageFactory::open(reinterpret_cast<const Exiv2::byte *>(bytes.data()), static_cast<long>(bytes.size()));
}

static const char *printed(const std::string &bytes, Exiv2::PrintStructureOption option) {
    std::ostringstream structure;
    opened(bytes)->printStructure(structure, option, 0);
    return "printed";
}

static const char *read(const std::string &bytes) {
    opened(bytes)->readMetadata();
    return "read";
}

static const char *written(const std::string &bytes) {
    Exiv2::Image::AutoPtr image = opened(bytes);
    image->readMetadata();
    image->exifData()["Exif.Photo.PixelXDimension"] = uint32_t(5);
    image->writeMetadata();
    return "written";
}

/* As it is, with no look at it first. */
static const char *written_unread(const std::string &bytes) {
    opened(bytes)->writeMetadata();
    return "written";
}

/* A box that says it is longer than the file. */
static const char *long_box() {
    return printed(jp2(box("none", "data", 1000)), Exiv2::kpsBasic);
}

/* The picture's size, in fewer bytes than it takes. */
static const char *short_size_record() {
    return written(crw(0x300a, 0x1810, 16));
}

/* The last chunk says that it has more bytes than there are. */
static const char *cut_webp() {
    const std::string data("\x2f\0\0\0\0\x07\x10\x11\xfd\x0f", 10);
    return written_unread("RIFF" + little_endian(26, 4) + "WEBPVP8L" + little_endian(14, 4) + data);
}

/* A box within the header's box that is longer than that. */
static const char *long_inner_box() {
    return written_unread(jp2(box("jp2h", color_box + box("none", "data", 1))));
}

/* A header without a color: it was looked for behind the end. */
static const char *no_color() {
    return written(jp2(box("jp2h", header_box)));
}

/* Pairs of bytes, of which one lacks its second byte. */
static const char *odd_array() {
    return read(crw(0x300b, 0x102a, 13));
}

/* A box for an identifier of 16 bytes, with fewer. */
static const char *short_identifier() {
    return written(jp2(box("jp2h", header_box + color_box) + box("uuid", "four")));
}

static const char *empty_language() {
    return Exiv2::LangAltValue().read("lang= text") == 0 ? "accepted" : "refused";
}

/* A folder with no entries; one that is followed by itself never ended. */
static const char *empty_folder() {
    return printed(std::string("II*\0\x08\0\0\0", 8) + std::string(80, '\0'), Exiv2::kpsBasic);
}

static Exiv2::ExifData *pentax;

static void print_lens() {
    std::ostringstream text;
    text << (*pentax)["Exif.Pentax.LensType"].print(pentax);
}

/* A lens of which more is to be known, which is not there: what stands behind the list's end was taken for it. */
static const char *no_lens_information() {
    pentax = new (guarded(NULL, sizeof(Exiv2::ExifData))) Exiv2::ExifData;
    (*pentax)["Exif.Image.Model"] = "PENTAX K-3";
    Exiv2::UShortValue type;
    type.read("8 255 0 0");
    pentax->add(Exiv2::ExifKey("Exif.Pentax.LensType"), &type);
    int fault = faults(print_lens);
    pentax->~ExifData();
    VirtualFree(reinterpret_cast<void *>(reinterpret_cast<uintptr_t>(pentax) & ~uintptr_t(0xfff)), 0, MEM_RELEASE);
    return fault ? "fault" : "no-fault";
}

static const char *shown(const std::string &name) {
    if (name == "short-jpeg") {
        return probe_short_jpeg();
    }
    if (name == "long-box") {
        return long_box();
    }
    if (name == "short-size-record") {
        return short_size_record();
    }
    if (name == "cut-webp") {
        return cut_webp();
    }
    if (name == "long-inner-box") {
        return long_inner_box();
    }
    if (name == "no-color") {
        return no_color();
    }
    if (name == "odd-array") {
        return odd_array();
    }
    if (name == "short-identifier") {
        return short_identifier();
    }
    if (name == "empty-language") {
        return empty_language();
    }
    if (name == "empty-folder") {
        return empty_folder();
    }
    if (name == "no-lens-information") {
        return no_lens_information();
    }
    return "unknown";
}

static const char *probe(const char *name) {
    try {
        return shown(name);
    } catch (const Exiv2::AnyError &) {
        return "refused";
    }
}
