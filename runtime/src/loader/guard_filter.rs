//! A filter for exceptions that nobody handles, in a process whose patch is on probation. It holds the thread that raised one until whoever
//! watches has looked at its frames, and passes the exception on to the filter that was there before.
//!
//! The code is position-independent and copied to a page of its own; its data stand on the page behind.

use windows_sys::Win32::System::Memory::PAGE_EXECUTE_READ;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::call::{call, may_still_run};
use super::edit::is_in_use;
use super::imports;
use super::lock::Lock;
use super::modules::Modules;
use super::process::Process;
use crate::ProcessError;
use crate::format::ImportSymbol;
use crate::target::memory::Memory;

const PAGE: u64 = 0x1000;
/// Code and data.
const SIZE: u64 = 2 * PAGE;

/// What the code and its watcher share.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Data {
    /// 0: nothing happened; 1: a thread came; 2: it waits; 3: it may go on.
    state: U32,
    thread: U32,
    /// `EXCEPTION_POINTERS`
    pointers: U64,
    /// The filter before this one.
    previous: U64,
    sleep: U64,
    set_filter: U64,
    /// What `hpgen_guard_set` makes the filter, and what was it before.
    wanted: U64,
    replaced: U64,
    /// No thread is held later than this, in 100 ns steps since 1601: the watcher may be gone.
    until: U64,
}

// As the code below has them.
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Data, thread) == 4 && offset_of!(Data, pointers) == 8 && offset_of!(Data, previous) == 16);
    assert!(offset_of!(Data, sleep) == 24 && offset_of!(Data, set_filter) == 32 && offset_of!(Data, wanted) == 40);
    assert!(offset_of!(Data, replaced) == 48 && offset_of!(Data, until) == 56);
};

const WAITS: u32 = 2;
const MAY_GO_ON: u32 = 3;

// `0x7ffe0014` is the time of `KUSER_SHARED_DATA`, `gs:[0x48]` the thread's id. A thread is held for 15 s at most.
core::arch::global_asm!(
    ".text",
    ".globl hpgen_guard",
    "hpgen_guard:", // LONG filter(EXCEPTION_POINTERS *)
    "push rbx",
    "sub rsp, 0x30",
    "lea rbx, [rip + hpgen_guard + 0x1000]",
    "mov [rsp + 0x28], rcx",
    "mov eax, 0x7ffe0014",
    "mov rax, [rax]",
    "cmp rax, [rbx + 56]",
    "jae 4f",
    "xor eax, eax",
    "mov edx, 1",
    "lock cmpxchg [rbx], edx",
    "jne 4f",
    "mov [rbx + 8], rcx",
    "mov eax, gs:[0x48]",
    "mov [rbx + 4], eax",
    "mov dword ptr [rbx], 2",
    "mov dword ptr [rsp + 0x20], 1500",
    "2:",
    "cmp dword ptr [rbx], 3",
    "je 3f",
    "mov ecx, 10",
    "call qword ptr [rbx + 24]",
    "dec dword ptr [rsp + 0x20]",
    "jne 2b",
    "3:",
    "mov dword ptr [rbx], 0",
    "4:",
    "mov rcx, [rsp + 0x28]",
    "mov rax, [rbx + 16]",
    "add rsp, 0x30",
    "pop rbx",
    "test rax, rax",
    "je 5f",
    "jmp rax",
    "5:", // EXCEPTION_CONTINUE_SEARCH, which `eax` is
    "ret",
    ".globl hpgen_guard_set",
    "hpgen_guard_set:", // u32 set(): 0
    "push rbx",
    "sub rsp, 0x20",
    "lea rbx, [rip + hpgen_guard + 0x1000]",
    "mov rcx, [rbx + 40]",
    "call qword ptr [rbx + 32]",
    "mov [rbx + 48], rax",
    "lea rcx, [rip + hpgen_guard]",
    "cmp [rbx + 40], rcx",
    "jne 6f",
    "mov [rbx + 16], rax",
    "6:",
    "xor eax, eax",
    "add rsp, 0x20",
    "pop rbx",
    "ret",
    ".globl hpgen_guard_end",
    "hpgen_guard_end:",
);

unsafe extern "C" {
    static hpgen_guard: u8;
    static hpgen_guard_set: u8;
    static hpgen_guard_end: u8;
}

