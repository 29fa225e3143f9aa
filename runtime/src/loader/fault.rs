//! Failing on purpose: each call of the system that an apply or a rollback makes asks here first. With the feature `fault-injection`, which only
//! tests turn on, one chosen call is said to have failed; without it, nothing of this is left in the program.

/// Whether the call that would come next fails.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(super) fn point(_: &'static str) -> bool {
    false
}

#[cfg(feature = "fault-injection")]
pub(super) use injected::point;
#[cfg(feature = "fault-injection")]
pub use injected::{CALLS, arm, reached};

#[cfg(feature = "fault-injection")]
mod injected {
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    use windows_sys::Win32::Foundation::{ERROR_NO_SYSTEM_RESOURCES, SetLastError};

    /// All calls that can be made to fail.
    pub const CALLS: [&str; 20] = [
        "CreateMutexW",
        "CreateRemoteThread",
        "GetExitCodeThread",
        "GetProcAddress",
        "GetThreadContext",
        "LdrAddRefDll",
        "NtGetNextThread",
        "NtQueryInformationProcess",
        "NtQueryInformationThread",
        "NtSuspendThread",
        "OpenProcess",
        "ReadProcessMemory",
        "ResumeThread",
        "RtlAddFunctionTable",
        "VirtualAllocEx",
        "VirtualFreeEx",
        "VirtualProtect",
        "VirtualQueryEx",
        "WaitForSingleObject",
        "WriteProcessMemory",
    ];

    const NONE: usize = usize::MAX;
    static CALL: AtomicUsize = AtomicUsize::new(NONE);
    static LEFT: AtomicU32 = AtomicU32::new(0);

    /// From now on, the call of that name after the next `after` ones fails, once.
    pub fn arm(call: &str, after: u32) {
        LEFT.store(after, Ordering::SeqCst);
        CALL.store(CALLS.iter().position(|known| *known == call).unwrap_or(NONE), Ordering::SeqCst);
    }

    /// Disarms; whether the call was made, and so failed.
    pub fn reached() -> bool {
        CALL.swap(NONE, Ordering::SeqCst) == NONE
    }

    /// Allocates nothing: it is asked while threads stand still.
    pub fn point(call: &'static str) -> bool {
        let armed = CALL.load(Ordering::SeqCst);
        if CALLS.get(armed).is_none_or(|wanted| *wanted != call) {
            return false;
        }
        if LEFT.load(Ordering::SeqCst) > 0 {
            LEFT.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        CALL.store(NONE, Ordering::SeqCst);
        // SAFETY: takes a number.
        unsafe { SetLastError(ERROR_NO_SYSTEM_RESOURCES) };
        true
    }
}
