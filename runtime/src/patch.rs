//! What callers hand to the loader, and what it tells them about patches in a process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::format::{Demand, Seal, TrampolineForm};

/// How to apply or roll back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyOptions {
    /// How long to try again while a thread stands where none may be. Threads run between the attempts.
    pub patience: Duration,
    /// When calls enter the new code, or the old one again.
    pub consistency: Consistency,
    /// Write entries of the own process while its threads run, where all of the payload's can be written so (`FORMAT.md` 2.4). For as
    /// long as that takes, the pages that they are on are writable and executable at once, which is why it is off by default. Threads of
    /// other processes are always stopped.
    pub no_stop: bool,
}

/// When calls enter the new code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Each call from now on. What runs in an old function goes on there to its end.
    #[default]
    Immediate,
    /// All functions at once, at a moment when none of them is on any thread's stack.
    Quiescent,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        ApplyOptions { patience: Duration::from_secs(2), consistency: Consistency::Immediate, no_stop: false }
    }
}

/// A program to start with [`crate::run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommand {
    /// The EXE: a path, or a name that is searched as `CreateProcess` does.
    pub program: PathBuf,
    /// Its arguments, each as the program shall see it; quoting is done here.
    pub arguments: Vec<OsString>,
}

/// A process that [`crate::find_processes`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningProcess {
    /// Process id.
    pub pid: u32,
    /// File name of its EXE.
    pub image_name: String,
    /// When it started, in 100 ns steps since 1601; 0 where that may not be asked. With the process id, it tells a process from all
    /// others.
    pub started: u64,
}

/// How far a patch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchState {
    /// In memory, nothing redirected: an apply is going on, or was interrupted.
    Prepared,
    /// The old functions lead to the new ones.
    Applied,
    /// Rolled back; its memory is kept because a thread may still return into it.
    Retired,
    /// A payload of a higher series took its place; its memory is kept for its variables, which that one took over, and for
    /// threads that may still return into it.
    Replaced,
}

impl core::fmt::Display for PatchState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            PatchState::Prepared => "prepared",
            PatchState::Applied => "applied",
            PatchState::Retired => "retired",
            PatchState::Replaced => "replaced",
        })
    }
}

/// A patch that is in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchStatus {
    /// First eight bytes of the seal in hexadecimal.
    pub patch_id: String,
    /// Seal of the payload file.
    pub seal: Seal,
    /// Place among the payloads of its image.
    pub series: u32,
    /// How far it is.
    pub state: PatchState,
    /// Counts up with every patch that goes into the process.
    pub sequence: u64,
    /// File name of the patched image.
    pub image_name: String,
    /// Where that image is loaded.
    pub image_base: u64,
    /// Where the patch's memory begins.
    pub region_base: u64,
    /// Bytes of the patch's memory, the loader's own pages included.
    pub region_size: u64,
    /// The redirected functions, by rising RVA.
    pub functions: Vec<RedirectedFunction>,
    /// When the redirection took effect (or was prepared).
    pub applied_at: SystemTime,
    /// How long threads stood still for it.
    pub stopped: Duration,
    /// How many threads were stopped.
    pub threads_stopped: u32,
    /// Until when it is on probation. Where that is over, nobody watched it to its end.
    pub probation_until: Option<SystemTime>,
}

/// An old function whose entry leads to a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectedFunction {
    /// Linkage name.
    pub name: String,
    /// RVA of the old entry.
    pub old_rva: u32,
    /// Address of the old entry.
    pub old_address: u64,
    /// Address of the new body.
    pub new_address: u64,
    /// What is written over the entry.
    pub form: TrampolineForm,
    /// Where no thread could be when it was written.
    pub demand: Demand,
    /// Whether it can be written while threads run.
    pub is_no_stop: bool,
    /// Whether the entry holds the redirection at this moment. `false` in an applied patch means that somebody else
    /// wrote over it.
    pub redirected: bool,
}

/// How an event went, for the system's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something was done, or is tried.
    Done,
    /// The process is as it was.
    Refused,
    /// Something went wrong.
    Failed,
}

/// A thread that executes code of patches, or will return into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadFrames {
    /// Thread id.
    pub thread: u32,
    /// Whether its whole stack could be unwound. If not, what is behind the last certain frame was looked for word by word.
    pub is_whole: bool,
    /// Its frames in the code of patches, the innermost first.
    pub frames: Vec<PatchFrame>,
}

/// A frame in the code of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchFrame {
    /// Whose code it is.
    pub patch_id: String,
    /// File name of the image that is patched with it.
    pub image_name: String,
    /// Where the thread executes, or goes on when a call returns.
    pub address: u64,
    /// The same, from the region's start.
    pub region_offset: u32,
    /// Linkage name of the function; none for an address between functions.
    pub function: Option<String>,
    /// The same, from the function's start.
    pub function_offset: u32,
    /// Whether `address` is a return address: the call stands before it.
    pub is_return: bool,
    /// False for a word on the stack that only looks like a return address.
    pub is_certain: bool,
}

/// What became of the patch's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionFate {
    /// Given back.
    Freed,
    /// Kept, because something of this thread still points into it, or it runs fibers, of which one that does not run now may return into
    /// it. Roll back again later to have it freed.
    Kept {
        /// Thread id.
        thread: u32,
    },
    /// Kept, because the system did not take it back. Roll back again later to have it freed.
    Unfreed,
    /// Kept for good: the process calls a function of it when it ends, or may hold an object that was thrown from it.
    KeptForExit,
}

impl RegionFate {
    /// As JSON and the log write it.
    pub fn name(self) -> &'static str {
        match self {
            RegionFate::Freed => "freed",
            RegionFate::Kept { .. } | RegionFate::Unfreed => "kept",
            RegionFate::KeptForExit => "kept-for-exit",
        }
    }
}

/// A finished rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// First eight bytes of the seal in hexadecimal.
    pub patch_id: String,
    /// How many functions have their old entry again.
    pub functions: usize,
    /// What became of the patch's memory.
    pub region: RegionFate,
    /// How long threads stood still for it.
    pub stopped: Duration,
    /// How many threads were stopped.
    pub threads_stopped: u32,
}

/// What an hpgen had left that was killed in the middle of a change, and what was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Whether a change was interrupted, and is taken back.
    pub was_interrupted: bool,
    /// How many threads stood still and go on.
    pub threads: u32,
    /// How many places were written again as they were before.
    pub places: usize,
    /// How many allocations were given back that belonged to nobody any more.
    pub allocations: usize,
}

/// What an apply did, for the record.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(all(windows, feature = "events")), allow(dead_code, reason = "nobody is told"))]
pub(crate) struct Redirected {
    /// The patch's number in the process.
    pub number: u64,
    pub functions: usize,
    pub threads: u32,
    pub stopped_us: u64,
}
