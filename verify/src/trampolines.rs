//! The bytes that are written over entries of the old image: the only ones of it that change.

use std::collections::BTreeSet;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Function, Program};
use hpgen_diff::rva::{Rva, span};
use hpgen_diff::x64::{ReferenceKind, Role};
use hpgen_runtime::link::LinkedTrampoline;
use iced_x86::{Code, Decoder, DecoderOptions};

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
        NamedPlaces(code.chain(pointers).chain(symbols).chain(exports).collect())
    }
}

/// Checks all redirections in one process.
pub(crate) fn look(facts: &Facts<'_>, process: &Process, named: &NamedPlaces) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut written_up_to = Rva(0);
    for trampoline in &process.linked.trampolines {
        let entry = Rva(trampoline.entry_rva);
        let written = span(entry, trampoline.replacement.len() as u32);
        let mut problem = |expected: &str, found: String| {
            findings.push(Finding {
                code: "trampoline",
                function: Some(trampoline.function.clone()),
                offset: None,
                instruction: None,
                expected: expected.to_owned(),
                found,
            });
        };
        if written.start < written_up_to {
            problem("an entry behind the jump before it", format!("an overlap at {entry}"));
        }
        written_up_to = written.end;
        let Some(index) = facts.old_function_at(entry) else {
            problem("the entry of a function of the old image", entry.to_string());
            continue;
        };
        if let Err((expected, found)) = target(facts, process, trampoline) {
            problem(&expected, found);
        }
        if let Err((expected, found)) = expected_bytes(facts.old, process, trampoline, index) {
            problem(&expected, found);
        }
        if let Err(found) = free_entry(facts.old, index, &written, named) {
            problem("an entry of which five bytes can be replaced", found);
        }
    }
    findings
}

/// The jump as the processor sees it leads to the function of the payload that replaces this one.
fn target(facts: &Facts<'_>, process: &Process, trampoline: &LinkedTrampoline) -> Result<(), (String, String)> {
    let entry = process.in_image(Rva(trampoline.entry_rva));
    let jump = Decoder::with_ip(64, &trampoline.replacement, entry, DecoderOptions::NONE).decode();
    let is_jump = jump.code() == Code::Jmp_rel32_64 && jump.len() == trampoline.replacement.len();
    let target = is_jump.then(|| process.place(jump.near_branch_target()));
    let replaces = |offset: u32| facts.functions_at.get(&offset).and_then(|function| function.old_rva);
    let found = match target {
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
) -> Result<(), (String, String)> {
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

/// Nothing leads into the bytes that are replaced, except to the first one from outside the function.
fn free_entry(
    old: &Program,
    index: AtomIndex,
    written: &std::ops::Range<Rva>,
    named: &NamedPlaces,
) -> Result<(), String> {
    let (Some(atom), Some(function)) = (old.atom(index), old.function(index)) else { return Ok(()) };
    let length = written.end.0 - written.start.0;
    if let Some(unresolved) = function.code.unresolved.first() {
        return Err(format!("what was not understood at +{:#x}: {}", unresolved.offset, unresolved.reason));
    }
    let inside = Rva(written.start.0.saturating_add(1))..written.end;
    if let Some(place) = named.0.range(inside).next() {
        return Err(format!("a reference to {place} inside them"));
    }
    if let Some(from) = own_branch(function, length) {
        return Err(format!("a branch of the function itself at +{from:#x} that leads into them"));
    }
    if let Some(end) = return_places(function).find(|end| *end < length) {
        return Err(format!("a call that returns to +{end:#x} inside them"));
    }
    if length > atom.size {
        let gap = old.image.bytes_up_to(span(atom.rva, atom.size).end..written.end);
        let next = old.atom(AtomIndex(index.0.saturating_add(1)));
        let is_free = next.is_none_or(|next| next.rva >= written.end)
            && gap.len() as u32 == length - atom.size
            && gap.iter().all(|byte| matches!(byte, 0xcc | 0x90));
        if !is_free {
            return Err(format!("only {} bytes, and no padding behind them", atom.size));
        }
    }
    Ok(())
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
