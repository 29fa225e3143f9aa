//! A process of this machine: the own one, or another by its id. Every call that reaches into it stands here.

use std::io;
use std::ops::Range;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, FILETIME, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Diagnostics::Debug::{FlushInstructionCache, ReadProcessMemory, WriteProcessMemory};
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_FREE, MEM_PRIVATE, MEM_RELEASE, MEM_RESERVE, MEMORY_BASIC_INFORMATION, PAGE_READWRITE,
    VirtualAllocEx, VirtualFreeEx, VirtualProtectEx, VirtualQueryEx,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentProcessId, GetExitCodeProcess, GetProcessId, GetProcessTimes, IsWow64Process,
    OpenProcess, PROCESS_CREATE_THREAD, PROCESS_QUERY_INFORMATION, PROCESS_SYNCHRONIZE, PROCESS_VM_OPERATION,
    PROCESS_VM_READ, PROCESS_VM_WRITE, WaitForSingleObject,
};

use super::fault;
use super::system::insist;
use crate::ProcessError;
use crate::target::memory::Memory;

/// Where user memory ends on x64 Windows.
const END_OF_USER_MEMORY: u64 = 0x7fff_ffff_0000;

/// An open process.
#[derive(Debug)]
pub(super) struct Process {
    /// None: the own process.
    handle: Option<OwnedHandle>,
    pid: u32,
}

/// What an opened process is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Look,
    Change,
}

/// A run of pages with the same properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pages {
    pub base: u64,
    pub size: u64,
    pub allocation_base: u64,
    pub protection: u32,
    pub state: PageState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageState {
    Free,
    /// Committed memory that no file stands behind.
    Private,
    /// Committed memory of an image or a mapped file.
    Mapped,
    Reserved,
}

impl Process {
    pub fn own() -> Process {
        // SAFETY: takes nothing and cannot fail.
        Process { handle: None, pid: unsafe { GetCurrentProcessId() } }
    }

