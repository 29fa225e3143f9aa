//! System functions that are looked up at run time: undocumented ones, and ones that older systems lack.

use std::ffi::{CStr, c_void};
use std::io;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

use super::fault;
use crate::{Mitigations, ProcessError};

/// `NTSTATUS NtGetNextThread(process, thread, access, attributes, flags, out thread)`
pub(super) type NtGetNextThread = unsafe extern "system" fn(HANDLE, HANDLE, u32, u32, u32, *mut HANDLE) -> i32;
/// `NTSTATUS NtSuspendThread(thread, out previous count)`
pub(super) type NtSuspendThread = unsafe extern "system" fn(HANDLE, *mut u32) -> i32;
/// `BOOL GetProcessMitigationPolicy(process, policy, buffer, size)`
type GetProcessMitigationPolicy = unsafe extern "system" fn(HANDLE, i32, *mut c_void, usize) -> i32;

/// Functions that stopping threads takes.
#[derive(Clone, Copy)]
pub(super) struct ThreadCalls {
    pub next: NtGetNextThread,
    pub suspend: NtSuspendThread,
}

impl ThreadCalls {
    pub fn find() -> Result<ThreadCalls, ProcessError> {
        let next = address(c"ntdll.dll", c"NtGetNextThread", "NtGetNextThread")?;
        let suspend = address(c"ntdll.dll", c"NtSuspendThread", "NtSuspendThread")?;
        // SAFETY: ntdll's functions of these names have had these signatures since Windows Vista.
        Ok(unsafe {
            ThreadCalls {
                next: std::mem::transmute::<usize, NtGetNextThread>(next),
                suspend: std::mem::transmute::<usize, NtSuspendThread>(suspend),
            }
        })
    }
}

/// For calls that give something back, or without which nobody knows what was done: the system fails them only when it is short of something for
/// a moment, so they are tried again. Allocates nothing.
pub(super) fn insist(mut call: impl FnMut() -> bool) -> bool {
    const ATTEMPTS: u32 = 3;
    (0..ATTEMPTS).any(|_| call())
}

/// What the process is guarded with. Systems that cannot tell of a policy have none such.
pub(super) fn mitigations(process: HANDLE) -> Mitigations {
    const DYNAMIC_CODE: i32 = 2;
    const CONTROL_FLOW_GUARD: i32 = 7;
    const USER_SHADOW_STACK: i32 = 15;
    let Ok(call) = address(c"kernel32.dll", c"GetProcessMitigationPolicy", "") else {
        return Mitigations::default();
    };
    // SAFETY: the documented signature.
    let call: GetProcessMitigationPolicy = unsafe { std::mem::transmute(call) };
    let flags = |policy| {
        let mut flags = 0u32;
        // SAFETY: each of these policies is a record of four bytes.
        let known = unsafe { call(process, policy, (&raw mut flags).cast(), size_of_val(&flags)) };
        if known == 0 { 0 } else { flags }
    };
    Mitigations::of(flags(DYNAMIC_CODE), flags(CONTROL_FLOW_GUARD), flags(USER_SHADOW_STACK))
}

/// Where a function of a module that every process has really is: not a thunk in the caller's own image.
pub(super) fn address(module: &CStr, function: &CStr, call: &'static str) -> Result<usize, ProcessError> {
    let find = || {
        // SAFETY: both names end with zero.
        unsafe {
            let module = GetModuleHandleA(module.as_ptr().cast());
            if module.is_null() { None } else { GetProcAddress(module, function.as_ptr().cast()) }
        }
    };
    let found = if fault::point("GetProcAddress") { None } else { find() };
    found
        .map(|function| function as usize)
        .ok_or_else(|| ProcessError::System { call, error: io::Error::last_os_error() })
}
