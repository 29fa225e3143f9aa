//! A function that is too short for any jump: all that leads to it leads to the new one, and back again.

use super::*;

core::arch::global_asm!(
    ".text",
    ".balign 16",
    ".globl callers_first",
    "callers_first:", // fn(u32) -> u32: the short one's result, by a call behind the bytes of a jump at its own entry
    ".seh_proc callers_first",
    "sub rsp, 40",
    ".seh_stackalloc 40",
    ".seh_endprologue",
    "nop",
    "call callers_tiny",
    "add rsp, 40",
    "ret",
    ".seh_endproc",
    ".balign 16",
    ".globl callers_tail",
    "callers_tail:", // fn(u32) -> u32: the same by a tail call
    ".byte 0xe9",
    ".long callers_tiny - . - 4",
    ".globl callers_tiny",
    "callers_tiny:", // fn(u32) -> u32: x + 2; four bytes, and code on both sides
    "lea eax, [rcx + 2]",
    "ret",
    ".globl callers_end",
    "callers_end:",
    "mov eax, 77",
    "ret",
);

unsafe extern "C-unwind" {
    fn callers_first(x: u32) -> u32;
    fn callers_tail(x: u32) -> u32;
    fn callers_tiny(x: u32) -> u32;
    fn callers_end();
}

/// From the start of `callers_first` to the distance of its call, and the same of `callers_tail`.
const FIRST_FIELD: usize = 6;
const TAIL_FIELD: usize = 1;

fn all_bytes() -> Vec<u8> {
    let start = callers_first as *const () as usize;
    first_bytes(start, callers_end as *const () as usize - start)
}

/// `mov eax, n; ret` instead of the short function.
fn giving(n: u8, series: u32) -> Payload {
    let mut payload = redirect(callers_tiny as *const () as usize, "callers_tiny", vec![0xb8, n, 0, 0, 0, 0xc3]);
    payload.identity.series = series;
    payload.bodies[0].size = 4;
    let trampoline = &mut payload.trampolines[0];
    trampoline.form = TrampolineForm::Callers;
    trampoline.demand = Demand::Nothing;
    trampoline.expected.clear();
    trampoline.callers = vec![
        rva(callers_first as *const () as usize + FIRST_FIELD),
        rva(callers_tail as *const () as usize + TAIL_FIELD),
    ];
    payload
}

/// Another function by a jump: the one that makes the tail call.
fn instead_of_tail(n: u8, series: u32) -> Payload {
    let mut payload = redirect(callers_tail as *const () as usize, "callers_tail", vec![0xb8, n, 0, 0, 0, 0xc3]);
    payload.identity.series = series;
    let trampoline = &mut payload.trampolines[0];
    trampoline.expected.truncate(5);
    trampoline.demand = Demand::Nothing;
    payload.bodies[0].size = 5;
    payload
}

fn results() -> (u32, u32) {
    unsafe { (callers_first(5), callers_tail(5)) }
}

/// The last line: Wine gives exit code 0 to a program that a breakpoint ended.
const DONE: &str = "callers: all done";

pub fn check_callers(rounds: usize) {
    let before = all_bytes();
    let is_restored = |what: &str| {
        rollback_kept();
        assert_eq!(all_bytes(), before, "{what}: every byte is restored");
        assert_eq!(results(), (7, 7), "{what}");
    };
    check_under_calls(rounds);
    is_restored("under calls");
    check_refusals();
    is_restored("refusals");
    check_series();
    is_restored("a series");
    println!("{DONE}");
}

/// Threads that call all the time see the old result or the new one.
fn check_under_calls(rounds: usize) {
    static DONE: AtomicBool = AtomicBool::new(false);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let hammer = || {
        while !DONE.load(Ordering::Relaxed) {
            let (first, tail) = results();
            assert!([7, 51].contains(&first) && [7, 51].contains(&tail), "{first} {tail}");
            CALLS.fetch_add(2, Ordering::Relaxed);
        }
    };
    let hammers: Vec<_> = (0..4).map(|_| thread::spawn(hammer)).collect();
    for _ in 0..rounds {
        // It is never written while threads run, even where that is allowed.
        let options = ApplyOptions { no_stop: true, ..options(2000) };
        let applied = apply_to_self(&giving(51, 1), &seal(41), &options).unwrap();
        assert_eq!(results(), (51, 51));
        assert_eq!(unsafe { callers_tiny(5) }, 7, "the entry itself is left alone");
        for status in applied.status().unwrap() {
            assert!(status.threads_stopped >= 4, "{status:?}");
            let [function] = status.functions.as_slice() else { panic!("{status:?}") };
            assert_eq!((function.name.as_str(), function.form), ("callers_tiny", TrampolineForm::Callers));
            assert_eq!(function.old_rva, rva(callers_tiny as *const () as usize));
            assert!(function.redirected && !function.is_no_stop, "{function:?}");
        }
        let out = applied.rollback().unwrap();
        assert_eq!(out.functions, 1);
        assert_eq!(results(), (7, 7));
        rollback_kept();
    }
    DONE.store(true, Ordering::Relaxed);
    hammers.into_iter().for_each(|hammer| hammer.join().unwrap());
    println!("{rounds} rounds under {} calls", CALLS.load(Ordering::Relaxed));
}

fn is_alone(result: Result<Applied, ApplyError>) {
    let error = result.unwrap_err();
    println!("refused: {error}");
    assert!(matches!(&error, ApplyError::Alone { function, .. } if function == "callers_tiny"), "{error:?}");
}

/// Nothing stands beside it, and a caller that leads elsewhere keeps it out.
fn check_refusals() {
    let applied = apply_to_self(&giving(51, 1), &seal(42), &options(2000)).unwrap();
    is_alone(apply_to_self(&instead_of_tail(61, 1), &seal(43), &options(2000)));
    assert_eq!(results(), (51, 51));
    applied.rollback().unwrap();
    rollback_kept();
    let applied = apply_to_self(&instead_of_tail(61, 1), &seal(43), &options(2000)).unwrap();
    is_alone(apply_to_self(&giving(51, 1), &seal(42), &options(2000)));
    assert_eq!(results(), (7, 61));
    applied.rollback().unwrap();
    rollback_kept();
    let mut wrong = giving(51, 1);
    wrong.trampolines[0].callers[0] -= 1;
    let error = apply_to_self(&wrong, &seal(42), &options(2000)).unwrap_err();
    println!("refused: {error}");
    assert!(matches!(&error, ApplyError::Stop(StopError::Mismatch { function, .. }) if function == "callers_tiny"));
}

/// Payloads of one series: at its callers, a jump over one of these, at the one that is left, at both again.
fn check_series() {
    let mut part = giving(52, 3);
    part.trampolines[0].callers.truncate(1);
    let payloads = [giving(51, 1), instead_of_tail(61, 2), part, giving(53, 4)];
    let seen = [(51, 51), (7, 61), (52, 7), (53, 53)];
    let mut last = None;
    for ((payload, expected), number) in payloads.iter().zip(seen).zip(44..) {
        last = Some(apply_to_self(payload, &seal(number), &options(2000)).unwrap());
        assert_eq!(results(), expected);
    }
    last.unwrap().rollback().unwrap();
}
