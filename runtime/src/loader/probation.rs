//! Watching a patch once it is in (`FORMAT.md` 2.13): calling its health checks, and looking at exceptions that nobody handles.
//! A patch that fails is rolled back.

use std::ops::Range;
use std::time::{Duration, Instant};

use windows_sys::Win32::System::Diagnostics::Debug::EXCEPTION_RECORD;
use zerocopy::little_endian::{U32, U64};

use super::call::call;
use super::frames;
use super::guard_filter::{GuardFilter, Raised};
use super::own_stack;
use super::process::Process;
use super::records;
use super::rollback::{Which, rollback};
use crate::target::memory::Memory;
use crate::target::record::{PROBATION, Record};
use crate::{ApplyOptions, PatchState, ProbationEnd, ProbationFailure, ProcessError, events};

/// Exit codes from here on are those of exceptions and fail-fasts (`NTSTATUS` of severity *error*).
const FIRST_ERROR: u32 = 0xc000_0000;
/// How often [`PatchWatch::stand`] looks.
const LOOK: Duration = Duration::from_millis(50);

/// A patch that is being watched. When it is dropped before its end, nobody watches it any more; it stays in.
#[derive(Debug)]
pub struct PatchWatch {
    process: Process,
    patch: Watched,
    until: Instant,
    next_check: Instant,
    guard: Option<GuardFilter>,
}

/// What there is to know of the patch.
#[derive(Debug)]
struct Watched {
    number: u64,
    patch_id: String,
    /// Its records, where their end is written to.
    regions: Vec<u64>,
    checks: Vec<Check>,
    interval: Duration,
}

#[derive(Debug)]
struct Check {
    name: String,
    address: u64,
}

impl PatchWatch {
    /// The same for the patch of that id, or the newest that is in.
    pub(super) fn of(process: Process, patch: Option<&str>) -> Result<Option<PatchWatch>, ProcessError> {
        let records = records::find(&process);
        let newest =
            records.iter().filter(|record| record.state == PatchState::Applied).map(|record| record.sequence).max();
        PatchWatch::begin(process, |record| match patch {
            Some(id) => record.seal.patch_id().eq_ignore_ascii_case(id),
            None => Some(record.sequence) == newest,
        })
    }

