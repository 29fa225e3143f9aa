//! Finding the patches that are in a process.

use std::time::{Duration, SystemTime};

use super::process::{PageState, Process};
use super::traces::Traces;
use crate::target::image::LoadedImage;
use crate::target::memory::Memory;
use crate::target::record::{ORPHANED, PROGRESS, Record, RecordEntry, RecordGap, Spot};
use crate::{PatchState, PatchStatus, RedirectedFunction};

/// 100 ns steps from 1601 (as Windows counts) to 1970.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// The records of all patches, the oldest first.
pub(super) fn find(process: &Process) -> Vec<Record> {
    Traces::find(process).records
}

/// Whether the image at the record's address is still the one that was patched.
pub(super) fn is_image_there(process: &Process, record: &Record) -> bool {
    LoadedImage::read(process, record.image_base).is_ok_and(|image| is_patched_one(&image, record))
}

fn is_patched_one(image: &LoadedImage, record: &Record) -> bool {
    (image.timestamp, image.size) == (record.image_timestamp, record.image_size)
}

/// Whether nothing of an applied patch is in place, since somebody unloaded its image by force: by giving back more references than were its own. The image may
/// have been loaded anew, with its old code.
fn is_orphan(process: &Process, record: &Record) -> bool {
    let is_old = |spot: Spot<'_>| {
        let address = record.image_base + u64::from(spot.rva);
        process.bytes(address, spot.original.len()).as_deref() == Some(spot.original)
    };
    let is_in = matches!(record.state, PatchState::Applied | PatchState::Prepared);
    is_in && (is_image_gone(process, record) || record.entries.iter().flat_map(RecordEntry::spots).all(is_old))
}

/// Whether nothing is there, or another image: that it cannot be read for a moment does not say so, and threads may be on their way into the patch.
fn is_image_gone(process: &Process, record: &Record) -> bool {
    match process.pages_at(record.image_base) {
        Some(pages) if pages.state != PageState::Mapped => true,
        Some(_) => LoadedImage::read(process, record.image_base).is_ok_and(|image| !is_patched_one(&image, record)),
        None => false,
    }
}

/// Notes of patches that went with their images that they are out.
pub(super) fn retire_orphans(process: &Process, records: &mut [Record]) {
    for record in records.iter_mut().filter(|record| is_orphan(process, record)) {
        // An apply that was interrupted holds its image still.
        let was_in = record.state == PatchState::Applied;
        if was_in && process.write(record.region_base + PROGRESS, &ORPHANED.to_le_bytes()).is_ok() {
            (record.state, record.holds_image) = (PatchState::Retired, false);
        }
    }
}

/// A record, and what the process's code says now, in the form for callers.
pub(super) fn status(process: &Process, record: &Record) -> PatchStatus {
    let is_orphan = record.state == PatchState::Applied && is_orphan(process, record);
    let state = if is_orphan { PatchState::Retired } else { record.state };
    let function = |entry: &RecordEntry| {
        let address = record.image_base + u64::from(entry.rva);
        let old_rva = entry.function_rva();
        let holds = |address, bytes: &[u8]| process.bytes(address, bytes.len()).as_deref() == Some(bytes);
        let gap_holds = |gap: RecordGap| holds(record.image_base + u64::from(gap.rva), &gap.replacement);
        RedirectedFunction {
            name: entry.name.clone(),
            old_rva,
            old_address: record.image_base + u64::from(old_rva),
            new_address: entry.target,
            form: entry.form,
            demand: entry.demand,
            is_no_stop: entry.is_no_stop,
            redirected: holds(address, &entry.replacement) && entry.gap.is_none_or(gap_holds),
        }
    };
    let mut functions: Vec<RedirectedFunction> = Vec::with_capacity(record.entries.len());
    for function in record.entries.iter().map(function) {
        let place = functions.partition_point(|other| other.old_rva < function.old_rva);
        match functions.get_mut(place).filter(|other| other.old_rva == function.old_rva) {
            // All callers of a function are one.
            Some(other) => other.redirected &= function.redirected,
            None => functions.insert(place, function),
        }
    }
    PatchStatus {
        patch_id: record.seal.patch_id(),
        seal: record.seal,
        series: record.series,
        state,
        sequence: record.sequence,
        image_name: record.image_name.clone(),
        image_base: record.image_base,
        region_base: record.region_base,
        region_size: record.region_size,
        functions,
        applied_at: from_filetime(record.applied_at),
        stopped: Duration::from_micros(record.stopped_micros),
        threads_stopped: record.threads_stopped,
        probation_until: Some(record.probation_until)
            .filter(|until| *until != 0 && state == PatchState::Applied)
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
