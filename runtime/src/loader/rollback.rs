//! Taking a patch out: the old entries are restored while all threads stand still, and the region is freed unless something of a
//! thread (its stack, its registers) points into it, a thread runs fibers, or the process calls a function of it when it ends.

use super::edit::{Assignment, Edit, Mark, Operation, check_expected, perform};
use super::guards::{delete_function_table, release_module};
use super::hooks::{self, Veto};
use super::journal;
use super::lock::Lock;
use super::modules::Modules;
use super::process::Process;
use super::records;
use super::traces::Traces;
use crate::events;
use crate::format::{HookKind, PAGE};
use crate::target::memory::Memory;
use crate::target::record::{Record, RecordEntry, SAVED, Spot};
use crate::target::zones::{Zone, Zones};
use crate::{ApplyOptions, Consistency, Part, PatchState, RegionFate, RollbackError, RolledBack, StopError};

/// Which patch to roll back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// The newest that is applied; where none is, the newest whose memory was kept.
    Newest,
    /// By patch id.
    Id(&'a str),
    /// By its number in the process.
    Number(u64),
}

/// Rolls back. Tells of the attempt and its end.
pub(super) fn rollback(
    process: &Process,
    which: Which<'_>,
    options: &ApplyOptions,
    own_stack: u64,
) -> Result<RolledBack, RollbackError> {
    let wanted = match which {
        Which::Newest => "newest".to_owned(),
        Which::Id(id) => id.to_owned(),
        Which::Number(number) => format!("number {number}"),
    };
    events::rollback_attempt(process.pid(), &wanted);
    let result = take_out(process, which, options, own_stack);
    events::rollback_ended(process.pid(), &wanted, &result);
    result
}

fn take_out(
    process: &Process,
    which: Which<'_>,
    options: &ApplyOptions,
    own_stack: u64,
) -> Result<RolledBack, RollbackError> {
    let _lock = Lock::take(process)?;
    let Traces { records: mut present, journals, .. } = Traces::find(process);
    journal::require_none(process, &journals)?;
    // Of an image that is not there, there is nothing to restore.
    records::retire_orphans(process, &mut present);
    let patch = select(process, &present, which)?;
    let modules = Modules::read(process)?;
    let mut edits: Vec<Edit> = patch.iter().flat_map(|record| edits(process, record)).collect();
    edits.sort_by_key(|edit| edit.address);
    check_expected(process, &edits).map_err(changed)?;
    ask_hooks(process, patch)?;
    let mut assignments = Vec::new();
    for record in patch {
        assignments.extend(self::assignments(process, record)?);
    }
    let marks: Vec<Mark> = patch.iter().flat_map(|record| marks(&present, record)).collect();
    let zones = Zones::new(patch.iter().flat_map(|record| zones(record, &edits, options.consistency)).collect());
    // Only the loader knows of the first page, by the region's address in a status.
    let code = |record: &Record| record.region_base + u64::from(PAGE)..record.region_base + record.region_size;
    let mut operation = Operation {
        edits: &edits,
        zones: &zones,
        assignments: &mut assignments,
        marks: &marks,
        watch: &patch.iter().map(code).collect::<Vec<_>>(),
        patience: options.patience,
        own_stack,
    };
    let report = perform(process, &mut operation).map_err(changed)?;
    // An entry and its gap are one function, and so are all callers of one.
    let functions = patch.iter().map(|record| {
        let is_edited = |rva| edits.iter().any(|edit| edit.address == record.image_base + u64::from(rva));
        let is_first = |(number, entry): &(usize, &RecordEntry)| {
            let mut before = record.entries.iter().take(*number);
            before.all(|other| other.function_rva() != entry.function_rva())
        };
        record.entries.iter().enumerate().filter(is_first).filter(|(_, entry)| is_edited(entry.rva)).count()
    });
    let functions = functions.sum();
    for record in patch.iter().filter(|record| record.state == PatchState::Applied) {
        // The entries are restored; that a hook fails afterwards changes nothing about that.
        let _ = hooks::run(process, &record.hooks, HookKind::PostRollback);
    }
    let region = match report.watched {
        Some(thread) if patch.iter().any(|record| !record.stays) => RegionFate::Kept { thread },
        _ => {
            // Each is tried, whatever became of the ones before. The entries are restored: that is done.
            let leaving = patch.iter().filter(|record| !record.stays);
            let unfreed = leaving.filter(|record| !free(process, &modules, record)).count();
            match (unfreed, patch.iter().any(|record| record.stays)) {
                (0, false) => RegionFate::Freed,
                (0, true) => RegionFate::KeptForExit,
                _ => RegionFate::Unfreed,
            }
        }
    };
    Ok(RolledBack {
        patch_id: patch_id(patch),
        functions,
        region,
        stopped: report.stopped,
        threads_stopped: report.threads,
    })
}

