//! What hpgen left in a process: records of patches and journals of changes, found in one walk through its memory. Each stands at the start of
//! a private allocation and begins with its magic.

use windows_sys::Win32::System::Memory::{PAGE_GUARD, PAGE_NOACCESS};

use super::process::{PageState, Process};
use crate::target::journal::{self, Journal};
use crate::target::memory::Memory;
use crate::target::record::{self, Record};

/// Both kinds.
#[derive(Default)]
pub(super) struct Traces {
    /// The oldest first.
    pub records: Vec<Record>,
    /// With their addresses. Who changes himself leaves none: if he is killed, nothing of him is left.
    pub journals: Vec<(u64, Journal)>,
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
            }
        }
        found.records.sort_by_key(|record| record.sequence);
        found
    }
}
