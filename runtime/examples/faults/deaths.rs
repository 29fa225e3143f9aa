//! A patcher that is killed before each of its calls that change something.

use std::process::Command;

use hpgen_runtime::*;

use super::subject::{State, Subject};
use super::{NEW, OLD, apply, clean, settled};

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

/// Every `step`th place.
pub fn check(subject: &mut Subject, step: u32) {
    for _ in 0..3 {
        apply(subject).unwrap();
        subject.state_when_all_ran();
        clean(subject);
    }
    let mut before = settled(subject);
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

    let is_interrupted = is_interrupted(pid).unwrap();
    if is_interrupted {
        let refused = apply(subject).unwrap_err();
        assert!(matches!(refused, ApplyError::Process(ProcessError::Interrupted(_))), "{what} {after}: {refused}");
    }
    let repaired = repair_process(pid).unwrap();
    assert_eq!(repaired.was_interrupted, is_interrupted, "{what} {after}: {repaired:?}");
    let state = subject.state_when_all_ran();
    let patches = subject.patcher.status().unwrap();
    let is_in = patches.iter().any(|patch| patch.state == PatchState::Applied);
    let entries = patches.iter().flat_map(|patch| &patch.functions).filter(|function| function.redirected).count();
    assert_eq!(entries, usize::from(is_in), "{what} {after}: {patches:?}");
    if is_in {
        assert_eq!(state.value, NEW, "{what} {after}: {patches:?}");
        assert_ne!(state.variable, before.variable, "{what} {after}: {patches:?}");
    } else {
        assert_eq!((state.value, state.variable), (OLD, before.variable), "{what} {after}: {patches:?}");
        assert_eq!(state.image, before.image, "{what} {after}: {patches:?}");
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
    assert_eq!((now.value, now.variable, now.image), (OLD, before.variable, before.image), "{what} {after}");
    let leaked = now.allocations - before.allocations;
    assert!(leaked <= 1, "{what} {after}: {leaked} leaked");
    left.leaked += leaked;
    before.allocations = now.allocations;
    true
}
