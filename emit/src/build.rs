//! From a plan to a payload, and to the bytes of its file.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::image::{Import, ImportedSymbol};
use hpgen_diff::program::{Function, Program};
use hpgen_diff::rtti;
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::{Reference, ReferenceKind};
use hpgen_runtime::format::{
    self, Assignment, Body, Hook, HookKind, Identity, ImportSymbol, Initialiser, MACHINE_X64, Payload, PayloadFile,
    Probation, Protection, Relocation, RelocationKind, Segment, Space, THROW_STUB, Trampoline, Unwind, Variable,
};

use crate::initialisers::PlannedInitialiser;
use crate::layout::{FILLER, Layout, ThrowPlaces, length};
use crate::plan::{Destination, HandlerField, Plan, PlannedFunction, PlannedHandler, PlannedProbation, PlannedThrow};
use crate::sites::Site;
use crate::throw_stub;

/// Why a plan cannot be turned into a payload. Each of these is a defect of hpgen or a limit of the format, not of the input.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The plan has refusals, which the caller must report instead.
    #[error("the plan was refused")]
    Refused,
    /// The region would exceed what the format allows.
    #[error("the payload needs more than 1 GiB of memory")]
    TooLarge,
    /// A field cannot hold its value.
    #[error("{function}: {what}")]
    Field {
        /// The function or object that holds the field.
        function: String,
        /// What does not fit.
        what: &'static str,
    },
    /// The format cannot express the payload.
    #[error(transparent)]
    Encode(#[from] format::EncodeError),
    /// The file that was made does not read back: it is not written.
    #[error("the payload does not read back: {0}")]
    ReadBack(#[from] format::FormatError),
}

/// `jmp rel32`.
const JUMP: u8 = 0xe9;

/// The file of one or several payloads: compressed and sealed. The same payloads give the same bytes. What is returned was read back.
///
/// # Errors
/// When the format's limits are exceeded.
pub fn file(payloads: &PayloadFile) -> Result<Vec<u8>, BuildError> {
    let body = payloads.encode_body()?;
    let stored = format::compress(&body);
    let file = format::seal_file(MACHINE_X64, body.len() as u64, &stored);
    PayloadFile::decode(&file)?;
    Ok(file)
}

/// Builds the payload of a plan without refusals.
///
/// # Errors
/// When the plan was refused or does not fit the format.
pub fn payload(old: &Program, new: &Program, plan: &Plan) -> Result<Payload, BuildError> {
    if !plan.refusals.is_empty() {
        return Err(BuildError::Refused);
    }
    let layout = Layout::of(new, plan).ok_or(BuildError::TooLarge)?;
    let mut writer = Writer::new(old, new, plan, &layout);
    for (index, planned) in &plan.functions {
        writer.function(*index, planned)?;
    }
    for (callee, planned) in &plan.throws {
        writer.throw(*callee, planned)?;
    }
    writer.throw_base()?;
    writer.unwind()?;
    for (index, data) in &plan.data {
        writer.data(*index, data)?;
    }
    let Writer { code, constants, variables, mut relocations, .. } = writer;
    relocations.sort_by_key(|r| r.place);
    let identity = &old.image.identity;
    Ok(Payload {
        identity: Identity {
            guid: identity.guid,
            age: identity.age,
            timestamp: identity.timestamp,
            size_of_image: identity.size_of_image,
            entry_point: identity.entry_point.0,
            image_base: identity.image_base,
            image_name: old.image.file_name(),
            series: 1,
            stays: plan.stays,
        },
        segments: [code, constants, variables]
            .into_iter()
            .filter(|segment| segment.size > 0)
            .map(|segment| trim(segment, &relocations))
            .collect(),
        relocations,
        trampolines: trampolines(plan, &layout),
        functions: functions(old, new, plan, &layout),
        imports: layout.slots.iter().map(|(import, slot)| new_import(import, *slot)).collect(),
        unwind: unwind(new, plan, &layout),
        variables: lasting_variables(new, plan, &layout),
        hooks: hooks(plan, &layout),
        assignments: assignments(old, new, plan, &layout),
        bodies: bodies(old, plan),
        initialisers: initialisers(new, plan, &layout)?,
        probation: probation(plan, &layout),
    })
}

/// Zeros at the end of the variables need not be stored, unless a relocation fills them.
fn trim(mut segment: Segment, relocations: &[Relocation]) -> Segment {
    if segment.protection == Protection::ReadWrite {
        let end = segment.offset.saturating_add(segment.size);
        let last_field = relocations.iter().rev().find(|r| (segment.offset..end).contains(&r.place));
        let relocated = last_field.map_or(0, |r| (r.place - segment.offset + r.kind.width()) as usize);
        let used = segment.content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        segment.content.truncate(used.max(relocated));
    }
    segment
}

fn unwind(new: &Program, plan: &Plan, layout: &Layout) -> Unwind {
    let own = plan.functions.keys().filter_map(|index| new.function(*index)).map(|f| f.unwind.len());
    let count = own.chain([plan.throws.len()]).map(|count| count as u32).sum();
    if count == 0 { Unwind::default() } else { Unwind { table: layout.function_table, count } }
}

fn trampolines(plan: &Plan, layout: &Layout) -> Vec<Trampoline> {
    let sites = plan.sites.iter();
    let mut trampolines: Vec<Trampoline> =
        sites.filter_map(|(index, site)| Some(site.trampoline(*layout.atoms.get(index)?))).collect();
    trampolines.sort_by_key(|t| t.entry_rva);
    trampolines
}

fn bodies(old: &Program, plan: &Plan) -> Vec<Body> {
    let mut bodies: Vec<Body> = plan.sites.values().flat_map(Site::bodies).map(|body| hashed(old, body)).collect();
    bodies.sort_unstable();
    bodies
}

/// With the digest of what is the same wherever the image is loaded.
fn hashed(old: &Program, body: Body) -> Body {
    const ADDRESS: u32 = 8;
    let range = Rva(body.start)..Rva(body.start.saturating_add(body.size));
    let places = old.image.base_relocations.iter().map(|place| place.0);
    let first = places.filter(|place| place.saturating_add(ADDRESS) > body.start && *place < range.end.0).min();
    let end = first.unwrap_or(range.end.0).max(body.start);
    let bytes = old.image.bytes_up_to(range.start..Rva(end));
    match u32::try_from(bytes.len()) {
        Ok(checked) if checked > 0 => Body { checked, digest: Body::digest_of(bytes), ..body },
        _ => body,
    }
}

/// The variables that the next payload of the image takes over, under names that the next build gives them as well.
fn lasting_variables(new: &Program, plan: &Plan, layout: &Layout) -> Vec<Variable> {
    let mut variables: Vec<Variable> = plan
        .data
        .iter()
        .filter(|(_, data)| data.writable)
        .filter_map(|(index, _)| {
            // Type descriptors are the same by name; every payload has its own, within the reach of its tables.
            let atom = new.atom(*index).filter(|atom| atom.size > 0 && !rtti::is_type_descriptor(atom))?;
            let name = atom.names.first()?;
            let parts = name.local.iter().flat_map(|local| [Some(&local.module), local.scope.as_ref()]).flatten();
            let name = parts.chain([&name.key]).map(String::as_str).collect::<Vec<_>>().join("!");
            Some(Variable { offset: *layout.atoms.get(index)?, size: atom.size, name })
        })
        .collect();
    variables.sort_by_key(|variable| variable.offset);
    // Of several of one name in one module, the order tells.
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for variable in &mut variables {
        let count = seen.entry(variable.name.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            variable.name = format!("{}#{count}", variable.name);
        }
    }
    variables
}

fn assignments(old: &Program, new: &Program, plan: &Plan, layout: &Layout) -> Vec<Assignment> {
    let assignment = |(index, old_index): &(AtomIndex, AtomIndex)| {
        let (atom, old_atom) = (new.atom(*index)?, old.atom(*old_index)?);
        let size = atom.size.min(old_atom.size);
        Some(Assignment { rva: old_atom.rva.0, value: *layout.atoms.get(index)?, size })
    };
    let mut assignments: Vec<Assignment> = plan.assignments.iter().filter_map(assignment).collect();
    assignments.sort_by_key(|assignment| assignment.rva);
    assignments
}

/// One record for each variable, those of a function together and by rising place.
fn initialisers(new: &Program, plan: &Plan, layout: &Layout) -> Result<Vec<Initialiser>, BuildError> {
    let place = |index: AtomIndex| {
        layout.atoms.get(&index).copied().ok_or_else(|| BuildError::Field {
            function: new.atom(index).map(|atom| new.display(atom)).unwrap_or_default(),
            what: "is initialised, and not in the layout",
        })
    };
    let mut records = Vec::new();
    for planned in &plan.initialisers {
        let function = planned.function.map(place).transpose()?;
        let mut variables = planned.variables.iter().map(|index| place(*index)).collect::<Result<Vec<_>, _>>()?;
        variables.sort_unstable();
        let PlannedInitialiser { checked, at_exit, .. } = *planned;
        records.extend(variables.into_iter().map(|variable| Initialiser { function, variable, checked, at_exit }));
    }
    // Those without a function are one group, behind the others.
    let (called, mut left): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.function.is_some());
    left.sort_unstable_by_key(|record| record.variable);
    left.dedup();
    Ok(called.into_iter().chain(left).collect())
}

