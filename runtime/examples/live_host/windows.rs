//! The checks.

#[path = "attempts.rs"]
mod attempts;
#[path = "callers.rs"]
mod callers;
#[path = "endurance.rs"]
mod endurance;
#[path = "fibers.rs"]
mod fibers;
#[path = "forms.rs"]
mod forms;
#[path = "late.rs"]
mod late;
#[path = "memory.rs"]
mod memory;
#[path = "probation.rs"]
mod probation;
#[path = "unloaded.rs"]
mod unloaded;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::{answer, live_answer};
use crate::payloads::*;
use hpgen_runtime::format::*;
use hpgen_runtime::*;
use windows_sys::Win32::System::Threading::GetCurrentThreadId;

/// All payloads here are for one image.
fn apply_to_self(payload: &Payload, seal: &Seal, options: &ApplyOptions) -> Result<Applied, ApplyError> {
    hpgen_runtime::apply_to_self(&payload.clone().into(), seal, options)
}

fn apply_to_process(pid: u32, payload: &Payload, seal: &Seal, options: &ApplyOptions) -> Result<Applied, ApplyError> {
    hpgen_runtime::apply_to_process(pid, &payload.clone().into(), seal, options)
}

fn run(command: &RunCommand, payload: &Payload, seal: &Seal, options: &ApplyOptions) -> Result<u32, RunError> {
    hpgen_runtime::run(command, &payload.clone().into(), seal, options, |_| panic!("no payload here has a probation"))
}

fn of_only_image(applied: &Applied) -> PatchStatus {
    applied.status().unwrap().remove(0)
}

/// Ends the program when the thread that patches allocates or frees while it has stopped the others.
struct Watched;

static PATCHER: AtomicU32 = AtomicU32::new(0);

fn watch() {
    if PATCHER.load(Ordering::Relaxed) == unsafe { GetCurrentThreadId() } && own_threads_are_stopped() {
        std::process::abort();
    }
}

unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch();
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        watch();
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

// Functions to be patched, in assembly so that their first bytes are known.
core::arch::global_asm!(
    ".text",
    ".globl live_spin",
    "live_spin:", // fn(*const u32): spins inside its own first five bytes until *x is not 0
    "nop",
    "2:",
    "cmp dword ptr [rcx], 0",
    "je 2b",
    "nop",
    "nop",
    "ret",
    ".globl live_through",
    "live_through:", // fn(fn() -> u32) -> u32: its call's return address is inside its first five bytes
    ".seh_proc live_through",
    "push rbx",
    ".seh_pushreg rbx",
    ".seh_endprologue",
    "call rcx",
    "pop rbx",
    "ret",
    "nop",
    "nop",
    "nop",
    ".seh_endproc",
    ".globl live_framed",
    "live_framed:", // fn(fn() -> u32) -> u32: a frame that can be unwound
    ".seh_proc live_framed",
    "sub rsp, 40",
    ".seh_stackalloc 40",
    ".seh_endprologue",
    "call rcx",
    "nop",
    "add rsp, 40",
    "ret",
    ".seh_endproc",
);

unsafe extern "C-unwind" {
    fn live_spin(x: *const AtomicU32);
    fn live_through(callback: extern "C-unwind" fn() -> u32) -> u32;
    fn live_framed(callback: extern "C-unwind" fn() -> u32) -> u32;
}

/// `lea eax, [rcx + n]; ret`
fn adding(n: u8) -> Payload {
    redirect(live_answer as *const () as usize, "live_answer", vec![0x8d, 0x41, n, 0xc3, 0x90])
}

fn options(patience_ms: u64) -> ApplyOptions {
    ApplyOptions { patience: Duration::from_millis(patience_ms), ..ApplyOptions::default() }
}

pub fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match all[1..] {
        ["self", rounds] => check_self(rounds.parse().unwrap()),
        ["dll", path, preferred] => check_dll(path, u64::from_str_radix(preferred, 16).unwrap()),
        ["unloaded", name] => unloaded::check(name),
        ["memory"] => memory::check_memory(),
        ["shut"] => memory::shut(),
        ["probation"] => probation::check_probation(),
        ["crash"] => probation::crash(),
        ["forms", rounds] => forms::check_forms(rounds.parse().unwrap()),
        ["callers", rounds] => callers::check_callers(rounds.parse().unwrap()),
        ["cycles", rounds, threads] => endurance::cycles(rounds.parse().unwrap(), threads.parse().unwrap()),
        ["bench", rounds] => endurance::bench(rounds.parse().unwrap()),
        ["attempts"] => attempts::check(),
        ["fibers"] => fibers::check(),
        ["late", name] => late::check(name),
        ["remote"] => check_remote(),
        ["run"] => check_run(),
        ["early", path] => check_early(path),
        ["target"] => target(),
        ["child", ..] => child(&arguments[2..]),
        _ => panic!("usage: see the source"),
    }
}

