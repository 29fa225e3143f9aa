//! Finding the patches that are in a process.

use std::time::{Duration, SystemTime};

use windows_sys::Win32::System::Memory::{PAGE_GUARD, PAGE_NOACCESS};

use super::process::{PageState, Process};
use crate::target::memory::Memory;
use crate::target::record::{MAGIC, Record, RecordGap};
use crate::{PatchState, PatchStatus, RedirectedFunction};

/// 100 ns steps from 1601 (as Windows counts) to 1970.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// The records of all patches, the oldest first.
pub(super) fn find(process: &Process) -> Vec<Record> {
    let mut records: Vec<Record> = process
        .all_pages()
        .filter(|pages| pages.state == PageState::Private && pages.base == pages.allocation_base)
        .filter(|pages| pages.protection & (PAGE_NOACCESS | PAGE_GUARD) == 0)
        .filter(|pages| process.record::<[u8; 16]>(pages.base) == Some(MAGIC))
        .filter_map(|pages| Record::read(process, pages.base, process.allocation_size(pages.base)))
        .collect();
    records.sort_by_key(|record| record.sequence);
    records
}

/// A record, and what the process's code says now, in the form for callers.
pub(super) fn status(process: &Process, record: &Record) -> PatchStatus {
    let function = |entry: &crate::target::record::RecordEntry| {
        let old_address = record.image_base + u64::from(entry.rva);
        let holds = |address, bytes: &[u8]| process.bytes(address, bytes.len()).as_deref() == Some(bytes);
        let gap_holds = |gap: RecordGap| holds(record.image_base + u64::from(gap.rva), &gap.replacement);
        RedirectedFunction {
            name: entry.name.clone(),
            old_rva: entry.rva,
            old_address,
            new_address: entry.target,
            form: entry.form,
            demand: entry.demand,
            is_no_stop: entry.is_no_stop,
            redirected: holds(old_address, &entry.replacement) && entry.gap.is_none_or(gap_holds),
        }
    };
    PatchStatus {
        patch_id: record.seal.patch_id(),
        seal: record.seal,
        series: record.series,
        state: record.state,
        sequence: record.sequence,
        image_name: record.image_name.clone(),
        image_base: record.image_base,
        region_base: record.region_base,
        region_size: record.region_size,
        functions: record.entries.iter().map(function).collect(),
        applied_at: from_filetime(record.applied_at),
        stopped: Duration::from_micros(record.stopped_micros),
        threads_stopped: record.threads_stopped,
        probation_until: Some(record.probation_until)
            .filter(|until| *until != 0 && record.state == PatchState::Applied)
            .map(from_filetime),
    }
}

/// Now, in 100 ns steps since 1601.
pub(super) fn filetime_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH.saturating_add(u64::try_from(since.as_nanos() / 100).unwrap_or(0))
}

fn from_filetime(filetime: u64) -> SystemTime {
    let since = filetime.saturating_sub(UNIX_EPOCH);
    let since = Duration::new(since / 10_000_000, (since % 10_000_000) as u32 * 100);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