fn probation(plan: &Plan, layout: &Layout) -> Option<Probation> {
    let PlannedProbation { window_ms, interval_ms, ref check } = *plan.probation.as_ref()?;
    let check = match check {
        Some(Destination::Region(index, _)) => layout.atoms.get(index).map(|offset| (Space::Region, *offset)),
        Some(Destination::Image(rva)) => Some((Space::Image, rva.0)),
        _ => None,
    };
    Some(Probation { window_ms, interval_ms, check })
}

fn hooks(plan: &Plan, layout: &Layout) -> Vec<Hook> {
    let hook = |(kind, index): &(HookKind, AtomIndex)| Some(Hook { kind: *kind, function: *layout.atoms.get(index)? });
    plan.hooks.iter().filter_map(hook).collect()
}

fn functions(old: &Program, new: &Program, plan: &Plan, layout: &Layout) -> Vec<format::Function> {
    let stubs = layout.throws.values().map(|stub| format::Function {
        offset: stub.code,
        size: throw_stub::SIZE,
        old_rva: None,
        name: THROW_STUB.to_owned(),
        exported: false,
    });
    plan.functions
        .iter()
        .filter_map(|(index, planned)| {
            Some(format::Function {
                offset: *layout.atoms.get(index)?,
                size: planned.size,
                old_rva: planned.replaces.and_then(|old_index| old.atom(old_index)).map(|a| a.rva.0),
                name: new.linkage_name(new.atom(*index)?),
                exported: plan.exported.contains(index),
            })
        })
        .chain(stubs)
        .collect()
}

