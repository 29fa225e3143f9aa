//! What a payload needs in a process for one of its images before any thread is stopped: first looked at, then made.

use windows_sys::Win32::System::Memory::{PAGE_EXECUTE_READ, PAGE_NOACCESS, PAGE_READONLY};

use super::edit::{Assignment, Edit, Mark, check_expected};
use super::guards::{HeldModule, Registration};
use super::imports::{self, Imported};
use super::initialisers::{self, Due};
use super::modules::{Module, Modules};
use super::process::Process;
use super::region::Region;
use super::succession::Succession;
use super::{claims, entries, records};
use crate::format::{Identity, PAGE, Payload, PayloadFile, Protection, Seal, Space};
use crate::link::{Linked, TakenOver, link_taking_over, trampoline_function};
use crate::target::baseline::changed_body;
use crate::target::image::LoadedImage;
use crate::target::record::{
    self, Record, RecordAssignment, RecordEntry, RecordFunction, RecordProbation, RecordVariable,
};
use crate::target::zones::Zone;
use crate::{ApplyError, Consistency, PatchState, ProcessError};

/// What the loader itself runs through while it writes.
const SYSTEM_IMAGES: [&str; 3] = ["ntdll.dll", "kernel32.dll", "kernelbase.dll"];

/// A payload that fits its image. Nothing has been touched so far.
pub(super) struct Fitting<'a> {
    pub payload: &'a Payload,
    image: LoadedImage,
    pub succession: Succession<'a>,
    taken_over: Vec<TakenOver>,
    /// What gives its variables their first values.
    pub due: Vec<Due>,
    imports: Vec<Imported>,
}

impl<'a> Fitting<'a> {
    /// Finds the image, the patches that are replaced, and the imports; the entries must hold what they must.
    pub fn find(
        process: &Process,
        modules: &Modules,
        (file, payload): (&PayloadFile, &'a Payload),
        seal: &Seal,
        present: &'a [Record],
    ) -> Result<Fitting<'a>, ApplyError> {
        let image = find_image(process, modules, &payload.identity)?;
        let succession = Succession::of(present, payload, seal, &image)?;
        let taken_over = succession.taken_over(payload)?;
        let due = initialisers::due(payload, &taken_over)?;
        check_expected(process, &succession.edits(entries::checks(payload, &image)?, &image))?;
        if let Some(body) = changed_body(process, payload, &image, present) {
            let trampoline = payload.trampolines.iter().find(|t| t.entry_rva == body.entry_rva);
            return Err(ApplyError::Body {
                image: payload.identity.image_name.clone(),
                function: trampoline.map(|t| trampoline_function(payload, t).to_owned()).unwrap_or_default(),
                start: body.start,
                size: body.checked,
            });
        }
        let imports = imports::resolve_all(process, modules, file, payload)?;
        Ok(Fitting { payload, image, succession, taken_over, due, imports })
    }

    /// Memory for its region.
    pub fn reserve<'p>(&self, process: &'p Process) -> Result<Region<'p>, ApplyError> {
        let region = reserve(process, self.payload, &self.image)?;
        claims::claim(process, region.base, region.size)?;
        Ok(region)
    }

    /// Where no thread may be when its entries are written.
    pub fn zones(&self, prepared: &Prepared<'_>, consistency: Consistency) -> Vec<Zone> {
        let own = entries::zones(self.payload, &prepared.linked, &self.image, consistency);
        own.into_iter().chain(self.succession.zones(&self.image)).collect()
    }
}

/// A payload's memory in the process, filled and registered; nothing leads to it yet. Everything is undone when it is dropped, in the
/// order of the fields, unless it is kept.
pub(super) struct Prepared<'p> {
    registration: Registration<'p>,
    region: Region<'p>,
    held: HeldModule<'p>,
    pub record: Record,
    /// Whether something of the region may be registered with the process, which calls it when it ends.
    pub registers_exit: bool,
    pub edits: Vec<Edit>,
    pub marks: Vec<Mark>,
    pub assignments: Vec<Assignment>,
    pub linked: Linked,
}

impl<'p> Prepared<'p> {
    /// Makes it in a region; `regions` holds the bases of those of all images. `sequence` is the patch's number in the process.
    pub fn make(
        process: &'p Process,
        modules: &'p Modules,
        fitting: &Fitting<'_>,
        (seal, sequence): (&Seal, u64),
        (region, regions): (Region<'p>, &[u64]),
    ) -> Result<Prepared<'p>, ApplyError> {
        let Fitting { payload, image, succession, taken_over, due, imports } = fitting;
        let held = HeldModule::hold(process, modules, image.base)?;
        let address = |import: &Imported| match import {
            Imported::Known(address) => *address,
            Imported::Brought(number, offset) => regions.get(*number).map_or(0, |base| base + u64::from(*offset)),
        };
        let addresses: Vec<u64> = imports.iter().map(address).collect();
        let linked = link_taking_over(payload, region.base, image.base, &addresses, taken_over)?;
        let record = new_record((payload, seal, sequence), image, &region, &linked, (taken_over, due));
        fill(process, &region, &linked, &record, tables_at(payload))?;
        let registration = Registration::register(process, modules, linked.function_table)?;
        let own = Mark::new(region.base, PatchState::Prepared, PatchState::Applied);
        Ok(Prepared {
            registration,
            edits: succession.edits(entries::edits(&linked), image),
            marks: succession.marks().chain([own]).collect(),
            assignments: assignments(&linked, &record),
            linked,
            region,
            held,
            record,
            registers_exit: false,
        })
    }

