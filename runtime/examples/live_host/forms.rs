//! Forms of jumps and what they demand, with threads that are busy where it matters.

use super::*;

core::arch::global_asm!(
    ".text",
    ".balign 16",
    ".globl forms_before",
    "forms_before:",
    "ret",
    ".fill 15, 1, 0xcc", // the gap
    ".globl forms_short",
    "forms_short:", // fn(u32) -> u32: x + 1; four bytes, and another function right behind them
    "lea eax, [rcx + 1]",
    "ret",
    "mov eax, 77",
    "ret",
    ".balign 16",
    ".globl forms_long",
    "forms_long:", // fn(u32) -> u32: 1; its first instruction is as long as a jump
    "mov eax, 1",
    "ret",
    ".balign 16",
    ".globl forms_stand",
    "forms_stand:", // fn(*const u32) -> u32: waits at its second instruction until *x is not 0; 1
    "xor eax, eax",
    "2:",
    "cmp dword ptr [rcx], 0",
    "je 2b",
    "inc eax",
    "ret",
    ".fill 8, 1, 0xcc", // the gap, at +10
    ".balign 16",
    ".globl forms_loop",
    "forms_loop:", // fn(*const u32) -> u32: its loop begins at its first byte; 1
    "cmp dword ptr [rcx], 0",
    "je forms_loop",
    "mov eax, 1",
    "ret",
    ".balign 16",
    ".globl forms_recursion",
    "forms_recursion:", // fn(depth: u32, fn() -> u32) -> u32: calls itself, at the bottom the other one
    ".seh_proc forms_recursion",
    "sub rsp, 40",
    ".seh_stackalloc 40",
    ".seh_endprologue",
    "dec ecx",
    "je 3f",
    "call forms_recursion",
    "jmp 4f",
    "3:",
    "call rdx",
    "4:",
    "inc eax",
    "add rsp, 40",
    "ret",
    ".seh_endproc",
    ".globl forms_end",
    "forms_end:",
    "nop",
);

unsafe extern "C-unwind" {
    fn forms_before();
    fn forms_short(x: u32) -> u32;
    fn forms_long(x: u32) -> u32;
    fn forms_stand(go: *const AtomicU32) -> u32;
    fn forms_loop(go: *const AtomicU32) -> u32;
    fn forms_recursion(depth: u32, bottom: extern "C-unwind" fn() -> u32) -> u32;
    fn forms_end();
}

/// All code of the functions above.
fn all_bytes() -> Vec<u8> {
    let start = forms_before as *const () as usize;
    first_bytes(start, forms_end as *const () as usize - start)
}

/// `mov eax, n; ret` instead of a function of `size` bytes.
fn giving(n: u8, old: usize, name: &str, size: u32, demand: Demand) -> Payload {
    let mut payload = redirect(old, name, vec![0xb8, n, 0, 0, 0, 0xc3]);
    payload.trampolines[0].demand = demand;
    payload.bodies[0].size = size;
    payload
}

/// The same by a short jump and a gap.
fn by_gap(mut payload: Payload, expected: usize, gap: usize) -> Payload {
    let trampoline = &mut payload.trampolines[0];
    trampoline.form = TrampolineForm::Jump8;
    trampoline.expected.truncate(expected);
    trampoline.gap = Some(Gap { rva: rva(gap), expected: [0xcc; 5] });
    payload
}

fn short(n: u8) -> Payload {
    let payload = giving(n, forms_short as *const () as usize, "forms_short", 4, Demand::Nothing);
    by_gap(payload, 3, forms_before as *const () as usize + 1)
}

fn long(n: u8) -> Payload {
    giving(n, forms_long as *const () as usize, "forms_long", 6, Demand::Nothing)
}

fn quiescent(patience_ms: u64) -> ApplyOptions {
    ApplyOptions { consistency: Consistency::Quiescent, ..options(patience_ms) }
}

/// The last line: Wine gives exit code 0 to a program that a breakpoint ended.
const DONE: &str = "forms of jumps: all done";

