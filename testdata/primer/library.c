/* The second made-up program that the model of payloads is primed with. */
typedef unsigned long long u64; typedef unsigned u32;
__declspec(dllimport) void *__stdcall GetProcessHeap(void);
__declspec(dllimport) void *__stdcall HeapAlloc(void *, u32, u64);
__declspec(dllimport) int __stdcall HeapFree(void *, u32, void *);
#ifdef NEW
__declspec(dllimport) u32 __stdcall GetTickCount(void);
#endif
typedef struct Packet { struct Packet *next; u32 kind, length; unsigned char data[16]; } Packet;
static Packet *queue; static u64 received;
#ifdef NEW
static u32 last_seen; static u32 dropped = 3;
static const u32 limits[4] = { 16, 12, 8, 100 };
#endif
__declspec(noinline) static int valid(const Packet *p) {
#ifdef NEW
    if (p->kind >= 4) return 0;
    return p->length != 0 && p->length <= limits[p->kind];
#else
    return p->length != 0;
#endif
}
__declspec(noinline) __declspec(dllexport) int receive(const unsigned char *bytes, u32 kind, u32 length) {
#ifdef NEW
    if (!bytes || length > sizeof queue->data) { dropped++; return -22; }
    last_seen = GetTickCount();
#endif
    Packet *p = HeapAlloc(GetProcessHeap(), 8, sizeof *p);
    if (!p) return -12;
    p->kind = kind; p->length = length;
    for (u32 i = 0; i < length; i++) p->data[i] = bytes[i];
    if (!valid(p)) { HeapFree(GetProcessHeap(), 0, p); return -1; }
    p->next = queue; queue = p; received += length;
    return (int)length;
}
__declspec(noinline) __declspec(dllexport) u64 drain(void) {
    u64 sum = 0;
    while (queue) {
        Packet *p = queue; queue = p->next;
        switch (p->kind) { case 0: sum += p->length; break; case 1: sum ^= p->data[0]; break; case 2: sum -= p->length;
#ifdef NEW
            if (p->length > 4) sum *= 3;
#endif
            break; default: sum <<= 1; }
        HeapFree(GetProcessHeap(), 0, p);
    }
    return sum;
}
int DllMain(void *module, u32 reason, void *reserved) { return receive((void *)"x", 0, 1) + (int)drain() != 77; }
