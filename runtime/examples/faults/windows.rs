//! The checks.

#[path = "deaths.rs"]
mod deaths;
#[path = "subject.rs"]
mod subject;

use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use hpgen_runtime::format::*;
use hpgen_runtime::*;

use crate::answer::live_answer;
use crate::payloads::*;
use subject::{State, Subject};

/// Gets a value from the payload.
static VARIABLE: AtomicU32 = AtomicU32::new(0x5eed);

/// What the function gives for 1, without the patch and with it.
const OLD: u32 = 2;
const NEW: u32 = 5;

/// Calls that change nothing, hundreds of them in each attempt: every look at every page.
const LOOKS: [&str; 2] = ["ReadProcessMemory", "VirtualQueryEx"];

const PATIENCE: Duration = Duration::from_secs(20);

/// A payload that needs everything: memory, unwind data, an import, a hook, a constructor, a variable that gets a value.
fn payload() -> PayloadFile {
    // sub rsp, 40; lea eax, [rcx + 4]; add rsp, 40; ret. Behind it the hook: xor eax, eax; ret; and the constructor, the same.
    let code = vec![0x48, 0x83, 0xec, 0x28, 0x8d, 0x41, 4, 0x48, 0x83, 0xc4, 0x28, 0xc3];
    let hook = CODE + code.len() as u32;
    let mut payload = redirect(live_answer as *const () as usize, "live_answer", code);
    with_frame(&mut payload);
    payload.segments[0].content.extend([0x31, 0xc0, 0xc3, 0x31, 0xc0, 0xc3]);
    payload.imports = vec![Import {
        slot: CONSTANTS + 0x30,
        dll: "kernel32.dll".into(),
        symbol: ImportSymbol::Name("GetTickCount".into()),
    }];
    payload.hooks = vec![Hook { kind: HookKind::PreApply, function: hook }];
    payload.variables = vec![Variable { offset: VARIABLES, size: 4, name: "constructed".into() }];
    payload.initialisers =
        vec![Initialiser { function: Some(hook + 3), variable: VARIABLES, checked: true, at_exit: false }];
    payload.segments[1].content[0x20..0x24].copy_from_slice(&0xf00d_u32.to_le_bytes());
    payload.assignments = vec![Assignment { rva: rva(&raw const VARIABLE as usize), value: CONSTANTS + 0x20, size: 4 }];
    payload.into()
}

pub fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["self", steps, only @ ..] => check(&mut Subject::own(), steps.parse().unwrap(), only),
        ["remote", steps, only @ ..] => {
            let mut subject = Subject::other();
            check(&mut subject, steps.parse().unwrap(), only);
            subject.quit();
        }
        ["deaths", step] => {
            let mut subject = Subject::other();
            deaths::check(&mut subject, step.parse().unwrap());
            subject.quit();
        }
        ["kills", kills] => {
            let mut subject = Subject::other();
            deaths::check_any_moment(&mut subject, kills.parse().unwrap());
            subject.quit();
        }
        ["restless", pid] => deaths::restless_patcher(pid.parse().unwrap()),
        ["patcher", what, pid, after] => deaths::patcher(what, pid.parse().unwrap(), after.parse().unwrap()),
        ["target"] => subject::target(),
        _ => panic!("usage: see the source"),
    }
}

fn apply(subject: &Subject) -> Result<Applied, ApplyError> {
    subject.patcher.apply_accepted(&accepted())
}

fn accepted() -> Accepted {
    Accepted { payload: payload(), seal: seal(1), signer: None }
}

/// Takes out what is in, also memory that was kept.
fn clean(subject: &Subject) {
    let begin = Instant::now();
    let mut last = None;
    while !subject.patcher.status().unwrap().is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{:?} {last:?}", subject.patcher.status());
        last = Some(subject.patcher.rollback(None));
    }
}

fn check(subject: &mut Subject, steps: u32, only: &[&str]) {
    for _ in 0..5 {
        apply(subject).unwrap();
        subject.state_when_all_ran();
        clean(subject);
    }
    let before = settled(subject);
    for call in fault::CALLS.into_iter().filter(|call| only.is_empty() || only.contains(call)) {
        let begin = Instant::now();
        let steps = if LOOKS.contains(&call) { steps } else { u32::MAX };
        let applies = sweep(steps, |index| apply_with_fault(subject, call, index, &before));
        let rollbacks = sweep(steps, |index| rollback_with_fault(subject, call, index, &before));
        println!("{call}: {applies} failed in applies, {rollbacks} in rollbacks; {:.1?}", begin.elapsed());
    }
    println!("faults: all done");
}

/// Tries one index after the other until it was not reached; gives how many were.
fn sweep(steps: u32, mut attempt: impl FnMut(u32) -> bool) -> u32 {
    let (mut reached, mut index) = (0, 0);
    while attempt(index) {
        reached += 1;
        index += (index / steps).max(1);
    }
    reached
}

/// The state, with as few handles as it ever has: a thread that was stopped closes one of the system's own a moment later.
fn settled(subject: &mut Subject) -> State {
    // A thread gets another one when it first waits.
    std::thread::sleep(Duration::from_millis(100));
    (0..50).map(|_| subject.state_when_all_ran()).min_by_key(|state| state.handles).unwrap()
}

/// Whether the call was made at all.
fn apply_with_fault(subject: &mut Subject, call: &str, index: u32, before: &State) -> bool {
    fault::arm(call, index);
    let result = apply(subject);
    let reached = fault::reached();
    let what = format!("{call} {index}: {:?}", result.as_ref().map(drop));
    let after = subject.state_when_all_ran();
    match result {
        // What failed was something that can be done without, or done again.
        Ok(applied) => {
            assert_eq!(after.value, NEW, "{what}");
            drop(applied);
            clean(subject);
            let now = subject.state();
            must_be(subject, now, before, &what);
        }
        Err(_) => {
            assert!(reached, "nothing failed, but {what}");
            must_be(subject, after, before, &what);
        }
    }
    reached
}

/// The same when a patch is taken out: it is in, or out.
fn rollback_with_fault(subject: &mut Subject, call: &str, index: u32, before: &State) -> bool {
    drop(apply(subject).unwrap());
    let patched = subject.state();
    fault::arm(call, index);
    let result = subject.patcher.rollback(None);
    let reached = fault::reached();
    let what = format!("rollback, {call} {index}: {result:?}");
    let after = subject.state_when_all_ran();
    if result.is_ok() {
        assert_eq!(after.value, OLD, "{what}");
        assert_eq!(after.image, before.image, "{what}");
    } else {
        assert!(reached, "nothing failed, but {what}");
        assert_eq!(after.value, NEW, "{what}");
        assert_eq!(after.image, patched.image, "{what}");
    }
    if !matches!(&result, Ok(done) if done.region == RegionFate::Freed) {
        clean(subject);
        let now = subject.state();
        must_be(subject, now, before, &what);
    } else {
        must_be(subject, after, before, &what);
    }
    reached
}

fn must_be(subject: &mut Subject, now: State, before: &State, what: &str) {
    let (mut now, begin) = (now, Instant::now());
    while now.handles > before.handles && begin.elapsed() < PATIENCE {
        now = subject.state_when_all_ran();
    }
    now.handles = now.handles.max(before.handles);
    assert_eq!(now, *before, "{what}");
}
