//! What hpgen left in a process: records of patches, journals of changes and claims of memory, found in one walk through its memory. Each stands
//! at the start of a private allocation and begins with its magic.

use std::ops::Range;

use windows_sys::Win32::System::Memory::{PAGE_GUARD, PAGE_NOACCESS};

use super::process::{PageState, Process};
use crate::target::claim::{self, Claim};
use crate::target::journal::{self, Journal};
use crate::target::memory::Memory;
use crate::target::record::{self, Record};

/// All kinds. Who changes himself leaves no journals and no claims: if he is killed, nothing of him is left.
#[derive(Default)]
pub(super) struct Traces {
    /// The oldest first.
    pub records: Vec<Record>,
    /// With their addresses.
    pub journals: Vec<(u64, Journal)>,
    /// Allocations that no record tells of yet.
    pub claimed: Vec<Range<u64>>,
}

impl Traces {
    pub fn find(process: &Process) -> Traces {
        let mut found = Traces::default();
        let starts = process
            .all_pages()
            .filter(|pages| pages.state == PageState::Private && pages.base == pages.allocation_base)
            .filter(|pages| pages.protection & (PAGE_NOACCESS | PAGE_GUARD) == 0)
            .map(|pages| pages.base);
        for base in starts {
            let magic = process.record::<[u8; 16]>(base);
            let size = || process.allocation_size(base);
            if magic == Some(record::MAGIC) {
                found.records.extend(Record::read(process, base, size()));
            } else if magic == Some(journal::MAGIC) && !process.is_own() {
                found.journals.extend(Journal::read(process, base, size()).map(|journal| (base, journal)));
            } else if magic == Some(claim::MAGIC) && !process.is_own() {
                let size = size();
                found.claimed.extend(Claim::is_on(process, base, size).then(|| base..base.saturating_add(size)));
            }
        }
        found.records.sort_by_key(|record| record.sequence);
        found
    }
}
