//! Running a program that is patched before its first own instruction.
//!
//! A process that was just made has not loaded its DLLs. So it is let run up to its entry point, where a jump to itself is put for
//! that time: there all DLLs are loaded and initialised, and the program has done nothing yet.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::ERROR_BAD_EXE_FORMAT;
use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;
use windows_sys::Win32::System::Diagnostics::Debug::{CONTEXT, CONTEXT_CONTROL_AMD64, GetThreadContext};
use windows_sys::Win32::System::Threading::{
    CREATE_SUSPENDED, ResumeThread, SuspendThread, THREAD_GET_CONTEXT, THREAD_SUSPEND_RESUME, WaitForSingleObject,
};

use super::apply::apply;
use super::edit::{Edit, Operation, perform};
use super::modules::exe_base;
use super::probation::PatchWatch;
use super::process::Process;
use super::system::ThreadCalls;
use crate::format::{PayloadFile, Seal};
use crate::target::image::LoadedImage;
use crate::target::memory::Memory;
use crate::target::zones::{Zone, Zones};
use crate::{ApplyError, ApplyOptions, Part, ProbationEnd, ProcessError, RunCommand, RunError};

/// `jmp $`
const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
/// DLLs may take their time to initialise.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_MS: u32 = 1;

/// Ended when it is dropped before it was let go.
struct Held(Option<Child>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts, patches, watches where the payload asks for it, waits; gives the program's exit code.
pub(super) fn run(
    command: &RunCommand,
    payload: &PayloadFile,
    seal: &Seal,
    options: &ApplyOptions,
    told: impl FnOnce(Result<ProbationEnd, ProcessError>),
) -> Result<u32, RunError> {
    let start = |error: io::Error| match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_BAD_EXE_FORMAT) => RunError::NotX64(command.program.clone()),
        _ => RunError::Start { program: command.program.clone(), error },
    };
    let mut starter = Command::new(&command.program);
    starter.args(&command.arguments).creation_flags(CREATE_SUSPENDED);
    let child = starter.spawn().map_err(start)?;
    let process = child.as_handle().try_clone_to_owned().map_err(start)?;
    let pid = child.id();
    let mut held = Held(Some(child));
    let process = Process::from_handle(process, pid)?;
    let thread = first_thread(&process)?;
    run_to_entry(command, &process, &thread, options)?;
    let patch = apply(&process, payload, seal, options, 0)?;
    // Before the program does anything. If it cannot be watched, the patch stays in.
    let watch = process.again().and_then(|process| PatchWatch::begin(process, |record| record.sequence == patch));

    // Ctrl+C is for the program; this process waits for what it makes of it.
    // SAFETY: without a handler function it only changes this process's own way with Ctrl+C.
    unsafe { SetConsoleCtrlHandler(None, 1) };
    // SAFETY: the handle is open, and the thread was suspended by `run_to_entry`.
    unsafe { ResumeThread(thread.as_raw_handle()) };
    let Some(mut child) = held.0.take() else {
        return Ok(0);
    };
    if let Some(watch) = watch.transpose() {
        // It ends with the program at the latest.
        told(watch.map(PatchWatch::stand));
    }
    let status = child.wait().map_err(start)?;
    Ok(status.code().map_or(0, i32::cast_unsigned))
}

/// The only thread of a process that has not run yet.
fn first_thread(process: &Process) -> Result<OwnedHandle, ProcessError> {
    let calls = ThreadCalls::find()?;
    let mut thread = std::ptr::null_mut();
    let access = THREAD_SUSPEND_RESUME | THREAD_GET_CONTEXT;
    // SAFETY: the process's handle is open, and the result's place is valid.
    let status = unsafe { (calls.next)(process.raw(), std::ptr::null_mut(), access, 0, 0, &raw mut thread) };
    if status < 0 {
        return Err(process.failed("NtGetNextThread"));
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(thread) })
}

/// Lets the process run until its first thread is at the entry point, and leaves that thread suspended there, with the entry's own bytes.
fn run_to_entry(
    command: &RunCommand,
    process: &Process,
    thread: &OwnedHandle,
    options: &ApplyOptions,
) -> Result<(), RunError> {
    let base = exe_base(process)?;
    let image = LoadedImage::read(process, base).map_err(|problem| process.bad_memory(base, problem))?;
    let entry = image.address(image.entry_point, JUMP_TO_ITSELF.len() as u32).filter(|_| image.entry_point != 0);
    let entry = entry.ok_or_else(|| process.bad_memory(base, "the program has no entry point"))?;
    let original = process.bytes(entry, JUMP_TO_ITSELF.len());
    let original = original.ok_or_else(|| process.bad_memory(entry, "the entry point cannot be read"))?;
    let exchange = |expected: &[u8], replacement: &[u8]| {
        let edit = Edit {
            function: "the entry point".to_owned(),
            rva: image.entry_point,
            address: entry,
            expected: expected.to_vec(),
            replacement: replacement.to_vec(),
        };
        // At the entry's first byte, where the thread stands, it has not begun.
        let range = entry + 1..entry + JUMP_TO_ITSELF.len() as u64;
        let zones = Zones::new(vec![Zone { range, function: edit.function.clone(), part: Part::Entry }]);
        let mut operation = Operation {
            edits: &[edit],
            zones: &zones,
            assignments: &mut [],
            marks: &[],
            watch: &[],
            patience: options.patience,
            own_stack: 0,
        };
        perform(process, &mut operation).map(drop).map_err(ApplyError::from)
    };
    exchange(&original, &JUMP_TO_ITSELF)?;
    // SAFETY: the handle is open; the thread was made suspended.
    unsafe { ResumeThread(thread.as_raw_handle()) };
    let begin = Instant::now();
    while !stands_at(thread, entry) {
        // SAFETY: the handle is open.
        unsafe { WaitForSingleObject(process.raw(), POLL_MS) };
        if let Some(code) = process.exit_code() {
            return Err(RunError::EndedEarly { program: command.program.clone(), code });
        }
        if begin.elapsed() > PATIENCE {
            return Err(RunError::NeverStarted { program: command.program.clone(), waited: PATIENCE });
        }
    }
    exchange(&JUMP_TO_ITSELF, &original)?;
    Ok(())
}

/// Whether the thread's next instruction is at `address`; if so it stays suspended.
fn stands_at(thread: &OwnedHandle, address: u64) -> bool {
    /// `CONTEXT` must be aligned to 16 bytes.
    #[repr(C, align(16))]
    struct Context(CONTEXT);
    // SAFETY: a record of numbers.
    let mut context = Context(unsafe { std::mem::zeroed() });
    context.0.ContextFlags = CONTEXT_CONTROL_AMD64;
    let thread = thread.as_raw_handle();
    // SAFETY: the handle is open; the context is aligned and says which part is wanted.
    unsafe {
        if SuspendThread(thread) == u32::MAX {
            return false;
        }
        if GetThreadContext(thread, &raw mut context.0) != 0 && context.0.Rip == address {
            return true;
        }
        ResumeThread(thread);
    }
    false
}
