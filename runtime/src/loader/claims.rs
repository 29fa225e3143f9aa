//! Memory in another process that no record tells of yet: it says whose it is, so that it can be given back when its owner is killed.

use std::ops::Range;

use super::edit::{Operation, perform};
use super::process::{PageState, Process};
use crate::target::claim::Claim;
use crate::target::zones::Zones;
use crate::{ApplyOptions, ProcessError};

/// Claims an allocation. Only needed where the process lives on when the one that changes it is killed.
pub(super) fn claim(process: &Process, base: u64, size: u64) -> Result<(), ProcessError> {
    if process.is_own() {
        return Ok(());
    }
    process.write(base, zerocopy::IntoBytes::as_bytes(&Claim::new(base, size)))
}

/// Gives back what is claimed, while nobody else changes the process; gives the number of allocations. One that a thread executes in, or has an
/// address of, is left for later.
pub(super) fn free_all(process: &Process) -> Result<usize, ProcessError> {
    let mut freed = 0;
    for range in find(process) {
        if !is_in_use(process, range.clone()) {
            process.free(range.start)?;
            freed += 1;
        }
    }
    Ok(freed)
}

fn find(process: &Process) -> Vec<Range<u64>> {
    process
        .all_pages()
        .filter(|pages| pages.state == PageState::Private && pages.base == pages.allocation_base)
        .filter(|pages| Claim::is_on(process, pages.base, || process.allocation_size(pages.base)))
        .map(|pages| pages.base..pages.base.saturating_add(process.allocation_size(pages.base)))
        .collect()
}

/// What cannot be told counts as a use.
fn is_in_use(process: &Process, range: Range<u64>) -> bool {
    let mut look = Operation {
        edits: &[],
        zones: &Zones::default(),
        assignments: &mut [],
        marks: &[],
        watch: &[range],
        patience: ApplyOptions::default().patience,
        own_stack: 0,
    };
    !perform(process, &mut look).is_ok_and(|report| report.watched.is_none())
}
