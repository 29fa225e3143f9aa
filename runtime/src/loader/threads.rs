//! Stopping all threads of a process, and looking where they are.
//!
//! In the own process a stopped thread may own the heap lock or the loader lock. Between the first suspend and the last resume
//! nothing here allocates, locks, logs or panics: all memory is there before, and what goes wrong is a [`Fault`], a plain value.

use std::sync::atomic::{AtomicBool, Ordering};

use windows_sys::Wdk::System::Threading::{NtQueryInformationThread, ThreadBasicInformation};
use windows_sys::Win32::Foundation::{CloseHandle, GetLastError, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Diagnostics::Debug::{
    CONTEXT, CONTEXT_CONTROL_AMD64, CONTEXT_INTEGER_AMD64, GetThreadContext, RtlCaptureContext,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentThreadId, GetThreadId, ResumeThread, SwitchToThread, THREAD_GET_CONTEXT, THREAD_QUERY_INFORMATION,
    THREAD_SUSPEND_RESUME, THREAD_SYNCHRONIZE, WaitForSingleObject,
};

use super::fault;
use super::process::Process;
use super::system::{ThreadCalls, insist};
use crate::ProcessError;
use crate::target::memory::Memory;
use crate::target::stack_walk::{FunctionTable, returns_to};
use crate::target::unwind::Registers;
use crate::target::zones::Zones;

/// Set while threads of the own process stand still. For tests that watch the allocator.
pub(super) static OWN_THREADS_STOPPED: AtomicBool = AtomicBool::new(false);

/// Why threads could not be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// More threads than there is room for: try again with more room.
    Full,
    /// New threads in every pass.
    Flood,
    /// One cannot be stopped.
    Thread { id: u32, call: &'static str, code: u32 },
}

/// A thread in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InTheWay {
    pub thread: u32,
    /// The zone's number.
    pub zone: usize,
    /// It does not execute there, but its stack says that it will return there.
    pub returns: bool,
}

/// Words of a thread's `NT_TIB` that are looked at.
const TIB: usize = 5;
/// Stack is read in steps of so many 8-byte words.
const CHUNK: usize = 8192;
/// More stack than any thread has by far.
const MAX_STACK: u64 = 1 << 30;
const MAX_PASSES: u32 = 200;
/// How often to ask again for the context of a thread that seems to be ending.
const MAX_TRIES: u32 = 100;
/// Threads that end while they are enumerated make a pass begin anew, at most so often.
const MAX_RESTARTS: u32 = 8;
const STATUS_NO_MORE_ENTRIES: i32 = 0x8000_001a_u32.cast_signed();
const STATUS_INSUFFICIENT_RESOURCES: u32 = 0xc000_009a;
const STATUS_THREAD_IS_TERMINATING: i32 = 0xc000_004b_u32.cast_signed();

/// All threads of a process but the one that asks, once they are stopped. They go on when this is dropped.
pub(super) struct Threads<'p> {
    process: &'p Process,
    calls: ThreadCalls,
    stopped: Vec<Stopped>,
    chunk: Box<[u64]>,
    context: Box<Context>,
    /// Own process: from where on the own stack is looked through. Everything below belongs to the loader.
    own_stack: u64,
    /// Function tables to unwind by; none where they were not read.
    tables: &'p [FunctionTable],
}

struct Stopped {
    handle: ThreadHandle,
    id: u32,
    /// Address of the thread environment block; 0 for a thread that runs nothing.
    teb: u64,
    registers: Registers,
}

/// The part of a stack that is in use.
struct Stack {
    from: u64,
    end: u64,
    /// Whether the system says that this is the thread's stack, or it is only guessed from the stack pointer.
    known: bool,
}

/// `CONTEXT` must be aligned to 16 bytes.
#[repr(C, align(16))]
struct Context(CONTEXT);

struct ThreadHandle(HANDLE);

impl Drop for ThreadHandle {
    fn drop(&mut self) {
        // SAFETY: the handle was opened for this object alone.
        unsafe { CloseHandle(self.0) };
    }
}

/// What a thread that was met means for a pass.
enum Met {
    /// It is stopped now, and its handle kept.
    New,
    /// The own one, or stopped before.
    Known(ThreadHandle),
    /// It will not run any more.
    Ending(ThreadHandle),
}

