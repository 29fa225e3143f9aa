//! In place of `events.rs` where the feature `events` is off: nothing is told.

use crate::format::{PayloadFile, Seal};
use crate::patch::Redirected;
use crate::{ApplyError, ProbationEnd, RollbackError, RolledBack};

/// Tells nothing.
pub fn not_accepted(_: &str, _: &dyn core::fmt::Display) {}

pub(crate) struct Applying;

impl Applying {
    pub fn attempt(_: u32, _: &PayloadFile, _: &Seal) -> Applying {
        Applying
    }

    pub fn ended(&self, _: &Result<Redirected, ApplyError>) {}
}

pub(crate) fn rollback_attempt(_: u32, _: &str) {}

pub(crate) fn rollback_ended(_: u32, _: &str, _: &Result<RolledBack, RollbackError>) {}

pub(crate) fn probation_ended(_: u32, _: &str, _: &ProbationEnd) {}
