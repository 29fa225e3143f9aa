//! Which threads execute code of patches, or will return into it. One thread at a time stands still, while its registers and its
//! stack are copied; frames are unwound afterwards. Between suspend and resume nothing is allocated.

use std::mem::offset_of;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE};
use windows_sys::Win32::System::Diagnostics::Debug::{
    CONTEXT, CONTEXT_CONTROL_AMD64, CONTEXT_INTEGER_AMD64, GetThreadContext,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentThreadId, GetThreadId, ResumeThread, THREAD_GET_CONTEXT, THREAD_QUERY_INFORMATION, THREAD_SUSPEND_RESUME,
};
use zerocopy::IntoBytes;

use super::modules::Modules;
use super::process::Process;
use super::records;
use super::system::ThreadCalls;
use super::threads::{registers_of, teb_address};
use crate::ProcessError;
use crate::format::PAGE;
use crate::patch::{PatchFrame, ThreadFrames};
use crate::target::image::LoadedImage;
use crate::target::memory::Memory;
use crate::target::record::Record;
use crate::target::stack_walk::{FramePlace, FunctionTable, Snapshot, walk};
use crate::target::unwind::Registers;

const STATUS_NO_MORE_ENTRIES: i32 = 0x8000_001a_u32.cast_signed();
/// Words of stack that are copied at first, and at most: more is looked at as far as that goes.
const FIRST_STACK: usize = 32 << 10;
const MOST_STACK: usize = 8 << 20;
/// More than any program has.
const MAX_THREADS: usize = 1 << 16;

/// Frames in the code of all patches, by thread; threads without any are left out. The calling thread is not looked at.
pub(super) fn find(process: &Process) -> Result<Vec<ThreadFrames>, ProcessError> {
    let patched = Patched::find(process)?;
    if patched.records.is_empty() {
        return Ok(Vec::new());
    }
    let mut stack = vec![0u64; FIRST_STACK];
    let mut found = Vec::new();
    let calls = ThreadCalls::find()?;
    for thread in threads(process, calls)? {
        let Some(copied) = thread.copy(process, calls, &mut stack) else { continue };
        let used = stack.get(..copied.words).unwrap_or_default();
        let (frames, is_walked) = patched.frames(copied.registers, copied.stack_base, used);
        if !frames.is_empty() {
            found.push(ThreadFrames { thread: thread.id, is_whole: is_walked && copied.is_whole, frames });
        }
    }
    Ok(found)
}

/// Frames in the code of all patches of the thread that a `CONTEXT` at this address was made of, and that stands still since.
pub(super) fn of_context(process: &Process, context: u64) -> Result<Vec<PatchFrame>, ProcessError> {
    let unreadable = || process.bad_memory(context, "the registers of a thread cannot be read");
    let at = |field: usize| context.checked_add(field as u64).ok_or_else(unreadable);
    let rip = process.record(at(offset_of!(CONTEXT, Rip))?).ok_or_else(unreadable)?;
    // RAX to R15 stand in the order in which instructions number them.
    let general = process.record(at(offset_of!(CONTEXT, Rax))?).ok_or_else(unreadable)?;
    let registers = Registers { rip, general };
    let from = registers.rsp() & !7;
    let end = process.pages_at(from).map_or(from, |pages| pages.base.saturating_add(pages.size));
    let words = usize::try_from(end.saturating_sub(from) / 8).unwrap_or(0).min(MOST_STACK);
    let mut stack = vec![0u64; words];
    process.read(from, stack.as_mut_bytes()).ok_or_else(unreadable)?;
    Ok(Patched::find(process)?.frames(registers, from, &stack).0)
}

/// A process with what it takes to tell frames in patches.
struct Patched<'p> {
    process: &'p Process,
    records: Vec<Record>,
    tables: Vec<FunctionTable>,
}

impl<'p> Patched<'p> {
    /// Without tables where there are no patches.
    fn find(process: &'p Process) -> Result<Patched<'p>, ProcessError> {
        let records = records::find(process);
        let tables = if records.is_empty() { Vec::new() } else { tables(process, &records)? };
        Ok(Patched { process, records, tables })
    }

    /// Frames in patches of a thread with these registers and this stack, and whether its frames were walked to the first one.
    fn frames(&self, registers: Registers, stack_base: u64, stack: &[u64]) -> (Vec<PatchFrame>, bool) {
        let snapshot = Snapshot { memory: self.process, registers, stack_base, stack };
        let in_a_patch = |address| self.records.iter().any(|record| function_at(record, address, true).is_some());
        let walked = walk(&snapshot, &self.tables, in_a_patch);
        (walked.places.iter().filter_map(|place| frame(&self.records, place)).collect(), walked.is_whole)
    }
}

fn frame(patches: &[Record], place: &FramePlace) -> Option<PatchFrame> {
    let record = patches.iter().find(|record| code(record).contains(&place.address))?;
    let (function, offset) = match function_at(record, place.address, place.is_return) {
        Some((name, offset)) => (Some(name.to_owned()), offset),
        None => (None, 0),
    };
    Some(PatchFrame {
        patch_id: record.seal.patch_id(),
        image_name: record.image_name.clone(),
        address: place.address,
        region_offset: u32::try_from(place.address - record.region_base).ok()?,
        function,
        function_offset: offset,
        is_return: place.is_return,
        is_certain: place.is_certain,
    })
}

/// Everything of a region behind the loader's page.
fn code(record: &Record) -> std::ops::Range<u64> {
    record.region_base + u64::from(PAGE)..record.region_base + record.region_size
}

/// The function that an address is in: a return address belongs to the call before it.
fn function_at(record: &Record, address: u64, is_return: bool) -> Option<(&str, u32)> {
    let offset = u32::try_from(address.checked_sub(record.region_base)?).ok()?;
    let inside = offset.checked_sub(u32::from(is_return))?;
    let index = record.functions.partition_point(|function| function.offset <= inside).checked_sub(1)?;
    let function = record.functions.get(index)?;
    let is_inside = inside - function.offset < function.size;
    is_inside.then(|| (function.name.as_str(), offset - function.offset))
}

/// The function tables of all modules and regions, as far as they can be read.
pub(super) fn all_tables(process: &Process) -> Vec<FunctionTable> {
    tables(process, &records::find(process)).unwrap_or_default()
}

/// The function tables of all modules and regions.
fn tables(process: &Process, patches: &[Record]) -> Result<Vec<FunctionTable>, ProcessError> {
    let of_region = |record: &Record| {
        let base = record.image_base.min(record.region_base);
        let range = code(record);
        let table = record.function_table.unwrap_or((record.region_base, 0));
        FunctionTable::read(process, range, base, table)
    };
    let modules = Modules::read(process)?;
    let of_module = |base| FunctionTable::of_image(process, &LoadedImage::read(process, base).ok()?);
    let regions = patches.iter().filter_map(of_region);
    Ok(regions.chain(modules.0.iter().filter_map(|module| of_module(module.base))).collect())
}

/// A thread that may be stopped for a moment.
struct Thread {
    handle: HANDLE,
    id: u32,
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: the handle was opened for this object alone.
        unsafe { CloseHandle(self.handle) };
    }
}

