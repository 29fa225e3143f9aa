//! The part of hpgen that enters other people's processes.
//!
//! * [`mod@format`] is the payload file, as `FORMAT.md` specifies it: platform-independent, no standard library needed.
//! * [`link`] turns a payload into the very bytes for one process. It is pure as well.
//! * The rest is the loader. A [`Patcher`] applies a payload file that a [`Policy`] lets in to the process that calls or to another
//!   one, rolls it back, and says what is in there; the functions that it calls ([`apply_to_self`] and so on) are there as well.
//!   [`run`] starts a program that is patched before its first instruction. Those are for Windows; elsewhere they return
//!   [`ProcessError::NotWindows`], so that programs that use them build everywhere.
//! * `runtime/c` is all of that for C and C++: `include/hpgen_runtime.h`, a DLL and a static library.
//!
//! What applying does, and in which order, is written down in `loader/apply.rs`.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod format;
pub mod link;

#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
#[cfg_attr(
    not(all(windows, target_arch = "x86_64")),
    allow(dead_code, reason = "only the loader has something to tell")
)]
#[cfg_attr(not(feature = "events"), path = "events_untold.rs")]
pub mod events;
#[cfg(feature = "std")]
mod mitigations;
#[cfg(feature = "std")]
mod patch;
#[cfg(feature = "std")]
mod patcher;
mod policy;
#[cfg(feature = "std")]
mod probation;
#[cfg(all(feature = "std", any(windows, test)))]
mod target;

#[cfg(all(feature = "std", windows, target_arch = "x86_64"))]
mod loader;
#[cfg(all(feature = "std", not(all(windows, target_arch = "x86_64"))))]
#[path = "elsewhere.rs"]
mod loader;

#[cfg(feature = "std")]
pub use error::{ApplyError, Part, ProcessError, RollbackError, RunError, StopError};
#[cfg(all(feature = "fault-injection", windows, target_arch = "x86_64"))]
#[doc(hidden)]
pub use loader::fault;
#[cfg(all(feature = "std", windows, target_arch = "x86_64"))]
#[doc(hidden)]
pub use loader::own_threads_are_stopped;
#[cfg(feature = "std")]
pub use loader::{
    Applied, Follower, PatchWatch, apply_to_process, apply_to_self, find_processes, frames_process, is_interrupted,
    mitigations_process, probation_process, probation_self, repair_process, rollback_process, rollback_self, run,
    status_process, status_self, write_event_log,
};
#[cfg(feature = "std")]
pub use mitigations::Mitigations;
#[cfg(feature = "std")]
pub use patch::{
    ApplyOptions, Consistency, PatchFrame, PatchState, PatchStatus, RedirectedFunction, RegionFate, Repaired,
    RolledBack, RunCommand, RunningProcess, Severity, ThreadFrames,
};
#[cfg(feature = "std")]
pub use patcher::Patcher;
pub use policy::{Accepted, Policy, PolicyError};
#[cfg(feature = "std")]
pub use probation::{ProbationEnd, ProbationFailure};
