//! Patching programs that run: Lua, SQLite and the fixtures, with `hpgen` as a person would call it. Payloads are authored by the
//! build for this system and applied by the build for Windows, under Wine where this is not Windows.
//!
//! They run where `HPGEN_LIVE` is 1 (and on Windows); elsewhere they say that they were skipped. `cargo xtask test` sets everything up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod compile;
mod embed;
mod events;
mod exceptions;
mod faults;
mod fixtures;
mod hosts;
#[cfg(not(windows))]
mod images;
mod kills;
mod loader;
#[cfg(not(windows))]
mod probation;
mod refusals;
mod run;
mod scenes;
#[path = "../schemas/mod.rs"]
mod schemas;
mod session;
mod succession;
mod transplant;
mod watch;