/// Calls the pre-rollback hooks of all images, up to the first that says no.
fn ask_hooks(process: &Process, patch: &[Record]) -> Result<(), RollbackError> {
    for record in patch.iter().filter(|record| record.state == PatchState::Applied) {
        if let Some(Veto { address, code }) = hooks::run(process, &record.hooks, HookKind::PreRollback)? {
            return Err(RollbackError::Vetoed { patch: record.seal.patch_id(), address, code });
        }
    }
    Ok(())
}

/// The record's own state, and those of the patches that it replaced and that wait for nobody any more.
fn marks<'r>(present: &'r [Record], record: &'r Record) -> impl Iterator<Item = Mark> {
    let freed = predecessors(present, record).map(|base| Mark::new(base, PatchState::Replaced, PatchState::Retired));
    freed.chain([Mark::new(record.region_base, record.state, PatchState::Retired)])
}

/// Gives back what the patch has of the process for one image; whether it could.
fn free(process: &Process, modules: &Modules, record: &Record) -> bool {
    let is_unregistered = record.function_table.is_none_or(|(table, _)| delete_function_table(process, modules, table));
    let freed = is_unregistered && process.free(record.region_base).is_ok();
    if freed && record.holds_image && records::is_image_there(process, record) {
        release_module(process, modules, record.image_base);
    }
    freed
}

/// All records of a patch have one seal.
fn patch_id(patch: &[Record]) -> String {
    patch.first().map(|record| record.seal.patch_id()).unwrap_or_default()
}

/// Other bytes than ours at an entry mean something else here than they do when a payload is applied.
fn changed(error: StopError) -> RollbackError {
    match error {
        StopError::Mismatch { function, rva, expected, found } => {
            RollbackError::Changed { function, rva, ours: expected, found }
        }
        other => other.into(),
    }
}

/// Regions of patches of the same image that were replaced, where the one that goes is the last that is applied.
fn predecessors<'r>(present: &'r [Record], record: &'r Record) -> impl Iterator<Item = u64> + 'r {
    let is_last = successor(present, record).is_none_or(|other| other.region_base == record.region_base);
    let replaced = present.iter().filter(|r| r.state == PatchState::Replaced && r.image_base == record.image_base);
    replaced.filter(move |_| is_last && record.state == PatchState::Applied).map(|record| record.region_base)
}

/// The newest patch that is applied to the same image.
fn successor<'r>(present: &'r [Record], record: &Record) -> Option<&'r Record> {
    let applied = present.iter().filter(|r| r.state == PatchState::Applied && r.image_base == record.image_base);
    applied.max_by_key(|other| other.sequence)
}

