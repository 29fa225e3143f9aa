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

static const char *probe(const char *name) {
    return !strcmp(name, "short-jpeg") ? probe_short_jpeg() : "unknown";
}
