//! What can go wrong with a live process, in words that say where and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::PolicyError;
use crate::link::LinkError;

/// A process cannot be worked with at all.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// This is not Windows.
    #[error("live patching works on Windows only")]
    NotWindows,
    /// Nothing runs under this id.
    #[error("there is no process {0}")]
    NoSuchProcess(u32),
    /// Somebody else's process, or a protected one.
    #[error(
        "access to process {0} is denied: run as the user that owns it, or elevated (protected processes cannot be patched)"
    )]
    AccessDenied(u32),
    /// A 32-bit process.
    #[error("process {0} is a 32-bit program; only x64 processes can be patched")]
    NotX64(u32),
    /// Too late.
    #[error("process {pid} has ended with exit code {code:#x}")]
    Exited {
        /// Process id.
        pid: u32,
        /// Its exit code.
        code: u32,
    },
    /// The process's memory does not hold what belongs there.
    #[error("process {pid}, address {address:#x}: {problem}")]
    Memory {
        /// Process id.
        pid: u32,
        /// Where.
        address: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Another hpgen is at work in the same process.
    #[error("another hpgen is changing process {0} at this moment: try again")]
    Locked(u32),
    /// Rolled back meanwhile.
    #[error("process {0} has the patch no longer")]
    PatchGone(u32),
    /// Killed in the middle of a change.
    #[error(
        "an hpgen was killed in the middle of a change of process {0}, whose threads may stand still: run `hpgen rollback --repair --pid {0}` first"
    )]
    Interrupted(u32),
    /// The system refused something that it should do.
    #[error("{call} failed: {error}")]
    System {
        /// The system function.
        call: &'static str,
        /// Its error.
        error: io::Error,
    },
}

impl ProcessError {
    /// Whether the target refuses, rather than something given being wrong.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            ProcessError::Locked(_)
                | ProcessError::Interrupted(_)
                | ProcessError::NotX64(_)
                | ProcessError::Memory { .. }
        )
    }
}

/// Code cannot be exchanged under the feet of the process's threads.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A thread stayed where none may be.
    #[error("thread {thread} stayed {} for {} ms: {}", part.place(function), waited.as_millis(), part.advice())]
    Busy {
        /// Thread id.
        thread: u32,
        /// The function whose entry is to be changed.
        function: String,
        /// Where in it.
        part: Part,
        /// For how long it was tried.
        waited: Duration,
    },
    /// A thread could not be stopped.
    #[error("thread {thread} cannot be stopped ({call}: {error}); nothing was changed")]
    Thread {
        /// Thread id.
        thread: u32,
        /// The system function.
        call: &'static str,
        /// Its error.
        error: io::Error,
    },
    /// A thread runs fibers, and functions must not be on any stack.
    #[error(
        "thread {thread} runs fibers: whether one that does not run at this moment is inside {function} cannot be seen; \
         nothing was changed"
    )]
    Fibers {
        /// Thread id.
        thread: u32,
        /// A function that must not be on any stack.
        function: String,
    },
    /// Threads come into being faster than they can be stopped.
    #[error("the process starts threads faster than they can be stopped; nothing was changed")]
    ThreadFlood,
    /// Other bytes than expected, seen when all threads stood still (or before).
    #[error(
        "{function} at RVA {rva:#x} holds {}, expected {}: the image is not the baseline, or a debugger, a security \
         product or another patch changed it; nothing was changed",
        hex(found),
        hex(expected)
    )]
    Mismatch {
        /// The function whose entry it is.
        function: String,
        /// RVA of the entry.
        rva: u32,
        /// What should be there.
        expected: Vec<u8>,
        /// What is there.
        found: Vec<u8>,
    },
    /// Code pages cannot be written.
    #[error("the code at {address:#x} cannot be written ({call}: {error}); everything is as before")]
    Write {
        /// First address of the pages.
        address: u64,
        /// The system function.
        call: &'static str,
        /// Its error.
        error: io::Error,
    },
    /// Writing failed, and so did taking it back.
    #[error(
        "writing the code at {address:#x} failed, and the bytes written before could not be restored: the process is in \
         an undefined state and should be ended"
    )]
    Broken {
        /// First address of the pages.
        address: u64,
    },
    /// The process itself.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl StopError {
    /// Whether the target refuses, rather than something given being wrong.
    pub fn is_refusal(&self) -> bool {
        match self {
            StopError::Process(error) => error.is_refusal(),
            _ => true,
        }
    }
}

