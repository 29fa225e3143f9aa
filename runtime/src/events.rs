//! What is done to processes, told as `tracing` events: every attempt, and how it ended. Nothing of it is told while threads stand still.
//!
//! All have the target [`TARGET`], the level `INFO` (`WARN` for refusals, `ERROR` for failures), and these fields:
//!
//! | field | meaning |
//! |---|---|
//! | `event` | `attempt`, `done`, `refused` (the process is as it was), `failed`; `probation-passed`, `probation-failed`, `probation-ended` (without either) |
//! | `action` | `apply`, `rollback` or `probation`; `accept` where a payload `file` is refused for its signature or form |
//! | `pid` | the process |
//! | `patch` | patch id: first eight bytes of the seal in hexadecimal; of a rollback's attempt, what was asked for |
//! | `series`, `images` | of an apply: the payload's place in its series, and the images that it is for, with commas between |
//! | `functions`, `threads`, `stopped_us` | of what was done: functions redirected or restored, threads that were stopped, and for how long |
//! | `region` | of a rollback: `freed` or `kept` |
//! | `error` | why not |

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::format::{PayloadFile, Seal};
use crate::patch::Redirected;
use crate::{ApplyError, ProbationEnd, RollbackError, RolledBack};

/// The target of all events.
pub const TARGET: &str = "hpgen::patch";

/// Tells that a payload file is not let in, before any process is looked at: `action` is `accept`.
pub fn not_accepted(file: &str, error: &dyn core::fmt::Display) {
    let error = error.to_string();
    tracing::warn!(target: TARGET, event = "refused", action = "accept", file, error);
}

/// An apply, from its attempt to its end.
pub(crate) struct Applying {
    pid: u32,
    patch: String,
    series: u32,
    images: String,
}

impl Applying {
    /// Tells that it is tried.
    pub fn attempt(pid: u32, file: &PayloadFile, seal: &Seal) -> Applying {
        let images: Vec<&str> = file.images().collect();
        let applying = Applying { pid, patch: seal.patch_id(), series: file.series(), images: images.join(",") };
        let Applying { pid, patch, series, images } = &applying;
        tracing::info!(target: TARGET, event = "attempt", action = "apply", pid, patch, series, images);
        applying
    }

    /// Tells how it ended.
    pub fn ended(&self, result: &Result<Redirected, ApplyError>) {
        let Applying { pid, patch, series, images } = self;
        let action = "apply";
        match result {
            Ok(Redirected { functions, threads, stopped_us, .. }) => {
                tracing::info!(
                    target: TARGET, event = "done", action, pid, patch, series, images, functions, threads, stopped_us
                );
            }
            Err(error) if error.is_refusal() => {
                let error = error.to_string();
                tracing::warn!(target: TARGET, event = "refused", action, pid, patch, series, images, error);
            }
            Err(error) => {
                let error = error.to_string();
                tracing::error!(target: TARGET, event = "failed", action, pid, patch, series, images, error);
            }
        }
    }
}

/// Tells that a rollback is tried. `patch` is what was asked for.
pub(crate) fn rollback_attempt(pid: u32, patch: &str) {
    tracing::info!(target: TARGET, event = "attempt", action = "rollback", pid, patch);
}

/// Tells how a rollback ended.
pub(crate) fn rollback_ended(pid: u32, patch: &str, result: &Result<RolledBack, RollbackError>) {
    let action = "rollback";
    match result {
        Ok(done) => {
            let region = done.region.name();
            let (patch, functions, threads) = (&done.patch_id, done.functions, done.threads_stopped);
            let stopped_us = done.stopped.as_micros() as u64;
            tracing::info!(
                target: TARGET, event = "done", action, pid, patch, functions, threads, stopped_us, region
            );
        }
        Err(error) if error.is_refusal() => {
            let error = error.to_string();
            tracing::warn!(target: TARGET, event = "refused", action, pid, patch, error);
        }
        Err(error) => {
            let error = error.to_string();
            tracing::error!(target: TARGET, event = "failed", action, pid, patch, error);
        }
    }
}

/// Tells how a probation ended. What is rolled back then is told apart.
pub(crate) fn probation_ended(pid: u32, patch: &str, end: &ProbationEnd) {
    let action = "probation";
    match (end, end.failure()) {
        (_, Some(error)) => tracing::error!(target: TARGET, event = "probation-failed", action, pid, patch, error),
        (ProbationEnd::Passed, None) => tracing::info!(target: TARGET, event = "probation-passed", action, pid, patch),
        _ => {
            let error = match end {
                ProbationEnd::ProcessEnded(code) => alloc::format!("the process ended with code {code}"),
                _ => "the patch is not in the process any more".to_string(),
            };
            tracing::warn!(target: TARGET, event = "probation-ended", action, pid, patch, error);
        }
    }
}