    /// Whether all entries can be written while threads run.
    pub fn is_no_stop(&self) -> bool {
        self.linked.trampolines.iter().all(|trampoline| trampoline.is_no_stop)
    }

    /// Leaves it in the process.
    pub fn keep(self) -> Record {
        self.registration.keep();
        self.region.keep();
        self.held.keep();
        self.record
    }
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

/// The variables that get a value: what they had is kept behind the region's header.
fn assignments(linked: &Linked, record: &Record) -> Vec<Assignment> {
    let mut saved = record.region_base + record::SAVED;
    let assignment = |assigned: &RecordAssignment| {
        let offset = assigned.value - record.region_base;
        let segment = linked.segments.iter().rev().find(|segment| u64::from(segment.offset) <= offset)?;
        let start = usize::try_from(offset - u64::from(segment.offset)).ok()?;
        let value = segment.bytes.get(start..start.checked_add(assigned.size as usize)?)?.to_vec();
        let saved_at = saved;
        saved += u64::from(assigned.size);
        let before = vec![0; value.len()];
        Some(Assignment { address: assigned.address, value, only_if: None, before, saved_at: Some(saved_at) })
    };
    record.assignments.iter().filter_map(assignment).collect()
}

/// Pages that nobody may touch behind the payload's memory, and behind the record's tables, where another region may begin.
const GUARD: u64 = PAGE as u64;

/// Region offset of the record's tables.
fn tables_at(payload: &Payload) -> u64 {
    u64::from(payload.region_size()) + GUARD
}

/// Memory for the payload's region and, behind it, the record's tables.
fn reserve<'p>(process: &'p Process, payload: &Payload, image: &LoadedImage) -> Result<Region<'p>, ApplyError> {
    let tables = record::tables_size(payload);
    let size = tables_at(payload) + tables.next_multiple_of(PAGE.into()) + GUARD;
    let range = image.base..image.base + u64::from(image.size);
    Region::reserve(process, &range, size, payload.must_be_above()).ok_or_else(|| ApplyError::NoRoom {
        image: payload.identity.image_name.clone(),
        base: image.base,
        size,
        only_above: payload.must_be_above(),
    })
}

fn new_record(
    (payload, seal, sequence): (&Payload, &Seal, u64),
    image: &LoadedImage,
    region: &Region<'_>,
    linked: &Linked,
    (taken_over, due): (&[TakenOver], &[Due]),
) -> Record {
    let variables = payload.variables.iter().map(|variable| {
        let earlier = taken_over.iter().find(|existing| existing.offset == variable.offset);
        let address = earlier.map_or(region.base + u64::from(variable.offset), |existing| existing.address);
        RecordVariable { name: variable.name.clone(), address, size: variable.size }
    });
    Record {
        region_base: region.base,
        region_size: region.size,
        seal: *seal,
        state: PatchState::Prepared,
        holds_image: true,
        sequence,
        image_name: payload.identity.image_name.clone(),
        image_base: image.base,
        image_size: image.size,
        image_timestamp: image.timestamp,
        function_table: linked.function_table.map(|table| (table.address, table.count)),
        series: payload.identity.series,
        entries: RecordEntry::from_linked(linked),
        variables: variables.collect(),
        assignments: payload
            .assignments
            .iter()
            .map(|a| RecordAssignment {
                address: image.base + u64::from(a.rva),
                size: a.size,
                value: region.base + u64::from(a.value),
            })
            .collect(),
        functions: RecordFunction::of(payload),
        hooks: payload.hooks.iter().map(|hook| (hook.kind, region.base + u64::from(hook.function))).collect(),
        stays: payload.identity.stays || due.iter().any(|due| due.at_exit),
        threads_stopped: 0,
        applied_at: records::filetime_now(),
        stopped_micros: 0,
        probation: payload.probation.map(|probation| RecordProbation {
            window_ms: probation.window_ms,
            interval_ms: probation.interval_ms,
            check: probation.check.map(|(space, place)| match space {
                Space::Image => image.base + u64::from(place),
                Space::Region => region.base + u64::from(place),
            }),
        }),
        probation_until: 0,
    }
}

/// Writes everything while the region is writable, then gives each part its protection. The header's page stays writable: it is data.
fn fill(
    process: &Process,
    region: &Region<'_>,
    linked: &Linked,
    record: &Record,
    tables: u64,
) -> Result<(), ProcessError> {
    let (header, content) = record.encode(tables);
    for segment in &linked.segments {
        process.write(region.base + u64::from(segment.offset), &segment.bytes)?;
    }
    process.write(region.base + tables, &content)?;
    process.write(region.base, &header)?;
    let end = region.size - GUARD;
    process.protect(region.base + tables, end - tables, PAGE_READONLY)?;
    // Pages between what the payload has are guards too.
    let segments = linked.segments.iter().map(|s| (u64::from(s.offset), u64::from(s.offset) + u64::from(s.size)));
    let mut used = u64::from(PAGE);
    for (start, after) in segments.chain([(tables, end), (region.size, region.size)]) {
        if start > used {
            process.protect(region.base + used, start - used, PAGE_NOACCESS)?;
        }
        used = after.next_multiple_of(PAGE.into());
    }
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
