/* giflib, kept busy; see ../driver.h. */
#include "../driver.h"

#include <malloc.h>

#include "gif_lib.h"

static unsigned char file[100000];
static size_t file_size, file_read;

static int write_file(GifFileType *gif, const GifByteType *bytes, int size) {
    (void)gif;
    memcpy(file + file_size, bytes, (size_t)size);
    file_size += (size_t)size;
    return size;
}

static int read_file(GifFileType *gif, GifByteType *bytes, int size) {
    (void)gif;
    size_t left = file_size - file_read, count = (size_t)size < left ? (size_t)size : left;
    memcpy(bytes, file + file_read, count);
    file_read += count;
    return (int)count;
}

#define WIDTH 90
#define HEIGHT 40

/* Two images, one of them interlaced, with a delay and a comment. */
static void encode(void) {
    int error = 0;
    file_size = 0;
    GifFileType *gif = EGifOpen(NULL, write_file, &error);
    gif->SWidth = WIDTH;
    gif->SHeight = HEIGHT;
    gif->SColorMap = GifMakeMapObject(16, NULL);
    for (int i = 0; i < 16; i++) {
        gif->SColorMap->Colors[i] = (GifColorType){(GifByteType)(i * 16), (GifByteType)(255 - i), (GifByteType)i};
    }
    for (int image = 0; image < 2; image++) {
        SavedImage *saved = GifMakeSavedImage(gif, NULL);
        saved->ImageDesc = (GifImageDesc){0, 0, WIDTH, HEIGHT, image == 1, NULL};
        saved->RasterBits = malloc(WIDTH * HEIGHT);
        for (int i = 0; i < WIDTH * HEIGHT; i++) {
            saved->RasterBits[i] = (GifByteType)((i * i / 7 + image + i % WIDTH / 9) & 15);
        }
        GifAddExtensionBlock(&saved->ExtensionBlockCount, &saved->ExtensionBlocks, COMMENT_EXT_FUNC_CODE, 5,
                             (unsigned char *)"hpgen");
        GraphicsControlBlock control = {DISPOSE_BACKGROUND, false, 10 + image, 3};
        note_number(EGifGCBToSavedExtension(&control, gif, image));
    }
    note_number(EGifSpew(gif));
    note(file, file_size);
}

static void decode(size_t size) {
    int error = 0;
    file_read = 0;
    size_t whole = file_size;
    file_size = size;
    GifFileType *gif = DGifOpen(NULL, read_file, &error);
    if (gif != NULL) {
        int result = DGifSlurp(gif);
        note_number(result);
        note_text(GifErrorString(gif->Error));
        for (int image = 0; image < gif->ImageCount; image++) {
            GraphicsControlBlock control = {0};
            note_number(DGifSavedExtensionToGCB(gif, image, &control));
            note_number(control.DelayTime);
            /* Of an image that breaks off, the rest was never written. */
            if (result == GIF_OK && gif->SavedImages[image].RasterBits != NULL) {
                note(gif->SavedImages[image].RasterBits, WIDTH * HEIGHT);
            }
        }
        if (gif->ImageCount == 2 && size == whole) {
            /* Of a copy: the array moves when it grows. */
            SavedImage first = gif->SavedImages[0], *copy = GifMakeSavedImage(gif, &first);
            note(copy->RasterBits, WIDTH * HEIGHT);
            /* Copies share what their extensions hold, and all of them would free it. */
            copy->ExtensionBlockCount = 0;
            copy->ExtensionBlocks = NULL;
        }
        note_number(DGifCloseFile(gif, &error));
    }
    note_number(error);
    file_size = whole;
}

static void regression(void) {
    encode();
    decode(file_size);
    decode(file_size / 2);
    decode(5);
    ColorMapObject *first = GifMakeMapObject(8, NULL), *second = GifMakeMapObject(16, NULL);
    GifPixelType translation[16];
    ColorMapObject *both = GifUnionColorMap(first, second, translation);
    note_number(both == NULL ? -1 : both->ColorCount);
    GifFreeMapObject(both);
    GifFreeMapObject(first);
    GifFreeMapObject(second);
}

/* A graphics control extension of one byte, where four are written. */
static const char *short_extension(void) {
    unsigned char bytes[8] = {0};
    ExtensionBlock block = {1, bytes, GRAPHICS_EXT_FUNC_CODE};
    SavedImage image = {0};
    image.ExtensionBlocks = &block;
    image.ExtensionBlockCount = 1;
    GifFileType gif = {0};
    gif.SavedImages = &image;
    gif.ImageCount = 1;
    GraphicsControlBlock control = {DISPOSE_BACKGROUND, true, 0x1234, 3};
    int result = EGifGCBToSavedExtension(&control, &gif, 0);
    return bytes[1] != 0 || bytes[2] != 0 ? "overwritten" : result == GIF_ERROR ? "refused" : "untouched";
}

/* A copy of an image that is too large to be copied: what the original holds must stay. */
static const char *failed_copy(void) {
    SavedImage image = {0};
    image.ImageDesc.Width = 0x10000;
    image.ImageDesc.Height = -0x7000;
    GifAddExtensionBlock(&image.ExtensionBlockCount, &image.ExtensionBlocks, COMMENT_EXT_FUNC_CODE, 5, (unsigned char *)"hpgen");
    GifFileType gif = {0};
    SavedImage *copy = GifMakeSavedImage(&gif, &image);
    int kept = HeapValidate((HANDLE)_get_heap_handle(), 0, image.ExtensionBlocks);
    if (kept) {
        GifFreeExtensions(&image.ExtensionBlockCount, &image.ExtensionBlocks);
    }
    free(gif.SavedImages);
    return copy != NULL ? "made" : kept ? "kept" : "freed";
}

static const char *probe(const char *name) {
    return strcmp(name, "short-extension") == 0 ? short_extension() : strcmp(name, "failed-copy") == 0 ? failed_copy() : "unknown";
}
