//! A DLL that is loaded when its payload waits for it already.

use std::ffi::CString;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hpgen_runtime::*;
use windows_sys::Win32::Foundation::{FreeLibrary, HMODULE};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress, LoadLibraryA};

use super::rollback_kept;
use crate::payloads::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Dll {
    name: CString,
    module: HMODULE,
}

impl Dll {
    fn load(name: &str) -> Dll {
        let name = CString::new(name).unwrap();
        let module = unsafe { LoadLibraryA(name.as_ptr().cast()) };
        assert!(!module.is_null(), "{}", std::io::Error::last_os_error());
        Dll { name, module }
    }

    fn function(&self) -> extern "C" fn(u32) -> u32 {
        unsafe { std::mem::transmute(GetProcAddress(self.module, c"dll_answer".as_ptr().cast()).unwrap()) }
    }

    /// Gives back the program's own reference; whether the DLL is still there.
    fn free(self) -> bool {
        unsafe {
            FreeLibrary(self.module);
            !GetModuleHandleA(self.name.as_ptr().cast()).is_null()
        }
    }
}

/// The DLL's `dll_answer(x)` gives x + 1, and 1 when its `DllMain` calls it; the payload makes it x + 7.
pub fn check(name: &str) {
    let dll = Dll::load(name);
    let (base, function) = (dll.module as u64, dll.function());
    let payload = redirect_in(base, identity(base, name), function as usize, "dll_answer", vec![0x8d, 0x41, 7, 0xc3]);
    assert_eq!(function(1), 2);
    assert!(!dll.free(), "nobody needs the DLL");

    let accepted = Accepted { payload: payload.into(), seal: seal(1), signer: None };
    let (told, tells) = mpsc::channel();
    let tell = move |accepted: &Accepted, result: Result<Applied, ApplyError>| {
        told.send((accepted.seal, result.map(|applied| applied.status().unwrap().len()))).unwrap();
    };
    let follower = Follower::start(vec![accepted.clone()], ApplyOptions::default(), tell).unwrap();
    for round in 0..3 {
        let dll = Dll::load(name);
        let begin = Instant::now();
        let (whose, images) = tells.recv_timeout(PATIENCE).unwrap();
        assert_eq!((whose, images.unwrap()), (seal(1), 1));
        println!("round {round}: patched {:?} after the DLL was loaded", begin.elapsed());
        assert_eq!(dll.function()(1), 8);
        assert!(dll.free(), "the patch holds the DLL");
        rollback_self(None, &ApplyOptions::default()).unwrap();
        rollback_kept();
        assert!(unsafe { GetModuleHandleA(CString::new(name).unwrap().as_ptr().cast()) }.is_null());
    }
    // Rolled back is rolled back, as long as the DLL is not loaded anew.
    let dll = Dll::load(name);
    tells.recv_timeout(PATIENCE).unwrap().1.unwrap();
    rollback_self(None, &ApplyOptions::default()).unwrap();
    rollback_kept();
    assert!(tells.recv_timeout(Duration::from_secs(1)).is_err());
    assert_eq!(dll.function()(1), 2);
    drop(follower);
    assert!(!dll.free());
    // Nobody follows any more.
    let dll = Dll::load(name);
    assert!(tells.recv_timeout(Duration::from_secs(1)).is_err());
    assert_eq!(dll.function()(1), 2);
    // One that begins when the DLL is there.
    let (told, tells) = mpsc::channel();
    let tell = move |_: &Accepted, result: Result<Applied, ApplyError>| told.send(result.map(drop)).unwrap();
    let mut wrong = accepted.clone();
    wrong.payload.payloads[0].trampolines[0].expected[0] ^= 1;
    wrong.seal = seal(2);
    let _follower = Follower::start(vec![wrong, accepted], ApplyOptions::default(), tell).unwrap();
    let refused = tells.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(matches!(refused, ApplyError::Stop(StopError::Mismatch { .. })), "{refused}");
    tells.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(dll.function()(1), 8);
    rollback_self(None, &ApplyOptions::default()).unwrap();
    rollback_kept();
    println!("late: all done");
}
