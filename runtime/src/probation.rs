//! How a patch stood its probation, for callers.

use core::fmt;

use crate::{RollbackError, RolledBack};

/// How a probation ended.
#[derive(Debug)]
pub enum ProbationEnd {
    /// The time is over, and nothing happened that speaks against the patch.
    Passed,
    /// The patch was found bad, and rolled back where that was possible.
    Failed {
        /// What was found.
        failure: ProbationFailure,
        /// None where the process has ended.
        rollback: Option<Result<RolledBack, RollbackError>>,
    },
    /// The process ended with this exit code, without a sign that the patch is the reason.
    ProcessEnded(u32),
    /// Somebody took the patch out, or put another one in its place.
    Moot,
}

/// What speaks against a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbationFailure {
    /// A health check returned another value than 0.
    Check {
        /// Its name, or where it is.
        check: String,
        /// What it returned.
        code: i32,
    },
    /// A health check could not be called, or did not return.
    NoAnswer {
        /// Its name, or where it is.
        check: String,
        /// Why.
        error: String,
    },
    /// Nobody handled an exception that has a frame in the patch.
    Exception {
        /// `EXCEPTION_RECORD.ExceptionCode`
        code: u32,
        /// Where it was raised.
        address: u64,
        /// Thread id.
        thread: u32,
        /// The innermost function of the patch on its stack.
        function: String,
    },
    /// The process ended by an exception or a fail-fast, and nobody saw whose code it was.
    Crash(u32),
}

impl fmt::Display for ProbationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbationFailure::Check { check, code } => write!(f, "the health check {check} returned {code}"),
            ProbationFailure::NoAnswer { check, error } => {
                write!(f, "the health check {check} gave no answer: {error}")
            }
            ProbationFailure::Exception { code, address, thread, function } => {
                write!(
                    f,
                    "exception {code:#010x} at {address:#x} in thread {thread}, which runs {function} of the patch, was not handled"
                )
            }
            ProbationFailure::Crash(code) => {
                write!(f, "the process ended with code {code:#010x}; whose code failed is not known")
            }
        }
    }
}

impl ProbationEnd {
    /// As JSON and the log write it.
    pub fn name(&self) -> &'static str {
        match self {
            ProbationEnd::Passed => "passed",
            ProbationEnd::Failed { .. } => "failed",
            ProbationEnd::ProcessEnded(_) => "process-ended",
            ProbationEnd::Moot => "moot",
        }
    }

    /// What was found, and what became of the patch; in words.
    pub fn failure(&self) -> Option<String> {
        let ProbationEnd::Failed { failure, rollback } = self else { return None };
        Some(match rollback {
            Some(Err(error)) => format!("{failure}; it could not be rolled back: {error}"),
            _ => failure.to_string(),
        })
    }
}
