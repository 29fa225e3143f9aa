/* A server that patches itself: as soon as the file named by its first argument is there, it takes it in; when it is gone, it takes it out.
 *
 *     server fix.hpx 500      works through 500 requests
 *
 * Built with -DFIXED_BUILD it is the fixed build, which `hpgen build` compares with the other one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

#include "hpgen_runtime.h"

__declspec(noinline) unsigned fee(unsigned amount) {
#ifdef FIXED_BUILD
    return amount < 10 ? 1 : amount / 10;
#else
    return amount / 10;
#endif
}

/* All that a server needs. */
static void look_for_patch(const hpgen_patcher *patcher, const char *file) {
    static int patched = 0;
    char error[512] = "";
    int wanted = GetFileAttributesA(file) != INVALID_FILE_ATTRIBUTES;
    if (wanted != patched) {
        int32_t code = wanted ? hpgen_apply_file(patcher, file, NULL, error, sizeof error)
                              : hpgen_rollback(patcher, NULL, NULL, error, sizeof error);
        printf("%s: %d %s\n", wanted ? "apply" : "roll back", code, error);
        patched = wanted;
    }
}

int main(int count, char **arguments) {
    hpgen_patcher *patcher;
    if (count != 3 || hpgen_patcher_open(HPGEN_ABI, &patcher) != HPGEN_OK) {
        return 2;
    }
    hpgen_allow_unsigned(patcher, 1); /* a server in earnest calls hpgen_trust */
    for (unsigned request = 0; request < (unsigned)atoi(arguments[2]); request++) {
        look_for_patch(patcher, arguments[1]);
        printf("request %u: fee %u\n", request, fee(request % 10));
        fflush(stdout);
        Sleep(10);
    }
    hpgen_patcher_close(patcher);
    return 0;
}