// ---------------------------------------------------------------------------------------------- in this process

fn check_self(rounds: u32) {
    PATCHER.store(unsafe { GetCurrentThreadId() }, Ordering::Relaxed);
    check_refusals();
    check_idle(rounds);
    check_hammered(rounds);
    check_everything_in_a_payload();
    check_unwinding();
    check_busy();
    check_kept();
    check_many();
    assert_eq!(status_self().unwrap(), []);
    println!("self: all done");
}

fn check_refusals() {
    let untouched = first_bytes(live_answer as *const () as usize, 16);
    let good = adding(2);
    let refused = |change: &dyn Fn(&mut Payload)| {
        let mut payload = good.clone();
        change(&mut payload);
        let error = apply_to_self(&payload, &seal(1), &ApplyOptions::default()).unwrap_err();
        assert_eq!(first_bytes(live_answer as *const () as usize, 16), untouched);
        assert_eq!(status_self().unwrap(), []);
        assert_eq!(answer(1), 2);
        println!("refused ({}): {error}", error.is_refusal());
        error
    };
    for (field, change) in [
        ("TimeDateStamp", (|p: &mut Payload| p.identity.timestamp ^= 1) as fn(&mut Payload)),
        ("SizeOfImage", |p| p.identity.size_of_image += 0x1000),
        ("AddressOfEntryPoint", |p| p.identity.entry_point += 1),
        ("the PDB's GUID and age", |p| p.identity.guid[3] ^= 0x10),
        ("the PDB's GUID and age", |p| p.identity.age = 7),
    ] {
        let error = refused(&change);
        assert!(matches!(&error, ApplyError::Identity { field: f, .. } if *f == field));
        assert!(error.is_refusal());
    }
    for bit in 0..64 {
        let error = refused(&|p: &mut Payload| p.trampolines[0].expected[bit / 8] ^= 1 << (bit % 8));
        assert!(
            matches!(error, ApplyError::Stop(StopError::Mismatch { rva, .. }) if rva == good.trampolines[0].entry_rva)
        );
    }
    let error = refused(&|p| p.identity.image_name = "no_such_image.dll".into());
    assert!(matches!(error, ApplyError::NotLoaded { .. }));
    let error = refused(&|p| p.identity.image_name = "NTDLL.DLL".into());
    assert!(matches!(error, ApplyError::SystemImage(_)));
    let import = |dll: &str, symbol: &str| Import {
        slot: CONSTANTS,
        dll: dll.to_owned(),
        symbol: ImportSymbol::Name(symbol.to_owned()),
    };
    let error = refused(&|p| p.imports.push(import("not_there.dll", "x")));
    assert!(matches!(error, ApplyError::ImportModule { .. }));
    let error = refused(&|p| p.imports.push(import("kernel32.dll", "NoSuchFunctionAtAll")));
    assert!(matches!(error, ApplyError::ImportSymbol { .. }));
    let error = refused(&|p| {
        p.relocations.push(Relocation {
            place: CONSTANTS,
            kind: RelocationKind::Rva32,
            space: Space::Region,
            target: 0,
            addend: i32::MIN,
        })
    });
    assert!(matches!(error, ApplyError::Link(_)) && !error.is_refusal());
    assert!(matches!(rollback_self(None, &options(0)), Err(RollbackError::NoPatch(_))));

    let applied = apply_to_self(&good, &seal(1), &ApplyOptions::default()).unwrap();
    assert_eq!(answer(1), 3);
    let error = apply_to_self(&good, &seal(1), &ApplyOptions::default()).unwrap_err();
    assert!(matches!(&error, ApplyError::AlreadyApplied(id) if *id == seal(1).patch_id()), "{error}");
    let error = apply_to_self(&good, &seal(2), &ApplyOptions::default()).unwrap_err();
    assert!(matches!(error, ApplyError::Stop(StopError::Mismatch { .. }) | ApplyError::AlreadyRedirected { .. }));
    println!("refused: {error}");
    assert!(matches!(&error, ApplyError::AlreadyRedirected { patch, .. } if *patch == seal(1).patch_id()));
    let error = rollback_self(Some("0000000000000000"), &options(0)).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(error, RollbackError::UnknownPatch { .. }));
    // Somebody else writes over our jump.
    let status = of_only_image(&applied);
    assert!(status.functions[0].redirected);
    poke(status.functions[0].old_address, 1, 0x55);
    assert!(!of_only_image(&applied).functions[0].redirected);
    let error = rollback_self(None, &options(0)).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(error, RollbackError::Changed { .. }) && error.is_refusal());
    poke(status.functions[0].old_address, 1, 0x55);
    let done = applied.rollback().unwrap();
    assert_eq!((done.functions, done.region), (1, RegionFate::Freed));
    assert_eq!(first_bytes(live_answer as *const () as usize, 16), untouched);
}

