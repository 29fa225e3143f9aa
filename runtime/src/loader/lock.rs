//! One change to a process at a time, whoever makes it: a named mutex for each process id.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{WAIT_ABANDONED, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{CreateMutexW, ReleaseMutex, WaitForSingleObject};

use super::fault;
use super::process::Process;
use crate::ProcessError;

const PATIENCE_MS: u32 = 10_000;

/// Held while a process is changed.
pub(super) struct Lock(OwnedHandle);

impl Lock {
    pub fn take(process: &Process) -> Result<Lock, ProcessError> {
        let name = format!("Global\\hpgen-change-{}\0", process.pid());
        let name: Vec<u16> = name.encode_utf16().collect();
        let make = || {
            // SAFETY: the name ends with zero.
            unsafe { CreateMutexW(std::ptr::null(), 0, name.as_ptr()) }
        };
        let handle = if fault::point("CreateMutexW") { std::ptr::null_mut() } else { make() };
        if handle.is_null() {
            return Err(process.failed("CreateMutexW"));
        }
        // SAFETY: just made, and nobody else's.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        if fault::point("WaitForSingleObject") {
            return Err(process.failed("WaitForSingleObject"));
        }
        // SAFETY: the handle is open.
        match unsafe { WaitForSingleObject(handle.as_raw_handle(), PATIENCE_MS) } {
            // Abandoned: its holder died. What it left is seen by its record.
            WAIT_OBJECT_0 | WAIT_ABANDONED => Ok(Lock(handle)),
            _ => Err(ProcessError::Locked(process.pid())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and this thread holds the mutex.
        unsafe { ReleaseMutex(self.0.as_raw_handle()) };
    }
}
