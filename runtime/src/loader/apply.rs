//! Putting a payload into a process. In this order, and whatever fails, everything before it is undone:
//!
//! 1. one change at a time: the process's lock is taken;
//! 2. may the process get code? is each image there, and the right one? which patches does the payload replace, and does another one stand
//!    against it (`succession.rs`)? do its entries hold what they must? are all imports there? Nothing has been touched so far;
//! 3. a region is reserved near each image; for each, it is held, so that it cannot be unloaded; its region is filled while it is writable, then given its
//!    final protection, never writable and executable; its record says *prepared*; its unwind data is registered (`preparation.rs`). Then
//!    pre-apply hooks are called and may say no, and the first values of new variables are computed (`initialisers.rs`);
//! 4. all threads are stopped; none may stand where bytes are written; the entries are compared once more and written; the records say
//!    *applied*, those of replaced patches *replaced*; the threads go on (`edit.rs`); post-apply hooks are called. Who allows it for the own
//!    process gets entries that demand nothing written while threads run (`running.rs`).

use super::edit::{Operation, Report, perform};
use super::hooks::{self, Veto};
use super::initialisers;
use super::journal;
use super::lock::Lock;
use super::modules::Modules;
use super::preparation::{Fitting, Prepared};
use super::process::Process;
use super::running::perform_running;
use super::succession::Succession;
use super::traces::Traces;
use super::{call, records, system};
use crate::events::Applying;
use crate::format::{HookKind, Payload, PayloadFile, Seal};
use crate::mitigations::Objection;
use crate::patch::Redirected;
use crate::target::record::{NEVER_IN, PROGRESS, Progress, Record};
use crate::target::zones::Zones;
use crate::{ApplyError, ApplyOptions, Consistency, PatchState};

/// Applies; gives the patch's number in the process. Tells of the attempt and its end.
pub(super) fn apply(
    process: &Process,
    file: &PayloadFile,
    seal: &Seal,
    options: &ApplyOptions,
    own_stack: u64,
) -> Result<u64, ApplyError> {
    let applying = Applying::attempt(process.pid(), file, seal);
    let result = put_in(process, file, seal, options, own_stack);
    applying.ended(&result);
    result.map(|done| done.number)
}

fn put_in(
    process: &Process,
    file: &PayloadFile,
    seal: &Seal,
    options: &ApplyOptions,
    own_stack: u64,
) -> Result<Redirected, ApplyError> {
    let _lock = Lock::take(process)?;
    let Traces { records: mut present, journals, .. } = Traces::find(process);
    journal::require_none(process, &journals)?;
    let mitigations = system::mitigations(process.raw());
    match file.payloads.iter().find_map(|payload| mitigations.objection(payload)) {
        Some(Objection::DynamicCode) => return Err(ApplyError::DynamicCodeProhibited(process.pid())),
        Some(Objection::Handlers) => return Err(ApplyError::ContinuationsChecked(process.pid())),
        None => {}
    }
    let modules = Modules::read(process)?;
    records::retire_orphans(process, &mut present);
    let find = |payload| Fitting::find(process, &modules, (file, payload), seal, &present);
    let fitting = file.payloads.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    Succession::require_whole(&present, fitting.iter().map(|image| &image.succession))?;

    let sequence = present.last().map_or(1, |last| last.sequence.saturating_add(1));
    let regions = fitting.iter().map(|image| image.reserve(process)).collect::<Result<Vec<_>, _>>()?;
    let bases: Vec<u64> = regions.iter().map(|region| region.base).collect();
    let make = |(image, region)| Prepared::make(process, &modules, image, (seal, sequence), (region, &bases));
    let mut prepared = fitting.iter().zip(regions).map(make).collect::<Result<Vec<_>, _>>()?;
    if let Err(refusal) = ask_hooks(process, &fitting, &prepared) {
        if matches!(&refusal, ApplyError::Process(error) if call::may_still_run(error)) {
            // A hook that did not return: its code stays.
            prepared.into_iter().map(Prepared::keep).for_each(drop);
        }
        return Err(refusal);
    }

    let computed = compute(process, &fitting, &mut prepared);
    let is_complete = computed.is_ok();
    // One that did not return may still run: its code stays.
    let is_running = matches!(&computed, Err(ApplyError::Process(error)) if call::may_still_run(error));
    let report = match computed.and_then(|()| redirect(process, &fitting, &mut prepared, options, own_stack)) {
        Ok(report) => report,
        Err(error) => {
            // What the process calls when it ends has to stay as well. Nothing else leads there, and the next attempt finds what is computed.
            let never = if is_complete { NEVER_IN } else { records::filetime_now() };
            for image in prepared.into_iter().filter(|image| is_running || image.registers_exit) {
                let progress = Progress::new(PatchState::Retired, 0, never, 0);
                let _ = process.write(image.record.region_base + PROGRESS, zerocopy::IntoBytes::as_bytes(&progress));
                image.keep();
            }
            return Err(error);
        }
    };

    let stopped = u64::try_from(report.stopped.as_micros()).unwrap_or(u64::MAX);
    let now = records::filetime_now();
    let progress = Progress::new(PatchState::Applied, report.threads, now, stopped);
    let applied: Vec<Record> = prepared.into_iter().map(Prepared::keep).collect();
    let window = applied.iter().filter_map(|record| record.probation).map(|probation| probation.window_ms).max();
    let until = window.map_or(0, |window| now.saturating_add(u64::from(window) * 10_000));
    let progress = progress.on_probation(until);
    for record in &applied {
        // The patch is in; that its statistics could not be written changes nothing about that.
        let _ = process.write(record.region_base + PROGRESS, zerocopy::IntoBytes::as_bytes(&progress));
    }
    for earlier in fitting.iter().flat_map(|image| image.succession.attempts()) {
        // Its variables are in use: a later patch computes its own.
        let progress = Progress::new(PatchState::Replaced, 0, records::filetime_now(), 0);
        let _ = process.write(earlier.region_base + PROGRESS, zerocopy::IntoBytes::as_bytes(&progress));
    }
    for record in &applied {
        // Nor does it change anything when a hook that comes afterwards fails.
        let _ = hooks::run(process, &record.hooks, HookKind::PostApply);
    }
    let functions = fitting.iter().map(|image| image.payload.trampolines.len()).sum();
    Ok(Redirected { number: sequence, functions, threads: report.threads, stopped_us: stopped })
}

