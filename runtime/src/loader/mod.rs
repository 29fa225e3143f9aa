//! The loader, for x64 Windows. This file is what other programs call; each file beside it is one part of the work.

mod apply;
mod call;
mod claims;
mod edit;
mod entries;
mod event_log;
#[cfg_attr(feature = "fault-injection", doc(hidden))]
pub mod fault;
mod find;
mod follow;
mod frames;
mod guard_filter;
mod guards;
mod hooks;
mod imports;
mod initialisers;
mod journal;
mod launch;
mod lock;
mod modules;
mod own_stack;
mod preparation;
mod probation;
mod process;
mod records;
mod region;
mod repair;
mod rollback;
mod running;
mod succession;
mod system;
mod threads;
mod traces;
mod write_routine;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::format::{PayloadFile, Seal};
use crate::{
    ApplyError, ApplyOptions, Mitigations, PatchStatus, ProbationEnd, ProcessError, Repaired, RollbackError,
    RolledBack, RunCommand, RunError, RunningProcess, ThreadFrames,
};
pub use event_log::write_event_log;
pub use follow::Follower;
pub use probation::PatchWatch;
use process::{Access, Process};
use rollback::Which;

/// A patch that this process or another one runs with. Dropping it leaves the patch in place.
#[derive(Debug)]
pub struct Applied {
    process: Process,
    /// The patch's number in the process.
    number: u64,
}

impl Applied {
    /// What is known about the patch: one status for each of its images.
    ///
    /// # Errors
    /// When the process has ended, or the patch was rolled back by somebody else.
    pub fn status(&self) -> Result<Vec<PatchStatus>, ProcessError> {
        let statuses = own_stack::above(|_| {
            let records = records::find(&self.process);
            let own = records.iter().filter(|record| record.sequence == self.number);
            own.map(|record| records::status(&self.process, record)).collect::<Vec<_>>()
        });
        if statuses.is_empty() { Err(ProcessError::PatchGone(self.process.pid())) } else { Ok(statuses) }
    }

    /// Begins to watch the patch, where its payload asks for it; nothing where it does not. Call [`PatchWatch::stand`] then, on a thread that
    /// may wait, or [`PatchWatch::look`] often.
    ///
    /// # Errors
    /// When the process cannot be watched: the patch stays in.
    pub fn probation(&self) -> Result<Option<PatchWatch>, ProcessError> {
        PatchWatch::begin(self.process.again()?, |record| record.sequence == self.number)
    }

    /// Takes the patch out again.
    ///
    /// # Errors
    /// As [`rollback_process`].
    pub fn rollback(self) -> Result<RolledBack, RollbackError> {
        let which = Which::Number(self.number);
        own_stack::above(|own_stack| rollback::rollback(&self.process, which, &ApplyOptions::default(), own_stack))
    }
}

/// Applies a payload to the process that calls.
///
/// # Errors
/// Says what does not fit; the process is then as it was.
pub fn apply_to_self(payload: &PayloadFile, seal: &Seal, options: &ApplyOptions) -> Result<Applied, ApplyError> {
    apply_in(Process::own(), payload, seal, options)
}

/// Applies a payload to the process with this id.
///
/// # Errors
/// Says what does not fit; the process is then as it was.
pub fn apply_to_process(
    pid: u32,
    payload: &PayloadFile,
    seal: &Seal,
    options: &ApplyOptions,
) -> Result<Applied, ApplyError> {
    apply_in(Process::open(pid, Access::Change)?, payload, seal, options)
}

/// Takes a patch out of the process that calls: the one of that id, or the newest.
///
/// # Errors
/// Says why not; the process is then as it was.
pub fn rollback_self(patch: Option<&str>, options: &ApplyOptions) -> Result<RolledBack, RollbackError> {
    own_stack::above(|own_stack| rollback::rollback(&Process::own(), which(patch), options, own_stack))
}

/// Takes a patch out of a process: the one of that id, or the newest.
///
/// # Errors
/// Says why not; the process is then as it was.
pub fn rollback_process(pid: u32, patch: Option<&str>, options: &ApplyOptions) -> Result<RolledBack, RollbackError> {
    let process = Process::open(pid, Access::Change)?;
    own_stack::above(|own_stack| rollback::rollback(&process, which(patch), options, own_stack))
}

/// The patches in the process that calls, the oldest first, with one status for each of a patch's images.
///
/// # Errors
/// None at present; the type is that of [`status_process`].
pub fn status_self() -> Result<Vec<PatchStatus>, ProcessError> {
    Ok(own_stack::above(|_| status_in(&Process::own())))
}

