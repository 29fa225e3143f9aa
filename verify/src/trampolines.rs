//! The bytes that are written over entries of the old image: the only ones of it that change.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::ops::Range;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Function, Program};
use hpgen_diff::rva::{Rva, span};
use hpgen_diff::x64::{ReferenceKind, Role};
use hpgen_runtime::format::{Body, Demand, Trampoline, TrampolineForm};
use hpgen_runtime::link::LinkedTrampoline;
use iced_x86::{Code, Decoder, DecoderOptions};

use crate::bodies::Pieces;
use crate::callers::{self, OldCode};
use crate::facts::Facts;
use crate::process::{Place, Process};
use crate::report::Finding;

/// Every address of the old program that an instruction outside its own function, a pointer, or a symbol names.
pub(crate) struct NamedPlaces(BTreeSet<Rva>);

impl NamedPlaces {
    pub fn of(old: &Program) -> NamedPlaces {
        let code = old.functions.iter().flat_map(|f| &f.code.references).map(|r| r.target);
        let image = &old.image;
        let pointers = image.base_relocations.iter().filter_map(|place| image.relocated_target(*place));
        let symbols = old.symbols.publics.iter().map(|public| public.rva);
        let exports = image.exports.iter().map(|export| export.rva);
        let tables = old.functions.iter().flat_map(|f| &f.data_tables).flat_map(|table| table.targets.iter().copied());
        NamedPlaces(code.chain(pointers).chain(symbols).chain(exports).chain(tables).collect())
    }
}

/// A statement about a trampoline that does not hold: what should be, and what is.
pub(crate) type Doubt = (String, String);

/// Checks all redirections in one process.
pub(crate) fn look(facts: &Facts<'_>, process: &Process, named: &NamedPlaces, pieces: &Pieces) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut written: Vec<Range<Rva>> = Vec::new();
    // Of most payloads, no function is redirected at its callers.
    let code = LazyCell::new(|| OldCode::of(facts.old));
    for (trampoline, record) in process.linked.trampolines.iter().zip(&facts.payload.trampolines) {
        let entry = Rva(trampoline.entry_rva);
        let own = [span(entry, trampoline.replacement.len() as u32)];
        let gap = trampoline.gap.map(|gap| span(Rva(gap.rva), gap.replacement.len() as u32));
        let callers = trampoline.callers.iter().map(|caller| span(Rva(caller.rva), caller.replacement.len() as u32));
        let own: Vec<Range<Rva>> = own.into_iter().chain(gap).chain(callers).collect();
        let is_written = |range: &&Range<Rva>| written.iter().any(|w| w.start < range.end && range.start < w.end);
        let mut doubts = Vec::new();
        if let Some(range) = own.iter().find(is_written) {
            doubts.push(("bytes that no other jump takes".to_owned(), format!("an overlap at {}", range.start)));
        }
        written.extend(own);
        let checks: Vec<Result<(), Doubt>> = match facts.old_function_at(entry) {
            Some(index) if trampoline.form == TrampolineForm::Callers => {
                vec![callers::look(facts, process, trampoline, index, &code), bodies(facts, record, index, pieces)]
            }
            Some(index) => vec![
                target(facts, process, trampoline),
                expected_bytes(facts.old, process, trampoline, index),
                free_entry(facts.old, index, trampoline, named),
                free_gap(facts.old, process, trampoline, named),
                demand(facts, trampoline, index, pieces),
                bodies(facts, record, index, pieces),
            ],
            None => vec![Err(("the entry of a function of the old image".to_owned(), entry.to_string()))],
        };
        doubts.extend(checks.into_iter().filter_map(Result::err));
        findings.extend(doubts.into_iter().map(|(expected, found)| Finding {
            code: "trampoline",
            function: Some(trampoline.function.clone()),
            offset: None,
            instruction: None,
            expected,
            found,
        }));
    }
    findings
}

/// Where the one jump in `bytes` leads as the processor sees it.
fn jump(bytes: &[u8], address: u64) -> Option<u64> {
    let jump = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    let is_jump = matches!(jump.code(), Code::Jmp_rel32_64 | Code::Jmp_rel8_64) && jump.len() == bytes.len();
    is_jump.then(|| jump.near_branch_target())
}

