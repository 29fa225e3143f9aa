//! Payloads for DLLs that are loaded later.

use std::ffi::{c_char, c_void};

use runtime::{Accepted, ApplyError, Follower};

use crate::answer::{Code, Failure, answer};
use crate::patcher::{Handle, NOWHERE, no_patcher, read};
use crate::records::Applied;
use crate::text::{Room, ended, fixed, utf8};

/// `hpgen_told`
pub type Told = unsafe extern "C" fn(*mut c_void, *const c_char, i32, *const Applied, *const c_char);

/// What the caller wants to be handed back; what it leads to is the caller's affair.
struct Context(*mut c_void);

// SAFETY: it is a number here: it is passed on, and never followed.
unsafe impl Send for Context {}

impl Context {
    /// As a method, so that a closure takes the whole.
    fn get(&self) -> *mut c_void {
        self.0
    }
}

/// # Safety
/// `patcher` is null or open; `paths` null or so many texts; `follower` null or a place for a pointer; `error` null or so many bytes.
/// `told` is null, or a function that may be called with `context` by another thread until the follower is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_follow_files(
    patcher: *const Handle,
    paths: *const *const c_char,
    count: usize,
    told: Option<Told>,
    context: *mut c_void,
    follower: *mut *mut Follower,
    error: *mut c_char,
    error_size: usize,
) -> i32 {
    // SAFETY: the caller's promises.
    answer(unsafe { Room::new(error, error_size) }, || unsafe {
        let place = follower.as_mut().ok_or_else(|| Failure::usage("follower is null"))?;
        *place = std::ptr::null_mut();
        let handle = patcher.as_ref().ok_or_else(no_patcher)?;
        if paths.is_null() {
            return Err(Failure::usage("paths is null"));
        }
        let mut payloads = Vec::new();
        for path in std::slice::from_raw_parts(paths, count) {
            payloads.push(handle.policy.accept(&read(utf8(*path, "a path")?.as_ref())?)?);
        }
        let context = Context(context);
        let tell = move |accepted: &Accepted, result: Result<runtime::Applied, ApplyError>| {
            tell(told, context.get(), accepted, result);
        };
        *place = Box::into_raw(Box::new(Follower::start(payloads, handle.options.clone(), tell)?));
        Ok(())
    })
}

/// # Safety
/// `follower` is null or was made by `hpgen_follow_files` and not closed yet; it is not the follower's own thread that calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hpgen_follower_close(follower: *mut Follower) {
    answer(NOWHERE, || {
        if !follower.is_null() {
            // SAFETY: the caller's promise: made by `hpgen_follow_files`.
            drop(unsafe { Box::from_raw(follower) });
        }
        Ok(())
    });
}

/// # Safety
/// `told` is null, or may be called with `context`.
fn tell(to: Option<Told>, context: *mut c_void, accepted: &Accepted, result: Result<runtime::Applied, ApplyError>) {
    let Some(to) = to else { return };
    let patch_id: [c_char; 24] = fixed(&accepted.seal.patch_id());
    let result = result.map_err(Failure::from).and_then(|applied| Ok(Applied::from(applied.status()?.as_slice())));
    let (code, applied, message) = match &result {
        Ok(applied) => (Code::Ok, std::ptr::from_ref(applied), ended("")),
        Err(failure) => (failure.code, std::ptr::null(), ended(&failure.message)),
    };
    // SAFETY: what is pointed to lives until the call returns; the rest was promised to `hpgen_follow_files`.
    unsafe { to(context, patch_id.as_ptr(), code as i32, applied, message.as_ptr()) };
}