/// Inverts bits of one byte of code. An address inside an entry must not stay on the stack: the loader would take it for a return address.
#[inline(never)]
fn poke(entry: u64, offset: u64, bits: u8) {
    let address = entry + offset;
    use windows_sys::Win32::System::Memory::{PAGE_EXECUTE_READWRITE, VirtualProtect};
    unsafe {
        let mut old = 0;
        VirtualProtect(address as *const _, 1, PAGE_EXECUTE_READWRITE, &raw mut old);
        *(address as *mut u8) ^= bits;
        VirtualProtect(address as *const _, 1, old, &raw mut old);
    }
}

/// Threads that wait, as most threads of real programs do.
fn check_idle(rounds: u32) {
    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, Ordering::SeqCst);
    let wait = || {
        while !STOP.load(Ordering::Relaxed) {
            thread::park_timeout(Duration::from_millis(200));
        }
    };
    let threads: Vec<_> = (0..40).map(|_| thread::spawn(wait)).collect();
    let mut stops = Vec::new();
    for _ in 0..rounds {
        let applied = apply_to_self(&adding(4), &seal(3), &ApplyOptions::default()).unwrap();
        let status = of_only_image(&applied);
        assert!(status.threads_stopped >= 40);
        stops.extend([status.stopped, applied.rollback().unwrap().stopped]);
        rollback_kept();
    }
    STOP.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    stops.sort();
    println!("40 idle threads: stopped: median {:?}, longest {:?}", stops[stops.len() / 2], stops[stops.len() - 1]);
}

/// Threads that call the function all the time, allocate, and come and go.
fn check_hammered(rounds: u32) {
    static STOP: AtomicBool = AtomicBool::new(false);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    static BORN: AtomicU64 = AtomicU64::new(0);
    STOP.store(false, Ordering::SeqCst);
    let hammer = || {
        while !STOP.load(Ordering::Relaxed) {
            let text = format!("{}", answer(1));
            assert!(text == "2" || text == "5", "{text}");
            CALLS.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut threads: Vec<_> = (0..4).map(|_| thread::spawn(hammer)).collect();
    threads.push(thread::spawn(|| {
        while !STOP.load(Ordering::Relaxed) {
            thread::spawn(|| assert!([2, 5].contains(&answer(1)))).join().unwrap();
            BORN.fetch_add(1, Ordering::Relaxed);
        }
    }));
    threads.extend((0..8).map(|_| {
        thread::spawn(|| {
            while !STOP.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(3));
            }
        })
    }));
    let payload = adding(4);
    let (mut stops, mut kept) = (Vec::new(), 0);
    let begin = Instant::now();
    for _ in 0..rounds {
        let applied = apply_to_self(&payload, &seal(3), &ApplyOptions::default()).unwrap();
        assert_eq!(answer(1), 5);
        let status = of_only_image(&applied);
        assert_eq!((status.state, status.functions.len()), (PatchState::Applied, 1));
        assert!(status.threads_stopped >= 13);
        let done = applied.rollback().unwrap();
        assert_eq!(answer(1), 2);
        stops.extend([status.stopped, done.stopped]);
        while let Ok(again) = status_self().map(|all| !all.is_empty()) {
            if !again {
                break;
            }
            kept += 1;
            rollback_self(None, &ApplyOptions::default()).unwrap();
        }
    }
    let took = begin.elapsed();
    STOP.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    stops.sort();
    println!(
        "hammered: {rounds} rounds in {took:.1?}, {} calls, {} threads born; stopped: median {:?}, 95% {:?}, longest {:?}; kept at first: {kept}",
        CALLS.load(Ordering::Relaxed),
        BORN.load(Ordering::Relaxed),
        stops[stops.len() / 2],
        stops[stops.len() * 95 / 100],
        stops[stops.len() - 1]
    );
}

