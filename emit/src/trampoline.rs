//! Where a jump can be written over the entry of an old function, and where it must not be.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Function, Location, Program};
use hpgen_diff::rva::{Rva, span};
use hpgen_diff::x64::{ReferenceKind, Role};

/// Bytes of `jmp rel32`.
pub const JUMP: u32 = 5;

/// The bytes that a trampoline replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The old function's entry.
    pub entry: Rva,
    /// What stands there, up to the end of an instruction or of the padding that is used.
    pub expected: Vec<u8>,
    /// Where among them a relocated address begins.
    pub rebased_at: Option<u8>,
}

/// Places behind entries that something outside the function names: labels, jumps into the middle.
pub(crate) struct EntryLabels {
    /// Addresses inside functions by the function that holds them.
    inside: BTreeMap<AtomIndex, BTreeSet<u32>>,
}

impl EntryLabels {
    /// Collects all references of a program that lead into the first bytes of a function, but not to its entry.
    pub fn of(program: &Program) -> EntryLabels {
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
        EntryLabels { inside }
    }
}

/// The place for a trampoline at an old function's entry.
///
/// # Errors
/// A reason code and a message when a jump cannot be written there safely.
pub(crate) fn site(old: &Program, labels: &EntryLabels, index: AtomIndex) -> Result<Site, (&'static str, String)> {
    let (Some(atom), Some(function)) = (old.atom(index), old.function(index)) else {
        return Err(("not-supported", "the old function is not in the image".to_owned()));
    };
    if let Some(offset) = labels.inside.get(&index).and_then(|offsets| offsets.first()) {
        return Err((
            "branch-into-entry",
            format!("the old image has a reference to +{offset:#x}, inside the five bytes that a jump replaces"),
        ));
    }
    // What was not decoded may branch back to the entry.
    if let Some(unresolved) = function.code.unresolved.first() {
        return Err((
            "unresolved-reference",
            format!("the old body is not understood at +{:#x}: {}", unresolved.offset, unresolved.reason),
        ));
    }
    check_own_branches(function)?;
    let length = expected_length(old, index, atom.rva, function)?;
    let expected = old
        .image
        .bytes(atom.rva, length)
        .ok_or(("not-supported", "the old function's bytes are not all in the file".to_owned()))?
        .to_vec();
    let rebased_at = function
        .code
        .references
        .iter()
        .find(|r| r.kind == ReferenceKind::Absolute && r.field < length)
        .map(|r| r.field as u8);
    Ok(Site { entry: atom.rva, expected, rebased_at })
}

/// The old body goes on running in threads that are in it: none of its own branches or calls may come back into the replaced bytes.
fn check_own_branches(function: &Function) -> Result<(), (&'static str, String)> {
    let mut back = function
        .code
        .instructions
        .iter()
        .filter_map(|i| match i.role {
            Role::Branch { target, .. } if target < JUMP => Some((i.offset, target)),
            _ => None,
        })
        .chain(function.tables.iter().flat_map(|t| &t.targets).filter(|t| **t < JUMP).map(|t| (0, *t)));
    if let Some((from, to)) = back.next() {
        return Err((
            "branch-into-entry",
            format!(
                "the old body branches from +{from:#x} back to +{to:#x}, inside the five bytes that a jump replaces: a thread that is in it would run into the jump"
            ),
        ));
    }
    let returns_inside =
        function.code.references.iter().any(|r| r.kind == ReferenceKind::Call && r.field + u32::from(r.to_end) < JUMP)
            || function.code.calls.iter().any(|end| *end < JUMP);
    if returns_inside {
        return Err((
            "call-in-entry",
            "the old function calls within its first five bytes: threads in that call would return into the jump"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Whole instructions that cover the jump; behind a shorter function, the padding that follows it.
fn expected_length(
    old: &Program,
    index: AtomIndex,
    entry: Rva,
    function: &Function,
) -> Result<u32, (&'static str, String)> {
    for i in &function.code.instructions {
        let end = i.offset + u32::from(i.len);
        if end >= JUMP {
            return Ok(end);
        }
    }
    let size = old.atom(index).map_or(0, |atom| atom.size);
    let next = old.atom(AtomIndex(index.0 + 1)).map_or(Rva(u32::MAX), |atom| atom.rva);
    let (gap_start, end) = (span(entry, size).end, span(entry, JUMP).end);
    let gap = old.image.bytes_up_to(gap_start..end);
    let is_padding = |byte: &u8| matches!(byte, 0xcc | 0x90);
    if next < end || size.checked_add(gap.len() as u32) != Some(JUMP) || !gap.iter().all(is_padding) {
        return Err((
            "function-too-short",
            format!(
                "the old function has {size} bytes and no padding behind it: a jump takes five; build the baseline with function padding or alignment"
            ),
        ));
    }
    Ok(JUMP)
}

#[cfg(test)]
#[path = "trampoline_tests.rs"]
mod tests;
