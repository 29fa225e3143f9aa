//! A patcher that is killed: before each of its calls that change something, and at any moment.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use hpgen_runtime::*;

use super::subject::{State, Subject};
use super::{NEW, OLD, apply, clean, settled};
use crate::leaks;

/// What the killed patcher left, each so often.
#[derive(Debug, Default)]
struct Left {
    untouched: u32,
    prepared: u32,
    interrupted: u32,
    applied: u32,
    /// Allocations that nothing tells of.
    leaked: usize,
}

/// The process that is killed: does one thing to another process.
pub fn patcher(what: &str, pid: u32, after: u32) {
    let patcher = Patcher::of_process(pid);
    fault::die_before(after);
    if what == "apply" {
        patcher.apply_accepted(&super::accepted()).map(drop).unwrap();
    } else {
        patcher.rollback(None).map(drop).unwrap();
    }
}

/// The process that is killed at any moment: changes the other one over and over.
pub fn restless_patcher(pid: u32) {
    let patcher = Patcher::of_process(pid);
    println!("begins");
    std::io::stdout().flush().unwrap();
    loop {
        if patcher.status().unwrap().is_empty() {
            drop(patcher.apply_accepted(&super::accepted()).unwrap());
        } else {
            patcher.rollback(None).unwrap();
        }
    }
}

/// Kills such a process `kills` times.
pub fn check_any_moment(subject: &mut Subject, kills: u32) {
    let mut before = warmed_up(subject);
    let begin = Instant::now();
    apply(subject).unwrap();
    clean(subject);
    // In and out, and in again; the first look at the process takes its time, too.
    let longest_life = begin.elapsed() * 3;
    let mut left = Left::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for kill in 0..kills {
        let pid = subject.pid();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut patcher = command.args(["restless", &pid.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(patcher.stdout.take().unwrap()).read_line(&mut line).unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(longest_life.mul_f64((random >> 40) as f64 / f64::from(1 << 24)));
        patcher.kill().unwrap();
        // It did not end before.
        assert_eq!(patcher.wait().unwrap().code(), Some(KILLED), "kill {kill}");
        settle(subject, &format!("kill {kill}"), &mut before, &mut left);
        if (kill + 1) % 50 == 0 {
            println!("after {} kills: {left:?}, {} handles", kill + 1, leaks::open_handles());
        }
    }
    // Each allocation is nobody's until it is claimed.
    assert!(left.leaked <= kills as usize / 10, "{left:?}");
    println!("killed {kills} times within {longest_life:.1?}, it left {left:?}");
    println!("kills: all done");
}

/// The exit code that `Child::kill` gives.
const KILLED: i32 = 1;

fn warmed_up(subject: &mut Subject) -> State {
    for _ in 0..3 {
        apply(subject).unwrap();
        subject.state_when_all_ran();
        clean(subject);
    }
    settled(subject)
}

/// Every `step`th place.
pub fn check(subject: &mut Subject, step: u32) {
    let mut before = warmed_up(subject);
    // Each allocation is nobody's until it is claimed; what comes between is one call.
    for (what, allocations) in [("apply", 5), ("rollback", 2)] {
        let mut left = Left::default();
        let mut after = 0;
        while is_killed(subject, what, after, &mut before, &mut left) {
            after += step;
        }
        assert!(left.leaked <= allocations, "{what}: {left:?}");
        println!("{what}: {after} calls that change something; killed before every {step}. of them, it left {left:?}");
    }
    println!("deaths: all done");
}

fn is_killed(subject: &mut Subject, what: &str, after: u32, before: &mut State, left: &mut Left) -> bool {
    if what == "rollback" {
        drop(apply(subject).unwrap());
    }
    let pid = subject.pid();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let code = command.args(["patcher", what, &pid.to_string(), &after.to_string()]).status().unwrap().code();
    if code == Some(0) {
        clean(subject);
        return false;
    }
    assert_eq!(code, Some(fault::DEATH.cast_signed()), "{what} {after}");
    settle(subject, &format!("{what} {after}"), before, left);
    true
}

/// The process is patched or not, as a whole, or says that it was left half changed, and is repaired. Takes out what is in.
fn settle(subject: &mut Subject, what: &str, before: &mut State, left: &mut Left) {
    let pid = subject.pid();
    let is_interrupted = is_interrupted(pid).unwrap();
    if is_interrupted {
        let refused = apply(subject).unwrap_err();
        assert!(matches!(refused, ApplyError::Process(ProcessError::Interrupted(_))), "{what}: {refused}");
    }
    let repaired = repair_process(pid).unwrap();
    assert_eq!(repaired.was_interrupted, is_interrupted, "{what}: {repaired:?}");
    let state = subject.state_when_all_ran();
    let patches = subject.patcher.status().unwrap();
    let is_in = patches.iter().any(|patch| patch.state == PatchState::Applied);
    let entries = patches.iter().flat_map(|patch| &patch.functions).filter(|function| function.redirected).count();
    assert_eq!(entries, usize::from(is_in), "{what}: {patches:?}");
    if is_in {
        assert_eq!(state.value, NEW, "{what}: {patches:?}");
        assert_ne!(state.variable, before.variable, "{what}: {patches:?}");
    } else {
        assert_eq!((state.value, state.variable), (OLD, before.variable), "{what}: {patches:?}");
        assert_eq!(state.image, before.image, "{what}: {patches:?}");
    }
    let count = match (is_interrupted, is_in) {
        (true, _) => &mut left.interrupted,
        (false, true) => &mut left.applied,
        (false, false) if patches.iter().any(|patch| patch.state == PatchState::Prepared) => &mut left.prepared,
        (false, false) => &mut left.untouched,
    };
    *count += 1;
    clean(subject);
    let now = subject.state();
    assert_eq!((now.value, now.variable, now.image), (OLD, before.variable, before.image), "{what}");
    let leaked = now.allocations - before.allocations;
    assert!(leaked <= 1, "{what}: {leaked} leaked");
    left.leaked += leaked;
    before.allocations = now.allocations;
}