pub fn check_forms(rounds: usize) {
    let before = all_bytes();
    let is_restored = |what: &str| {
        rollback_kept();
        assert_eq!(all_bytes(), before, "{what}: every byte is restored");
    };
    check_no_stop(rounds);
    is_restored("no stop");
    check_nothing_in_the_way();
    is_restored("a thread at a boundary behind a short jump");
    check_body();
    is_restored("a loop back to the entry");
    check_quiescence();
    is_restored("quiescent");
    check_leftovers();
    is_restored("leftovers");
    check_fibers();
    is_restored("fibers");
    check_gaps();
    is_restored("gaps");
    check_succession();
    is_restored("forms of a series");
    println!("{DONE}");
}

/// Threads that call the functions all the time see the old result or the new one, and the new one once it is there.
fn check_no_stop(rounds: usize) {
    static DONE: AtomicBool = AtomicBool::new(false);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    type Calls = [(unsafe extern "C-unwind" fn(u32) -> u32, [u32; 2]); 2];
    const CALLED: Calls = [(forms_short, [6, 33]), (forms_long, [1, 44])];
    let hammer = || {
        while !DONE.load(Ordering::Relaxed) {
            for (function, results) in std::hint::black_box(CALLED) {
                let result = unsafe { function(5) };
                assert!(results.contains(&result), "{result} is none of {results:?}");
            }
            CALLS.fetch_add(2, Ordering::Relaxed);
        }
    };
    let hammers: Vec<_> = (0..4).map(|_| thread::spawn(hammer)).collect();
    let mut times = [Duration::ZERO; 2];
    let mut stopped = Duration::ZERO;
    for round in 0..rounds * 2 {
        let no_stop = round % 2 == 0;
        let options = ApplyOptions { no_stop, ..options(2000) };
        let start = Instant::now();
        let first = apply_to_self(&short(33), &seal(21), &options).unwrap();
        let second = apply_to_self(&long(44), &seal(22), &options).unwrap();
        times[round % 2] += start.elapsed();
        for status in [first.status().unwrap(), second.status().unwrap()].iter().flatten() {
            assert_eq!(status.threads_stopped == 0, no_stop, "{status:?}");
            assert_eq!(status.stopped.is_zero(), no_stop, "{status:?}");
            assert!(status.functions.iter().all(|f| f.redirected && f.is_no_stop && f.demand == Demand::Nothing));
            stopped += status.stopped;
        }
        assert_eq!(unsafe { (forms_short(5), forms_long(5)) }, (33, 44));
        for page in [forms_before as *const () as u64, forms_short as *const () as u64, forms_long as *const () as u64]
        {
            assert_eq!(protection(page), windows_sys::Win32::System::Memory::PAGE_EXECUTE_READ);
        }
        second.rollback().unwrap();
        first.rollback().unwrap();
        assert_eq!(unsafe { (forms_short(5), forms_long(5)) }, (6, 1));
        rollback_kept();
    }
    DONE.store(true, Ordering::Relaxed);
    hammers.into_iter().for_each(|hammer| hammer.join().unwrap());
    println!(
        "{rounds} rounds under {} calls: two payloads take {:?} without a stop, {:?} with two of {:?} each",
        CALLS.load(Ordering::Relaxed),
        times[0] / rounds as u32,
        times[1] / rounds as u32,
        stopped / (2 * rounds as u32),
    );
}

fn protection(address: u64) -> u32 {
    use windows_sys::Win32::System::Memory::{MEMORY_BASIC_INFORMATION, VirtualQuery};
    let mut info: MEMORY_BASIC_INFORMATION = unsafe { std::mem::zeroed() };
    unsafe { VirtualQuery(address as *const _, &raw mut info, size_of_val(&info)) };
    info.Protect
}

