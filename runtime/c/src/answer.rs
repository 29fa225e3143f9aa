//! How a function ends: a number that a program can tell apart, and words for people.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

use runtime::{ApplyError, PolicyError, ProcessError, RollbackError};

use crate::text::{Room, write};

/// The numbers are the exit codes of `hpgen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// `HPGEN_OK`
    Ok = 0,
    /// `HPGEN_ERROR`
    Error = 1,
    /// `HPGEN_USAGE`
    Usage = 2,
    /// `HPGEN_REFUSED`
    Refused = 5,
    /// `HPGEN_DEFECT`: what a Rust program's exit code is after a panic.
    Defect = 101,
}

/// Why a function did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn usage(message: &str) -> Failure {
        Failure { code: Code::Usage, message: message.to_owned() }
    }

    pub fn error(message: String) -> Failure {
        Failure { code: Code::Error, message }
    }
}

macro_rules! by_refusal {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                let code = if error.is_refusal() { Code::Refused } else { Code::Error };
                Failure { code, message: error.to_string() }
            }
        })*
    };
}

by_refusal!(ApplyError, PolicyError, ProcessError, RollbackError);

/// Does the work, and tells how it ended; whatever happens, nothing unwinds into the caller.
pub fn answer(error: Room, work: impl FnOnce() -> Result<(), Failure>) -> i32 {
    keep_panics_quiet();
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = format!("internal error, please report it: {}", last_panic());
        Err(Failure { code: Code::Defect, message })
    });
    let (code, message) = match result {
        Ok(()) => (Code::Ok, String::new()),
        Err(failure) => (failure.code, failure.message),
    };
    write(error, &message);
    code as i32
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn last_panic() -> String {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The standard hook prints to the program's standard error, which is not ours. This library has a hook of its own, since it has a
/// standard library of its own: no other Rust code in the process notices.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
        }));
    });
}
