//! Leaving word in a process of how to take a change back, while it is changed from outside: see `target/journal.rs`. A process that
//! changes itself needs none: if it is killed, nothing of it is left.

use super::edit::{Assignment, Edit, Mark};
use super::process::Process;
use super::threads::suspension_counts;
use crate::ProcessError;
use crate::target::journal::{Journal, KEPT, PHASE, Pages, Phase, Write};

const PAGE: u64 = 0x1000;

/// A journal in another process. It is taken away when this is dropped.
pub(super) struct OpenJournal<'p> {
    process: &'p Process,
    base: u64,
    journal: Journal,
}

impl<'p> OpenJournal<'p> {
    /// Writes one for a change; none where the process is the own one.
    pub fn begin(
        process: &'p Process,
        pages: Vec<Pages>,
        edits: &[Edit],
        assignments: &[Assignment],
        marks: &[Mark],
    ) -> Result<Option<OpenJournal<'p>>, ProcessError> {
        if process.is_own() {
            return Ok(None);
        }
        let code = edits.iter().map(|edit| {
            let before = edit.expected.iter().take(edit.replacement.len()).copied().collect();
            Write { address: edit.address, before }
        });
        let states = marks.iter().map(|mark| Write { address: mark.address, before: mark.before.to_vec() });
        let journal = Journal {
            phase: Phase::Idle,
            pages,
            writes: code.chain(states).collect(),
            variables: assignments.iter().map(|a| (a.address, a.value.len() as u32)).collect(),
            kept: Vec::new(),
            suspended: suspension_counts(process)?,
        };
        let size = journal.size().next_multiple_of(PAGE);
        let base = process.allocate(0, size).ok_or_else(|| process.failed("VirtualAllocEx"))?;
        let open = OpenJournal { process, base, journal };
        process.write(base, &open.journal.encode(base, size))?;
        Ok(Some(open))
    }

    /// Says how far the change is. Allocates nothing.
    pub fn phase(&self, phase: Phase) -> bool {
        self.process.try_write(self.base + PHASE, &phase.code().to_le_bytes())
    }

    /// Keeps the value that a variable has, before it is written. Allocates nothing.
    pub fn keep(&self, variable: usize, value: &[u8]) -> bool {
        let count = (variable as u32 + 1).to_le_bytes();
        self.process.try_write(self.base + self.journal.value_offset(variable), value)
            && self.process.try_write(self.base + KEPT, &count)
    }

    /// Before a change is tried again.
    pub fn forget_values(&self) -> bool {
        self.process.try_write(self.base + KEPT, &[0; 4])
    }
}

impl Drop for OpenJournal<'_> {
    fn drop(&mut self) {
        // What stays says that nothing is half done.
        let _ = self.process.free(self.base);
    }
}

/// Refuses a process that somebody left half changed.
pub(super) fn require_none(process: &Process, journals: &[(u64, Journal)]) -> Result<(), ProcessError> {
    let is_half_done = !process.is_own() && journals.iter().any(|(_, journal)| journal.phase != Phase::Idle);
    if is_half_done { Err(ProcessError::Interrupted(process.pid())) } else { Ok(()) }
}
