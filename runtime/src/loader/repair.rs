//! Finishing what an hpgen left that was killed in the middle of a change: everything is taken back, and the threads go on.

use windows_sys::Win32::System::Memory::PAGE_READWRITE;

use super::claims;
use super::lock::Lock;
use super::process::Process;
use super::threads::resume_suspended;
use super::traces::Traces;
use crate::target::journal::{Journal, PHASE, Phase};
use crate::{ProcessError, Repaired};

/// Takes back a change that was interrupted, and gives back memory that was left.
///
/// # Errors
/// When the system does not let it. It can be tried again.
pub(super) fn repair(process: &Process) -> Result<Repaired, ProcessError> {
    // Whoever is at work now is alive.
    let _lock = Lock::take(process)?;
    let mut repaired = Repaired::default();
    let Traces { journals, claimed, .. } = Traces::find(process);
    for (base, journal) in journals {
        if journal.phase != Phase::Idle {
            let places = take_back(process, &journal)?;
            process.write(base + PHASE, &Phase::Resuming.code().to_le_bytes())?;
            let threads = resume_suspended(process, &journal.suspended)?;
            process.write(base + PHASE, &Phase::Idle.code().to_le_bytes())?;
            repaired = Repaired { was_interrupted: true, threads, places, ..repaired };
        }
        process.free(base)?;
    }
    repaired.allocations = claims::free_all(process, claimed)?;
    Ok(repaired)
}

/// Restores all bytes, if any was written; gives their number of places. Pages get their protection back in any case.
fn take_back(process: &Process, journal: &Journal) -> Result<usize, ProcessError> {
    if journal.phase == Phase::Stopping {
        return Ok(0);
    }
    let mut places = 0;
    if journal.phase == Phase::Writing {
        for pages in &journal.pages {
            process.protect(pages.address, pages.size, PAGE_READWRITE)?;
        }
        for (address, bytes) in journal.undo() {
            process.write(address, bytes)?;
            places += 1;
        }
    }
    for pages in &journal.pages {
        process.protect(pages.address, pages.size, pages.protection)?;
        process.flush_code(pages.address, pages.size);
    }
    Ok(places)
}

/// Whether somebody was killed in the middle of a change of this process.
pub(super) fn is_interrupted(process: &Process) -> bool {
    // While somebody is at work, the journal is his.
    let Ok(_lock) = Lock::take(process) else { return false };
    Traces::find(process).journals.iter().any(|(_, journal)| journal.phase != Phase::Idle)
}
