//! Modules of the own process that are loaded later get their payloads.
//!
//! The system's loader tells of each module before its entry point runs, on the thread that loads it, which holds the loader's lock then. Nothing
//! may be loaded, locked or waited for there; so all that is done is to count the module and to wake a thread of the follower's own. That thread
//! waits until the loader's lock is free, when the module is linked and its entry point has run, and applies the payload as anybody would. Between
//! the two, the module's old code may run for a moment, its entry point and initialisers always: as with `hpgen apply`, and other than with `hpgen run`.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForSingleObject};

use super::{Applied, apply_to_self, system};
use crate::{Accepted, ApplyError, ApplyOptions, ProcessError, StopError};

/// How long to wait after a thread was in the way.
const NOT_NOW_MS: u32 = 500;
const LOADED: u32 = 1;

/// Applies payloads to the process that calls: at once where their images are loaded, else as soon as they are; and anew when an image was unloaded and
/// is loaded again. It ends when it is dropped; what was applied stays.
///
/// It must not be dropped by a thread that holds the loader's lock (by `DllMain`): it waits for its own thread, which may be waiting for that lock.
pub struct Follower {
    shared: Arc<Shared>,
    registration: Option<Registration>,
    thread: Option<JoinHandle<()>>,
}

/// What the loader's notification and the thread have in common.
struct Shared {
    payloads: Vec<Followed>,
    wake: OwnedHandle,
    ending: AtomicBool,
}

struct Followed {
    accepted: Accepted,
    /// File names of its images.
    names: Vec<Vec<u16>>,
    /// Counts up with every image of these names that is loaded.
    loads: AtomicU64,
}

type Tell = dyn FnMut(&Accepted, Result<Applied, ApplyError>) + Send;

impl Follower {
    /// Begins. `tell` is told by the follower's thread how each attempt ended; not, that an image is not there yet, nor that a thread was in the way: it is
    /// tried again then.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn start(
        payloads: Vec<Accepted>,
        options: ApplyOptions,
        mut tell: impl FnMut(&Accepted, Result<Applied, ApplyError>) + Send + 'static,
    ) -> Result<Follower, ProcessError> {
        let failed = |call| move |error| ProcessError::System { call, error };
        // SAFETY: no attributes and no name: an event that wakes one waiter and is reset.
        let wake = unsafe { CreateEventW(std::ptr::null(), 0, 0, std::ptr::null()) };
        if wake.is_null() {
            return Err(failed("CreateEventW")(io::Error::last_os_error()));
        }
        // SAFETY: just made, and nobody else's.
        let wake = unsafe { OwnedHandle::from_raw_handle(wake) };
        let payloads = payloads.into_iter().map(Followed::new).collect();
        let shared = Arc::new(Shared { payloads, wake, ending: AtomicBool::new(false) });
        let loader_lock = LoaderLock::find()?;
        let mut follower = Follower { shared: Arc::clone(&shared), registration: None, thread: None };
        // Before the first attempt, so that no image slips through between the two.
        follower.registration = Some(Registration::register(&shared)?);
        let work = move || shared.work(loader_lock, &options, &mut tell);
        let thread = std::thread::Builder::new().name("hpgen follower".to_owned()).spawn(work);
        follower.thread = Some(thread.map_err(failed("CreateThread"))?);
        Ok(follower)
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("payloads", &self.shared.payloads.len()).finish_non_exhaustive()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // From here on nobody is called back.
        self.registration = None;
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It panicked if what it was to tell did.
            let _ = thread.join();
        }
    }
}

impl Followed {
    fn new(accepted: Accepted) -> Followed {
        let name = |payload: &crate::format::Payload| payload.identity.image_name.encode_utf16().collect();
        let names = accepted.payload.payloads.iter().map(name).collect();
        Followed { accepted, names, loads: AtomicU64::new(0) }
    }
}

impl Shared {
    fn wake(&self) {
        // SAFETY: the event is open.
        unsafe { SetEvent(self.wake.as_raw_handle()) };
    }

    /// Counts a module. Called with the loader's lock held.
    fn loaded(&self, name: &[u16]) {
        for payload in &self.payloads {
            if payload.names.iter().any(|wanted| may_be_same(wanted, name)) {
                payload.loads.fetch_add(1, Ordering::SeqCst);
                self.wake();
            }
        }
    }

    /// The follower's thread.
    fn work(&self, loader_lock: LoaderLock, options: &ApplyOptions, tell: &mut Tell) {
        // How many loads of each payload's images are dealt with; the images that are there already count as one.
        let mut done = vec![None; self.payloads.len()];
        while !self.ending.load(Ordering::SeqCst) {
            loader_lock.wait();
            let mut again = false;
            for (payload, done) in self.payloads.iter().zip(&mut done) {
                let loads = payload.loads.load(Ordering::SeqCst);
                if *done == Some(loads) {
                    continue;
                }
                let Accepted { payload: file, seal, .. } = &payload.accepted;
                let result = apply_to_self(file, seal, options);
                if result.as_ref().is_err_and(is_not_now) {
                    again = true;
                    continue;
                }
                *done = Some(loads);
                if !matches!(result, Err(ApplyError::NotLoaded { .. } | ApplyError::AlreadyApplied(_))) {
                    tell(&payload.accepted, result);
                }
            }
            // SAFETY: the event is open.
            unsafe { WaitForSingleObject(self.wake.as_raw_handle(), if again { NOT_NOW_MS } else { INFINITE }) };
        }
    }
}

