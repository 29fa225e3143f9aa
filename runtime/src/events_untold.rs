//! In place of `events.rs` where the feature `events` is off: nothing is told.

use crate::format::{PayloadFile, Seal};
use crate::{ApplyError, ProbationEnd, RollbackError, RolledBack};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Redirected {
    pub number: u64,
    pub functions: usize,
    pub threads: u32,
    pub stopped_us: u64,
}

/// Tells nothing.
pub fn not_accepted(_: &str, _: &dyn core::fmt::Display) {}

pub(crate) struct Applying;

impl Applying {
    pub fn attempt(_: u32, _: &PayloadFile, _: &Seal) -> Applying {
        Applying
    }

    pub fn ended(&self, result: &Result<Redirected, ApplyError>) {
        // What nobody reads here.
        if let Ok(Redirected { functions, threads, stopped_us, .. }) = result {
            let _ = (functions, threads, stopped_us);
        }
    }
}

pub(crate) fn rollback_attempt(_: u32, _: &str) {}

pub(crate) fn rollback_ended(_: u32, _: &str, _: &Result<RolledBack, RollbackError>) {}

pub(crate) fn probation_ended(_: u32, _: &str, _: &ProbationEnd) {}