    /// Begins to watch a patch that is on probation; nothing where it is not, or its time is over.
    pub(super) fn begin(
        process: Process,
        is_meant: impl Fn(&Record) -> bool,
    ) -> Result<Option<PatchWatch>, ProcessError> {
        let mut records = records::find(&process);
        records.retain(|record| record.state == PatchState::Applied && is_meant(record));
        let until = records.iter().map(|record| record.probation_until).max().unwrap_or_default();
        let left = Duration::from_nanos(until.saturating_sub(records::filetime_now()).saturating_mul(100));
        let Some(first) = records.first().filter(|_| !left.is_zero()) else { return Ok(None) };
        let probations = records.iter().filter_map(|record| record.probation);
        let interval = probations.map(|probation| probation.interval_ms).min().unwrap_or(u32::MAX);
        let patch = Watched {
            number: first.sequence,
            patch_id: first.seal.patch_id(),
            regions: records.iter().map(|record| record.region_base).collect(),
            checks: records.iter().filter_map(check).collect(),
            interval: Duration::from_millis(interval.into()),
        };
        let guard = GuardFilter::install(&process, until)?;
        let now = Instant::now();
        Ok(Some(PatchWatch { process, patch, until: now + left, next_check: now, guard: Some(guard) }))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The patch.
    pub fn patch_id(&self) -> &str {
        &self.patch.patch_id
    }

    /// Watches to the end; the calling thread sleeps in between.
    pub fn stand(mut self) -> ProbationEnd {
        loop {
            if let Some(end) = self.look() {
                return end;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Looks once. To be called often, until it gives the end: a thread that raised an exception waits for it. A health check that does not return takes
    /// ten seconds, in the own process for ever.
    pub fn look(&mut self) -> Option<ProbationEnd> {
        let end = self.find_end()?;
        self.leave(matches!(end, ProbationEnd::Passed));
        events::probation_ended(self.process.pid(), &self.patch.patch_id, &end);
        Some(end)
    }

    fn find_end(&mut self) -> Option<ProbationEnd> {
        if let Some(failure) = self.exception() {
            return Some(self.fail(failure));
        }
        if let Some(code) = self.process.exit_code() {
            let failed = || ProbationEnd::Failed { failure: ProbationFailure::Crash(code), rollback: None };
            return Some(if code >= FIRST_ERROR { failed() } else { ProbationEnd::ProcessEnded(code) });
        }
        let now = Instant::now();
        if now < self.next_check && now < self.until {
            return None;
        }
        if !self.patch.is_in(&self.process) {
            return self.process.exit_code().is_none().then_some(ProbationEnd::Moot);
        }
        self.next_check = now + self.patch.interval;
        if let Some(failure) = self.patch.failing_check(&self.process) {
            // It may have been the check that raised one.
            let failure = self.exception().unwrap_or(failure);
            return if self.process.exit_code().is_some() { None } else { Some(self.fail(failure)) };
        }
        (now >= self.until).then_some(ProbationEnd::Passed)
    }

    /// An exception with a frame in the patch. The thread of any other goes on at once.
    fn exception(&self) -> Option<ProbationFailure> {
        let guard = self.guard.as_ref()?;
        let raised = guard.raised(&self.process)?;
        let found = self.patch.found_in(&self.process, raised);
        if found.is_none() {
            guard.let_go(&self.process);
        }
        found
    }

    fn fail(&self, failure: ProbationFailure) -> ProbationEnd {
        let (which, options) = (Which::Number(self.patch.number), ApplyOptions::default());
        let rollback = own_stack::above(|own_stack| rollback(&self.process, which, &options, own_stack));
        if let Some(guard) = &self.guard {
            guard.let_go(&self.process);
        }
        ProbationEnd::Failed { failure, rollback: Some(rollback) }
    }

    /// Takes out of the process what only the probation needed.
    fn leave(&mut self, passed: bool) {
        if let Some(guard) = self.guard.take() {
            // What stays does nothing when the time is over.
            let _ = guard.remove(&self.process);
        }
        if passed {
            for region in &self.patch.regions {
                // A status then says that the time is over, which is true.
                let _ = self.process.write(region + PROBATION, &[0; 8]);
            }
        }
    }
}

impl Drop for PatchWatch {
    fn drop(&mut self) {
        self.leave(false);
    }
}

impl Watched {
    fn is_in(&self, process: &Process) -> bool {
        let mut records = self.regions.iter().map(|base| Record::read(process, *base, process.allocation_size(*base)));
        let is_it = |record: Record| record.sequence == self.number && record.state == PatchState::Applied;
        records.all(|record| record.is_some_and(is_it))
    }

    /// Calls the checks, up to the first that finds something.
    fn failing_check(&self, process: &Process) -> Option<ProbationFailure> {
        self.checks.iter().find_map(|Check { name, address }| {
            // SAFETY: the payload's author named the function as one that takes nothing and returns a number; the patch is in.
            let code = match unsafe { call(process, *address, [0; 3]) } {
                Ok(code) => code.cast_signed(),
                Err(error) => {
                    let (check, error) = (name.clone(), error.to_string());
                    return Some(ProbationFailure::NoAnswer { check, error });
                }
            };
            (code != 0).then(|| ProbationFailure::Check { check: name.clone(), code })
        })
    }

    /// What is known of an exception whose thread has frames in the patch.
    fn found_in(&self, process: &Process, raised: Raised) -> Option<ProbationFailure> {
        let [record, context]: [U64; 2] = process.record(raised.pointers)?;
        let code = process.record::<U32>(record.get())?;
        let at = record.get().checked_add(std::mem::offset_of!(EXCEPTION_RECORD, ExceptionAddress) as u64)?;
        let address = process.record::<U64>(at)?;
        let frames = frames::of_context(process, context.get()).ok()?;
        let frame = frames.into_iter().find(|frame| frame.patch_id == self.patch_id)?;
        Some(ProbationFailure::Exception {
            code: code.get(),
            address: address.get(),
            thread: raised.thread,
            function: frame.function.unwrap_or_else(|| format!("+{:#x}", frame.region_offset)),
        })
    }
}

/// The health check of a patch's image.
fn check(record: &Record) -> Option<Check> {
    let address = record.probation?.check?;
    let region: Range<u64> = record.region_base..record.region_base + record.region_size;
    let name = match region.contains(&address) {
        true => {
            let offset = u32::try_from(address - record.region_base).ok()?;
            record.functions.iter().find(|function| function.offset == offset).map(|function| function.name.clone())
        }
        false => Some(format!("{}+{:#x}", record.image_name, address.checked_sub(record.image_base)?)),
    };
    Some(Check { name: name.unwrap_or_default(), address })
}
