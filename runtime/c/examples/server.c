/* A server that patches itself: as soon as the file named by its first argument is there, it takes it in; when it is gone, it takes it out.
 *
 *     server fix.hpx 500                           works through 500 requests
 *     server fix.hpx 500 plugin.dll plugin.hpx     loads a plugin after some of them, and has its payload applied then
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

/* How a plugin's payload went in. */
static void told(void *context, const char *patch_id, int32_t code, const hpgen_applied *applied, const char *error) {
    printf("%s %s: %d, %u functions %s\n", (const char *)context, patch_id, code, applied ? applied->functions : 0, error);
}

typedef unsigned (*plugin_function)(unsigned);

static plugin_function load_plugin(const char *file) {
    HMODULE plugin = LoadLibraryA(file);
    return plugin ? (plugin_function)(void *)GetProcAddress(plugin, "plugin_answer") : NULL;
}

int main(int count, char **arguments) {
    hpgen_patcher *patcher;
    hpgen_follower *follower = NULL;
    plugin_function plugin = NULL;
    char error[512];
    if ((count != 3 && count != 5) || hpgen_patcher_open(HPGEN_ABI, &patcher) != HPGEN_OK) {
        return 2;
    }
    hpgen_allow_unsigned(patcher, 1); /* a server in earnest calls hpgen_trust */
    if (count == 5) {
        const char *payloads[] = {arguments[4]};
        int32_t code = hpgen_follow_files(patcher, payloads, 1, told, "plugin", &follower, error, sizeof error);
        printf("follow: %d %s\n", code, error);
    }
    for (unsigned request = 0; request < (unsigned)atoi(arguments[2]); request++) {
        look_for_patch(patcher, arguments[1]);
        if (follower && request == 20) {
            plugin = load_plugin(arguments[3]);
        }
        printf("request %u: fee %u", request, fee(request % 10));
        if (plugin) {
            printf(" plugin %u", plugin(request));
        }
        printf("\n");
        fflush(stdout);
        Sleep(10);
    }
    hpgen_follower_close(follower);
    hpgen_patcher_close(patcher);
    return 0;
}
