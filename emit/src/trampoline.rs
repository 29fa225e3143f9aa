//! Where a jump can be written over the entry of an old function, in which form, and what that demands of threads.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Function, Location, Program};
use hpgen_diff::rva::{Rva, span};
use hpgen_diff::x64::{ReferenceKind, Role};
use hpgen_runtime::format::{Demand, TrampolineForm};

use crate::bodies::Bodies;
use crate::callers::Callers;

/// Bytes of `jmp rel32`.
pub const JUMP: u32 = 5;

/// One way to redirect an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// What is written.
    pub form: TrampolineForm,
    /// Where no thread may be then.
    pub demand: Demand,
    /// What stands at the entry, up to the end of an instruction or of the padding that is used.
    pub expected: Vec<u8>,
    /// Where among them a relocated address begins.
    pub rebased_at: Option<u8>,
}

/// A reason code and a message: why a jump cannot be written at an entry safely.
pub(crate) type Refusal = (&'static str, String);

/// The ways to redirect an old function: with a long jump, with a short one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways {
    /// The old function's entry.
    pub entry: Rva,
    /// With five bytes there.
    pub long: Result<Way, Refusal>,
    /// With two bytes there and five in a gap.
    pub short: Result<Way, Refusal>,
    /// Without writing there: the distances of all callers, or why not all are known. Where no long jump is possible only.
    pub callers: Result<Vec<Rva>, String>,
}

/// What of an old program matters to entries.
pub(crate) struct Entries {
    /// Places behind entries that something names (labels, jumps into the middle), by the function that holds them.
    inside: BTreeMap<AtomIndex, BTreeSet<u32>>,
    bodies: Bodies,
    callers: Callers,
}

impl Entries {
    /// Collects all references of a program that lead into the first bytes of a function, but not to its entry.
    pub fn of(program: &Program) -> Entries {
        let mut inside: BTreeMap<AtomIndex, BTreeSet<u32>> = BTreeMap::new();
        let from_code = program.functions.iter().flat_map(|f| &f.code.references).map(|r| r.target);
        let from_data =
            program.image.base_relocations.iter().filter_map(|place| program.image.relocated_target(*place));
        let from_symbols = program.symbols.publics.iter().map(|p| p.rva);
        for target in from_code.chain(from_data).chain(from_symbols) {
            if let Location::Atom { atom, offset } = program.locate(target)
                && (1..JUMP).contains(&offset)
                && program.function(atom).is_some()
            {
                inside.entry(atom).or_default().insert(offset);
            }
        }
        Entries { inside, bodies: Bodies::of(program), callers: Callers::of(program) }
    }

    /// Where the code of a function is, by rising address.
    pub fn bodies(&self, old: &Program, index: AtomIndex) -> Vec<std::ops::Range<Rva>> {
        self.bodies.runs(old, index)
    }

    /// The ways to redirect an old function.
    ///
    /// # Errors
    /// When there is none.
    pub fn ways(&self, old: &Program, index: AtomIndex) -> Result<Ways, Refusal> {
        let (Some(atom), Some(function)) = (old.atom(index), old.function(index)) else {
            return Err(("not-supported", "the old function is not in the image".to_owned()));
        };
        // What was not decoded may branch back to the entry.
        if let Some(unresolved) = function.code.unresolved.first() {
            return Err((
                "unresolved-reference",
                format!("the old body is not understood at +{:#x}: {}", unresolved.offset, unresolved.reason),
            ));
        }
        let way = |form| self.way(old, index, function, form);
        let (long, short) = (way(TrampolineForm::Jump32), way(TrampolineForm::Jump8));
        let callers = match long {
            Ok(_) => Err("they need not be".to_owned()),
            Err(_) => self.callers.fields(old, index),
        };
        let ways = Ways { entry: atom.rva, long, short, callers };
        match (&ways.long, &ways.short, &ways.callers) {
            (Err((code, message)), Err(_), Err(obstacle)) => Err((code, not_all_callers(message, obstacle))),
            _ => Ok(ways),
        }
    }