/// A new body that uses a constant, a variable, an import, a function of the old image, and an absolute address.
fn check_everything_in_a_payload() {
    extern "C-unwind" fn helper() -> u32 {
        1000
    }
    let code = vec![
        0x48, 0x83, 0xec, 0x28, // 00 sub rsp, 40
        0xff, 0x05, 0, 0, 0, 0, // 04 inc dword ptr [rip + variable]
        0xff, 0x15, 0, 0, 0, 0, // 0a call [rip + import]
        0x89, 0x05, 0, 0, 0, 0, // 10 mov [rip + variable + 4], eax
        0xe8, 0, 0, 0, 0, // 16 call helper
        0x03, 0x05, 0, 0, 0, 0, // 1b add eax, [rip + variable]
        0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // 21 mov rcx, constant
        0x03, 0x01, // 2b add eax, [rcx]
        0x83, 0x3d, 0, 0, 0, 0, 7, // 2d cmp dword ptr [rip + constant], 7
        0x74, 0x02, // 34 je +2
        0x31, 0xc0, // 36 xor eax, eax
        0x48, 0x83, 0xc4, 0x28, // 38 add rsp, 40
        0xc3, // 3c
    ];
    let mut payload = redirect(live_answer as *const () as usize, "live_answer", code);
    let relocation = |place, kind, space, target, addend| Relocation { place, kind, space, target, addend };
    use RelocationKind::{Addr64, Rel32};
    payload.relocations.extend([
        relocation(CODE + 0x06, Rel32, Space::Region, VARIABLES, -4),
        relocation(CODE + 0x0c, Rel32, Space::Region, CONSTANTS + 0x30, -4),
        relocation(CODE + 0x12, Rel32, Space::Region, VARIABLES + 4, -4),
        relocation(CODE + 0x17, Rel32, Space::Image, rva(helper as *const () as usize), -4),
        relocation(CODE + 0x1d, Rel32, Space::Region, VARIABLES, -4),
        relocation(CODE + 0x23, Addr64, Space::Region, CONSTANTS + 0x20, 0),
        relocation(CODE + 0x2f, Rel32, Space::Region, CONSTANTS + 0x20, -5),
    ]);
    payload.segments[1].content[0x20] = 7;
    with_frame(&mut payload);
    for (dll, symbol) in [
        ("KERNEL32.dll", ImportSymbol::Name("GetCurrentProcessId".into())),
        // A forwarder: kernel32's HeapAlloc is ntdll's RtlAllocateHeap. It is not called.
        ("api-ms-win-core-processthreads-l1-1-0.dll", ImportSymbol::Name("GetCurrentProcessId".into())),
    ] {
        payload.imports = vec![Import { slot: CONSTANTS + 0x30, dll: dll.into(), symbol }];
        let applied = apply_to_self(&payload, &seal(4), &ApplyOptions::default()).unwrap();
        assert_eq!(answer(0), 1000 + 1 + 7);
        assert_eq!(answer(0), 1000 + 2 + 7);
        let region = of_only_image(&applied).region_base;
        assert_eq!(peek(region, VARIABLES + 4) as u32, std::process::id());
        check_protections(region);
        applied.rollback().unwrap();
        rollback_kept();
        assert_eq!(answer(0), 1);
    }
    let mut forwarded = adding(2);
    forwarded.imports =
        vec![Import { slot: CONSTANTS, dll: "kernel32.dll".into(), symbol: ImportSymbol::Name("HeapAlloc".into()) }];
    let applied = apply_to_self(&forwarded, &seal(4), &ApplyOptions::default()).unwrap();
    let region = of_only_image(&applied).region_base;
    let address = peek(region, CONSTANTS);
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
    let expected =
        unsafe { GetProcAddress(GetModuleHandleA(c"kernel32.dll".as_ptr().cast()), c"HeapAlloc".as_ptr().cast()) };
    assert_eq!(address, expected.unwrap() as usize as u64);
    applied.rollback().unwrap();
    rollback_kept();
    println!("payload with constants, variables, imports, old functions and unwind data: works");
}

