//! A program that patches itself, or a copy of itself, with payloads made by hand. `cli/tests/live/loader.rs` runs it.
//!
//! `live_host self ROUNDS`, `live_host remote`, `live_host run`: checks; each prints what it did and ends with code 0.
//! `live_host cycles ROUNDS THREADS`: in and out again while threads hammer; `live_host bench ROUNDS`: how long threads stand still.
//! `live_host target`, `live_host child ARGS…`: what the second and third check start.
#![allow(clippy::unwrap_used, clippy::panic, clippy::undocumented_unsafe_blocks, reason = "a test program")]

#[cfg(not(windows))]
fn main() {
    println!("live_host is for Windows");
}

#[cfg(windows)]
#[path = "live_host/answer.rs"]
mod answer;

#[cfg(windows)]
#[path = "live_host/leaks.rs"]
mod leaks;

#[cfg(windows)]
#[path = "live_host/payloads.rs"]
mod payloads;

#[cfg(windows)]
#[path = "live_host/windows.rs"]
mod windows;

#[cfg(windows)]
fn main() {
    windows::main();
}