fn new_import(import: &Import, slot: u32) -> format::Import {
    let symbol = match &import.symbol {
        ImportedSymbol::Name(name) => ImportSymbol::Name(name.clone()),
        ImportedSymbol::Ordinal(ordinal) => ImportSymbol::Ordinal(*ordinal),
    };
    format::Import { slot, dll: import.dll.clone(), symbol }
}

/// Where a field's value leads: a base and a place.
#[derive(Debug, Clone, Copy)]
struct Place {
    space: Space,
    target: i64,
    /// Region offset of the variable that it is an address of, if it is.
    object: Option<u32>,
}

struct Writer<'a> {
    /// Where the old image's template of the thread-local block begins.
    thread_local_data: Option<Rva>,
    new: &'a Program,
    plan: &'a Plan,
    layout: &'a Layout,
    /// Pieces of exception tables that are written: a function shares them with its funclets.
    written_pieces: BTreeSet<Rva>,
    code: Segment,
    constants: Segment,
    variables: Segment,
    relocations: Vec<Relocation>,
}

impl<'a> Writer<'a> {
    fn new(old: &Program, new: &'a Program, plan: &'a Plan, layout: &'a Layout) -> Writer<'a> {
        let segment = |(start, end): (u32, u32), protection, fill: u8| Segment {
            offset: start,
            size: end - start,
            protection,
            content: vec![fill; (end - start) as usize],
        };
        Writer {
            thread_local_data: old.image.thread_local_data.as_ref().map(|range| range.start),
            new,
            plan,
            layout,
            code: segment(layout.code, Protection::ReadExecute, FILLER),
            written_pieces: BTreeSet::new(),
            constants: segment(layout.constants, Protection::Read, 0),
            variables: segment(layout.variables, Protection::ReadWrite, 0),
            relocations: Vec::new(),
        }
    }

    fn error(&self, index: AtomIndex, what: &'static str) -> BuildError {
        let function = self.new.atom(index).map(|atom| self.new.display(atom)).unwrap_or_default();
        BuildError::Field { function, what }
    }

    /// Writes bytes at a region offset.
    fn write(&mut self, index: AtomIndex, place: u32, bytes: &[u8]) -> Result<(), BuildError> {
        for segment in [&mut self.code, &mut self.constants, &mut self.variables] {
            let Some(start) = place.checked_sub(segment.offset).map(|start| start as usize) else {
                continue;
            };
            if let Some(field) = segment.content.get_mut(start..start + bytes.len()) {
                field.copy_from_slice(bytes);
                return Ok(());
            }
        }
        Err(self.error(index, "is laid out outside the region"))
    }

    fn function(&mut self, index: AtomIndex, planned: &PlannedFunction) -> Result<(), BuildError> {
        let new = self.new;
        let (Some(atom), Some(function), Some(&offset)) =
            (new.atom(index), new.function(index), self.layout.atoms.get(&index))
        else {
            return Err(self.error(index, "is not in the layout"));
        };
        let bytes =
            new.image.bytes(atom.rva, planned.extent).ok_or(self.error(index, "its code is not all in the file"))?;
        self.write(index, offset, bytes)?;
        for (start, removed) in &planned.removed {
            self.write(index, offset + start, &removed.bytes())?;
        }
        let references = function.code.references.iter().zip(&planned.references);
        for (reference, destination) in references.filter(|(_, to)| **to != Destination::Nothing) {
            if reference.kind == ReferenceKind::ShortJump {
                self.short_branch(index, (offset, planned), reference, destination)?;
            } else {
                self.reference(index, offset, reference, destination)?;
            }
        }
        for (place, destination) in planned.islands.places(planned.extent) {
            let place = u32::try_from(i64::from(offset) + place)
                .map_err(|_| self.error(index, "a jump beside it is outside the region"))?;
            self.write(index, place, &[JUMP, 0, 0, 0, 0])?;
            let to = self.place(index, destination)?;
            self.relative(index, place + 1, to, -4)?;
        }
        for table in &planned.tables {
            let start = self.table(index, table.rva)?;
            for (number, target) in (0u32..).zip(&table.targets) {
                let target = i64::from(offset) + i64::from(*target);
                if table.base != table.rva {
                    let to = Place { space: Space::Region, target, object: None };
                    self.relocation(index, start + 4 * number, RelocationKind::Image32, to, 0)?;
                    continue;
                }
                let distance = target - i64::from(start);
                let distance =
                    i32::try_from(distance).map_err(|_| self.error(index, "a jump table entry is out of reach"))?;
                self.write(index, start + 4 * number, &distance.to_le_bytes())?;
            }
        }
        for (table, targets) in &planned.data_tables {
            let start = self.table(index, table.rva)?;
            for (number, destination) in (0u32..).zip(targets) {
                let place = start + 4 * number;
                let to = self.place(index, destination)?;
                if table.base != table.rva {
                    self.image_relative(index, place, to)?;
                    continue;
                }
                // Counted from the table, not from the field.
                self.relative(index, place, Place { target: to.target + i64::from(4 * number), ..to }, 0)?;
            }
        }
        Ok(())
    }

    /// To the long jump beside the function that leads on.
    fn short_branch(
        &mut self,
        index: AtomIndex,
        (offset, planned): (u32, &PlannedFunction),
        reference: &Reference,
        destination: &Destination,
    ) -> Result<(), BuildError> {
        let end = reference.field + u32::from(reference.to_end);
        let way = planned.islands.way(planned.extent, end, destination);
        let way = way.ok_or(self.error(index, "a short branch has no jump that leads on"))?;
        self.write(index, offset + reference.field, &way.to_le_bytes())
    }

    fn table(&self, index: AtomIndex, rva: Rva) -> Result<u32, BuildError> {
        self.layout.tables.get(&(index, rva)).copied().ok_or(self.error(index, "a table is not in the layout"))
    }

    fn reference(
        &mut self,
        index: AtomIndex,
        function: u32,
        reference: &Reference,
        destination: &Destination,
    ) -> Result<(), BuildError> {
        let field = function + reference.field;
        let to = match destination {
            Destination::JumpTable(rva) | Destination::DataTable(rva) => {
                Place { space: Space::Region, target: i64::from(self.table(index, *rva)?), object: None }
            }
            _ => self.place(index, destination)?,
        };
        match reference.kind {
            ReferenceKind::Absolute => self.absolute(index, field, to),
            ReferenceKind::ThreadLocal => {
                let start =
                    self.thread_local_data.ok_or(self.error(index, "the old image has no thread-local data"))?;
                let offset = u32::try_from(to.target - i64::from(start.0))
                    .map_err(|_| self.error(index, "a thread-local variable is outside its block"))?;
                self.write(index, field, &offset.to_le_bytes())
            }
            ReferenceKind::ImageRelative => self.image_relative(index, field, to),
            _ => self.relative(index, field, to, -i64::from(reference.to_end)),
        }
    }

    fn place(&self, index: AtomIndex, destination: &Destination) -> Result<Place, BuildError> {
        let missing = || self.error(index, "a destination is not in the layout");
        match destination {
            Destination::Image(rva) => Ok(Place { space: Space::Image, target: i64::from(rva.0), object: None }),
            Destination::Region(atom, offset) => {
                let start = self.layout.atoms.get(atom).ok_or_else(missing)?;
                let is_variable = self.plan.data.get(atom).is_some_and(|data| data.writable);
                let object = is_variable.then_some(*start);
                Ok(Place { space: Space::Region, target: i64::from(*start) + offset, object })
            }
            Destination::Import(import) => {
                let slot = self.layout.slots.get(import).ok_or_else(missing)?;
                Ok(Place { space: Space::Region, target: i64::from(*slot), object: None })
            }
            Destination::Throw(callee) => {
                let stub = self.layout.throws.get(callee).ok_or_else(missing)?;
                Ok(Place { space: Space::Region, target: i64::from(stub.code), object: None })
            }
            Destination::JumpTable(_) | Destination::DataTable(_) | Destination::Nothing => Err(missing()),
        }
    }

    /// A stub that throws, its fields and its unwind record.
    fn throw(&mut self, callee: AtomIndex, planned: &PlannedThrow) -> Result<(), BuildError> {
        let missing = self.error(callee, "is thrown with, and not in the layout");
        let Some(ThrowPlaces { code, unwind_info }) = self.layout.throws.get(&callee).copied() else {
            return Err(missing);
        };
        self.write(callee, code, &throw_stub::CODE)?;
        self.write(callee, unwind_info, &throw_stub::UNWIND_INFO)?;
        let (first, end) = self.layout.constants;
        self.write(callee, code + throw_stub::LENGTH, &(end - first).to_le_bytes())?;
        let inside = |target: u32| Place { space: Space::Region, target: target.into(), object: None };
        for (field, to) in [
            (throw_stub::FIRST, inside(first)),
            (throw_stub::ORIGINAL, self.place(callee, &planned.original)?),
            (throw_stub::BASE, inside(self.layout.throw_base)),
            (throw_stub::RAISE, self.place(callee, &planned.raise)?),
        ] {
            self.relative(callee, code + field, to, -throw_stub::FIELD)?;
        }
        Ok(())
    }

    /// The field that holds its own distance from what unwind data counts from.
    fn throw_base(&mut self) -> Result<(), BuildError> {
        let field = self.layout.throw_base;
        let to = Place { space: Space::Region, target: field.into(), object: None };
        match self.layout.throws.keys().next() {
            Some(callee) => self.relocation(*callee, field, RelocationKind::Rva32, to, 0),
            None => Ok(()),
        }
    }

    /// A 32-bit distance from its field: known now inside the region, a relocation into the image.
    fn relative(&mut self, index: AtomIndex, field: u32, to: Place, addend: i64) -> Result<(), BuildError> {
        match to.space {
            // A variable may be one that an earlier payload brought.
            Space::Region if to.object.is_none() => {
                let distance = i32::try_from(to.target + addend - i64::from(field))
                    .map_err(|_| self.error(index, "a distance does not fit its field"))?;
                self.write(index, field, &distance.to_le_bytes())
            }
            _ => self.relocation(index, field, RelocationKind::Rel32, to, addend),
        }
    }

    /// A distance from the image's base: known now inside the image, a relocation into the region.
    fn image_relative(&mut self, index: AtomIndex, field: u32, to: Place) -> Result<(), BuildError> {
        match to.space {
            Space::Image => {
                let rva = u32::try_from(to.target).map_err(|_| self.error(index, "an RVA does not fit its field"))?;
                self.write(index, field, &rva.to_le_bytes())
            }
            Space::Region => self.relocation(index, field, RelocationKind::Image32, to, 0),
        }
    }

    fn absolute(&mut self, index: AtomIndex, field: u32, to: Place) -> Result<(), BuildError> {
        self.relocation(index, field, RelocationKind::Addr64, to, 0)
    }

    fn relocation(
        &mut self,
        index: AtomIndex,
        place: u32,
        kind: RelocationKind,
        to: Place,
        addend: i64,
    ) -> Result<(), BuildError> {
        self.write(index, place, &[0; 8][..kind.width() as usize])?;
        // A biased base may lie before its space or outside its variable: the target is kept inside, the rest goes into the addend.
        let target = to.object.map_or(to.target, i64::from).clamp(0, i64::from(u32::MAX));
        let addend = i32::try_from(to.target - target + addend)
            .map_err(|_| self.error(index, "an address is too far outside the image"))?;
        self.relocations.push(Relocation { place, kind, space: to.space, target: target as u32, addend });
        Ok(())
    }

    /// The function table and its records (x64 exception handling, `RUNTIME_FUNCTION` and `UNWIND_INFO`).
    fn unwind(&mut self) -> Result<(), BuildError> {
        let mut entry = self.layout.function_table;
        let functions: Vec<AtomIndex> = self.plan.functions.keys().copied().collect();
        for index in functions {
            let Some(function) = self.new.function(index) else {
                continue;
            };
            for number in 0..function.unwind.len() {
                self.runtime_function(index, function, number, entry)?;
                entry += 12;
                self.unwind_info(index, function, number)?;
            }
        }
        // Behind all functions, as their code is.
        for (callee, stub) in &self.layout.throws {
            let fields = [(0, stub.code), (4, stub.code + throw_stub::SIZE), (8, stub.unwind_info)];
            for (field, target) in fields {
                let to = Place { space: Space::Region, target: target.into(), object: None };
                self.relocation(*callee, entry + field, RelocationKind::Rva32, to, 0)?;
            }
            entry += 12;
        }
        Ok(())
    }

    /// Begin, end and record of one entry, at `place`.
    fn runtime_function(
        &mut self,
        index: AtomIndex,
        function: &Function,
        number: usize,
        place: u32,
    ) -> Result<(), BuildError> {
        let bad = |writer: &Self| writer.error(index, "an unwind record is not inside its function");
        let (Some(atom), Some(&offset), Some(planned), Some((runtime_function, _))) = (
            self.new.atom(index),
            self.layout.atoms.get(&index),
            self.plan.functions.get(&index),
            function.unwind.get(number),
        ) else {
            return Err(bad(self));
        };
        let inside = |rva: Rva| {
            u32::try_from(rva.distance_from(atom.rva)).ok().map(|distance| distance.min(planned.size) + offset)
        };
        let (Some(begin), Some(end)) = (inside(runtime_function.range.start), inside(runtime_function.range.end))
        else {
            return Err(bad(self));
        };
        let info = self.layout.unwind_infos.get(&(index, number)).copied().ok_or(bad(self))?;
        for (field, target) in [(place, begin), (place + 4, end), (place + 8, info)] {
            let to = Place { space: Space::Region, target: i64::from(target), object: None };
            self.relocation(index, field, RelocationKind::Rva32, to, 0)?;
        }
        Ok(())
    }

    fn unwind_info(&mut self, index: AtomIndex, function: &Function, number: usize) -> Result<(), BuildError> {
        let Some((_, info)) = function.unwind.get(number) else {
            return Ok(());
        };
        let place = self
            .layout
            .unwind_infos
            .get(&(index, number))
            .copied()
            .ok_or(self.error(index, "an unwind record is missing"))?;
        self.write(index, place, &info.codes)?;
        if let Some(primary) = &info.chained {
            let position = function.unwind.iter().position(|(entry, _)| entry.range == primary.range);
            let primary = position.ok_or(self.error(index, "an unwind record continues one outside its function"))?;
            let tail = place + (info.codes.len() as u32).next_multiple_of(4);
            self.runtime_function(index, function, primary, tail)?;
        }
        let plan = self.plan;
        let handlers = plan.functions.get(&index).map(|planned| planned.handlers.as_slice());
        match handlers.and_then(|handlers| handlers.get(number)) {
            Some(Some(handler)) => self.handler(index, handler, place + (info.codes.len() as u32).next_multiple_of(4)),
            _ => Ok(()),
        }
    }

    /// A handler's address at `place`, its data behind it, and the tables that the data leads to.
    fn handler(&mut self, index: AtomIndex, handler: &PlannedHandler, place: u32) -> Result<(), BuildError> {
        let to = self.place(index, &handler.handler)?;
        self.relocation(index, place, RelocationKind::Rva32, to, 0)?;
        let mut offsets: BTreeMap<Rva, u32> = BTreeMap::new();
        for (number, piece) in handler.pieces.iter().enumerate() {
            if number > 0 && !self.written_pieces.insert(piece.start) {
                continue;
            }
            let missing = || self.error(index, "a piece of its exception tables is not in the layout");
            let offset = match number {
                0 => place + 4,
                _ => self.layout.handler_pieces.get(&piece.start).copied().ok_or_else(missing)?,
            };
            let bytes = self.new.image.bytes(piece.start, length(piece)).ok_or_else(missing)?;
            offsets.insert(piece.start, offset);
            self.write(index, offset, bytes)?;
        }
        for (field, to) in &handler.fields {
            // A field of a piece that was written before was relocated then.
            let Some((start, offset)) = offsets.range(..=*field).next_back() else { continue };
            let inside = handler.pieces.iter().any(|piece| piece.start == *start && piece.contains(field));
            if !inside {
                continue;
            }
            let place = offset + (field.0 - start.0);
            let to = match to {
                HandlerField::To(destination) => self.place(index, destination)?,
                HandlerField::Address(destination) => {
                    let to = self.place(index, destination)?;
                    self.absolute(index, place, to)?;
                    continue;
                }
                HandlerField::Distance(destination) => {
                    let to = self.place(index, destination)?;
                    self.relative(index, place, to, 0)?;
                    continue;
                }
                HandlerField::Piece(rva) => {
                    let target = self.layout.handler_pieces.get(rva).copied();
                    let target =
                        target.ok_or(self.error(index, "a piece of its exception tables is not in the layout"))?;
                    Place { space: Space::Region, target: i64::from(target), object: None }
                }
            };
            self.relocation(index, place, RelocationKind::Rva32, to, 0)?;
        }
        Ok(())
    }

    fn data(&mut self, index: AtomIndex, data: &crate::plan::PlannedData) -> Result<(), BuildError> {
        let new = self.new;
        let (Some(atom), Some(&offset)) = (new.atom(index), self.layout.atoms.get(&index)) else {
            return Err(self.error(index, "is not in the layout"));
        };
        self.write(index, offset, new.image.bytes_up_to(atom.rva..atom.end()))?;
        for (place, destination) in &data.pointers {
            let to = self.place(index, destination)?;
            self.absolute(index, offset + place, to)?;
        }
        for (place, destination) in &data.rvas {
            let to = self.place(index, destination)?;
            if data.is_throw_record {
                self.relocation(index, offset + place, RelocationKind::Rva32, to, 0)?;
                continue;
            }
            self.image_relative(index, offset + place, to)?;
        }
        Ok(())
    }
}

/// What a payload brings, in numbers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Old functions that are redirected.
    pub replaced: usize,
    /// Functions that only the payload has.
    pub new_functions: usize,
    /// Bytes of code.
    pub code: u64,
    /// Bytes of constants, unwind data included.
    pub constants: u64,
    /// Bytes of new variables.
    pub variables: u64,
}

impl std::iter::Sum for Figures {
    fn sum<I: Iterator<Item = Figures>>(all: I) -> Figures {
        all.fold(Figures::default(), |sum, one| Figures {
            replaced: sum.replaced + one.replaced,
            new_functions: sum.new_functions + one.new_functions,
            code: sum.code + one.code,
            constants: sum.constants + one.constants,
            variables: sum.variables + one.variables,
        })
    }
}

impl Figures {
    /// Counts a payload.
    pub fn of(payload: &Payload) -> Figures {
        let sizes: BTreeMap<u8, u64> = payload.segments.iter().fold(BTreeMap::new(), |mut sizes, segment| {
            let key = match segment.protection {
                Protection::ReadExecute => 0,
                Protection::Read => 1,
                Protection::ReadWrite => 2,
            };
            *sizes.entry(key).or_default() += u64::from(segment.size);
            sizes
        });
        let size = |key: u8| sizes.get(&key).copied().unwrap_or(0);
        Figures {
            replaced: payload.functions.iter().filter(|f| f.old_rva.is_some()).count(),
            new_functions: payload.functions.iter().filter(|f| f.old_rva.is_none()).count(),
            code: size(0),
            constants: size(1),
            variables: size(2),
        }
    }
}
