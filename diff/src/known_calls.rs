//! Functions of Windows and of the C and C++ runtimes whose effects are documented and harmless to a running process: they read,
//! allocate, or write where an argument points.

/// What a call of such a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownCall {
    /// At most so many arguments are looked at; none of them is a floating-point number.
    pub arguments: usize,
    /// Arguments that point to what it writes, counted from 0.
    pub written: &'static [usize],
    /// Returns memory that nobody else has.
    pub allocates: bool,
    /// Registers a function that is called when the process ends, or the module is unloaded.
    pub registers_exit_function: bool,
}

const READS: KnownCall = KnownCall { arguments: 4, written: &[], allocates: false, registers_exit_function: false };
const WRITES_FIRST: KnownCall = KnownCall { written: &[0], ..READS };
const ALLOCATES: KnownCall = KnownCall { allocates: true, ..READS };
const REGISTERS: KnownCall = KnownCall { arguments: 1, registers_exit_function: true, ..READS };
const REGISTERS_WITH_ARGUMENT: KnownCall = KnownCall { arguments: 3, ..REGISTERS };

/// Of the runtimes, which may be linked into the image: by linkage name.
const RUNTIME: [(&str, KnownCall); 20] = [
    ("atexit", REGISTERS),
    ("_onexit", REGISTERS),
    ("_crt_atexit", REGISTERS),
    ("__cxa_atexit", REGISTERS_WITH_ARGUMENT),
    ("malloc", ALLOCATES),
    ("calloc", ALLOCATES),
    ("??2@YAPEAX_K@Z", ALLOCATES),
    ("??_U@YAPEAX_K@Z", ALLOCATES),
    ("_Znwy", ALLOCATES),
    ("_Znay", ALLOCATES),
    ("memset", WRITES_FIRST),
    ("memcpy", WRITES_FIRST),
    ("memmove", WRITES_FIRST),
    ("strcpy", WRITES_FIRST),
    ("memcmp", READS),
    ("strcmp", READS),
    ("strncmp", READS),
    ("strlen", READS),
    ("wcslen", READS),
    ("abs", READS),
];

/// Of Windows, as imports.
const SYSTEM: [(&str, KnownCall); 33] = [
    ("GetACP", READS),
    ("GetCommandLineA", READS),
    ("GetCommandLineW", READS),
    ("GetCurrentProcess", READS),
    ("GetCurrentProcessId", READS),
    ("GetCurrentThreadId", READS),
    ("GetLastError", READS),
    ("GetModuleHandleA", READS),
    ("GetModuleHandleW", READS),
    ("GetProcAddress", READS),
    ("GetProcessHeap", READS),
    ("GetStdHandle", READS),
    ("GetTickCount", READS),
    ("GetTickCount64", READS),
    ("IsDebuggerPresent", READS),
    ("IsProcessorFeaturePresent", READS),
    ("lstrlenA", READS),
    ("lstrlenW", READS),
    ("HeapAlloc", ALLOCATES),
    ("LocalAlloc", ALLOCATES),
    ("GlobalAlloc", ALLOCATES),
    ("GetLocalTime", WRITES_FIRST),
    ("GetNativeSystemInfo", WRITES_FIRST),
    ("GetSystemInfo", WRITES_FIRST),
    ("GetSystemTime", WRITES_FIRST),
    ("GetSystemTimeAsFileTime", WRITES_FIRST),
    ("InitializeConditionVariable", WRITES_FIRST),
    ("InitializeCriticalSection", WRITES_FIRST),
    ("InitializeCriticalSectionAndSpinCount", WRITES_FIRST),
    ("InitializeSListHead", WRITES_FIRST),
    ("InitializeSRWLock", WRITES_FIRST),
    ("QueryPerformanceCounter", WRITES_FIRST),
    ("QueryPerformanceFrequency", WRITES_FIRST),
];

/// What a function of the image does, if it is one of the runtimes'.
pub(crate) fn known_call(name: &str) -> Option<KnownCall> {
    RUNTIME.iter().find(|(known, _)| *known == name).map(|(_, call)| *call)
}

/// What an imported function does.
pub(crate) fn known_import(name: &str) -> Option<KnownCall> {
    known_call(name).or_else(|| SYSTEM.iter().find(|(known, _)| *known == name).map(|(_, call)| *call))
}
