/* Little CMS, kept busy; see ../driver.h. */
#include "../driver.h"

#include "lcms2.h"
#include "lcms2_plugin.h"

static unsigned char pixels[64 * 4], out[64 * 8];

static void convert(cmsHPROFILE from, cmsUInt32Number from_type, cmsHPROFILE to, cmsUInt32Number to_type, cmsUInt32Number intent) {
    cmsHTRANSFORM transform = cmsCreateTransform(from, from_type, to, to_type, intent, cmsFLAGS_BLACKPOINTCOMPENSATION);
    note_number(transform != NULL);
    memset(out, 0, sizeof out);
    if (transform != NULL) {
        cmsDoTransform(transform, pixels, out, 16);
        cmsDeleteTransform(transform);
    }
    note(out, sizeof out);
}

static cmsInt32Number sample(const cmsUInt16Number in[], cmsUInt16Number result[], void *unused) {
    (void)unused;
    for (int i = 0; i < 3; i++) {
        result[i] = (cmsUInt16Number)(65535 - in[i] / 2);
    }
    return TRUE;
}

static void regression(void) {
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (unsigned char)(i * 37 + i / 3);
    }
    cmsHPROFILE srgb = cmsCreate_sRGBProfile(), lab = cmsCreateLab4Profile(NULL), xyz = cmsCreateXYZProfile();
    cmsToneCurve *gamma = cmsBuildGamma(NULL, 1.8);
    cmsHPROFILE gray = cmsCreateGrayProfile(cmsD50_xyY(), gamma);
    convert(srgb, TYPE_RGB_8, lab, TYPE_Lab_8, INTENT_PERCEPTUAL);
    convert(lab, TYPE_Lab_8, srgb, TYPE_BGR_8, INTENT_RELATIVE_COLORIMETRIC);
    convert(srgb, TYPE_RGBA_8, gray, TYPE_GRAY_16, INTENT_ABSOLUTE_COLORIMETRIC);
    convert(gray, TYPE_GRAY_8, srgb, TYPE_RGB_16, INTENT_SATURATION);
    convert(srgb, TYPE_RGB_8, xyz, TYPE_XYZ_16, INTENT_PERCEPTUAL);
    cmsUInt32Number size = 0;
    cmsSetHeaderModel(srgb, 7);
    note_number(cmsSaveProfileToMem(gray, NULL, &size));
    unsigned char *memory = (unsigned char *)malloc(size);
    note_number(cmsSaveProfileToMem(gray, memory, &size));
    /* The header has the time in it. */
    note(memory + 128, size - 128);
    cmsHPROFILE again = cmsOpenProfileFromMem(memory, size);
    note_number(cmsGetTagCount(again));
    convert(again, TYPE_GRAY_8, lab, TYPE_Lab_8, INTENT_PERCEPTUAL);
    cmsCloseProfile(again);
    memory[131] ^= 0x40;
    again = cmsOpenProfileFromMem(memory, size);
    note_number(again != NULL);
    if (again != NULL) {
        cmsCloseProfile(again);
    }
    free(memory);
    cmsPipeline *pipeline = cmsPipelineAlloc(NULL, 3, 3);
    cmsStage *cube = cmsStageAllocCLut16bit(NULL, 9, 3, 3, NULL);
    note_number(cmsStageSampleCLut16bit(cube, sample, NULL, 0));
    cmsPipelineInsertStage(pipeline, cmsAT_END, cube);
    cmsUInt16Number in[3] = {1000, 30000, 65535}, result[3];
    cmsPipelineEval16(in, result, pipeline);
    note(result, sizeof result);
    cmsPipelineFree(pipeline);
    cmsFreeToneCurve(gamma);
    cmsCloseProfile(srgb);
    cmsCloseProfile(lab);
    cmsCloseProfile(xyz);
    cmsCloseProfile(gray);
}

/* A cube of 2^32 + 65534 nodes, which were taken for 65534. */
static const char *cube(void) {
    static const cmsUInt32Number points[] = {65538, 65535};
    cmsStage *stage = cmsStageAllocCLut16bitGranular(NULL, points, 2, 1, NULL);
    if (stage != NULL) {
        cmsStageFree(stage);
    }
    return stage != NULL ? "made" : "refused";
}

static const char *probe(const char *name) {
    return strcmp(name, "cube") == 0 ? cube() : "unknown";
}
