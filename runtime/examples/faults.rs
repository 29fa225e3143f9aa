//! A program that patches itself, or a copy of itself, while one system call after the other fails. `cli/tests/live/faults.rs` runs it.
//!
//! `faults self STEPS [CALL…]`, `faults remote STEPS [CALL…]`: applies with the first call of a kind failing, with the second one, and so on, to the
//! last. Of the two calls that only look, of which there are hundreds, the first `STEPS` each in turn, from there on fewer and fewer. After each
//! attempt the image is as it was to the byte, with the same protections, all threads make progress, and no memory and no handle is left
//! behind. The same for rolling back.
//!
//! `faults deaths STEP`: a process that applies to another one ends before its first call that changes something, before its second one, and so on; only
//! each `STEP`th. The other one is then patched or not, as a whole, or says that it was left half changed, and is repaired.
//!
//! `faults kills COUNT`: the same with a process that applies and rolls back over and over, and is killed at any moment.
#![allow(clippy::unwrap_used, clippy::panic, clippy::undocumented_unsafe_blocks, reason = "a test program")]

#[cfg(not(windows))]
fn main() {
    println!("faults is for Windows");
}

#[cfg(windows)]
#[path = "live_host/answer.rs"]
mod answer;

#[cfg(windows)]
#[path = "live_host/leaks.rs"]
#[allow(dead_code, reason = "shared with live_host")]
mod leaks;

#[cfg(windows)]
#[path = "live_host/payloads.rs"]
#[allow(dead_code, reason = "shared with live_host")]
mod payloads;

#[cfg(windows)]
#[path = "faults/windows.rs"]
mod windows;

#[cfg(windows)]
fn main() {
    windows::main();
}