/// The code, and where the routine that sets the filter begins in it.
fn code() -> (&'static [u8], u64) {
    let (start, set, end) = (&raw const hpgen_guard, &raw const hpgen_guard_set, &raw const hpgen_guard_end);
    // SAFETY: the labels enclose the code above, which never changes.
    (unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }, set as u64 - start as u64)
}

/// A thread that waits in the filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raised {
    pub thread: u32,
    /// Address of its `EXCEPTION_POINTERS`.
    pub pointers: u64,
}

/// The filter in a process. It stays there until it is removed.
#[derive(Debug)]
pub(super) struct GuardFilter {
    base: u64,
}

impl GuardFilter {
    /// Puts it before the filter that the process has.
    pub fn install(process: &Process, until: u64) -> Result<GuardFilter, ProcessError> {
        let _lock = Lock::take(process)?;
        let modules = Modules::read(process)?;
        let find = |name: &str| {
            let symbol = ImportSymbol::Name(name.to_owned());
            imports::resolve(process, &modules, "kernel32.dll", &symbol)
                .map_err(|_| process.bad_memory(0, "kernel32 does not export a function that hpgen needs"))
        };
        let (sleep, set_filter) = (find("Sleep")?, find("SetUnhandledExceptionFilter")?);
        let base = process.allocate(0, SIZE).ok_or_else(|| process.failed("VirtualAllocEx"))?;
        let filter = GuardFilter { base };
        let zero = U64::ZERO;
        let data = Data {
            state: U32::ZERO,
            thread: U32::ZERO,
            pointers: zero,
            previous: zero,
            sleep: sleep.into(),
            set_filter: set_filter.into(),
            wanted: base.into(),
            replaced: zero,
            until: until.into(),
        };
        match filter.put(process, &data) {
            Ok(()) => Ok(filter),
            Err(error) => {
                // If the process did not run the thread in time, it may do so yet.
                if !may_still_run(&error) {
                    let _ = process.free(base);
                }
                Err(error)
            }
        }
    }

    fn put(&self, process: &Process, data: &Data) -> Result<(), ProcessError> {
        process.write(self.base, code().0)?;
        process.write(self.base + PAGE, data.as_bytes())?;
        process.protect(self.base, PAGE, PAGE_EXECUTE_READ)?;
        process.flush_code(self.base, PAGE);
        self.set(process, self.base).map(drop)
    }

    fn field(&self, offset: usize) -> u64 {
        self.base + PAGE + offset as u64
    }

    /// Makes `filter` the process's; gives the one before.
    fn set(&self, process: &Process, filter: u64) -> Result<u64, ProcessError> {
        process.write(self.field(std::mem::offset_of!(Data, wanted)), &filter.to_le_bytes())?;
        // SAFETY: the routine is on its page, and calls a function that takes any pointer: 0, this page's code, or what it returned before.
        unsafe { call(process, self.base + code().1, [0; 3])? };
        let replaced = process.record::<U64>(self.field(std::mem::offset_of!(Data, replaced)));
        replaced.map(U64::get).ok_or_else(|| process.bad_memory(self.base, "hpgen's own page cannot be read"))
    }

    /// The thread that waits, if there is one.
    pub fn raised(&self, process: &Process) -> Option<Raised> {
        let data: Data = process.record(self.base + PAGE)?;
        let Data { state, thread, pointers, .. } = data;
        (state.get() == WAITS).then(|| Raised { thread: thread.get(), pointers: pointers.get() })
    }

    /// Lets it go on to the filter before.
    pub fn let_go(&self, process: &Process) {
        // If it cannot be written, the process has ended, or the thread goes on by itself after a while.
        let _ = process.write(self.base + PAGE, &MAY_GO_ON.to_le_bytes());
    }

    /// Takes it out of the process again. Where the program has put a filter of its own before it, which leads to it, it stays and does nothing.
    pub fn remove(self, process: &Process) -> Result<(), ProcessError> {
        let _lock = Lock::take(process)?;
        process.write(self.field(std::mem::offset_of!(Data, until)), &[0; 8])?;
        let previous: U64 = process
            .record(self.field(std::mem::offset_of!(Data, previous)))
            .ok_or_else(|| process.bad_memory(self.base, "hpgen's own page cannot be read"))?;
        let current = self.set(process, previous.get())?;
        if current != self.base {
            self.set(process, current)?;
            return Ok(());
        }
        // A thread that is in it, or about to be, needs it a little longer: then it stays.
        if is_in_use(process, self.base..self.base + SIZE) { Ok(()) } else { process.free(self.base) }
    }
}