impl<'p> Threads<'p> {
    /// Makes room; stops nothing yet. `own_stack` is an address in the frame of the function that entered the loader.
    pub fn prepare(
        process: &'p Process,
        room: usize,
        own_stack: u64,
        tables: &'p [FunctionTable],
    ) -> Result<Threads<'p>, ProcessError> {
        // SAFETY: a record of numbers.
        let context = Box::new(Context(unsafe { std::mem::zeroed() }));
        Ok(Threads {
            process,
            calls: ThreadCalls::find()?,
            stopped: Vec::with_capacity(room),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            context,
            own_stack,
            tables,
        })
    }

    /// Stops every thread. When it fails, all run again.
    pub fn stop(&mut self) -> Result<(), Fault> {
        if self.process.is_own() {
            OWN_THREADS_STOPPED.store(true, Ordering::SeqCst);
        }
        let result = self.stop_all();
        if result.is_err() {
            self.resume();
        }
        result
    }

    /// Lets every thread run again.
    pub fn resume(&mut self) {
        for thread in &self.stopped {
            insist(|| {
                // SAFETY: the handle is open, and the thread was suspended exactly once by us.
                !fault::point("ResumeThread") && unsafe { ResumeThread(thread.handle.0) } != u32::MAX
            });
        }
        OWN_THREADS_STOPPED.store(false, Ordering::SeqCst);
        self.stopped.clear();
    }

    /// How many are stopped.
    pub fn count(&self) -> usize {
        self.stopped.len()
    }

    fn stop_all(&mut self) -> Result<(), Fault> {
        for pass in 0..MAX_PASSES {
            if self.pass()? == 0 {
                return Ok(());
            }
            if pass > 1 {
                // Threads that are just ending need the processor for it.
                // SAFETY: takes nothing.
                unsafe { SwitchToThread() };
            }
        }
        Err(Fault::Flood)
    }

    /// Walks the thread list once; gives the number of threads that were not yet stopped.
    fn pass(&mut self) -> Result<usize, Fault> {
        let (mut new, mut restarts) = (0, 0);
        let mut anchor = std::ptr::null_mut();
        // Keeps the anchor open where it is not among the stopped; closed only when the walk has gone on from it.
        let mut passing = None;
        while let Some(next) = self.next_thread(anchor)? {
            anchor = next.0;
            match self.meet(next)? {
                Met::New => {
                    new += 1;
                    passing = None;
                }
                Met::Ending(_) if restarts < MAX_RESTARTS => {
                    restarts += 1;
                    passing = None;
                    anchor = std::ptr::null_mut();
                }
                Met::Known(thread) | Met::Ending(thread) => passing = Some(thread),
            }
        }
        drop(passing);
        self.settle(self.stopped.len() - new)?;
        Ok(new)
    }

    fn next_thread(&self, anchor: HANDLE) -> Result<Option<ThreadHandle>, Fault> {
        let access = THREAD_SUSPEND_RESUME | THREAD_GET_CONTEXT | THREAD_QUERY_INFORMATION | THREAD_SYNCHRONIZE;
        if fault::point("NtGetNextThread") {
            return Err(Fault::Thread { id: 0, call: "NtGetNextThread", code: STATUS_INSUFFICIENT_RESOURCES });
        }
        let mut next = std::ptr::null_mut();
        // SAFETY: both handles are open, the anchor may be null, and the result's place is valid.
        let status = unsafe { (self.calls.next)(self.process.raw(), anchor, access, 0, 0, &raw mut next) };
        match status {
            0 => Ok(Some(ThreadHandle(next))),
            STATUS_NO_MORE_ENTRIES => Ok(None),
            _ => Err(Fault::Thread { id: 0, call: "NtGetNextThread", code: status.cast_unsigned() }),
        }
    }

    /// Stops the thread if it is one that runs and is not known yet.
    fn meet(&mut self, thread: ThreadHandle) -> Result<Met, Fault> {
        // SAFETY: the handle is open.
        let id = unsafe { GetThreadId(thread.0) };
        // SAFETY: takes nothing.
        let own = self.process.is_own() && id == unsafe { GetCurrentThreadId() };
        if own || self.stopped.iter().any(|known| known.id == id) {
            return Ok(Met::Known(thread));
        }
        if self.stopped.len() == self.stopped.capacity() {
            return Err(Fault::Full);
        }
        if fault::point("NtSuspendThread") {
            return Err(Fault::Thread { id, call: "NtSuspendThread", code: STATUS_INSUFFICIENT_RESOURCES });
        }
        // SAFETY: the handle is open and was opened for this.
        let status = unsafe { (self.calls.suspend)(thread.0, std::ptr::null_mut()) };
        if status < 0 {
            if status == STATUS_THREAD_IS_TERMINATING || has_ended(thread.0) {
                return Ok(Met::Ending(thread));
            }
            return Err(Fault::Thread { id, call: "NtSuspendThread", code: status.cast_unsigned() });
        }
        // Within the capacity: does not allocate.
        self.stopped.push(Stopped { handle: thread, id, teb: 0, registers: Registers::default() });
        Ok(Met::New)
    }

    /// Suspending only asks for it; a thread whose context was read does stand still. All are asked before the first is waited for.
    fn settle(&mut self, from: usize) -> Result<(), Fault> {
        for thread in self.stopped.iter_mut().skip(from) {
            let failed = |code| Fault::Thread { id: thread.id, call: "NtQueryInformationThread", code };
            thread.teb = teb_address(thread.handle.0).map_err(failed)?;
            if thread.teb == 0 {
                // Wine shows a thread before it is quite made, and its maker may be stopped by now: it has run no instruction, will
                // not run any before it is resumed, and to ask for its context would be to wait for ever.
                continue;
            }
            if let Err(code) = read_context(&thread.handle, &mut self.context) {
                if has_ended(thread.handle.0) {
                    thread.teb = 0;
                    continue;
                }
                return Err(Fault::Thread { id: thread.id, call: "GetThreadContext", code });
            }
            thread.registers = registers_of(&self.context.0);
        }
        Ok(())
    }

    /// The first thread that executes at, or may return to, an address that `hit` recognises, with what `hit` said.
    /// Conservative: every word on a stack, or in a register, that looks like such an address counts as one.
    pub fn find<T>(&mut self, hit: impl Fn(u64) -> Option<T>) -> Option<(u32, T)> {
        for index in 0..self.stopped.len() {
            let thread = self.stopped.get(index)?;
            let (id, teb, registers) = (thread.id, thread.teb, thread.registers);
            let in_registers = || registers.general.iter().find_map(|register| hit(*register));
            if let Some(found) = hit(registers.rip).or_else(in_registers) {
                return Some((id, found));
            }
            if teb == 0 {
                continue;
            }
            let stack = self.stack(teb, registers.rsp());
            if let Some(found) = self.find_on_stack(&stack, &hit) {
                return Some((id, found));
            }
        }
        self.find_on_own_stack(hit)
    }

    /// The first thread that executes in one of the zones, or may return there. Words on its stack that look like
    /// return addresses count, unless the function tables are at hand and show what the thread's frames really return to, from the innermost one
    /// to its first.
    pub fn find_in(&mut self, zones: &Zones) -> Option<InTheWay> {
        for index in 0..self.stopped.len() {
            let thread = self.stopped.get(index)?;
            let (id, teb, registers) = (thread.id, thread.teb, thread.registers);
            if let Some(zone) = zones.at(registers.rip) {
                return Some(InTheWay { thread: id, zone, returns: false });
            }
            if teb == 0 {
                continue;
            }
            let stack = self.stack(teb, registers.rsp());
            if let Some(zone) = self.find_on_stack(&stack, &|word| zones.returned_to(word))
                && !self.returns_elsewhere(&stack, registers, zones)
            {
                return Some(InTheWay { thread: id, zone, returns: true });
            }
        }
        let (thread, zone) = self.find_on_own_stack(|word| zones.returned_to(word))?;
        (!self.own_returns_elsewhere(zones)).then_some(InTheWay { thread, zone, returns: true })
    }

    fn returns_elsewhere(&self, stack: &Stack, registers: Registers, zones: &Zones) -> bool {
        let is_inside = |address| zones.returned_to(address).is_some();
        stack.known && returns_to(self.process, self.tables, registers, stack.from..stack.end, is_inside) == Some(false)
    }

    /// The same for the own thread: what lies on its stack may be left over from the attempt before.
    #[inline(never)]
    fn own_returns_elsewhere(&mut self, zones: &Zones) -> bool {
        // SAFETY: the context is aligned, and written whole.
        unsafe { RtlCaptureContext(&raw mut self.context.0) };
        let registers = registers_of(&self.context.0);
        let stack = self.stack(own_teb(), registers.rsp());
        self.returns_elsewhere(&stack, registers, zones)
    }

    /// The own thread, where it belongs to the process: every word of its callers' stack counts.
    fn find_on_own_stack<T>(&mut self, hit: impl Fn(u64) -> Option<T>) -> Option<(u32, T)> {
        if self.process.is_own() {
            let stack = self.stack(own_teb(), self.own_stack);
            if let Some(found) = self.find_on_stack(&stack, &hit) {
                // SAFETY: takes nothing.
                return Some((unsafe { GetCurrentThreadId() }, found));
            }
        }
        None
    }

    /// A thread that runs fibers, or on a stack of the program's own, as coroutines do: the stacks of those that do not run at this moment are not
    /// known.
    pub fn find_fiber(&self) -> Option<u32> {
        let runs_fibers = |teb: u64, rsp: u64| teb != 0 && !self.is_on_only_stack(teb, rsp);
        let mut stopped = self.stopped.iter();
        let stopped = stopped.find(|thread| runs_fibers(thread.teb, thread.registers.rsp())).map(|thread| thread.id);
        let own = || {
            // SAFETY: takes nothing.
            let (teb, id) = (own_teb(), unsafe { GetCurrentThreadId() });
            (self.process.is_own() && runs_fibers(teb, self.own_stack)).then_some(id)
        };
        stopped.or_else(own)
    }

    /// Whether a thread is no fiber and uses the stack that the system made for it.
    fn is_on_only_stack(&self, teb: u64, rsp: u64) -> bool {
        // What is below is the version of the thread's data where it is no fiber.
        const SMALL: u64 = 0x1_0000;
        let is_only = |[_, base, limit, _, fiber]: [u64; TIB]| fiber < SMALL && (limit..base).contains(&rsp);
        self.tib(teb).is_some_and(is_only)
    }

    fn find_on_stack<T>(&mut self, stack: &Stack, hit: &impl Fn(u64) -> Option<T>) -> Option<T> {
        let mut at = stack.from & !7;
        let end = stack.end.min(at.saturating_add(MAX_STACK));
        while at < end {
            let words = ((end - at) / 8).clamp(1, CHUNK as u64) as usize;
            let chunk = self.chunk.get_mut(..words)?;
            if stack.known && self.process.is_own() {
                // The system's own way to read memory safely is slow, under Wine most of all.
                // SAFETY: stopped threads' stacks from their stack pointer to their base, or the own one's from a live frame on: all
                // committed, and nobody changes them now but this thread, whose part begins below.
                unsafe { std::ptr::copy_nonoverlapping(at as *const u64, chunk.as_mut_ptr(), words) };
            } else {
                // What cannot be read is no stack.
                insist(|| self.process.read(at, zerocopy::IntoBytes::as_mut_bytes(chunk)).is_some()).then_some(())?;
            }
            if let Some(found) = chunk.iter().find_map(|word| hit(*word)) {
                return Some(found);
            }
            at += words as u64 * 8;
        }
        None
    }

    /// The used part of a thread's stack: up to where its TEB says, or, on a stack of the program's own, up to where its pages end.
    fn stack(&self, teb: u64, rsp: u64) -> Stack {
        match self.tib(teb) {
            Some([_, base, limit, ..]) if (limit..base).contains(&rsp) => Stack { from: rsp, end: base, known: true },
            _ => self.unknown_stack(rsp),
        }
    }

    /// `NT_TIB`: exception list, `StackBase`, `StackLimit`, `SubSystemTib`, `FiberData`.
    fn tib(&self, teb: u64) -> Option<[u64; TIB]> {
        if self.process.is_own() {
            // As for the stacks, a call of the system for each thread is slow.
            // SAFETY: the block of a stopped thread, or of the own one.
            return Some(unsafe { std::ptr::read(teb as *const [u64; TIB]) });
        }
        let mut tib = [0; TIB];
        self.process.read(teb, zerocopy::IntoBytes::as_mut_bytes(&mut tib)).map(|()| tib)
    }

    /// That of a fiber, for example.
    fn unknown_stack(&self, from: u64) -> Stack {
        let mut pages = None;
        insist(|| {
            pages = self.process.pages_at(from);
            pages.is_some()
        });
        let end = pages.map_or(from, |pages| pages.base.saturating_add(pages.size));
        Stack { from, end, known: false }
    }
}