/// Reads from a region. No address inside it may stay on the stack: the loader would take it for a use of the region.
#[inline(never)]
fn peek(region: u64, offset: u32) -> u64 {
    unsafe { std::ptr::read_unaligned((region + u64::from(offset)) as *const u64) }
}

#[inline(never)]
fn check_protections(region: u64) {
    use windows_sys::Win32::System::Memory::*;
    for (offset, protection) in [
        (0, PAGE_READWRITE),
        (CODE, PAGE_EXECUTE_READ),
        (0x2000, PAGE_NOACCESS),
        (CONSTANTS, PAGE_READONLY),
        (0x4000, PAGE_NOACCESS),
        (VARIABLES, PAGE_READWRITE),
        (0x6000, PAGE_NOACCESS),
        (0x7000, PAGE_READONLY),
        (0x8000, PAGE_NOACCESS),
    ] {
        let mut info: MEMORY_BASIC_INFORMATION = unsafe { std::mem::zeroed() };
        unsafe { VirtualQuery((region + u64::from(offset)) as *const _, &raw mut info, size_of_val(&info)) };
        assert_eq!(info.Protect, protection, "at {offset:#x}");
    }
}

/// Rolls back again what was kept because of leftovers on the stack.
fn rollback_kept() {
    let begin = Instant::now();
    while !status_self().unwrap().is_empty() {
        let done = rollback_self(None, &ApplyOptions::default()).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "{done:?}");
    }
}

/// A panic goes through a frame of the region.
fn check_unwinding() {
    extern "C-unwind" fn thrower() -> u32 {
        std::panic::panic_any(77u32)
    }
    extern "C-unwind" fn seven() -> u32 {
        7
    }
    // sub rsp, 40; call rcx; inc eax; add rsp, 40; ret
    let code = vec![0x48, 0x83, 0xec, 0x28, 0xff, 0xd1, 0xff, 0xc0, 0x48, 0x83, 0xc4, 0x28, 0xc3];
    let mut payload = redirect(live_framed as *const () as usize, "live_framed", code);
    with_frame(&mut payload);
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<u32>().is_none() {
            eprintln!("{info}");
        }
    }));
    assert_eq!(unsafe { live_framed(seven) }, 7);
    let applied = apply_to_self(&payload, &seal(5), &ApplyOptions::default()).unwrap();
    assert_eq!(unsafe { live_framed(seven) }, 8);
    for _ in 0..100 {
        let caught = std::panic::catch_unwind(|| unsafe { live_framed(thrower) });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&77u32));
    }
    applied.rollback().unwrap();
    rollback_kept();
    assert_eq!(unsafe { live_framed(seven) }, 7);
    println!("unwinding through the region: works");
}

/// Threads that stand, or return, inside the bytes to be written.
fn check_busy() {
    static GO: AtomicU32 = AtomicU32::new(0);
    static INSIDE: AtomicBool = AtomicBool::new(false);
    let spin = redirect(live_spin as *const () as usize, "live_spin", vec![0xc3]);
    let spinning = thread::spawn(|| unsafe { live_spin(&GO) });
    thread::sleep(Duration::from_millis(50));
    let error = apply_to_self(&spin, &seal(6), &options(200)).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(&error, ApplyError::Stop(StopError::Busy { function, .. }) if function == "live_spin"));
    GO.store(1, Ordering::SeqCst);
    spinning.join().unwrap();
    apply_to_self(&spin, &seal(6), &options(200)).unwrap().rollback().unwrap();
    rollback_kept();

    extern "C-unwind" fn wait() -> u32 {
        INSIDE.store(true, Ordering::SeqCst);
        while GO.load(Ordering::SeqCst) == 1 {
            thread::sleep(Duration::from_millis(1));
        }
        9
    }
    let through = redirect(live_through as *const () as usize, "live_through", vec![0xb8, 8, 0, 0, 0, 0xc3]);
    let returning = thread::spawn(|| unsafe { live_through(wait) });
    while !INSIDE.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    let error = apply_to_self(&through, &seal(7), &options(200)).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(&error, ApplyError::Stop(StopError::Busy { function, .. }) if function == "live_through"));
    // While the loader tries, the thread leaves.
    let leave = thread::spawn(|| {
        thread::sleep(Duration::from_millis(300));
        GO.store(2, Ordering::SeqCst);
    });
    let applied = apply_to_self(&through, &seal(7), &options(3000)).unwrap();
    assert_eq!(returning.join().unwrap(), 9);
    assert_eq!(unsafe { live_through(wait) }, 8);
    leave.join().unwrap();
    applied.rollback().unwrap();
    rollback_kept();
    assert_eq!(unsafe { live_through(wait) }, 9);
}

