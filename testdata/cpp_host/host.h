// What cpp_host knows of the world outside: a few functions of Windows and of the C runtime, and what C++ needs of a library.
#pragma once

using uint8 = unsigned char;
using uint32 = unsigned int;
using uint64 = unsigned long long;
using size_t = decltype(sizeof 0);

// Keeps a function a function of its own, whatever the optimiser would like.
#define NOINLINE __declspec(noinline)

extern "C" {
__declspec(dllimport) void *GetStdHandle(uint32 which);
__declspec(dllimport) int WriteFile(void *file, const void *bytes, uint32 count, uint32 *written, void *overlapped);
__declspec(dllimport) uint32 GetFileAttributesA(const char *name);
__declspec(dllimport) uint32 GetTickCount();
__declspec(dllimport) void Sleep(uint32 milliseconds);
__declspec(dllimport) void *malloc(size_t size);
__declspec(dllimport) void free(void *memory);
}

inline void *operator new(size_t, void *place) { return place; }

// Reference traits that moving needs.
template <typename T> struct WithoutReference { using Type = T; };
template <typename T> struct WithoutReference<T &> { using Type = T; };
template <typename T> struct WithoutReference<T &&> { using Type = T; };

template <typename T> constexpr typename WithoutReference<T>::Type &&move(T &&value) {
    return static_cast<typename WithoutReference<T>::Type &&>(value);
}

template <typename T> void swap(T &a, T &b) {
    T kept = move(a);
    a = move(b);
    b = move(kept);
}

// Mixes one value into a checksum. Inlined into functions of every file.
inline uint32 mix(uint32 sum, uint32 value) { return (sum << 5 | sum >> 27) * 31 + (value ^ 0x9e3779b9u); }

// Not inlined, in a header all the same: each file brings a copy, the linker keeps one.
NOINLINE inline uint32 mix_text(uint32 sum, const char *text) {
    for (; *text != 0; text++) {
        sum = mix(sum, static_cast<uint8>(*text));
    }
    return sum;
}