/// Runs a function in a thread until `GO` is set; gives what it returns.
fn started(
    function: impl FnOnce(&'static AtomicU32) -> u32 + Send + 'static,
) -> (&'static AtomicU32, thread::JoinHandle<u32>) {
    let go: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    let thread = thread::spawn(move || function(go));
    thread::sleep(Duration::from_millis(50));
    (go, thread)
}

fn assert_busy<T: std::fmt::Debug>(result: Result<T, ApplyError>, name: &str, part: Part) {
    let error = result.unwrap_err();
    println!("refused: {error}");
    let is_busy = matches!(&error, ApplyError::Stop(StopError::Busy { function, part: found, .. }) if function == name && *found == part);
    assert!(is_busy, "{error:?}");
}

/// A thread loops between two old instructions for as long as it likes: a long jump over both must wait, a short one need not.
fn check_nothing_in_the_way() {
    let entry = forms_stand as *const () as usize;
    let (go, thread) = started(|go| unsafe { forms_stand(go) });
    // Two bytes, three, two: the loop's head is at +2.
    let long = giving(9, entry, "forms_stand", 10, Demand::Body);
    assert_busy(apply_to_self(&long, &seal(23), &options(200)), "forms_stand", Part::Body);
    let applied = apply_to_self(&of_series(1), &seal(23), &options(0)).unwrap();
    assert_eq!(unsafe { forms_stand(go) }, 31);
    assert!(!thread.is_finished(), "the old body goes on");
    go.store(1, Ordering::SeqCst);
    assert_eq!(thread.join().unwrap(), 1);
    applied.rollback().unwrap();
    assert_eq!(unsafe { forms_stand(go) }, 1);
}

/// A function that comes back to its own entry is patched when nothing runs it, and not before.
fn check_body() {
    let payload = || giving(9, forms_loop as *const () as usize, "forms_loop", 11, Demand::Body);
    let (go, thread) = started(|go| unsafe { forms_loop(go) });
    assert_busy(apply_to_self(&payload(), &seal(24), &options(200)), "forms_loop", Part::Body);
    let leave = thread::spawn(|| {
        thread::sleep(Duration::from_millis(200));
        go.store(1, Ordering::SeqCst);
    });
    let applied = apply_to_self(&payload(), &seal(24), &options(5000)).unwrap();
    assert_eq!(thread.join().unwrap(), 1, "who was in the loop ended in the old code");
    leave.join().unwrap();
    assert_eq!(unsafe { forms_loop(go) }, 9);
    applied.rollback().unwrap();
    assert_eq!(unsafe { forms_loop(go) }, 1);
}

/// All functions at once, when none of them is on a stack; a function that never returns makes that impossible.
fn check_quiescence() {
    static INSIDE: AtomicBool = AtomicBool::new(false);
    static LEAVE: AtomicBool = AtomicBool::new(false);
    extern "C-unwind" fn wait() -> u32 {
        INSIDE.store(true, Ordering::SeqCst);
        while !LEAVE.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        10
    }
    extern "C-unwind" fn ten() -> u32 {
        10
    }
    let entry = forms_recursion as *const () as usize;
    let size = (forms_end as *const () as usize - entry) as u32;
    let payload = || giving(9, entry, "forms_recursion", size, Demand::Entry);
    let (_, thread) = started(|_| unsafe { forms_recursion(5, wait) });
    while !INSIDE.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    // It is on the stack five times, and its first bytes are free.
    assert_busy(apply_to_self(&payload(), &seal(25), &quiescent(200)), "forms_recursion", Part::Body);
    let applied = apply_to_self(&payload(), &seal(25), &options(200)).unwrap();
    assert_eq!(unsafe { forms_recursion(5, ten) }, 9);
    applied.rollback().unwrap();
    LEAVE.store(true, Ordering::SeqCst);
    assert_eq!(thread.join().unwrap(), 15);
    let start = Instant::now();
    let applied = apply_to_self(&payload(), &seal(25), &quiescent(5000)).unwrap();
    let stopped: Vec<Duration> = applied.status().unwrap().iter().map(|patch| patch.stopped).collect();
    println!("quiescent: {:?}, threads stopped for {stopped:?}", start.elapsed());
    assert_eq!(unsafe { forms_recursion(5, ten) }, 9);
    applied.rollback().unwrap();
    assert_eq!(unsafe { forms_recursion(5, ten) }, 15);
}

/// A word that looks like a return address, and is none, is in nobody's way.
fn check_leftovers() {
    #[inline(never)]
    fn keep(go: &AtomicU32, inverted: u64) -> u32 {
        let words = std::hint::black_box([!inverted; 16]);
        while go.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        u32::from(std::hint::black_box(words)[3] != 0)
    }
    let entry = forms_recursion as *const () as usize;
    let size = (forms_end as *const () as usize - entry) as u32;
    let inside = !(entry as u64 + 16);
    let (go, thread) = started(move |go| keep(go, inside));
    let payload = giving(9, entry, "forms_recursion", size, Demand::Entry);
    let applied = apply_to_self(&payload, &seal(29), &quiescent(2000)).unwrap();
    assert!(!thread.is_finished());
    applied.rollback().unwrap();
    go.store(1, Ordering::SeqCst);
    assert_eq!(thread.join().unwrap(), 1);
    // On the own stack, too.
    let own = std::hint::black_box([!inside; 16]);
    apply_to_self(&payload, &seal(29), &quiescent(2000)).unwrap().rollback().unwrap();
    assert_eq!(!std::hint::black_box(own)[3], inside);
}

/// What a fiber is in that does not run cannot be seen.
fn check_fibers() {
    use windows_sys::Win32::System::Threading::{ConvertFiberToThread, ConvertThreadToFiber};
    let payload = || giving(9, forms_loop as *const () as usize, "forms_loop", 11, Demand::Body);
    let (go, thread) = started(|go| unsafe {
        assert!(!ConvertThreadToFiber(std::ptr::null()).is_null());
        while go.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        ConvertFiberToThread() as u32
    });
    let error = apply_to_self(&payload(), &seal(26), &options(200)).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(&error, ApplyError::Stop(StopError::Fibers { function, .. }) if function == "forms_loop"));
    apply_to_self(&long(44), &seal(26), &options(200)).unwrap().rollback().unwrap();
    go.store(1, Ordering::SeqCst);
    assert_ne!(thread.join().unwrap(), 0);
    apply_to_self(&payload(), &seal(26), &options(2000)).unwrap().rollback().unwrap();
}