impl Drop for Threads<'_> {
    fn drop(&mut self) {
        self.resume();
    }
}

/// The registers of a context; not the segments and the flags.
pub(super) fn registers_of(c: &CONTEXT) -> Registers {
    let general =
        [c.Rax, c.Rcx, c.Rdx, c.Rbx, c.Rsp, c.Rbp, c.Rsi, c.Rdi, c.R8, c.R9, c.R10, c.R11, c.R12, c.R13, c.R14, c.R15];
    Registers { rip: c.Rip, general }
}

/// Control and general registers of a suspended thread. One that is just ending has none and may need some time to be gone.
fn read_context(thread: &ThreadHandle, context: &mut Context) -> Result<(), u32> {
    context.0.ContextFlags = CONTEXT_CONTROL_AMD64 | CONTEXT_INTEGER_AMD64;
    let mut code = 0;
    if fault::point("GetThreadContext") {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    for _ in 0..MAX_TRIES {
        // SAFETY: the handle is open, and the context is aligned and says which parts are wanted.
        unsafe {
            if GetThreadContext(thread.0, &raw mut context.0) != 0 {
                return Ok(());
            }
            code = GetLastError();
            SwitchToThread();
        }
        if has_ended(thread.0) {
            break;
        }
    }
    Err(code)
}

fn has_ended(thread: HANDLE) -> bool {
    // SAFETY: the handle is open; no time is waited.
    unsafe { WaitForSingleObject(thread, 0) == WAIT_OBJECT_0 }
}

/// How often each thread is suspended that is, by its id. For when no thread is stopped by us.
pub(super) fn suspension_counts(process: &Process) -> Result<Vec<(u32, u32)>, ProcessError> {
    let mut counts = Vec::new();
    each_thread(process, |thread, id| {
        let count = suspension_count(thread);
        if count > 0 {
            counts.push((id, count));
        }
    })?;
    Ok(counts)
}

/// Lets every thread go that is suspended once more than `before` says; gives their number.
pub(super) fn resume_suspended(process: &Process, before: &[(u32, u32)]) -> Result<u32, ProcessError> {
    let mut resumed = 0;
    each_thread(process, |thread, id| {
        let of_its_own = before.iter().find(|(known, _)| *known == id).map_or(0, |(_, count)| *count);
        if suspension_count(thread) > of_its_own {
            // SAFETY: the handle is open, and may resume.
            unsafe { ResumeThread(thread.0) };
            resumed += 1;
        }
    })?;
    Ok(resumed)
}

/// Walks a process's threads. One that is just ending has no id any more.
fn each_thread(process: &Process, mut visit: impl FnMut(&ThreadHandle, u32)) -> Result<(), ProcessError> {
    let calls = ThreadCalls::find()?;
    let mut before: Option<ThreadHandle> = None;
    loop {
        let anchor = before.as_ref().map_or(std::ptr::null_mut(), |thread| thread.0);
        let mut next = std::ptr::null_mut();
        // SAFETY: both handles are open, the anchor may be null, and the result's place is valid.
        let status = unsafe {
            (calls.next)(process.raw(), anchor, THREAD_SUSPEND_RESUME | THREAD_QUERY_INFORMATION, 0, 0, &raw mut next)
        };
        if status == STATUS_NO_MORE_ENTRIES {
            return Ok(());
        }
        if status < 0 {
            return Err(process.failed("NtGetNextThread"));
        }
        let thread = ThreadHandle(next);
        // SAFETY: the handle is open.
        let id = unsafe { GetThreadId(thread.0) };
        visit(&thread, id);
        before = Some(thread);
    }
}

/// How often a thread is suspended; 0 on systems before Windows 8.1, which do not tell.
fn suspension_count(thread: &ThreadHandle) -> u32 {
    /// `ThreadSuspendCount` of `THREADINFOCLASS`
    const THREAD_SUSPEND_COUNT: i32 = 35;
    let mut count = 0u32;
    let size = size_of_val(&count) as u32;
    // SAFETY: the handle is open; the result's place is valid and of the given size.
    let status = unsafe {
        NtQueryInformationThread(thread.0, THREAD_SUSPEND_COUNT, (&raw mut count).cast(), size, std::ptr::null_mut())
    };
    if status < 0 { 0 } else { count }
}

/// Address of the own thread environment block.
fn own_teb() -> u64 {
    let teb: u64;
    // SAFETY: reads the block's pointer to itself.
    unsafe { core::arch::asm!("mov {}, gs:[0x30]", out(reg) teb, options(nostack, preserves_flags, readonly)) };
    teb
}

/// 0 when the thread has none (yet). That a thread cannot be asked must not look like that: it may stand anywhere.
pub(super) fn teb_address(thread: HANDLE) -> Result<u64, u32> {
    /// `THREAD_BASIC_INFORMATION`
    #[repr(C)]
    struct Basic {
        exit_status: i32,
        teb: u64,
        client: [u64; 2],
        affinity: u64,
        priorities: [i32; 2],
    }
    let mut basic = Basic { exit_status: 0, teb: 0, client: [0; 2], affinity: 0, priorities: [0; 2] };
    let (place, size) = ((&raw mut basic).cast(), size_of_val(&basic) as u32);
    if fault::point("NtQueryInformationThread") {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    // SAFETY: the handle is open; the result's place is valid and of the given size.
    let status = unsafe { NtQueryInformationThread(thread, ThreadBasicInformation, place, size, std::ptr::null_mut()) };
    if status < 0 && !has_ended(thread) {
        return Err(status.cast_unsigned());
    }
    Ok(basic.teb)
}
