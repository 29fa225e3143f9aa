//! Memory in another process that no record tells of yet: it says whose it is, so that it can be given back when its owner is killed.

use std::ops::Range;

use super::edit::is_in_use;
use super::process::Process;
use crate::ProcessError;
use crate::target::claim::Claim;

/// Claims an allocation. Only needed where the process lives on when the one that changes it is killed.
pub(super) fn claim(process: &Process, base: u64, size: u64) -> Result<(), ProcessError> {
    if process.is_own() {
        return Ok(());
    }
    process.write(base, zerocopy::IntoBytes::as_bytes(&Claim::new(base, size)))
}

/// Gives back what is claimed, while nobody else changes the process; gives the number of allocations. One that a thread executes in, or has an
/// address of, is left for later.
pub(super) fn free_all(process: &Process, claimed: Vec<Range<u64>>) -> Result<usize, ProcessError> {
    let mut freed = 0;
    for range in claimed {
        if !is_in_use(process, range.clone()) {
            process.free(range.start)?;
            freed += 1;
        }
    }
    Ok(freed)
}
