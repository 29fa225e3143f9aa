//! Who leads to a function, where that can be known completely: then its callers can be redirected in the place of its entry.
//!
//! All must be direct calls and jumps with 32-bit distances in functions that are understood. That there are no others is not left to
//! what was decoded: every byte of the image is looked at as if an address began there, every byte but those of understood code as if a
//! distance did, and one hit that is not explained refuses the function.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::image::{Image, Section};
use hpgen_diff::program::{Function, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::{Reference, ReferenceKind};
use hpgen_runtime::format::CALLER_LEN;

use crate::trampoline::return_places;

/// Bytes between a distance and the end of its instruction: none, or an immediate.
const BEHIND: [u32; 4] = [0, 1, 2, 4];
/// How far a short branch reaches, with its own bytes.
const SHORT_REACH: u32 = 130;

/// What is already known of all functions of an image.
pub(crate) struct Callers {
    /// 32-bit fields of understood code, which are what they were decoded as, and nothing else.
    decoded: BTreeSet<Rva>,
    /// Direct calls and jumps by what they lead to: their fields, and who has them.
    direct: BTreeMap<Rva, Vec<(Rva, AtomIndex)>>,
    /// Everything else that code names, each with who does.
    named: BTreeMap<Rva, AtomIndex>,
    /// The linker's table of all functions.
    function_table: Range<Rva>,
}

impl Callers {
    /// Collects the references of a program.
    pub fn of(program: &Program) -> Callers {
        let function_table = function_table(&program.image);
        let mut callers =
            Callers { decoded: BTreeSet::new(), direct: BTreeMap::new(), named: BTreeMap::new(), function_table };
        for function in &program.functions {
            callers.add(program, function);
        }
        callers
    }

    fn add(&mut self, program: &Program, function: &Function) {
        let Some(atom) = program.atom(function.atom) else { return };
        let is_understood = function.code.unresolved.is_empty();
        for reference in &function.code.references {
            let Some(field) = atom.rva.checked_add(reference.field) else { continue };
            if is_understood && reference.kind.width() as usize == CALLER_LEN {
                self.decoded.insert(field);
            }
            if is_understood && is_direct(&program.image, field, reference) {
                self.direct.entry(reference.target).or_default().push((field, function.atom));
            } else {
                for named in [Some(reference.target), reference.symbol].into_iter().flatten() {
                    self.named.insert(named, function.atom);
                }
            }
        }
        let labels = function.tables.iter().flat_map(|table| &table.targets);
        let labels = labels.filter_map(|target| atom.rva.checked_add(*target));
        let distances = function.data_tables.iter().flat_map(|table| table.targets.iter().copied());
        self.named.extend(labels.chain(distances).map(|named| (named, function.atom)));
    }

    /// The distances of all that leads to a function, by rising address.
    ///
    /// # Errors
    /// Says what else leads there, or may.
    pub fn fields(&self, old: &Program, index: AtomIndex) -> Result<Vec<Rva>, String> {
        let atom = old.atom(index).filter(|atom| atom.is_sized && atom.size > 0).ok_or("where it ends is not known")?;
        let body = atom.rva..atom.end();
        self.not_named(old, index, &body)?;
        not_run_into(old, index)?;
        not_public(old, &body)?;
        self.not_told_elsewhere(old, &body)?;
        self.not_in_any_bytes(old, atom, &body)?;
        let mut fields: Vec<Rva> = self.direct.get(&atom.rva).into_iter().flatten().map(|(field, _)| *field).collect();
        fields.sort_unstable();
        if fields.is_empty() { Err("none is in the image".to_owned()) } else { Ok(fields) }
    }

    /// No code names it in another way, and none names a place inside it.
    fn not_named(&self, old: &Program, index: AtomIndex, body: &Range<Rva>) -> Result<(), String> {
        let other = self.named.range(body.clone()).find(|(_, by)| **by != index);
        let inside = Rva(body.start.0.saturating_add(1))..body.end;
        let middle = self.direct.range(inside).flat_map(|(to, all)| all.iter().map(move |(_, by)| (to, by)));
        match other.or(middle.into_iter().find(|(_, by)| **by != index)) {
            Some((to, by)) if *to == body.start => {
                Err(format!("{} leads there in another way than by a long call or jump", name(old, *by)))
            }
            Some((to, by)) => Err(format!("{} leads into its middle, to {to}", name(old, *by))),
            None => Ok(()),
        }
    }

    /// The linker's and the compiler's own records of addresses have it in calls only.
    fn not_told_elsewhere(&self, old: &Program, body: &Range<Rva>) -> Result<(), String> {
        let (Some(first), Some(last)) = (old.image.sections.first(), old.image.sections.last()) else { return Ok(()) };
        let fields = old.exact.inside(first.range.start..last.range.end);
        let mut others = fields.filter(|(place, field)| {
            let names = body.contains(&field.target) || field.symbol.is_some_and(|symbol| body.contains(&symbol));
            names && !self.decoded.contains(place) && !self.function_table.contains(place)
        });
        others.next().map_or(Ok(()), |(place, _)| Err(format!("its address is taken at {place}")))
    }

    /// No bytes of the image look like a way there that is not known.
    fn not_in_any_bytes(&self, old: &Program, atom: &Atom, body: &Range<Rva>) -> Result<(), String> {
        let address = old.image.identity.image_base.wrapping_add(atom.rva.0.into());
        for section in &old.image.sections {
            let bytes = old.image.bytes_up_to(section.range.clone());
            for (place, window) in (section.range.start.0..).zip(bytes.windows(CALLER_LEN)) {
                let Some(value) = window.first_chunk().map(|value| u32::from_le_bytes(*value)) else { continue };
                let place = Rva(place);
                let is_address = value == atom.rva.0
                    || u64::from(value) == address
                    || old.image.u64_at(place).filter(|_| value == address as u32) == Some(address);
                // Instructions have no other distances than those that were decoded.
                let is_distance = || {
                    let may_be =
                        is_distance(place, value, body) || counts_from_object(old, section, place, value, body);
                    may_be && !is_understood(old, place)
                };
                let may_be = is_address || is_distance();
                if may_be && !self.decoded.contains(&place) && !self.function_table.contains(&place) {
                    let of = old.atom_before(place).map(|index| name(old, index)).unwrap_or_default();
                    return Err(format!("the bytes at {place}, of {of}, may be its address, or lead there"));
                }
            }
        }
        short_branch(old, body)
    }
}

/// A call or jump whose 32-bit distance leads to what it names, and ends its instruction.
fn is_direct(image: &Image, field: Rva, reference: &Reference) -> bool {
    let is_long = matches!(reference.kind, ReferenceKind::Call | ReferenceKind::Jump);
    let is_plain =
        usize::from(reference.to_end) == CALLER_LEN && reference.symbol.is_none_or(|s| s == reference.target);
    let distance = image.u32_at(field);
    let leads = distance.is_some_and(|d| field.0.wrapping_add(CALLER_LEN as u32).wrapping_add(d) == reference.target.0);
    is_long && is_plain && leads && instruction_start(image, field).is_some()
}

/// Where the call or jump begins whose distance stands at `field`.
pub(crate) fn instruction_start(image: &Image, field: Rva) -> Option<Rva> {
    let opcode = |back: u32| {
        let place = Rva(field.0.checked_sub(back)?);
        Some((place, *image.bytes(place, 1)?.first()?))
    };
    match (opcode(1)?, opcode(2)) {
        (_, Some((place, 0x0f))) if matches!(opcode(1)?.1, 0x80..=0x8f) => Some(place),
        ((place, 0xe8 | 0xe9), _) => Some(place),
        _ => None,
    }
}

fn name(program: &Program, index: AtomIndex) -> String {
    program.atom(index).map(|atom| program.display(atom)).unwrap_or_default()
}

/// Control does not come from what stands before it.
fn not_run_into(old: &Program, index: AtomIndex) -> Result<(), String> {
    let Some(before) = index.0.checked_sub(1).map(AtomIndex) else { return Ok(()) };
    let (Some(atom), Some(function)) = (old.atom(before), old.function(before)) else {
        return Err("what stands before it is no function".to_owned());
    };
    let ends_by_call = return_places(function).any(|end| end >= atom.size);
    if !function.code.unresolved.is_empty() || function.code.falls_through || ends_by_call {
        return Err(format!("control may run on into it from {}", old.display(atom)));
    }
    Ok(())
}

/// The system does not know it, and no pointer leads there.
fn not_public(old: &Program, body: &Range<Rva>) -> Result<(), String> {
    let image = &old.image;
    if body.contains(&image.identity.entry_point) {
        return Err("it is the image's entry point".to_owned());
    }
    if let Some(export) = image.exports.iter().find(|export| body.contains(&export.rva)) {
        return Err(format!("it is exported as {}", export.name));
    }
    let leads_there = |place: &&Rva| image.relocated_target(**place).is_some_and(|target| body.contains(&target));
    let pointer = image.base_relocations.iter().find(leads_there);
    pointer.map_or(Ok(()), |place| Err(format!("the pointer at {place} leads there")))
}

fn is_distance(place: Rva, value: u32, body: &Range<Rva>) -> bool {
    BEHIND.into_iter().any(|behind| {
        let end = place.0.wrapping_add(CALLER_LEN as u32).wrapping_add(behind);
        body.contains(&Rva(end.wrapping_add(value)))
    }) || body.contains(&Rva(place.0.wrapping_add(value)))
}

/// Entries of tables count from the table.
fn counts_from_object(old: &Program, section: &Section, place: Rva, value: u32, body: &Range<Rva>) -> bool {
    // Most values lead nowhere near, which is quickly seen.
    let base = body.start.0.wrapping_sub(value);
    let is_near = (section.range.start.0..=place.0).contains(&base);
    let object = || old.atom_before(place).and_then(|index| old.atom(index)).filter(|atom| !atom.is_function());
    is_near && object().is_some_and(|object| body.contains(&Rva(object.rva.0.wrapping_add(value))))
}

/// In understood functions branches are known; anywhere else nearby no bytes look like a short one.
fn short_branch(old: &Program, body: &Range<Rva>) -> Result<(), String> {
    let near = body.start.0.saturating_sub(SHORT_REACH)..body.end.0.saturating_add(SHORT_REACH);
    for place in near.map(Rva).filter(|place| !is_understood(old, *place)) {
        let Some(&[opcode, distance]) = old.image.bytes(place, 2) else { continue };
        let to = place.0.wrapping_add(2).wrapping_add_signed(distance.cast_signed().into());
        if matches!(opcode, 0xeb | 0x70..=0x7f | 0xe0..=0xe3) && body.contains(&Rva(to)) {
            return Err(format!("the bytes at {place} may be a short branch there"));
        }
    }
    Ok(())
}

fn is_understood(old: &Program, place: Rva) -> bool {
    let atom = old.atom_before(place).and_then(|index| Some((old.atom(index)?, old.function(index)?)));
    atom.is_some_and(|(atom, function)| {
        let is_table = function.code.data.contains(&(place.0 - atom.rva.0));
        place < atom.end() && !is_table && function.code.unresolved.is_empty()
    })
}

/// Where the image's table of functions is; empty where it has none.
fn function_table(image: &Image) -> Range<Rva> {
    let Some(first) = image.runtime_functions.first() else { return Rva(0)..Rva(0) };
    let fields = [first.range.start.0, first.range.end.0, first.unwind_info.0];
    let begins = |range: &&Range<Rva>| {
        (0..).zip(fields).all(|(number, field)| {
            range.start.checked_add(4 * number).and_then(|place| image.u32_at(place)) == Some(field)
        })
    };
    image.directories.iter().find(begins).cloned().unwrap_or(Rva(0)..Rva(0))
}