    fn way(&self, old: &Program, index: AtomIndex, function: &Function, form: TrampolineForm) -> Result<Way, Refusal> {
        let entry = old.atom(index).map_or(Rva(0), |atom| atom.rva);
        let written = form.written() as u32;
        if let Some(offset) = self.inside.get(&index).and_then(|offsets| offsets.range(..written).next()) {
            return Err((
                "branch-into-entry",
                format!(
                    "the old image has a reference to +{offset:#x}, inside the {written} bytes that a jump replaces"
                ),
            ));
        }
        let length = expected_length(old, index, entry, function, written)?;
        let expected = old
            .image
            .bytes(entry, length)
            .ok_or(("not-supported", "the old function's bytes are not all in the file".to_owned()))?
            .to_vec();
        let rebased_at = function
            .code
            .references
            .iter()
            .find(|r| r.kind == ReferenceKind::Absolute && r.field < length)
            .map(|r| r.field as u8);
        Ok(Way { form, demand: self.demand(index, function, written), expected, rebased_at })
    }

    /// Where no thread may be when so many bytes are written. The old body goes on running in threads that are in it: what comes back
    /// into the written bytes would run into the jump.
    fn demand(&self, index: AtomIndex, function: &Function, written: u32) -> Demand {
        let branches = function.code.instructions.iter().filter_map(|i| match i.role {
            Role::Branch { target, .. } => Some(target),
            _ => None,
        });
        let tables = function.tables.iter().flat_map(|table| &table.targets).copied();
        let comes_back = branches.chain(tables).any(|target| target < written)
            || return_places(function).any(|end| end < written)
            || self.bodies.part_jumps_to_entry(index);
        let ends_inside = |i: &hpgen_diff::x64::Instruction| i.offset + u32::from(i.len) < written;
        if comes_back {
            Demand::Body
        } else if function.code.instructions.first().is_none_or(ends_inside) {
            Demand::Entry
        } else {
            Demand::Nothing
        }
    }
}

/// Why an entry cannot be written to, and why its callers cannot be redirected in its place.
pub(crate) fn not_all_callers(message: &str, obstacle: &str) -> String {
    format!("{message}; nor can its callers be redirected: {obstacle}")
}

/// Where calls of a function return to.
pub(crate) fn return_places(function: &Function) -> impl Iterator<Item = u32> {
    let direct = function.code.references.iter().filter(|r| r.kind == ReferenceKind::Call);
    direct.map(|r| r.field + u32::from(r.to_end)).chain(function.code.calls.iter().copied())
}

/// Whole instructions that cover the jump; behind a shorter function, the padding that follows it.
fn expected_length(
    old: &Program,
    index: AtomIndex,
    entry: Rva,
    function: &Function,
    written: u32,
) -> Result<u32, Refusal> {
    for i in &function.code.instructions {
        let end = i.offset + u32::from(i.len);
        if end >= written {
            return Ok(end);
        }
    }
    let size = old.atom(index).map_or(0, |atom| atom.size);
    let next = old.atom(AtomIndex(index.0 + 1)).map_or(Rva(u32::MAX), |atom| atom.rva);
    let (gap_start, end) = (span(entry, size).end, span(entry, written).end);
    let gap = old.image.bytes_up_to(gap_start..end);
    let is_padding = |byte: &u8| matches!(byte, 0xcc | 0x90);
    if next < end || size.checked_add(gap.len() as u32) != Some(written) || !gap.iter().all(is_padding) {
        return Err((
            "function-too-short",
            format!(
                "the old function has {size} bytes and no padding behind it: a jump takes {written}; build the baseline with function padding or alignment"
            ),
        ));
    }
    Ok(written)
}

#[cfg(test)]
#[path = "trampoline_tests.rs"]
mod tests;