/// Rolling back while a thread is in the new code.
fn check_kept() {
    static GO: AtomicBool = AtomicBool::new(false);
    static INSIDE: AtomicBool = AtomicBool::new(false);
    extern "C-unwind" fn wait() -> u32 {
        INSIDE.store(true, Ordering::SeqCst);
        while !GO.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        1
    }
    let code = vec![0x48, 0x83, 0xec, 0x28, 0xff, 0xd1, 0xff, 0xc0, 0x48, 0x83, 0xc4, 0x28, 0xc3];
    let mut payload = redirect(live_framed as *const () as usize, "live_framed", code);
    with_frame(&mut payload);
    let applied = apply_to_self(&payload, &seal(8), &ApplyOptions::default()).unwrap();
    let inside = thread::spawn(|| unsafe { live_framed(wait) });
    while !INSIDE.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    let done = applied.rollback().unwrap();
    assert!(matches!(done.region, RegionFate::Kept { .. }), "{done:?}");
    println!("rolled back under a thread: {done:?}");
    let status = status_self().unwrap();
    assert_eq!(status[0].state, PatchState::Retired);
    // The same payload may come again meanwhile.
    let again = apply_to_self(&payload, &seal(8), &ApplyOptions::default()).unwrap();
    assert_eq!(status_self().unwrap().len(), 2);
    again.rollback().unwrap();
    GO.store(true, Ordering::SeqCst);
    assert_eq!(inside.join().unwrap(), 2, "the new body goes on to its end");
    rollback_kept();
}

/// Redirects the first `count` functions of a page-aligned sled of functions of 16 bytes, `mov eax, 5; ret`, to others that give 1.
fn sled(count: usize) -> Payload {
    let base = &raw const live_sled as usize;
    let mut payload = redirect(base, "sled 0", [0xb8, 0x01, 0, 0, 0, 0xc3, 0x90, 0x90].repeat(count));
    payload.segments[0].size = 0x8000;
    payload.segments[1].offset = 0x9000;
    payload.segments[2].offset = 0xa000;
    let trampoline = |index: usize| Trampoline {
        entry_rva: rva(base + index * 16),
        target: CODE + index as u32 * 8,
        form: TrampolineForm::Jump32,
        demand: Demand::Entry,
        expected: first_bytes(base + index * 16, 6),
        rebased_at: None,
        gap: None,
        callers: vec![],
    };
    payload.trampolines = (0..count).map(trampoline).collect();
    payload.bodies = payload.trampolines.iter().map(|t| Body::unchecked(t.entry_rva, t.entry_rva, 6)).collect();
    payload.functions = (0..count)
        .map(|index| Function {
            offset: CODE + index as u32 * 8,
            size: 8,
            old_rva: Some(rva(base + index * 16)),
            name: format!("sled {index}"),
            exported: false,
        })
        .collect();
    payload
}

/// Many entries on many pages in one payload: all of them, or none.
fn check_many() {
    let (count, base) = (4096usize, &raw const live_sled as usize);
    let call = |index: usize| {
        let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute((base + index * 16) as *const u8) };
        function()
    };
    let payload = sled(count);
    assert_eq!((call(0), call(count - 1)), (5, 5));
    let mut wrong = payload.clone();
    wrong.trampolines[count - 1].expected[1] ^= 1;
    apply_to_self(&wrong, &seal(9), &ApplyOptions::default()).unwrap_err();
    assert_eq!((call(0), call(count - 1)), (5, 5));
    let applied = apply_to_self(&payload, &seal(9), &ApplyOptions::default()).unwrap();
    assert!((0..count).all(|index| call(index) == 1));
    let status = of_only_image(&applied);
    let done = applied.rollback().unwrap();
    println!(
        "{} functions: stopped {:?} to apply, {:?} to roll back",
        status.functions.len(),
        status.stopped,
        done.stopped
    );
    assert!((0..count).all(|index| call(index) == 5));
    rollback_kept();
}

core::arch::global_asm!(
    ".text",
    ".balign 4096",
    ".globl live_sled",
    "live_sled:",
    ".rept 4096",
    ".balign 16",
    "mov eax, 5",
    "ret",
    ".endr",
    ".balign 4096",
);

unsafe extern "C" {
    static live_sled: u8;
}