/// The jump, or the one in the gap that it leads to, leads to the function of the payload that replaces this one.
fn target(facts: &Facts<'_>, process: &Process, trampoline: &LinkedTrampoline) -> Result<(), Doubt> {
    let entry = process.in_image(Rva(trampoline.entry_rva));
    let first = jump(&trampoline.replacement, entry);
    let last = match trampoline.gap {
        None => first,
        Some(gap) if first == Some(process.in_image(Rva(gap.rva))) && first == Some(gap.address) => {
            jump(&gap.replacement, gap.address)
        }
        Some(_) => None,
    };
    let replaces = |offset: u32| facts.functions_at.get(&offset).and_then(|function| function.old_rva);
    let found = match last.map(|target| process.place(target)) {
        Some(Place::Region(offset)) if replaces(offset) == Some(trampoline.entry_rva) => return Ok(()),
        Some(Place::Region(offset)) => format!("a jump to region offset {offset:#x}"),
        _ => format!("{:02x?}", trampoline.replacement),
    };
    Err((format!("a jump from {} to the function that replaces it", Rva(trampoline.entry_rva)), found))
}

/// What the loader compares is what the image has there once it is mapped, and ends at an instruction's end or in padding.
fn expected_bytes(
    old: &Program,
    process: &Process,
    trampoline: &LinkedTrampoline,
    index: AtomIndex,
) -> Result<(), Doubt> {
    let entry = Rva(trampoline.entry_rva);
    let length = trampoline.expected.len() as u32;
    let there = process.read(process.in_image(entry), length);
    if there.as_deref() != Some(trampoline.expected.as_slice()) {
        let there = there.map_or_else(|| "nothing".to_owned(), |bytes| format!("{bytes:02x?}"));
        return Err((format!("the old image's bytes at {entry}, {there}"), format!("{:02x?}", trampoline.expected)));
    }
    let (Some(function), Some(atom)) = (old.function(index), old.atom(index)) else { return Ok(()) };
    let ends = |i: &hpgen_diff::x64::Instruction| i.offset + u32::from(i.len) == length;
    if length < atom.size && !function.code.instructions.iter().any(ends) {
        let found = format!("{length} bytes, which end inside an instruction");
        return Err((format!("whole instructions at {entry}"), found));
    }
    Ok(())
}

/// Nothing but the function itself leads into the bytes that are replaced, except to the first one.
fn free_entry(
    old: &Program,
    index: AtomIndex,
    trampoline: &LinkedTrampoline,
    named: &NamedPlaces,
) -> Result<(), Doubt> {
    let (Some(atom), Some(function)) = (old.atom(index), old.function(index)) else { return Ok(()) };
    let written = span(atom.rva, trampoline.replacement.len() as u32);
    let length = written.end.0 - written.start.0;
    let doubt = |found: String| Err((format!("an entry of which {length} bytes can be replaced"), found));
    if let Some(unresolved) = function.code.unresolved.first() {
        return doubt(format!("what was not understood at +{:#x}: {}", unresolved.offset, unresolved.reason));
    }
    if length == 0 || !trampoline.callers.is_empty() {
        return doubt("callers besides, or nothing written".to_owned());
    }
    let inside = Rva(written.start.0.saturating_add(1))..written.end;
    if let Some(place) = named.0.range(inside).next() {
        return doubt(format!("a reference to {place} inside them"));
    }
    if length > atom.size {
        let gap = old.image.bytes_up_to(span(atom.rva, atom.size).end..written.end);
        let next = old.atom(AtomIndex(index.0.saturating_add(1)));
        let is_free = next.is_none_or(|next| next.rva >= written.end)
            && gap.len() as u32 == length - atom.size
            && gap.iter().all(|byte| matches!(byte, 0xcc | 0x90));
        if !is_free {
            return doubt(format!("only {} bytes, and no padding behind them", atom.size));
        }
    }
    Ok(())
}

/// The bytes of a gap are padding behind a function that control leaves, and nothing names one of them.
fn free_gap(old: &Program, process: &Process, trampoline: &LinkedTrampoline, named: &NamedPlaces) -> Result<(), Doubt> {
    let Some(gap) = trampoline.gap else { return Ok(()) };
    let range = span(Rva(gap.rva), gap.replacement.len() as u32);
    let doubt = |found: String| Err((format!("padding between functions at {}", range.start), found));
    let there = process.read(process.in_image(range.start), gap.expected.len() as u32);
    if there.as_deref() != Some(&gap.expected[..]) || gap.expected.iter().any(|byte| !matches!(byte, 0xcc | 0x90)) {
        return doubt(format!("{there:02x?} where {:02x?} is expected", gap.expected));
    }
    let before = old.atom_before(range.start);
    let Some((atom, function)) = before.and_then(|index| Some((old.atom(index)?, old.function(index)?))) else {
        return doubt("no function before it".to_owned());
    };
    let next = before.and_then(|index| old.atom(AtomIndex(index.0.saturating_add(1))));
    if range.start < atom.end() || next.is_none_or(|next| next.rva < range.end) {
        return doubt(format!("a part of {}, or of what is behind it", old.display(atom)));
    }
    if !range.start.distance_from(atom.end()).unsigned_abs().is_multiple_of(gap.expected.len() as u64) {
        return doubt("a beginning that another payload of the series may not have".to_owned());
    }
    let is_code = old.image.section_at(atom.rva).is_some_and(|s| s.is_executable() && range.end <= s.range.end);
    let returns_there = return_places(function).any(|end| end >= atom.size);
    if !is_code || function.code.falls_through || !function.code.unresolved.is_empty() || returns_there {
        return doubt(format!("control of {} that may run on into it", old.display(atom)));
    }
    // From where the padding begins: whoever names its first byte may mean all of it.
    if let Some(place) = named.0.range(atom.end()..range.end).next() {
        return doubt(format!("a reference to {place}"));
    }
    let covered = old.image.runtime_functions.iter().find(|f| f.range.start < range.end && range.start < f.range.end);
    covered.map_or(Ok(()), |f| doubt(format!("unwind data from {} to {}", f.range.start, f.range.end)))
}