/// A payload was not applied. Unless it says otherwise, the process is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The policy keeps it out, or it is no payload.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The exchange of code.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// The payload's image is not in the process.
    #[error("{image} is not loaded in process {pid}")]
    NotLoaded {
        /// File name of the image.
        image: String,
        /// Process id.
        pid: u32,
    },
    /// A payload of a higher series, or the same one, is in already.
    #[error(
        "patch {patch} of series {present} is applied; this payload is of series {series}, and the number cannot go back"
    )]
    Series {
        /// The patch that is in.
        patch: String,
        /// Its series.
        present: u32,
        /// The payload's series.
        series: u32,
    },
    /// A variable that an earlier payload brought is another one now.
    #[error(
        "variable {name} has {now} bytes in this payload and {before} in patch {patch}, which it would replace: its value \
         cannot be taken over"
    )]
    Variable {
        /// Its name.
        name: String,
        /// The patch that is in.
        patch: String,
        /// Bytes there.
        before: u32,
        /// Bytes in the payload.
        now: u32,
    },
    /// A pre-apply hook said no.
    #[error("the payload's pre-apply hook {hook} returned {code}: it keeps the payload out")]
    Vetoed {
        /// The hook function.
        hook: String,
        /// What it returned.
        code: i32,
    },
    /// The image is in the process more than once.
    #[error("{image} is loaded {count} times in process {pid}; hpgen cannot tell which one to patch")]
    Ambiguous {
        /// File name of the image.
        image: String,
        /// Process id.
        pid: u32,
        /// How often it is there.
        count: usize,
    },
    /// A module of that name is another build.
    #[error(
        "{image} at {base:#x} is not the build that the payload was made for: {field} is {found}, the payload wants {expected}"
    )]
    Identity {
        /// File name of the image.
        image: String,
        /// Where it is loaded.
        base: u64,
        /// Which property differs.
        field: &'static str,
        /// What the payload says.
        expected: String,
        /// What the process has.
        found: String,
    },
    /// Code of a function that is to be replaced is not what it was when the payload was made.
    #[error(
        "{image} is not the baseline in memory: {function} has other code than the payload was made for, at RVA {start:#x} or within {size:#x} bytes of it; has another tool changed it?"
    )]
    Body {
        /// File name of the image.
        image: String,
        /// The function.
        function: String,
        /// RVA where the code that differs begins.
        start: u32,
        /// Bytes that were compared.
        size: u32,
    },
    /// The image is one that the loader itself stands on.
    #[error("{0} cannot be patched: the loader needs it while it writes code")]
    SystemImage(String),
    /// Arbitrary Code Guard.
    #[error(
        "process {0} prohibits dynamic code (Arbitrary Code Guard, ProcessDynamicCodePolicy): it cannot be patched while it runs; \
         restart it with the fixed build"
    )]
    DynamicCodeProhibited(u32),
    /// Shadow stacks with a check that new code cannot pass.
    #[error(
        "process {0} has shadow stacks and checks where execution goes on after an exception (ProcessUserShadowStackPolicy, \
         SetContextIpValidation); the payload handles exceptions in memory that is no image's: restart it with the fixed build"
    )]
    ContinuationsChecked(u32),
    /// The same payload is in already.
    #[error("patch {0} is already applied")]
    AlreadyApplied(String),
    /// Another payload has the function.
    #[error("{function} at RVA {rva:#x} is already redirected by patch {patch}: roll that back first")]
    AlreadyRedirected {
        /// The function.
        function: String,
        /// RVA of its entry.
        rva: u32,
        /// The patch that has it.
        patch: String,
    },
    /// Callers of a function lead past its entry, and the code of another patch may still call the entry.
    #[error(
        "{function} is redirected at its callers, and so its patch and patch {patch} cannot stand beside each other: roll that back first, or \
         make one payload for both"
    )]
    Alone {
        /// The function, of the one or the other.
        function: String,
        /// The patch that is in.
        patch: String,
    },
    /// The patch that it replaces changed an image that it says nothing about.
    #[error(
        "patch {patch} changed {image} as well, which the payload is not for: roll that patch back first, or make the payload for all its \
         images"
    )]
    Partial {
        /// The patch that would be replaced.
        patch: String,
        /// The image that would keep it.
        image: String,
    },
    /// The first values of new variables are computed together, and some of these variables have their values since an earlier patch.
    #[error(
        "{function} gives new variables their first values, and {variable} among them has its own since an earlier patch: put what is new into a source file of its own"
    )]
    InitialisedBefore {
        /// The function.
        function: String,
        /// The variable.
        variable: String,
    },
    /// A function that computes first values says that it failed.
    #[error("{function}, which runs before the patch goes in, returned {code}: it keeps the patch out")]
    Initialiser {
        /// The function.
        function: String,
        /// What it returned.
        code: i32,
    },
    /// No address range is free.
    #[error("no {size} free bytes within 2 GiB {} {image} at {base:#x}", if *only_above { "above" } else { "of" })]
    NoRoom {
        /// File name of the image.
        image: String,
        /// Where it is loaded.
        base: u64,
        /// Bytes wanted.
        size: u64,
        /// The payload counts from the image's base, so that memory below it does not serve.
        only_above: bool,
    },
    /// The payload does not fit together at these addresses.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// An imported DLL is not there.
    #[error("{symbol} is needed from {dll}, which is not loaded in the process")]
    ImportModule {
        /// The DLL.
        dll: String,
        /// The wanted symbol.
        symbol: String,
    },
    /// An imported symbol is not there.
    #[error("{dll} in the process does not export {symbol}{}", if *forwarded { ", or forwards it nowhere" } else { "" })]
    ImportSymbol {
        /// The DLL.
        dll: String,
        /// The wanted symbol.
        symbol: String,
        /// Whether a forwarder led there.
        forwarded: bool,
    },
    /// The process did not take the unwind data.
    #[error("the process did not accept the unwind data: {0}")]
    Unwind(&'static str),
}