// ---------------------------------------------------------------------------------------------- a DLL of this process

/// A DLL that is not at its preferred base, has an `RSDS` record, and is freed by the program while it is patched. Its function `dll_where`
/// begins with `mov rax, <absolute address>`.
fn check_dll(path: &str, preferred: u64) {
    use windows_sys::Win32::Foundation::FreeLibrary;
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress, LoadLibraryA};
    PATCHER.store(unsafe { GetCurrentThreadId() }, Ordering::Relaxed);
    let path = std::ffi::CString::new(path).unwrap();
    let name = std::path::Path::new(path.to_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
    let module = unsafe { LoadLibraryA(path.as_ptr().cast()) };
    assert!(!module.is_null(), "{}", std::io::Error::last_os_error());
    let base = module as u64;
    assert_ne!(base, preferred, "the DLL should have been moved");
    let function = unsafe { GetProcAddress(module, c"dll_where".as_ptr().cast()) }.unwrap();
    let call: extern "C" fn() -> u64 = unsafe { std::mem::transmute(function) };
    let before = call();

    let identity = identity(base, &name);
    assert_ne!((identity.guid, identity.age), ([0; 16], 0));
    let mut expected = first_bytes(function as usize, 10);
    let absolute = u64::from_le_bytes(expected[2..].try_into().unwrap());
    assert_eq!(absolute, before);
    expected[2..].copy_from_slice(&(absolute - base + preferred).to_le_bytes());
    // mov eax, 42; ret
    let identity = Identity { image_base: preferred, ..identity };
    let mut payload = redirect_in(base, identity, function as usize, "dll_where", vec![0xb8, 42, 0, 0, 0, 0xc3]);
    payload.trampolines[0].expected = expected;
    payload.trampolines[0].rebased_at = Some(2);
    let mut wrong = payload.clone();
    wrong.identity.age += 1;
    println!("refused: {}", apply_to_self(&wrong, &seal(1), &ApplyOptions::default()).unwrap_err());
    wrong.identity = payload.identity.clone();
    wrong.trampolines[0].rebased_at = None;
    println!("refused: {}", apply_to_self(&wrong, &seal(1), &ApplyOptions::default()).unwrap_err());

    let applied = apply_to_self(&payload, &seal(1), &ApplyOptions::default()).unwrap();
    assert_eq!(call(), 42);
    let name = std::ffi::CString::new(name).unwrap();
    let loaded = || !unsafe { GetModuleHandleA(name.as_ptr().cast()) }.is_null();
    unsafe { FreeLibrary(module) };
    assert!(loaded(), "the patch holds the DLL");
    assert_eq!(call(), 42);
    let done = applied.rollback().unwrap();
    rollback_kept();
    assert!(!loaded(), "nobody needs the DLL any more: {done:?}");
    let error = apply_to_self(&payload, &seal(1), &ApplyOptions::default()).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(error, ApplyError::NotLoaded { .. }));
    println!("dll at {base:#x} instead of {preferred:#x}: all done");
}

// ---------------------------------------------------------------------------------------------- in another process

/// Answers each line of its input with the value of the function; threads call it all the time.
fn target() {
    for _ in 0..3 {
        thread::spawn(|| {
            loop {
                assert!((2..9).contains(&answer(1)));
            }
        });
    }
    thread::spawn(|| {
        loop {
            thread::spawn(|| answer(1)).join().unwrap();
        }
    });
    for line in std::io::stdin().lock().lines() {
        if line.unwrap() == "quit" {
            std::process::exit(7);
        }
        println!("{} {}", std::process::id(), answer(1));
        std::io::stdout().flush().unwrap();
    }
}

struct Target {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Target {
    fn start() -> Target {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg("target").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Target { child, output }
    }

    /// Its process id, and what its function says.
    fn ask(&mut self) -> (u32, u32) {
        writeln!(self.child.stdin.as_mut().unwrap(), "?").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let (pid, value) = line.trim().split_once(' ').unwrap();
        (pid.parse().unwrap(), value.parse().unwrap())
    }

    fn quit(mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "quit").unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(7));
    }
}