/// What was copied of a thread.
struct Copied {
    registers: Registers,
    stack_base: u64,
    words: usize,
    /// Whether all of its stack was copied.
    is_whole: bool,
}

/// `CONTEXT` must be aligned to 16 bytes.
#[repr(C, align(16))]
struct Context(CONTEXT);

fn threads(process: &Process, calls: ThreadCalls) -> Result<Vec<Thread>, ProcessError> {
    let access = THREAD_SUSPEND_RESUME | THREAD_GET_CONTEXT | THREAD_QUERY_INFORMATION;
    // SAFETY: takes nothing.
    let own = unsafe { GetCurrentThreadId() };
    let mut threads: Vec<Thread> = Vec::new();
    while threads.len() < MAX_THREADS {
        let anchor = threads.last().map_or(std::ptr::null_mut(), |thread| thread.handle);
        let mut next = std::ptr::null_mut();
        // SAFETY: both handles are open, the anchor may be null, and the result's place is valid.
        let status = unsafe { (calls.next)(process.raw(), anchor, access, 0, 0, &raw mut next) };
        if status == STATUS_NO_MORE_ENTRIES {
            break;
        }
        if status < 0 {
            return Err(process.failed("NtGetNextThread"));
        }
        // SAFETY: the handle was just opened.
        threads.push(Thread { handle: next, id: unsafe { GetThreadId(next) } });
    }
    threads.retain(|thread| !process.is_own() || thread.id != own);
    Ok(threads)
}

impl Thread {
    /// Stops the thread, copies registers and stack, and lets it go on. None for one that is ending or not quite begun.
    fn copy(&self, process: &Process, calls: ThreadCalls, stack: &mut Vec<u64>) -> Option<Copied> {
        loop {
            let (copied, wanted) = self.copy_once(process, calls, stack)?;
            if wanted <= stack.len() || stack.len() >= MOST_STACK {
                return Some(copied);
            }
            // The thread runs again: memory may be allocated.
            stack.resize(wanted.next_power_of_two().min(MOST_STACK), 0);
        }
    }

    /// Also gives the number of words that there are to copy.
    fn copy_once(&self, process: &Process, calls: ThreadCalls, stack: &mut [u64]) -> Option<(Copied, usize)> {
        // A thread without an environment block has run nothing yet, and to ask for its context might be to wait for ever.
        let teb = teb_address(self.handle).ok().filter(|teb| *teb != 0)?;
        // SAFETY: a record of numbers.
        let mut context = Context(unsafe { std::mem::zeroed() });
        context.0.ContextFlags = CONTEXT_CONTROL_AMD64 | CONTEXT_INTEGER_AMD64;
        // SAFETY: the handle is open and was opened for this.
        if unsafe { (calls.suspend)(self.handle, std::ptr::null_mut()) } < 0 {
            return None;
        }
        // SAFETY: the handle is open, and the context is aligned and says which parts are wanted.
        let has_context = unsafe { GetThreadContext(self.handle, &raw mut context.0) } != 0;
        let copied = has_context.then(|| copy_stack(process, teb, &context.0, stack)).flatten();
        // SAFETY: the handle is open, and the thread was suspended exactly once by us.
        unsafe { ResumeThread(self.handle) };
        copied
    }
}

/// Copies the stack of a suspended thread from its stack pointer on, as much as fits. Allocates nothing.
fn copy_stack(process: &Process, teb: u64, c: &CONTEXT, stack: &mut [u64]) -> Option<(Copied, usize)> {
    let from = c.Rsp & !7;
    // NT_TIB: exception list, StackBase, StackLimit.
    let mut tib = [0u64; 3];
    process.read(teb, tib.as_mut_bytes())?;
    let [_, base, limit] = tib;
    // On a stack of the program's own, up to where its pages end.
    let end = if (limit..base).contains(&from) {
        base
    } else {
        process.pages_at(from).map_or(from, |pages| pages.base.saturating_add(pages.size))
    };
    let wanted = usize::try_from(end.saturating_sub(from) / 8).ok()?;
    let words = wanted.min(stack.len());
    process.read(from, stack.get_mut(..words)?.as_mut_bytes())?;
    let registers = registers_of(c);
    Some((Copied { registers, stack_base: from, words, is_whole: words == wanted }, wanted))
}
