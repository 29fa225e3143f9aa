//! Failing on purpose: each call of the system that an apply or a rollback makes asks here first. With the feature `fault-injection`, which only
//! tests turn on, one chosen call is said to have failed, or the process ends there as if it were killed; without it, nothing of this is left in the
//! program.

/// Whether the call that would come next fails.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(super) fn point(_: &'static str) -> bool {
    false
}

#[cfg(feature = "fault-injection")]
pub(super) use injected::point;
#[cfg(feature = "fault-injection")]
pub use injected::{CALLS, DEATH, arm, die_before, reached};

#[cfg(feature = "fault-injection")]
mod injected {
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    use windows_sys::Win32::Foundation::{ERROR_NO_SYSTEM_RESOURCES, SetLastError};
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

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

    /// Those that change something: a process that is killed between two of them has left the same as if it were killed before the second.
    const CHANGES: [&str; 7] = [
        "CreateRemoteThread",
        "NtSuspendThread",
        "ResumeThread",
        "VirtualAllocEx",
        "VirtualFreeEx",
        "VirtualProtect",
        "WriteProcessMemory",
    ];
    /// Exit code of a process that ended here.
    pub const DEATH: u32 = 0xdead;

    const NONE: usize = usize::MAX;
    static CALL: AtomicUsize = AtomicUsize::new(NONE);
    static LEFT: AtomicU32 = AtomicU32::new(0);
    /// How many calls that change something are still made.
    static LIFE: AtomicU32 = AtomicU32::new(u32::MAX);

    /// The process ends before the call that changes something and comes after the next `after` ones.
    pub fn die_before(after: u32) {
        LIFE.store(after, Ordering::SeqCst);
    }

    fn live(call: &'static str) {
        if !CHANGES.contains(&call) {
            return;
        }
        match LIFE.load(Ordering::SeqCst) {
            u32::MAX => {}
            // SAFETY: takes a number and a handle that is always open.
            0 => unsafe {
                TerminateProcess(GetCurrentProcess(), DEATH);
            },
            left => LIFE.store(left - 1, Ordering::SeqCst),
        }
    }

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
        live(call);
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