fn check_remote() {
    let mut target = Target::start();
    let (pid, value) = target.ask();
    assert_eq!(value, 2);
    assert_eq!(status_process(pid).unwrap(), []);
    let name = own_identity().image_name;
    let found = find_processes(&name.to_uppercase()).unwrap();
    assert!(found.iter().any(|process| process.pid == pid), "{found:?}");

    let mut wrong = adding(4);
    wrong.trampolines[0].expected[7] ^= 1;
    let error = apply_to_process(pid, &wrong, &seal(1), &ApplyOptions::default()).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(error, ApplyError::Stop(StopError::Mismatch { .. })));
    let mut wrong = adding(4);
    wrong.identity.timestamp ^= 1;
    let error = apply_to_process(pid, &wrong, &seal(1), &ApplyOptions::default()).unwrap_err();
    println!("refused: {error}");
    assert_eq!(target.ask().1, 2);

    // On a machine with other work, a thread that stands in the entry may not be given a processor for a while.
    let options = options(20_000);
    let mut stops = Vec::new();
    let mut payload = adding(4);
    // sub rsp, 40; lea eax, [rcx + 4]; add rsp, 40; ret
    payload.segments[0].content = vec![0x48, 0x83, 0xec, 0x28, 0x8d, 0x41, 4, 0x48, 0x83, 0xc4, 0x28, 0xc3];
    payload.functions[0].size = 12;
    with_frame(&mut payload);
    let begin = Instant::now();
    for round in 0..20 {
        let applied = apply_to_process(pid, &payload, &seal(2), &options).unwrap();
        assert_eq!(target.ask(), (pid, 5));
        let status = status_process(pid).unwrap();
        assert_eq!(status, [of_only_image(&applied)]);
        if round == 0 {
            println!("{status:#?}");
            let error = apply_to_process(pid, &payload, &seal(2), &options).unwrap_err();
            assert!(matches!(error, ApplyError::AlreadyApplied(_)));
        }
        let done = rollback_process(pid, Some(&seal(2).patch_id()), &options).unwrap();
        assert_eq!(target.ask(), (pid, 2));
        stops.extend([status[0].stopped, done.stopped]);
        while !status_process(pid).unwrap().is_empty() {
            rollback_process(pid, None, &options).unwrap();
        }
    }
    stops.sort();
    println!("remote: 20 rounds in {:?}; stopped: median {:?}, longest {:?}", begin.elapsed(), stops[20], stops[39]);
    target.quit();
    let error = status_process(pid).unwrap_err();
    println!("ended process: {error}");
    let error = apply_to_process(0xffff_fff0, &payload, &seal(2), &options).unwrap_err();
    println!("no such process: {error}");
    assert!(matches!(error, ApplyError::Process(ProcessError::NoSuchProcess(_))) && !error.is_refusal());
    println!("remote: all done");
}

// ---------------------------------------------------------------------------------------------- a new process

const HARD_ARGUMENTS: [&str; 8] = ["plain", "", "with space", "quo\"te", "back\\", "end\\\\\" x", "*?", "a\tb"];

/// Prints its arguments and the function's value, which is its exit code.
fn child(arguments: &[String]) {
    assert_eq!(arguments, HARD_ARGUMENTS);
    let value = answer(1);
    println!("child says {value}");
    std::process::exit(value as i32);
}

/// A program that ends before its entry point, for a DLL is missing.
fn check_early(path: &str) {
    let command = RunCommand { program: path.into(), arguments: vec![] };
    let error = run(&command, &adding(4), &seal(1), &ApplyOptions::default()).unwrap_err();
    println!("ended early: {error}");
    assert!(matches!(error, RunError::EndedEarly { code: 0xc000_0135, .. }) && !error.is_refusal());
    println!("early: all done");
}

fn check_run() {
    let command = RunCommand {
        program: std::env::current_exe().unwrap(),
        arguments: ["child"].iter().chain(&HARD_ARGUMENTS).map(Into::into).collect(),
    };
    for round in 2..8 {
        let code = run(&command, &adding(round), &seal(1), &ApplyOptions::default()).unwrap();
        assert_eq!(code, u32::from(round) + 1);
    }
    let mut wrong = adding(4);
    wrong.trampolines[0].expected[0] ^= 1;
    let error = run(&command, &wrong, &seal(1), &ApplyOptions::default()).unwrap_err();
    println!("refused: {error}");
    assert!(error.is_refusal());
    let missing = RunCommand { program: "no_such_program.exe".into(), arguments: vec![] };
    let error = run(&missing, &adding(4), &seal(1), &ApplyOptions::default()).unwrap_err();
    println!("not started: {error}");
    assert!(matches!(error, RunError::Start { .. }) && !error.is_refusal());
    println!("run: all done");
}
