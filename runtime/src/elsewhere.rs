//! The loader's interface on systems other than Windows: every function says that it cannot do it.

use crate::format::{PayloadFile, Seal};
use crate::{
    Accepted, ApplyError, ApplyOptions, Mitigations, PatchStatus, ProbationEnd, ProcessError, Repaired, RollbackError,
    RolledBack, RunCommand, RunError, RunningProcess, Severity, ThreadFrames,
};

/// A patch that this process or another one runs with. There is none on this system.
#[derive(Debug)]
pub enum Applied {}

impl Applied {
    /// What is known about the patch: one status for each of its images.
    pub fn status(&self) -> Result<Vec<PatchStatus>, ProcessError> {
        match *self {}
    }

    /// Begins to watch the patch, where its payload asks for it.
    ///
    /// # Errors
    /// There is no patch on this system.
    pub fn probation(&self) -> Result<Option<PatchWatch>, ProcessError> {
        match *self {}
    }

    /// Takes the patch out again.
    ///
    /// # Errors
    /// As [`rollback_process`].
    pub fn rollback(self) -> Result<RolledBack, RollbackError> {
        match self {}
    }
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn apply_to_self(_: &PayloadFile, _: &Seal, _: &ApplyOptions) -> Result<Applied, ApplyError> {
    Err(ProcessError::NotWindows.into())
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn apply_to_process(_: u32, _: &PayloadFile, _: &Seal, _: &ApplyOptions) -> Result<Applied, ApplyError> {
    Err(ProcessError::NotWindows.into())
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn rollback_self(_: Option<&str>, _: &ApplyOptions) -> Result<RolledBack, RollbackError> {
    Err(ProcessError::NotWindows.into())
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn rollback_process(_: u32, _: Option<&str>, _: &ApplyOptions) -> Result<RolledBack, RollbackError> {
    Err(ProcessError::NotWindows.into())
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn status_self() -> Result<Vec<PatchStatus>, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn status_process(_: u32) -> Result<Vec<PatchStatus>, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn find_processes(_: &str) -> Result<Vec<RunningProcess>, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn run(
    _: &RunCommand,
    _: &PayloadFile,
    _: &Seal,
    _: &ApplyOptions,
    _: impl FnOnce(Result<ProbationEnd, ProcessError>),
) -> Result<u32, RunError> {
    Err(ProcessError::NotWindows.into())
}

/// A patch that is being watched. There is none on this system.
#[derive(Debug)]
pub enum PatchWatch {}

impl PatchWatch {
    /// The process.
    pub fn pid(&self) -> u32 {
        match *self {}
    }

    /// The patch.
    pub fn patch_id(&self) -> &str {
        match *self {}
    }

    /// Watches to the end.
    pub fn stand(self) -> ProbationEnd {
        match self {}
    }

    /// Looks once.
    pub fn look(&mut self) -> Option<ProbationEnd> {
        match *self {}
    }
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn mitigations_process(_: u32) -> Result<Mitigations, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn probation_process(_: u32, _: Option<&str>) -> Result<Option<PatchWatch>, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn probation_self(_: Option<&str>) -> Result<Option<PatchWatch>, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn repair_process(_: u32) -> Result<Repaired, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn is_interrupted(_: u32) -> Result<bool, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Windows only: elsewhere nothing is written.
pub fn write_event_log(_: Severity, _: &str) -> bool {
    false
}

/// Windows only.
///
/// # Errors
/// Always, on this system.
pub fn frames_process(_: u32) -> Result<Vec<ThreadFrames>, ProcessError> {
    Err(ProcessError::NotWindows)
}

/// Applies payloads to the process that calls as soon as their images are loaded. There is none on this system.
#[derive(Debug)]
pub enum Follower {}

impl Follower {
    /// Windows only.
    ///
    /// # Errors
    /// Always, on this system.
    pub fn start(
        _: Vec<Accepted>,
        _: ApplyOptions,
        _: impl FnMut(&Accepted, Result<Applied, ApplyError>) + Send + 'static,
    ) -> Result<Follower, ProcessError> {
        Err(ProcessError::NotWindows)
    }
}