/// Gives the variables of all images their first values.
fn compute(process: &Process, fitting: &[Fitting<'_>], prepared: &mut [Prepared<'_>]) -> Result<(), ApplyError> {
    let mut images = fitting.iter().zip(prepared);
    images.try_for_each(|(image, made)| {
        let Prepared { record, registers_exit, .. } = made;
        initialisers::run(process, record.region_base, image.payload, &image.due, registers_exit)
    })
}

/// Stops the threads, writes the entries of all images, lets the threads go on; or writes them while threads run.
fn redirect(
    process: &Process,
    fitting: &[Fitting<'_>],
    prepared: &mut [Prepared<'_>],
    options: &ApplyOptions,
    own_stack: u64,
) -> Result<Report, ApplyError> {
    let mut edits: Vec<_> = prepared.iter().flat_map(|image| image.edits.iter().cloned()).collect();
    edits.sort_by_key(|edit| edit.address);
    let marks: Vec<_> = prepared.iter().flat_map(|image| image.marks.iter().copied()).collect();
    let mut assignments: Vec<_> =
        prepared.iter_mut().flat_map(|image| std::mem::take(&mut image.assignments)).collect();
    let images = fitting.iter().zip(prepared.iter());
    let zones = Zones::new(images.flat_map(|(fitting, image)| fitting.zones(image, options.consistency)).collect());
    let mut operation = Operation {
        edits: &edits,
        zones: &zones,
        assignments: &mut assignments,
        marks: &marks,
        watch: &[],
        patience: options.patience,
        own_stack,
    };
    let runs = options.no_stop && process.is_own() && options.consistency == Consistency::Immediate;
    let is_no_stop = fitting.iter().zip(prepared.iter()).all(|(fitting, image)| {
        fitting.succession.replaces_none() && image.is_no_stop() && image.record.assignments.is_empty()
    });
    if runs && is_no_stop {
        let linked: Vec<_> = prepared.iter().map(|image| &image.linked).collect();
        return Ok(perform_running(process, &linked, &operation)?);
    }
    Ok(perform(process, &mut operation)?)
}

/// Calls the pre-apply hooks of all images, up to the first that says no.
fn ask_hooks(process: &Process, fitting: &[Fitting<'_>], prepared: &[Prepared<'_>]) -> Result<(), ApplyError> {
    for (fitting, Prepared { record, .. }) in fitting.iter().zip(prepared) {
        if let Some(Veto { address, code }) = hooks::run(process, &record.hooks, HookKind::PreApply)? {
            let hook = hook_name(fitting.payload, address - record.region_base);
            return Err(ApplyError::Vetoed { hook, code });
        }
    }
    Ok(())
}

fn hook_name(payload: &Payload, offset: u64) -> String {
    let function = payload.functions.iter().find(|function| u64::from(function.offset) == offset);
    function.map_or_else(|| format!("at region offset {offset:#x}"), |function| function.name.clone())
}