impl ApplyError {
    /// Whether the same attempt may go well at another moment.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            ApplyError::NotLoaded { .. }
                | ApplyError::Process(ProcessError::Locked(_) | ProcessError::Interrupted(_))
                | ApplyError::Stop(
                    StopError::Busy { .. } | StopError::ThreadFlood | StopError::Process(ProcessError::Locked(_))
                )
        )
    }

    /// Whether the target refuses (exit code 5), rather than something given being wrong (exit code 1).
    pub fn is_refusal(&self) -> bool {
        match self {
            ApplyError::Process(error) => error.is_refusal(),
            ApplyError::Stop(error) => error.is_refusal(),
            ApplyError::Policy(error) => error.is_refusal(),
            ApplyError::Link(_) => false,
            _ => true,
        }
    }
}

/// A patch was not rolled back. Unless it says otherwise, the process is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The exchange of code.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// A pre-rollback hook said no.
    #[error("the pre-rollback hook at {address:#x} returned {code}: it keeps patch {patch} in")]
    Vetoed {
        /// The patch.
        patch: String,
        /// The hook function.
        address: u64,
        /// What it returned.
        code: i32,
    },
    /// The patch's variables are in use.
    #[error("patch {patch} was replaced by patch {by}, which goes on using its variables: roll that one back first")]
    Replaced {
        /// The patch.
        patch: String,
        /// The one that took its place.
        by: String,
    },
    /// Nothing to roll back.
    #[error("process {0} has no hpgen patch")]
    NoPatch(u32),
    /// No patch of that id.
    #[error("process {pid} has no patch {patch}; it has {present}")]
    UnknownPatch {
        /// Process id.
        pid: u32,
        /// The wanted patch id.
        patch: String,
        /// The ids that are there, with commas.
        present: String,
    },
    /// Somebody else wrote over our bytes.
    #[error(
        "{function} at RVA {rva:#x} holds {}, not the redirection {} that hpgen wrote: a debugger, a security product or \
         another patch changed it since; nothing was changed",
        hex(found),
        hex(ours)
    )]
    Changed {
        /// The function whose entry it is.
        function: String,
        /// RVA of the entry.
        rva: u32,
        /// What was written.
        ours: Vec<u8>,
        /// What is there.
        found: Vec<u8>,
    },
}

