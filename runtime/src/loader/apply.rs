//! Putting a payload into a process. In this order, and whatever fails, everything before it is undone:
//!
//! 1. one change at a time: the process's lock is taken;
//! 2. may the process get code? is the image there, and the right one? is it free of other patches? do its entries hold what
//!    they must? are all imports there? Nothing has been touched so far;
//! 3. the image is held, so that it cannot be unloaded; a region is reserved near it, filled while it is writable, then given its final
//!    protection, never writable and executable; its record says *prepared*; its unwind data is registered;
//! 4. all threads are stopped; none may stand where bytes are written; the entries are compared once more and written; the record says
//!    *applied*; the threads go on (`edit.rs`).

use windows_sys::Win32::System::Memory::{PAGE_EXECUTE_READ, PAGE_READONLY};

use super::edit::{Edit, Operation, check_expected, perform};
use super::guards::{HeldModule, Registration};
use super::lock::Lock;
use super::modules::{Module, Modules};
use super::process::Process;
use super::region::Region;
use super::{imports, records, system};
use crate::format::{Identity, PAGE, Payload, Protection, Seal};
use crate::link::{Linked, link, rebased_expected, trampoline_function};
use crate::target::image::LoadedImage;
use crate::target::record::{self, PROGRESS, Progress, Record, RecordEntry, state_code};
use crate::{ApplyError, ApplyOptions, PatchState, ProcessError};

/// What the loader itself runs through while it writes.
const SYSTEM_IMAGES: [&str; 3] = ["ntdll.dll", "kernel32.dll", "kernelbase.dll"];

/// Applies; gives the base of the region.
pub(super) fn apply(
    process: &Process,
    payload: &Payload,
    seal: &Seal,
    options: &ApplyOptions,
    own_stack: u64,
) -> Result<u64, ApplyError> {
    let _lock = Lock::take(process)?;
    if system::prohibits_dynamic_code(process.raw()) {
        return Err(ApplyError::DynamicCodeProhibited(process.pid()));
    }
    let modules = Modules::read(process)?;
    let image = find_image(process, &modules, &payload.identity)?;
    let present = records::find(process);
    refuse_conflicts(&present, payload, seal, &image)?;
    check_expected(process, &entry_checks(payload, &image)?)?;
    let addresses = imports::resolve_all(process, &modules, payload)?;

    let held = HeldModule::hold(process, &modules, image.base)?;
    let region = reserve(process, payload, &image)?;
    let linked = link(payload, region.base, image.base, &addresses)?;
    let record = new_record(payload, seal, &image, &region, &linked, &present);
    fill(process, &region, &linked, &record, payload.region_size())?;
    let registration = Registration::register(process, &modules, linked.function_table)?;

    let operation = Operation {
        edits: &edits(&linked),
        mark: Some((region.base + PROGRESS, state_code(PatchState::Applied).to_le_bytes())),
        watch: None,
        patience: options.patience,
        own_stack,
    };
    let report = perform(process, &operation)?;

    let base = region.base;
    registration.keep();
    region.keep();
    held.keep();
    let stopped = u64::try_from(report.stopped.as_micros()).unwrap_or(u64::MAX);
    let progress = Progress::new(PatchState::Applied, report.threads, records::filetime_now(), stopped);
    // The patch is in; that its statistics could not be written changes nothing about that.
    let _ = process.write(base + PROGRESS, zerocopy::IntoBytes::as_bytes(&progress));
    Ok(base)
}

/// The one loaded image that the payload is for.
fn find_image(process: &Process, modules: &Modules, identity: &Identity) -> Result<LoadedImage, ApplyError> {
    let name = &identity.image_name;
    if SYSTEM_IMAGES.iter().any(|system| system.eq_ignore_ascii_case(name)) {
        return Err(ApplyError::SystemImage(name.clone()));
    }
    let mut fitting = Vec::new();
    let mut refusal = ApplyError::NotLoaded { image: name.clone(), pid: process.pid() };
    for Module { base, .. } in modules.named(name) {
        let image = LoadedImage::read(process, *base).map_err(|problem| process.bad_memory(*base, problem))?;
        match image.mismatch(identity) {
            None => fitting.push(image),
            Some((field, expected, found)) => {
                refusal = ApplyError::Identity { image: name.clone(), base: *base, field, expected, found };
            }
        }
    }
    match fitting.len() {
        0 => Err(refusal),
        1 => fitting.pop().ok_or(refusal),
        count => Err(ApplyError::Ambiguous { image: name.clone(), pid: process.pid(), count }),
    }
}