/// The records of the patch: one for each of its images.
fn select<'r>(process: &Process, present: &'r [Record], which: Which<'_>) -> Result<&'r [Record], RollbackError> {
    if present.is_empty() {
        return Err(RollbackError::NoPatch(process.pid()));
    }
    let is_meant = |record: &&Record| match which {
        Which::Newest => true,
        Which::Id(id) => record.seal.patch_id().eq_ignore_ascii_case(id),
        Which::Number(number) => record.sequence == number,
    };
    // Applied before retired, then the newest.
    let is_in = |state| matches!(state, PatchState::Applied | PatchState::Prepared);
    let newest = present.iter().filter(is_meant).max_by_key(|record| (is_in(record.state), record.sequence));
    let Some(newest) = newest else {
        let mut ids: Vec<String> = present.iter().map(|record| record.seal.patch_id()).collect();
        ids.dedup();
        return Err(RollbackError::UnknownPatch {
            pid: process.pid(),
            patch: match which {
                Which::Id(id) => id.to_owned(),
                _ => "of that kind".to_owned(),
            },
            present: ids.join(", "),
        });
    };
    // They are sorted by their number.
    let patch = present
        .chunk_by(|a, b| a.sequence == b.sequence)
        .find(|patch| patch.iter().any(|record| record.sequence == newest.sequence))
        .unwrap_or_default();
    for record in patch.iter().filter(|record| record.state == PatchState::Replaced) {
        if let Some(by) = successor(present, record) {
            return Err(RollbackError::Replaced { patch: record.seal.patch_id(), by: by.seal.patch_id() });
        }
    }
    Ok(patch)
}

/// The variables that get back what they had, unless the process gave them something else since.
fn assignments(process: &Process, record: &Record) -> Result<Vec<Assignment>, RollbackError> {
    let mut saved = record.region_base + SAVED;
    let mut assignments = Vec::new();
    for assigned in record.assignments.iter().filter(|_| record.state == PatchState::Applied) {
        let size = assigned.size as usize;
        let bytes = |address| {
            let found = process.bytes(address, size);
            found.ok_or_else(|| process.bad_memory(address, "a value that the patch keeps cannot be read"))
        };
        assignments.push(Assignment {
            address: assigned.address,
            value: bytes(saved)?,
            only_if: Some(bytes(assigned.value)?),
            before: vec![0; size],
            saved_at: None,
        });
        saved += u64::from(assigned.size);
    }
    Ok(assignments)
}

/// Where no thread may be: in jumps that go away, and, where all is to go at once, in the new code.
fn zones(record: &Record, edits: &[Edit], consistency: Consistency) -> Vec<Zone> {
    let spots = record.entries.iter().flat_map(RecordEntry::spots);
    let jumps = spots.filter_map(|spot| {
        let address = record.image_base + u64::from(spot.rva);
        edits.iter().find(|edit| edit.address == address)?;
        Some(Zone { range: spot.inside(record.image_base), function: spot.function.to_owned(), part: Part::Entry })
    });
    let is_in = matches!(record.state, PatchState::Applied | PatchState::Prepared);
    let code = (consistency == Consistency::Quiescent && is_in).then(|| Zone {
        range: record.region_base + u64::from(PAGE)..record.region_base + record.region_size,
        function: "code".to_owned(),
        part: Part::Patch,
    });
    jumps.chain(code).collect()
}

/// What has to be restored. An interrupted apply redirected all entries or none; each is restored where it is redirected.
fn edits(process: &Process, record: &Record) -> Vec<Edit> {
    let edit = |spot: Spot<'_>| {
        let address = record.image_base + u64::from(spot.rva);
        let untouched = || process.bytes(address, spot.original.len()).as_deref() == Some(spot.original);
        let needed = match record.state {
            PatchState::Applied => true,
            PatchState::Prepared => !untouched(),
            PatchState::Retired | PatchState::Replaced => false,
        };
        needed.then(|| Edit {
            function: spot.function.to_owned(),
            rva: spot.rva,
            address,
            expected: spot.replacement.to_vec(),
            replacement: spot.original.to_vec(),
        })
    };
    let mut edits: Vec<Edit> = record.entries.iter().flat_map(RecordEntry::spots).filter_map(edit).collect();
    edits.sort_by_key(|edit| edit.address);
    edits
}
