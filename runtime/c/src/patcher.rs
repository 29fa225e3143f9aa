//! The exported functions.

use std::ffi::{c_char, c_void};
use std::fs;
use std::path::Path;
use std::time::Duration;

use runtime::format::PublicKey;
use runtime::{ApplyOptions, Patcher, Policy};

use crate::answer::{Failure, answer};
use crate::records::{Applied, Patch, Rollback};
use crate::text::{Room, utf8, wide_path};

/// `HPGEN_ABI`: what a caller's header says, so that it is never taken for another one's.
pub const ABI: u32 = 1;

/// `hpgen_patcher`
#[derive(Debug, Default)]
pub struct Handle {
    pub policy: Policy,
    pub options: ApplyOptions,
}

impl Handle {
    /// For this process.
    pub fn patcher(&self) -> Patcher {
        Patcher::own().with_options(self.options.clone())
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn hpgen_runtime_abi() -> u32 {
    ABI
}

#[unsafe(no_mangle)]
pub extern "C" fn hpgen_runtime_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// # Safety
/// `patcher` is null or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_patcher_open(abi: u32, patcher: *mut *mut Handle) -> i32 {
    answer(NOWHERE, || {
        // SAFETY: the caller's promise.
        let place = unsafe { patcher.as_mut() }.ok_or_else(|| Failure::usage("patcher is null"))?;
        *place = std::ptr::null_mut();
        if abi != ABI {
            return Err(Failure::usage("the program was compiled with another version of hpgen_runtime.h"));
        }
        *place = Box::into_raw(Box::default());
        Ok(())
    })
}

/// # Safety
/// `patcher` is null or was opened and not closed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_patcher_close(patcher: *mut Handle) {
    answer(NOWHERE, || {
        if !patcher.is_null() {
            // SAFETY: the caller's promise: made by `hpgen_patcher_open`.
            drop(unsafe { Box::from_raw(patcher) });
        }
        Ok(())
    });
}

/// # Safety
/// `patcher` is null or open, `key` null or 32 bytes; no other thread uses the patcher.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_trust(patcher: *mut Handle, key: *const u8) -> i32 {
    answer(NOWHERE, || {
        // SAFETY: the caller's promise.
        let (handle, key) = unsafe { (patcher.as_mut(), key.cast::<[u8; 32]>().as_ref()) };
        let key = key.ok_or_else(|| Failure::usage("key is null"))?;
        handle.ok_or_else(no_patcher)?.policy.trusted.push(PublicKey(*key));
        Ok(())
    })
}

/// # Safety
/// As [`hpgen_trust`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_allow_unsigned(patcher: *mut Handle, allow: i32) -> i32 {
    answer(NOWHERE, || {
        // SAFETY: the caller's promise.
        unsafe { patcher.as_mut() }.ok_or_else(no_patcher)?.policy.allow_unsigned = allow != 0;
        Ok(())
    })
}

/// # Safety
/// As [`hpgen_trust`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_set_patience(patcher: *mut Handle, milliseconds: u32) -> i32 {
    answer(NOWHERE, || {
        // SAFETY: the caller's promise.
        let handle = unsafe { patcher.as_mut() }.ok_or_else(no_patcher)?;
        handle.options.patience = Duration::from_millis(milliseconds.into());
        Ok(())
    })
}

/// # Safety
/// `patcher` is null or open, `path` null or text, `applied` null or a record, `error` null or so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_apply_file(
    patcher: *const Handle,
    path: *const c_char,
    applied: *mut Applied,
    error: *mut c_char,
    error_size: usize,
) -> i32 {
    // SAFETY: the caller's promises.
    answer(unsafe { Room::new(error, error_size) }, || unsafe {
        apply(patcher, &read(utf8(path, "path")?.as_ref())?, applied)
    })
}

/// # Safety
/// As [`hpgen_apply_file`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_apply_file_w(
    patcher: *const Handle,
    path: *const u16,
    applied: *mut Applied,
    error: *mut c_char,
    error_size: usize,
) -> i32 {
    // SAFETY: the caller's promises.
    answer(unsafe { Room::new(error, error_size) }, || unsafe { apply(patcher, &read(&wide_path(path)?)?, applied) })
}

/// # Safety
/// As [`hpgen_apply_file`]; `payload` is null or `payload_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_apply_memory(
    patcher: *const Handle,
    payload: *const c_void,
    payload_size: usize,
    applied: *mut Applied,
    error: *mut c_char,
    error_size: usize,
) -> i32 {
    // SAFETY: the caller's promises.
    answer(unsafe { Room::new(error, error_size) }, || unsafe {
        if payload.is_null() {
            return Err(Failure::usage("payload is null"));
        }
        apply(patcher, std::slice::from_raw_parts(payload.cast(), payload_size), applied)
    })
}

/// # Safety
/// As [`hpgen_apply_file`]; `patch_id` is null or text, `result` null or a record.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_rollback(
    patcher: *const Handle,
    patch_id: *const c_char,
    result: *mut Rollback,
    error: *mut c_char,
    error_size: usize,
) -> i32 {
    // SAFETY: the caller's promises.
    answer(unsafe { Room::new(error, error_size) }, || unsafe {
        let id = if patch_id.is_null() { None } else { Some(utf8(patch_id, "patch_id")?) };
        let done = patcher.as_ref().ok_or_else(no_patcher)?.patcher().rollback(id)?;
        if let Some(result) = result.as_mut() {
            *result = Rollback::from(&done);
        }
        Ok(())
    })
}

/// # Safety
/// As [`hpgen_apply_file`]; `patches` is null or so many records, `count` null or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_status(
    patcher: *const Handle,
    patches: *mut Patch,
    capacity: usize,
    count: *mut usize,
    error: *mut c_char,
    error_size: usize,
) -> i32 {
    // SAFETY: the caller's promises.
    answer(unsafe { Room::new(error, error_size) }, || unsafe {
        let present = patcher.as_ref().ok_or_else(no_patcher)?.patcher().status()?;
        *count.as_mut().ok_or_else(|| Failure::usage("count is null"))? = present.len();
        if !patches.is_null() {
            for (index, status) in present.iter().take(capacity).enumerate() {
                *patches.add(index) = Patch::from(status);
            }
        }
        Ok(())
    })
}

/// Of functions that tell nothing but a number.
pub const NOWHERE: Room = Room::NONE;

pub fn no_patcher() -> Failure {
    Failure::usage("patcher is null")
}

pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::error(format!("cannot read {}: {error}", path.display())))
}

/// # Safety
/// `patcher` is null or open, `applied` null or a record.
unsafe fn apply(patcher: *const Handle, file: &[u8], applied: *mut Applied) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (handle, place) = unsafe { (patcher.as_ref().ok_or_else(no_patcher)?, applied.as_mut()) };
    let applied = handle.patcher().apply(file, &handle.policy)?;
    if let Some(place) = place {
        *place = Applied::from(applied.status()?.as_slice());
    }
    Ok(())
}