/// No other patch may have one of the entries, nor may this one be in already.
fn refuse_conflicts(present: &[Record], payload: &Payload, seal: &Seal, image: &LoadedImage) -> Result<(), ApplyError> {
    for record in present.iter().filter(|r| r.state != PatchState::Retired && r.image_base == image.base) {
        if record.seal == *seal {
            return Err(ApplyError::AlreadyApplied(seal.patch_id()));
        }
        for trampoline in &payload.trampolines {
            let (start, end) = (trampoline.entry_rva, trampoline.entry_rva + trampoline.expected.len() as u32);
            if record.entries.iter().any(|e| e.rva < end && start < e.rva + e.original.len() as u32) {
                return Err(ApplyError::AlreadyRedirected {
                    function: trampoline_function(payload, trampoline).to_owned(),
                    rva: start,
                    patch: record.seal.patch_id(),
                });
            }
        }
    }
    Ok(())
}

/// The entries as they must be, for a look before anything is touched.
fn entry_checks(payload: &Payload, image: &LoadedImage) -> Result<Vec<Edit>, ApplyError> {
    let check = |trampoline: &crate::format::Trampoline| {
        Ok(Edit {
            function: trampoline_function(payload, trampoline).to_owned(),
            rva: trampoline.entry_rva,
            address: image.base + u64::from(trampoline.entry_rva),
            expected: rebased_expected(payload, trampoline, image.base)?,
            replacement: Vec::new(),
        })
    };
    payload.trampolines.iter().map(check).collect()
}

fn edits(linked: &Linked) -> Vec<Edit> {
    let edit = |t: &crate::link::LinkedTrampoline| Edit {
        function: t.function.clone(),
        rva: t.entry_rva,
        address: t.entry,
        expected: t.expected.clone(),
        replacement: t.replacement.clone(),
    };
    linked.trampolines.iter().map(edit).collect()
}

/// Memory for the payload's region and, behind it, the record's tables.
fn reserve<'p>(process: &'p Process, payload: &Payload, image: &LoadedImage) -> Result<Region<'p>, ApplyError> {
    let names = payload.trampolines.iter().map(|t| trampoline_function(payload, t).len());
    let tables = record::tables_size(&payload.identity.image_name, names);
    let size = u64::from(payload.region_size()) + tables.next_multiple_of(PAGE.into());
    let range = image.base..image.base + u64::from(image.size);
    Region::reserve(process, &range, size).ok_or_else(|| ApplyError::NoRoom {
        image: payload.identity.image_name.clone(),
        base: image.base,
        size,
    })
}

fn new_record(
    payload: &Payload,
    seal: &Seal,
    image: &LoadedImage,
    region: &Region<'_>,
    linked: &Linked,
    present: &[Record],
) -> Record {
    Record {
        region_base: region.base,
        region_size: region.size,
        seal: *seal,
        state: PatchState::Prepared,
        sequence: present.last().map_or(1, |last| last.sequence.saturating_add(1)),
        image_name: payload.identity.image_name.clone(),
        image_base: image.base,
        image_size: image.size,
        image_timestamp: image.timestamp,
        function_table: linked.function_table.map(|table| (table.address, table.count)),
        entries: RecordEntry::from_linked(linked),
        threads_stopped: 0,
        applied_at: records::filetime_now(),
        stopped_micros: 0,
    }
}

/// Writes everything while the region is writable, then gives each part its protection. The header's page stays writable: it is data.
fn fill(
    process: &Process,
    region: &Region<'_>,
    linked: &Linked,
    record: &Record,
    tables: u32,
) -> Result<(), ProcessError> {
    let (header, content) = record.encode(tables.into());
    for segment in &linked.segments {
        process.write(region.base + u64::from(segment.offset), &segment.bytes)?;
    }
    let tables = region.base + u64::from(tables);
    process.write(tables, &content)?;
    process.write(region.base, &header)?;
    process.protect(tables, region.base + region.size - tables, PAGE_READONLY)?;
    for segment in &linked.segments {
        let protection = match segment.protection {
            Protection::ReadExecute => PAGE_EXECUTE_READ,
            Protection::Read => PAGE_READONLY,
            Protection::ReadWrite => continue,
        };
        let address = region.base + u64::from(segment.offset);
        process.protect(address, segment.size.into(), protection)?;
        process.flush_code(address, segment.size.into());
    }
    Ok(())
}
