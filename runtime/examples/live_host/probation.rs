//! Probation of patches that a program puts into itself: health checks, and an exception that nobody handles.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::System::Diagnostics::Debug::{EXCEPTION_POINTERS, SetUnhandledExceptionFilter};
use windows_sys::Win32::System::Threading::ExitProcess;

use super::{adding, answer, apply_to_self};
use crate::payloads::*;
use hpgen_runtime::format::*;
use hpgen_runtime::*;

static HEALTH: AtomicU32 = AtomicU32::new(0);

extern "C" fn healthy() -> u32 {
    HEALTH.load(Ordering::SeqCst)
}

fn watched(mut payload: Payload, window_ms: u32) -> Payload {
    let check = rva(healthy as *const () as usize);
    payload.probation = Some(Probation { window_ms, interval_ms: 20, check: Some((Space::Image, check)) });
    payload
}

fn until(applied: &Applied) -> Option<std::time::SystemTime> {
    applied.status().unwrap()[0].probation_until
}

pub fn check_probation() {
    let applied = apply_to_self(&watched(adding(5), 300), &seal(60), &ApplyOptions::default()).unwrap();
    assert!(until(&applied).is_some());
    let end = applied.probation().unwrap().unwrap().stand();
    assert!(matches!(end, ProbationEnd::Passed), "{end:?}");
    assert_eq!((answer(1), until(&applied)), (6, None));
    assert!(applied.probation().unwrap().is_none(), "it is over");
    applied.rollback().unwrap();

    let applied = apply_to_self(&watched(adding(5), 60_000), &seal(61), &ApplyOptions::default()).unwrap();
    let probation = applied.probation().unwrap().unwrap();
    let watching = thread::spawn(move || probation.stand());
    thread::sleep(Duration::from_millis(200));
    assert_eq!(answer(1), 6);
    HEALTH.store(9, Ordering::SeqCst);
    let end = watching.join().unwrap();
    let ProbationEnd::Failed { failure: ProbationFailure::Check { code: 9, .. }, rollback: Some(Ok(done)) } = end
    else {
        panic!("{end:?}");
    };
    assert_eq!((answer(1), done.region), (2, RegionFate::Freed));
    HEALTH.store(0, Ordering::SeqCst);

    // Taken out by somebody else.
    let applied = apply_to_self(&watched(adding(5), 60_000), &seal(62), &ApplyOptions::default()).unwrap();
    let mut probation = applied.probation().unwrap().unwrap();
    assert!(probation.look().is_none());
    applied.rollback().unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(matches!(probation.look(), Some(ProbationEnd::Moot)));

    let crashed = Command::new(std::env::current_exe().unwrap()).arg("crash").status().unwrap();
    assert_eq!(crashed.code(), Some(ROLLED_BACK), "the program's own filter comes after the rollback");
    println!("probations pass, fail and end: all done");
}

const ROLLED_BACK: i32 = 77;

/// The program's own crash handler.
unsafe extern "system" fn own_filter(_: *const EXCEPTION_POINTERS) -> i32 {
    unsafe { ExitProcess(if answer(1) == 2 { ROLLED_BACK.cast_unsigned() } else { 78 }) }
}

pub fn crash() {
    unsafe { SetUnhandledExceptionFilter(Some(own_filter)) };
    // sub rsp, 40; mov eax, [16]; add rsp, 40; ret
    let code = vec![0x48, 0x83, 0xec, 0x28, 0x8b, 0x04, 0x25, 16, 0, 0, 0, 0x48, 0x83, 0xc4, 0x28, 0xc3];
    let mut payload = adding(5);
    payload.functions[0].size = code.len() as u32;
    payload.segments[0].content = code;
    with_frame(&mut payload);
    let applied = apply_to_self(&watched(payload, 60_000), &seal(63), &ApplyOptions::default()).unwrap();
    let probation = applied.probation().unwrap().unwrap();
    thread::spawn(move || {
        let end = probation.stand();
        let is_right = matches!(
            &end,
            ProbationEnd::Failed {
                failure: ProbationFailure::Exception { code: 0xc000_0005, .. },
                rollback: Some(Ok(_)),
            }
        );
        println!("{end:?}");
        if !is_right {
            unsafe { ExitProcess(79) };
        }
    });
    answer(1);
    unreachable!("it reads where nothing is");
}
