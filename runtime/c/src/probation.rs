//! Watching a patch once it is in.

use std::ffi::c_char;

use runtime::ProbationEnd;

use crate::answer::{Failure, answer};
use crate::patcher::{Handle, no_patcher};
use crate::text::{Room, fixed, utf8};

/// `hpgen_probation`
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Probation {
    pub end: u32,
    pub reserved: u32,
    pub patch_id: [c_char; 24],
    pub why: [c_char; 512],
}

/// How one ended: `HPGEN_NOT_ON_PROBATION` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum End {
    NotOnProbation = 0,
    Passed = 1,
    Failed = 2,
    Stuck = 3,
    Moot = 4,
}

/// # Safety
/// `patcher` is null or open, `patch_id` null or text, `result` null or a record, `error` null or so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_stand_probation(
    patcher: *const Handle,
    patch_id: *const c_char,
    result: *mut Probation,
    error: *mut c_char,
    error_size: usize,
) -> i32 {
    // SAFETY: the caller's promises.
    answer(unsafe { Room::new(error, error_size) }, || unsafe {
        let place = result.as_mut().ok_or_else(|| Failure::usage("result is null"))?;
        let id = if patch_id.is_null() { None } else { Some(utf8(patch_id, "patch_id")?) };
        let watch = patcher.as_ref().ok_or_else(no_patcher)?.patcher().probation(id)?;
        let patch = watch.as_ref().map(|watch| watch.patch_id().to_owned()).unwrap_or_default();
        *place = ended(watch.map(|watch| watch.stand()), &patch);
        Ok(())
    })
}

fn ended(end: Option<ProbationEnd>, patch: &str) -> Probation {
    let code = match &end {
        None => End::NotOnProbation,
        Some(ProbationEnd::Passed) => End::Passed,
        Some(ProbationEnd::Failed { rollback: Some(Err(_)), .. }) => End::Stuck,
        Some(ProbationEnd::Failed { .. }) => End::Failed,
        // The own process has not ended.
        Some(ProbationEnd::Moot | ProbationEnd::ProcessEnded(_)) => End::Moot,
    };
    let why = end.and_then(|end| end.failure()).unwrap_or_default();
    Probation { end: code as u32, reserved: 0, patch_id: fixed(patch), why: fixed(&why) }
}