/// Whether it may work a moment later.
fn is_not_now(error: &ApplyError) -> bool {
    matches!(
        error,
        ApplyError::Stop(StopError::Busy { .. } | StopError::ThreadFlood)
            | ApplyError::Process(ProcessError::Locked(_))
    )
}

/// Whether two file names may be the same to Windows. Other than ASCII letters are not compared: the attempt to apply will tell.
fn may_be_same(one: &[u16], other: &[u16]) -> bool {
    let fold = |unit: u16| u8::try_from(unit).ok().filter(u8::is_ascii).map(|byte| byte.to_ascii_lowercase());
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| fold(*one) == fold(*other))
}

/// `UNICODE_STRING`
#[repr(C)]
struct UnicodeString {
    /// In bytes.
    length: u16,
    capacity: u16,
    buffer: *const u16,
}

/// `LDR_DLL_NOTIFICATION_DATA`, the same for both reasons.
#[repr(C)]
struct NotificationData {
    flags: u32,
    full_name: *const UnicodeString,
    name: *const UnicodeString,
    base: *const c_void,
    size: u32,
}

type Callback = unsafe extern "system" fn(u32, *const NotificationData, *const c_void);
type LdrRegisterDllNotification = unsafe extern "system" fn(u32, Callback, *const c_void, *mut *mut c_void) -> i32;
type LdrUnregisterDllNotification = unsafe extern "system" fn(*mut c_void) -> i32;
type LdrLockLoaderLock = unsafe extern "system" fn(u32, *mut u32, *mut usize) -> i32;
type LdrUnlockLoaderLock = unsafe extern "system" fn(u32, usize) -> i32;

/// # Safety
/// Called by the loader, with a `Shared` that lives until the registration is gone.
unsafe extern "system" fn notified(reason: u32, data: *const NotificationData, context: *const c_void) {
    // SAFETY: the loader's data is valid during the call, and `Registration` keeps the rest.
    unsafe {
        if reason == LOADED
            && let (Some(data), Some(shared)) = (data.as_ref(), context.cast::<Shared>().as_ref())
            && let Some(name) = data.name.as_ref()
            && !name.buffer.is_null()
        {
            shared.loaded(std::slice::from_raw_parts(name.buffer, usize::from(name.length / 2)));
        }
    }
}

/// The loader tells of modules as long as this lives.
struct Registration {
    unregister: LdrUnregisterDllNotification,
    cookie: *mut c_void,
    /// What the loader points to.
    _shared: Arc<Shared>,
}

// SAFETY: any thread may take a registration back.
unsafe impl Send for Registration {}
// SAFETY: nothing can be done with a shared one.
unsafe impl Sync for Registration {}

impl Registration {
    fn register(shared: &Arc<Shared>) -> Result<Registration, ProcessError> {
        const REGISTER: &str = "LdrRegisterDllNotification";
        let register = system::address(c"ntdll.dll", c"LdrRegisterDllNotification", REGISTER)?;
        let unregister =
            system::address(c"ntdll.dll", c"LdrUnregisterDllNotification", "LdrUnregisterDllNotification")?;
        // SAFETY: ntdll's functions of these names have had these signatures since Windows Vista.
        let (register, unregister) = unsafe {
            (
                std::mem::transmute::<usize, LdrRegisterDllNotification>(register),
                std::mem::transmute::<usize, LdrUnregisterDllNotification>(unregister),
            )
        };
        let mut cookie = std::ptr::null_mut();
        // SAFETY: the callback's context lives as long as the registration.
        let status = unsafe { register(0, notified, Arc::as_ptr(shared).cast(), &raw mut cookie) };
        if status < 0 {
            return Err(ProcessError::System {
                call: REGISTER,
                error: io::Error::other(format!("NTSTATUS {status:#x}")),
            });
        }
        Ok(Registration { unregister, cookie, _shared: Arc::clone(shared) })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: registered above; when this returns, no callback runs any more.
        unsafe { (self.unregister)(self.cookie) };
    }
}

/// The lock that a thread holds while it loads a module and runs its entry point.
struct LoaderLock {
    lock: LdrLockLoaderLock,
    unlock: LdrUnlockLoaderLock,
}

impl LoaderLock {
    fn find() -> Result<LoaderLock, ProcessError> {
        let lock = system::address(c"ntdll.dll", c"LdrLockLoaderLock", "LdrLockLoaderLock")?;
        let unlock = system::address(c"ntdll.dll", c"LdrUnlockLoaderLock", "LdrUnlockLoaderLock")?;
        // SAFETY: ntdll's functions of these names have had these signatures since Windows XP.
        Ok(unsafe {
            LoaderLock {
                lock: std::mem::transmute::<usize, LdrLockLoaderLock>(lock),
                unlock: std::mem::transmute::<usize, LdrUnlockLoaderLock>(unlock),
            }
        })
    }

    /// Waits until it is free.
    fn wait(&self) {
        let mut cookie = 0;
        // SAFETY: without flags it waits and returns a status; what was locked is unlocked.
        unsafe {
            if (self.lock)(0, std::ptr::null_mut(), &raw mut cookie) >= 0 {
                (self.unlock)(0, cookie);
            }
        }
    }
}
