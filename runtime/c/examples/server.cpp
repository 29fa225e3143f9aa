// The same as server.c in C++, with a handle that closes itself and a file name in UTF-16.
#include <cstdio>
#include <cstdlib>
#include <windows.h>

#include "hpgen_runtime.h"

struct Rate {
    virtual unsigned of(unsigned amount) const = 0;
};

struct Discount final : Rate {
    __declspec(noinline) unsigned of(unsigned amount) const override {
#ifdef FIXED_BUILD
        return amount > 5 ? 5 : amount * 37 % 11;
#else
        return amount * 37 % 11;
#endif
    }
};

// A payload may ask for this to be called for a while (`hpgen build --health-check self_test --probation 30s`).
extern "C" int self_test() {
#ifdef BROKEN_BUILD
    return 3;
#else
    return 0;
#endif
}

// Stays for as long as the patch is on probation; one that fails is out again then.
static DWORD WINAPI stand_probation(void *) {
    hpgen_patcher *patcher;
    hpgen_probation probation;
    char error[512];
    hpgen_patcher_open(HPGEN_ABI, &patcher);
    int code = hpgen_stand_probation(patcher, nullptr, &probation, error, sizeof error);
    if (code != HPGEN_OK || probation.end != HPGEN_NOT_ON_PROBATION)
        std::printf("probation: %d %s%u %s\n", code, error, probation.end, probation.why);
    hpgen_patcher_close(patcher);
    return 0;
}

// All that a server needs.
class SelfPatching {
    hpgen_patcher *patcher = nullptr;
    const wchar_t *file;
    bool patched = false;

  public:
    explicit SelfPatching(const wchar_t *file) : file(file) {
        hpgen_patcher_open(HPGEN_ABI, &patcher);
        hpgen_allow_unsigned(patcher, 1); // a server in earnest calls hpgen_trust
    }
    SelfPatching(const SelfPatching &) = delete;
    ~SelfPatching() { hpgen_patcher_close(patcher); }

    void look() {
        bool wanted = GetFileAttributesW(file) != INVALID_FILE_ATTRIBUTES;
        if (wanted == patched) return;
        char error[512];
        int code = wanted ? hpgen_apply_file_w(patcher, file, nullptr, error, sizeof error)
                          : hpgen_rollback(patcher, nullptr, nullptr, error, sizeof error);
        std::printf("%s: %d %s\n", wanted ? "apply" : "roll back", code, error);
        patched = wanted;
        if (wanted && code == HPGEN_OK) CloseHandle(CreateThread(nullptr, 0, stand_probation, nullptr, 0, nullptr));
    }
};

int main(int count, char **arguments) {
    static wchar_t file[MAX_PATH];
    if (count != 3 || MultiByteToWideChar(CP_ACP, 0, arguments[1], -1, file, MAX_PATH) == 0) return 2;
    SelfPatching patching(file);
    Discount discount;
    const Rate *volatile rate = &discount;
    unsigned requests = static_cast<unsigned>(std::atoi(arguments[2]));
    for (unsigned request = 0; request < requests; request++) {
        patching.look();
        std::printf("request %u: %u to pay\n", request, rate->of(request % 8));
        std::fflush(stdout);
        Sleep(10);
    }
}
