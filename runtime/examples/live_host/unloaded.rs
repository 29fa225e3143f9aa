//! A patched DLL that the program unloads, politely and by force.

use std::ffi::CString;

use hpgen_runtime::*;
use windows_sys::Win32::Foundation::{FreeLibrary, HMODULE};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress, LoadLibraryA};
use windows_sys::Win32::System::Memory::{MEM_RELEASE, MEM_RESERVE, PAGE_NOACCESS, VirtualAlloc, VirtualFree};

use super::rollback_kept;
use crate::payloads::*;

fn load(name: &CString) -> HMODULE {
    let module = unsafe { LoadLibraryA(name.as_ptr().cast()) };
    assert!(!module.is_null(), "{}", std::io::Error::last_os_error());
    module
}

fn is_loaded(name: &CString) -> bool {
    !unsafe { GetModuleHandleA(name.as_ptr().cast()) }.is_null()
}

/// `dll_answer(1)`: 2, or 8 when it is patched.
fn answer_of(module: HMODULE) -> u32 {
    let function = unsafe { GetProcAddress(module, c"dll_answer".as_ptr().cast()) }.unwrap();
    let function: extern "C" fn(u32) -> u32 = unsafe { std::mem::transmute(function) };
    function(1)
}

#[inline(never)]
fn apply(module: HMODULE, name: &str) -> Applied {
    let base = module as u64;
    let function = unsafe { GetProcAddress(module, c"dll_answer".as_ptr().cast()) }.unwrap();
    let payload = redirect_in(base, identity(base, name), function as usize, "dll_answer", vec![0x8d, 0x41, 7, 0xc3]);
    hpgen_runtime::apply_to_self(&payload.into(), &seal(80), &ApplyOptions::default()).unwrap()
}

/// Also gives back the references of others.
fn free_by_force(module: HMODULE, name: &CString) {
    assert!((0..8).any(|_| {
        unsafe { FreeLibrary(module) };
        !is_loaded(name)
    }));
}

fn states() -> Vec<PatchState> {
    status_self().unwrap().iter().map(|patch| patch.state).collect()
}

pub fn check(file: &str) {
    let name = CString::new(file).unwrap();
    let module = load(&name);
    apply(module, file);
    unsafe { FreeLibrary(module) };
    assert!(is_loaded(&name), "the patch holds the DLL");
    assert_eq!(answer_of(module), 8);

    // Gone, and nothing is left to restore.
    free_by_force(module, &name);
    let status = status_self().unwrap();
    assert_eq!((status.len(), status[0].state, status[0].functions[0].redirected), (1, PatchState::Retired, false));
    let done = rollback_self(None, &ApplyOptions::default()).unwrap();
    assert_eq!(done.functions, 0, "{done:?}");
    rollback_kept();

    // Gone, and there again at the same place, as it was made.
    let module = load(&name);
    apply(module, file);
    free_by_force(module, &name);
    let again = load(&name);
    println!("loaded again {} bytes from where it was", again as i64 - module as i64);
    assert_eq!((answer_of(again), states()), (2, vec![PatchState::Retired]));
    apply(again, file);
    assert_eq!((answer_of(again), states()), (8, vec![PatchState::Retired, PatchState::Applied]));
    let done = rollback_self(None, &ApplyOptions::default()).unwrap();
    assert_eq!((done.functions, answer_of(again)), (1, 2));
    rollback_kept();
    assert!(is_loaded(&name), "the program's own reference");
    unsafe { FreeLibrary(again) };
    assert!(!is_loaded(&name), "each reference was given back once");

    // Gone, and there again at another place.
    let module = load(&name);
    apply(module, file);
    free_by_force(module, &name);
    let taken = unsafe { VirtualAlloc(module, 0x1_0000, MEM_RESERVE, PAGE_NOACCESS) };
    assert_eq!(taken, module, "the place is free");
    let moved = load(&name);
    assert_ne!(moved, module);
    apply(moved, file);
    assert_eq!((answer_of(moved), states()), (8, vec![PatchState::Retired, PatchState::Applied]));
    rollback_self(None, &ApplyOptions::default()).unwrap();
    rollback_kept();
    assert_eq!(answer_of(moved), 2);
    unsafe { FreeLibrary(moved) };
    assert!(!is_loaded(&name) && states().is_empty());
    unsafe { VirtualFree(taken, 0, MEM_RELEASE) };
    println!("unloaded: all done");
}