/// Another function by the gap of `forms_short`.
fn other_by_same_gap() -> Payload {
    let gap = forms_before as *const () as usize + 1;
    by_gap(giving(9, forms_long as *const () as usize, "forms_long", 6, Demand::Nothing), 5, gap)
}

/// A gap belongs to one patch, and holds what it must.
fn check_gaps() {
    let applied = apply_to_self(&short(33), &seal(27), &options(2000)).unwrap();
    let error = apply_to_self(&other_by_same_gap(), &seal(28), &options(2000)).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(&error, ApplyError::AlreadyRedirected { function, .. } if function == "forms_long"));
    applied.rollback().unwrap();
    rollback_kept();
    let mut wrong = short(33);
    wrong.trampolines[0].gap.as_mut().unwrap().expected[2] = 0x90;
    let error = apply_to_self(&wrong, &seal(28), &options(2000)).unwrap_err();
    assert!(matches!(&error, ApplyError::Stop(StopError::Mismatch { function, .. }) if function == "forms_short"));
}

/// The payload of that number in the series: all but the second by a gap.
#[inline(never)]
fn of_series(series: u32) -> Payload {
    let entry = forms_stand as *const () as usize;
    let demand = if series == 2 { Demand::Body } else { Demand::Nothing };
    let mut payload = giving(30 + series as u8, entry, "forms_stand", 10, demand);
    payload.identity.series = series;
    if series == 2 { payload } else { by_gap(payload, 2, entry + 10) }
}

/// Payloads of one series change the form of a function's jump.
fn check_succession() {
    let entry = forms_stand as *const () as usize;
    let go = AtomicU32::new(1);
    let original = first_bytes(entry, 16);
    let mut last = None;
    // What they expect is read now.
    let payloads = [1, 2, 3, 4].map(of_series);
    for (payload, series) in payloads.into_iter().zip(1..) {
        // What the form does not write is the old code, whatever the payload before wrote.
        let untouched = if payload.trampolines[0].form == TrampolineForm::Jump8 { 2..10 } else { 5..16 };
        last = Some(apply_to_self(&payload, &seal(30 + series as u8), &options(2000)).unwrap());
        assert_eq!(unsafe { forms_stand(&raw const go) }, 30 + series);
        assert_eq!(first_bytes(entry, 16)[untouched.clone()], original[untouched]);
    }
    last.unwrap().rollback().unwrap();
    assert_eq!(unsafe { forms_stand(&raw const go) }, 1);
}
