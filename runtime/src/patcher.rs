//! What a program that patches itself, or another one, calls: a payload file, a policy, and one process.

use crate::loader::{self, Applied, PatchWatch};
use crate::{Accepted, ApplyError, ApplyOptions, PatchStatus, Policy, ProcessError, RollbackError, RolledBack};

/// Applies payloads to one process and takes them out again.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use hpgen_runtime::{Patcher, Policy};
///
/// # let trusted = vec![];
/// let policy = Policy { trusted, allow_unsigned: false };
/// let applied = Patcher::own().apply(&std::fs::read("fix.hpx")?, &policy)?;
/// println!("{} functions are new", applied.status()?[0].functions.len());
/// applied.rollback()?;
/// # Ok(())
/// # }
/// ```
///
/// It may be called by any thread that holds no lock of the system's loader: not by `DllMain`, and not by a thread that waits for another
/// one which does. Payloads of a series (`hpgen build --series`) replace each other in one step; [`PatchStatus::series`] says which is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patcher {
    process: Target,
    options: ApplyOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Own,
    Other(u32),
}

impl Patcher {
    /// For the process that calls.
    pub fn own() -> Patcher {
        Patcher { process: Target::Own, options: ApplyOptions::default() }
    }

    /// For the process with this id. It is opened anew for each call.
    pub fn of_process(pid: u32) -> Patcher {
        Patcher { process: Target::Other(pid), options: ApplyOptions::default() }
    }

    /// With these options in place of the default ones.
    #[must_use]
    pub fn with_options(self, options: ApplyOptions) -> Patcher {
        Patcher { options, ..self }
    }

    /// How it applies and rolls back.
    pub fn options(&self) -> &ApplyOptions {
        &self.options
    }

    /// Applies a payload file that the policy lets in. The policy judges the file's bytes: what is decoded no longer tells who signed it.
    ///
    /// # Errors
    /// Says why the policy keeps it out, or what does not fit; the process is then as it was.
    pub fn apply(&self, file: &[u8], policy: &Policy) -> Result<Applied, ApplyError> {
        self.apply_accepted(&policy.accept(file)?)
    }

    /// Applies a payload that a policy let in before.
    ///
    /// # Errors
    /// Says what does not fit; the process is then as it was.
    pub fn apply_accepted(&self, accepted: &Accepted) -> Result<Applied, ApplyError> {
        match self.process {
            Target::Own => loader::apply_to_self(&accepted.payload, &accepted.seal, &self.options),
            Target::Other(pid) => loader::apply_to_process(pid, &accepted.payload, &accepted.seal, &self.options),
        }
    }

    /// Takes a patch out: the one of that id, or the newest.
    ///
    /// # Errors
    /// Says why not; the process is then as it was.
    pub fn rollback(&self, patch: Option<&str>) -> Result<RolledBack, RollbackError> {
        match self.process {
            Target::Own => loader::rollback_self(patch, &self.options),
            Target::Other(pid) => loader::rollback_process(pid, patch, &self.options),
        }
    }

    /// Begins to watch a patch that is on probation: the one of that id, or the newest that is in. Nothing where it is not on probation.
    ///
    /// # Errors
    /// When the process cannot be watched: the patch stays in.
    pub fn probation(&self, patch: Option<&str>) -> Result<Option<PatchWatch>, ProcessError> {
        match self.process {
            Target::Own => loader::probation_self(patch),
            Target::Other(pid) => loader::probation_process(pid, patch),
        }
    }

    /// The patches in the process, the oldest first, with one status for each of a patch's images.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked into.
    pub fn status(&self) -> Result<Vec<PatchStatus>, ProcessError> {
        match self.process {
            Target::Own => loader::status_self(),
            Target::Other(pid) => loader::status_process(pid),
        }
    }
}
