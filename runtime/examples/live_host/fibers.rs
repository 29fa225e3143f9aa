//! A patch is rolled back while a fiber that does not run is in its code.

use std::ffi::c_void;
use std::sync::atomic::AtomicPtr;

use windows_sys::Win32::System::Threading::{
    ConvertFiberToThread, ConvertThreadToFiber, CreateFiber, DeleteFiber, SwitchToFiber,
};

use super::*;

static FIRST: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static IS_INSIDE: AtomicBool = AtomicBool::new(false);
static GO: AtomicBool = AtomicBool::new(false);
static RESULT: AtomicU32 = AtomicU32::new(0);

fn to_first_fiber() {
    unsafe { SwitchToFiber(FIRST.load(Ordering::SeqCst)) };
}

extern "C-unwind" fn leave() -> u32 {
    to_first_fiber();
    1
}

unsafe extern "system" fn second_fiber(_: *mut c_void) {
    RESULT.store(unsafe { live_framed(leave) }, Ordering::SeqCst);
    to_first_fiber();
}

/// Goes into the function on a fiber, and comes back out of it when it is told to.
fn in_and_out() {
    unsafe {
        FIRST.store(ConvertThreadToFiber(std::ptr::null()), Ordering::SeqCst);
        let second = CreateFiber(0, Some(second_fiber), std::ptr::null());
        assert!(!second.is_null());
        SwitchToFiber(second);
        IS_INSIDE.store(true, Ordering::SeqCst);
        while !GO.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        SwitchToFiber(second);
        DeleteFiber(second);
        assert_ne!(ConvertFiberToThread(), 0);
    }
}

pub fn check() {
    // sub rsp, 40; call rcx; inc eax; add rsp, 40; ret
    let code = vec![0x48, 0x83, 0xec, 0x28, 0xff, 0xd1, 0xff, 0xc0, 0x48, 0x83, 0xc4, 0x28, 0xc3];
    let mut payload = redirect(live_framed as *const () as usize, "live_framed", code);
    with_frame(&mut payload);
    let applied = apply_to_self(&payload, &seal(8), &ApplyOptions::default()).unwrap();
    let fiber = thread::spawn(in_and_out);
    while !IS_INSIDE.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    let done = applied.rollback().unwrap();
    println!("rolled back under a fiber that does not run: {done:?}");
    assert!(matches!(done.region, RegionFate::Kept { .. }), "{done:?}");
    let again = rollback_self(None, &ApplyOptions::default()).unwrap();
    assert!(matches!(again.region, RegionFate::Kept { .. }), "{again:?}");
    GO.store(true, Ordering::SeqCst);
    fiber.join().unwrap();
    assert_eq!(RESULT.load(Ordering::SeqCst), 2, "the new body goes on to its end");
    rollback_kept();
    println!("fibers: all done");
}