/// The patches in the process with this id, the oldest first, with one status for each of a patch's images.
///
/// # Errors
/// When there is no such process, or it may not be looked into.
pub fn status_process(pid: u32) -> Result<Vec<PatchStatus>, ProcessError> {
    Ok(status_in(&Process::open(pid, Access::Look)?))
}

/// What a process is guarded with that new code has to do with.
///
/// # Errors
/// When there is no such process, or it may not be looked into.
pub fn mitigations_process(pid: u32) -> Result<Mitigations, ProcessError> {
    Ok(system::mitigations(Process::open(pid, Access::Look)?.raw()))
}

/// Begins to watch the patch of that id in a process, or the newest that is in, where it is on probation; nothing where it is not.
///
/// # Errors
/// When there is no such process, or it may not be changed.
pub fn probation_process(pid: u32, patch: Option<&str>) -> Result<Option<PatchWatch>, ProcessError> {
    PatchWatch::of(Process::open(pid, Access::Change)?, patch)
}

/// The same for the process that calls.
///
/// # Errors
/// When it cannot be watched.
pub fn probation_self(patch: Option<&str>) -> Result<Option<PatchWatch>, ProcessError> {
    PatchWatch::of(Process::own(), patch)
}

/// Takes back what an hpgen left half done that was killed in the middle of a change, and lets the process's threads go on. Nothing where
/// nothing is half done; a patch that is left prepared is for [`rollback_process`].
///
/// # Errors
/// When there is no such process, or it may not be changed.
pub fn repair_process(pid: u32) -> Result<Repaired, ProcessError> {
    repair::repair(&Process::open(pid, Access::Change)?)
}

/// Whether an hpgen was killed in the middle of a change of this process, so that its threads may stand still: [`repair_process`] helps.
///
/// # Errors
/// When there is no such process, or it may not be looked into.
pub fn is_interrupted(pid: u32) -> Result<bool, ProcessError> {
    Ok(repair::is_interrupted(&Process::open(pid, Access::Look)?))
}

/// The threads of a process that execute code of patches, or will return into it, by what their stacks say now. Each is stopped for
/// the moment that it takes to copy its stack. The thread that calls is not looked at.
///
/// # Errors
/// When there is no such process, or it may not be looked into.
pub fn frames_process(pid: u32) -> Result<Vec<ThreadFrames>, ProcessError> {
    frames::find(&Process::open(pid, Access::Look)?)
}

/// The processes whose EXE, or one of whose DLLs, has this file name.
///
/// # Errors
/// When the system gives no list of processes.
pub fn find_processes(image: &str) -> Result<Vec<RunningProcess>, ProcessError> {
    find::find(image)
}

/// Runs a program that has the payload from before its first instruction, and gives its exit code. The program has this process's
/// standard handles. The payload may be for the EXE or for a DLL that is loaded with it. Where the payload asks for a probation, the patch is watched, and rolled back if it fails;
/// `told` is told how that ended, or why it cannot be watched.
///
/// # Errors
/// When the program does not start or the payload does not fit; no process is left behind then.
pub fn run(
    command: &RunCommand,
    payload: &PayloadFile,
    seal: &Seal,
    options: &ApplyOptions,
    told: impl FnOnce(Result<ProbationEnd, ProcessError>),
) -> Result<u32, RunError> {
    launch::run(command, payload, seal, options, told)
}

/// Whether threads of this process are stopped by the loader at this moment. Code that hooks the allocator can check with it that the
/// loader keeps its promise to allocate nothing then.
#[doc(hidden)]
pub fn own_threads_are_stopped() -> bool {
    let stopped: &AtomicBool = &threads::OWN_THREADS_STOPPED;
    stopped.load(Ordering::SeqCst)
}

fn apply_in(
    process: Process,
    payload: &PayloadFile,
    seal: &Seal,
    options: &ApplyOptions,
) -> Result<Applied, ApplyError> {
    let number = own_stack::above(|own_stack| apply::apply(&process, payload, seal, options, own_stack))?;
    Ok(Applied { process, number })
}

fn status_in(process: &Process) -> Vec<PatchStatus> {
    records::find(process).iter().map(|record| records::status(process, record)).collect()
}

fn which(patch: Option<&str>) -> Which<'_> {
    patch.map_or(Which::Newest, Which::Id)
}
