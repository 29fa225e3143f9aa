//! Calling a function in a process: directly in the own one, else by a thread that runs a stub of nine instructions.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{WAIT_FAILED, WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Memory::PAGE_EXECUTE_READ;
use windows_sys::Win32::System::Threading::{CreateRemoteThread, GetExitCodeThread, WaitForSingleObject};

use super::modules::Modules;
use super::process::Process;
use super::system::insist;
use super::{claims, fault, imports};
use crate::ProcessError;
use crate::format::ImportSymbol;
use crate::target::claim::Claim;

/// The stub's parameter: the function, then its arguments.
type Parameters = [u64; 4];

/// `fn(parameters) -> u32`: calls the function with three arguments.
const STUB: [u8; 26] = [
    0x48, 0x83, 0xec, 0x28, // sub rsp, 40
    0x48, 0x89, 0xc8, // mov rax, rcx
    0x48, 0x8b, 0x48, 0x08, // mov rcx, [rax + 8]
    0x48, 0x8b, 0x50, 0x10, // mov rdx, [rax + 16]
    0x4c, 0x8b, 0x40, 0x18, // mov r8, [rax + 24]
    0xff, 0x10, // call [rax]
    0x48, 0x83, 0xc4, 0x28, // add rsp, 40
    0xc3, // ret
];
const PAGE: u64 = 0x1000;
/// A process whose loader lock is held starts no thread until it is released.
const PATIENCE_MS: u32 = 10_000;

/// Calls `function` of the process's ntdll with up to three arguments.
///
/// # Safety
/// The function must be one that takes these arguments, and calling it must be sound in that process.
pub(super) unsafe fn call_ntdll(
    process: &Process,
    modules: &Modules,
    function: &'static str,
    arguments: [u64; 3],
) -> Result<u32, ProcessError> {
    let symbol = ImportSymbol::Name(function.to_owned());
    let address = imports::resolve(process, modules, "ntdll.dll", &symbol)
        .map_err(|_| process.bad_memory(0, "ntdll does not export a function that hpgen needs"))?;
    // SAFETY: the caller's promise.
    unsafe { call(process, address, arguments) }
}

/// Calls the function at an address of the process with up to three arguments.
///
/// # Safety
/// As [`call_ntdll`].
pub(super) unsafe fn call(process: &Process, address: u64, arguments: [u64; 3]) -> Result<u32, ProcessError> {
    let [first, second, third] = arguments;
    if process.is_own() {
        // SAFETY: the caller's promise; all arguments are in registers.
        return Ok(unsafe {
            let function: unsafe extern "system" fn(u64, u64, u64) -> u32 = std::mem::transmute(address as *const u8);
            function(first, second, third)
        });
    }
    call_remote(process, [address, first, second, third])
}

fn call_remote(process: &Process, parameters: Parameters) -> Result<u32, ProcessError> {
    let base = process.allocate(0, 2 * PAGE).ok_or_else(|| process.failed("VirtualAllocEx"))?;
    let result = run_stub(process, base, &parameters);
    if !result.as_ref().is_err_and(may_still_run) {
        // What the function did is done: a page that stays behind does no harm.
        let _ = process.free(base);
    }
    result
}

/// Whether what was called may not have ended yet: it did not in time. With any other error it was not called, or has ended.
pub(super) fn may_still_run(error: &ProcessError) -> bool {
    matches!(error, ProcessError::Memory { .. })
}

/// First page: whose it is, parameters; second page: code.
fn run_stub(process: &Process, base: u64, parameters: &Parameters) -> Result<u32, ProcessError> {
    let code = base + PAGE;
    claims::claim(process, base, 2 * PAGE)?;
    let place = base + size_of::<Claim>() as u64;
    process.write(place, zerocopy::IntoBytes::as_bytes(parameters))?;
    process.write(code, &STUB)?;
    process.protect(code, PAGE, PAGE_EXECUTE_READ)?;
    process.flush_code(code, PAGE);
    // SAFETY: the page holds the stub, which takes one pointer and returns a number.
    let thread = unsafe {
        let start = std::mem::transmute::<*const u8, unsafe extern "system" fn(*mut core::ffi::c_void) -> u32>(
            code as *const u8,
        );
        if fault::point("CreateRemoteThread") {
            std::ptr::null_mut()
        } else {
            CreateRemoteThread(
                process.raw(),
                std::ptr::null(),
                0,
                Some(start),
                place as *const _,
                0,
                std::ptr::null_mut(),
            )
        }
    };
    if thread.is_null() {
        return Err(process.failed("CreateRemoteThread"));
    }
    // SAFETY: just made, and nobody else's.
    let thread = unsafe { OwnedHandle::from_raw_handle(thread) };
    let mut waited = WAIT_TIMEOUT;
    let wait = || {
        // SAFETY: the handle is open.
        let wait = || unsafe { WaitForSingleObject(thread.as_raw_handle(), PATIENCE_MS) };
        waited = if fault::point("WaitForSingleObject") { WAIT_FAILED } else { wait() };
        waited != WAIT_FAILED
    };
    insist(wait);
    if waited != WAIT_OBJECT_0 {
        return Err(process.bad_memory(code, "the process did not run hpgen's thread within 10 s: it seems to hang"));
    }
    let mut result = 0;
    let read = || {
        // SAFETY: the handle is open and the result's place is valid.
        !fault::point("GetExitCodeThread") && unsafe { GetExitCodeThread(thread.as_raw_handle(), &raw mut result) } != 0
    };
    if !insist(read) {
        return Err(process.failed("GetExitCodeThread"));
    }
    Ok(result)
}