/// What the trampoline demands of threads is what the old code requires.
fn demand(facts: &Facts<'_>, trampoline: &LinkedTrampoline, index: AtomIndex, pieces: &Pieces) -> Result<(), Doubt> {
    let Some(function) = facts.old.function(index) else { return Ok(()) };
    let length = trampoline.replacement.len() as u32;
    let comes_back = own_branch(function, length).is_some()
        || return_places(function).any(|end| end < length)
        || pieces.comes_back(index);
    let required = if comes_back {
        Demand::Body
    } else if first_instruction(&trampoline.expected) < trampoline.replacement.len() {
        Demand::Entry
    } else {
        Demand::Nothing
    };
    if trampoline.demand == required {
        return Ok(());
    }
    Err((format!("the demand `{}`", required.name()), format!("`{}`", trampoline.demand.name())))
}

/// Bytes of the first of the expected instructions.
fn first_instruction(expected: &[u8]) -> usize {
    Decoder::new(64, expected, DecoderOptions::NONE).decode().len()
}

/// The payload says of all code of the old function that it is that.
fn bodies(facts: &Facts<'_>, record: &Trampoline, index: AtomIndex, pieces: &Pieces) -> Result<(), Doubt> {
    let own = facts.payload.bodies.iter().filter(|body| body.entry_rva == record.entry_rva);
    let found: Vec<Range<u32>> = own.map(|body| body.start..body.start.saturating_add(body.size)).collect();
    let required = pieces.runs(facts.old, index);
    if found != required {
        return Err((format!("the function's code at {required:x?}"), format!("{found:x?}")));
    }
    let own = facts.payload.bodies.iter().filter(|body| body.entry_rva == record.entry_rva);
    for body in own {
        let (checked, digest) = baseline(facts.old, body.start, body.size);
        if (body.checked, body.digest) != (checked, digest) {
            let found = format!("{:02x?} of {:#x} bytes", body.digest, body.checked);
            return Err((format!("the digest {digest:02x?} of {checked:#x} bytes at {:#x}", body.start), found));
        }
    }
    Ok(())
}

/// How many bytes of a run of code stand before its first absolute address, and their digest.
fn baseline(old: &Program, start: u32, size: u32) -> (u32, [u8; 8]) {
    let is_absolute = |rva: u32| old.image.base_relocations.iter().any(|place| place.0 <= rva && rva - place.0 < 8);
    let is_touched = |end: &u32| old.image.base_relocations.iter().any(|place| place.0 == *end);
    let end = start.saturating_add(size);
    let stop = if is_absolute(start) { start } else { (start..end).find(is_touched).unwrap_or(end) };
    let bytes = old.image.bytes_up_to(Rva(start)..Rva(stop));
    if bytes.is_empty() { (0, [0; 8]) } else { (bytes.len() as u32, Body::digest_of(bytes)) }
}

/// Where the function branches into its own first bytes: threads that are in the old body would run into the jump.
fn own_branch(function: &Function, length: u32) -> Option<u32> {
    let branches = function.code.instructions.iter().filter_map(|i| match i.role {
        Role::Branch { target, .. } if target < length => Some(i.offset),
        _ => None,
    });
    let tables = function.tables.iter().flat_map(|table| &table.targets).filter(|target| **target < length);
    branches.chain(tables.copied()).next()
}

/// Where calls of the function return to.
fn return_places(function: &Function) -> impl Iterator<Item = u32> {
    let direct = function.code.references.iter().filter(|r| r.kind == ReferenceKind::Call);
    direct.map(|r| r.field.saturating_add(r.to_end.into())).chain(function.code.calls.iter().copied())
}