    /// Opens a process by its id, and makes sure that it is one that can be patched: running, and 64-bit.
    pub fn open(pid: u32, access: Access) -> Result<Process, ProcessError> {
        if pid == Process::own().pid {
            return Ok(Process::own());
        }
        let look = PROCESS_QUERY_INFORMATION | PROCESS_VM_READ | PROCESS_SYNCHRONIZE;
        let rights = match access {
            Access::Look => look,
            Access::Change => look | PROCESS_VM_OPERATION | PROCESS_VM_WRITE | PROCESS_CREATE_THREAD,
        };
        // SAFETY: takes only numbers.
        let handle = if fault::point("OpenProcess") { ptr::null_mut() } else { unsafe { OpenProcess(rights, 0, pid) } };
        if handle.is_null() {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error().map(i32::cast_unsigned) {
                Some(ERROR_INVALID_PARAMETER) => ProcessError::NoSuchProcess(pid),
                Some(ERROR_ACCESS_DENIED) => ProcessError::AccessDenied(pid),
                _ => ProcessError::System { call: "OpenProcess", error },
            });
        }
        // SAFETY: the handle was just opened and belongs to nobody else.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        Process::from_handle(handle, pid)
    }

    /// As [`Process::open`], for a process whose handle the caller has.
    pub fn from_handle(handle: OwnedHandle, pid: u32) -> Result<Process, ProcessError> {
        let process = Process { handle: Some(handle), pid };
        // Windows ignores the lowest two bits of an id.
        // SAFETY: the handle is open.
        if unsafe { GetProcessId(process.raw()) } != pid {
            return Err(ProcessError::NoSuchProcess(pid));
        }
        process.must_run()?;
        let mut wow64 = 0;
        // SAFETY: the handle is open and the result's place is valid.
        if unsafe { IsWow64Process(process.raw(), &raw mut wow64) } == 0 {
            return Err(process.failed("IsWow64Process"));
        }
        if wow64 != 0 {
            return Err(ProcessError::NotX64(pid));
        }
        Ok(process)
    }

    /// The same process once more.
    pub fn again(&self) -> Result<Process, ProcessError> {
        let handle = self.handle.as_ref().map(OwnedHandle::try_clone).transpose();
        let handle = handle.map_err(|error| ProcessError::System { call: "DuplicateHandle", error })?;
        Ok(Process { handle, pid: self.pid })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn is_own(&self) -> bool {
        cfg!(not(feature = "other-processes")) || self.handle.is_none()
    }

    pub fn raw(&self) -> HANDLE {
        match &self.handle {
            Some(handle) => handle.as_raw_handle(),
            // SAFETY: gives a constant.
            None => unsafe { GetCurrentProcess() },
        }
    }

    /// When it started, in 100 ns steps since 1601.
    pub fn started(&self) -> Option<u64> {
        // SAFETY: a record of numbers.
        let mut times: [FILETIME; 4] = unsafe { std::mem::zeroed() };
        let [started, ended, kernel, user] = &mut times;
        // SAFETY: the handle is open, and the four places are valid.
        let told = unsafe { GetProcessTimes(self.raw(), started, ended, kernel, user) };
        (told != 0).then(|| u64::from(started.dwHighDateTime) << 32 | u64::from(started.dwLowDateTime))
    }

    /// The exit code, once the process has ended.
    pub fn exit_code(&self) -> Option<u32> {
        // SAFETY: the handle is open; no time is waited.
        if self.is_own() || unsafe { WaitForSingleObject(self.raw(), 0) } != WAIT_OBJECT_0 {
            return None;
        }
        let mut code = 0;
        // SAFETY: the handle is open and the result's place is valid.
        unsafe { GetExitCodeProcess(self.raw(), &raw mut code) };
        Some(code)
    }

    fn must_run(&self) -> Result<(), ProcessError> {
        self.exit_code().map_or(Ok(()), |code| Err(ProcessError::Exited { pid: self.pid, code }))
    }

    /// The error of the system call just made; that the process has ended explains every failure.
    pub fn failed(&self, call: &'static str) -> ProcessError {
        let error = io::Error::last_os_error();
        match self.must_run() {
            Err(ended) => ended,
            Ok(()) => ProcessError::System { call, error },
        }
    }

    pub fn bad_memory(&self, address: u64, problem: &'static str) -> ProcessError {
        match self.must_run() {
            Err(ended) => ended,
            Ok(()) => ProcessError::Memory { pid: self.pid, address, problem },
        }
    }

    /// Writes to pages that are writable. Allocates nothing.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), ProcessError> {
        if self.try_write(address, bytes) { Ok(()) } else { Err(self.failed("WriteProcessMemory")) }
    }

    /// As [`Process::write`], for when threads are stopped.
    pub fn try_write(&self, address: u64, bytes: &[u8]) -> bool {
        // Variables that begin as zeros have no content, and the system refuses to write nothing.
        if bytes.is_empty() {
            return true;
        }
        if fault::point("WriteProcessMemory") {
            return false;
        }
        let mut written = 0;
        let place = address as *const _;
        // SAFETY: the system checks the target range; the source is a slice. In the own process only ranges are
        // written that the loader allocated itself, so no Rust object changes behind the compiler's back.
        let done =
            unsafe { WriteProcessMemory(self.raw(), place, bytes.as_ptr().cast(), bytes.len(), &raw mut written) };
        done != 0 && written == bytes.len()
    }

    /// Changes the protection of whole pages. Allocates nothing.
    pub fn try_protect(&self, address: u64, size: u64, protection: u32) -> bool {
        if fault::point("VirtualProtect") {
            return false;
        }
        let mut old = 0;
        // SAFETY: the system checks the range. In the own process only the loader's own regions are changed here, which
        // no Rust code or data lies in; code of images is changed by `write_routine` instead.
        unsafe { VirtualProtectEx(self.raw(), address as *const _, size as usize, protection, &raw mut old) != 0 }
    }

    pub fn protect(&self, address: u64, size: u64, protection: u32) -> Result<(), ProcessError> {
        if self.try_protect(address, size, protection) { Ok(()) } else { Err(self.failed("VirtualProtectEx")) }
    }

    /// Reserves and commits writable pages at `address`; 0 lets the system choose.
    pub fn allocate(&self, address: u64, size: u64) -> Option<u64> {
        if fault::point("VirtualAllocEx") {
            return None;
        }
        // SAFETY: fresh pages, which nothing refers to yet.
        let base = unsafe {
            VirtualAllocEx(self.raw(), address as *const _, size as usize, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE)
        };
        (!base.is_null()).then_some(base as u64)
    }

    /// Gives an allocation back, as a whole.
    pub fn free(&self, base: u64) -> Result<(), ProcessError> {
        let free = || {
            // SAFETY: callers free only what this loader allocated, and made sure that no thread is in it.
            !fault::point("VirtualFreeEx") && unsafe { VirtualFreeEx(self.raw(), base as *mut _, 0, MEM_RELEASE) } != 0
        };
        if insist(free) { Ok(()) } else { Err(self.failed("VirtualFreeEx")) }
    }

    pub fn flush_code(&self, address: u64, size: u64) {
        // SAFETY: has no effect but on caches.
        unsafe { FlushInstructionCache(self.raw(), address as *const _, size as usize) };
    }

    /// The pages that hold `address`; none beyond the end of user memory. Allocates nothing.
    pub fn pages_at(&self, address: u64) -> Option<Pages> {
        if fault::point("VirtualQueryEx") {
            return None;
        }
        // SAFETY: a record of numbers and null pointers.
        let mut info: MEMORY_BASIC_INFORMATION = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the result's place is valid and of the given size.
        let filled = unsafe { VirtualQueryEx(self.raw(), address as *const _, &raw mut info, size) };
        if filled != size || info.RegionSize == 0 {
            return None;
        }
        let state = match (info.State, info.Type) {
            (MEM_FREE, _) => PageState::Free,
            (MEM_COMMIT, MEM_PRIVATE) => PageState::Private,
            (MEM_COMMIT, _) => PageState::Mapped,
            _ => PageState::Reserved,
        };
        Some(Pages {
            base: info.BaseAddress as u64,
            size: info.RegionSize as u64,
            allocation_base: info.AllocationBase as u64,
            protection: info.Protect,
            state,
        })
    }

    /// All runs of pages in `range`, by rising address. A look that fails for a moment must not hide what stands behind it: a journal, a record.
    pub fn pages(&self, range: Range<u64>) -> impl Iterator<Item = Pages> {
        let mut next = range.start;
        std::iter::from_fn(move || {
            let mut found = None;
            if next < range.end.min(END_OF_USER_MEMORY) {
                insist(|| {
                    found = self.pages_at(next);
                    found.is_some()
                });
            }
            let pages = found?;
            next = pages.base.checked_add(pages.size).filter(|end| *end > next)?;
            Some(pages)
        })
    }

    /// Bytes of the allocation that begins at `base`.
    pub fn allocation_size(&self, base: u64) -> u64 {
        let parts = self.pages(base..END_OF_USER_MEMORY);
        parts.take_while(|p| p.state != PageState::Free && p.allocation_base == base).map(|p| p.size).sum()
    }

    /// All user memory.
    pub fn all_pages(&self) -> impl Iterator<Item = Pages> {
        self.pages(0..END_OF_USER_MEMORY)
    }
}

impl Memory for Process {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        if fault::point("ReadProcessMemory") {
            return None;
        }
        let mut read = 0;
        // SAFETY: the system checks the source range; the target is a slice that nobody else has.
        let done = unsafe {
            ReadProcessMemory(
                self.raw(),
                ptr::with_exposed_provenance(address as usize),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut read,
            )
        };
        (done != 0 && read == buffer.len()).then_some(())
    }
}