impl RollbackError {
    /// Whether the target refuses (exit code 5), rather than something given being wrong (exit code 1).
    pub fn is_refusal(&self) -> bool {
        match self {
            RollbackError::Process(error) => error.is_refusal(),
            RollbackError::Stop(error) => error.is_refusal(),
            RollbackError::NoPatch(_) | RollbackError::UnknownPatch { .. } => false,
            RollbackError::Changed { .. } | RollbackError::Vetoed { .. } | RollbackError::Replaced { .. } => true,
        }
    }
}

/// A program was not run with its patch. No process is left behind.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program does not start.
    #[error("{} cannot be started: {error}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The system takes it for no program of its own: a 32-bit one where only those of 64 bits run, or a damaged file.
    #[error("{} is no program for x64; only x64 programs can be patched", .0.display())]
    NotX64(PathBuf),
    /// It ended before its entry point, as it does when a DLL is missing.
    #[error(
        "{} ended with code {code:#x} before it reached its entry point{}", program.display(),
        match *code {
            0xc000_0135 => " (a DLL that it needs was not found)",
            0xc000_0139 => " (a DLL lacks a function that it needs)",
            0xc000_0142 => " (the initialisation of a DLL failed)",
            _ => "",
        }
    )]
    EndedEarly {
        /// The program.
        program: PathBuf,
        /// Its exit code.
        code: u32,
    },
    /// It did not reach its entry point in time.
    #[error("{} did not reach its entry point within {} s and was ended", program.display(), waited.as_secs())]
    NeverStarted {
        /// The program.
        program: PathBuf,
        /// For how long.
        waited: Duration,
    },
    /// The payload was not applied; the program was ended before it did anything.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl RunError {
    /// Whether the target refuses (exit code 5), rather than something given being wrong (exit code 1).
    pub fn is_refusal(&self) -> bool {
        match self {
            RunError::Apply(error) => error.is_refusal(),
            RunError::Process(error) => error.is_refusal(),
            RunError::NotX64(_) => true,
            _ => false,
        }
    }
}

/// What a thread was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The bytes that have to be written.
    Entry,
    /// A function that must not run when its entry is written.
    Body,
    /// New code that must not run when it is taken back.
    Patch,
}

impl Part {
    fn place(self, function: &str) -> String {
        match self {
            Part::Entry => format!("inside the first bytes of {function}"),
            Part::Body => format!("in {function}, or in what that called"),
            Part::Patch => format!("in the patch's {function}, or in what that called"),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Part::Entry => "try again when the process is less busy",
            Part::Body | Part::Patch => {
                "nothing may be in it at that moment; try again when the process is less busy, with more patience, or, \
                 where all functions were to be switched at once, with immediate consistency"
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From wherever it comes, the reason is the same, and names the process; it is the target that refuses.
    #[test]
    fn a_32_bit_program_is_refused_by_name() {
        let refused = || ProcessError::NotX64(4242);
        let said = "process 4242 is a 32-bit program; only x64 processes can be patched";
        let (apply, rollback) = (ApplyError::from(refused()), RollbackError::from(refused()));
        let (run, started) = (RunError::from(refused()), RunError::NotX64("old.exe".into()));
        assert_eq!([apply.to_string(), rollback.to_string(), run.to_string()], [said; 3]);
        assert_eq!(started.to_string(), "old.exe is no program for x64; only x64 programs can be patched");
        assert_eq!([apply.is_refusal(), rollback.is_refusal(), run.is_refusal(), started.is_refusal()], [true; 4]);
    }
}
