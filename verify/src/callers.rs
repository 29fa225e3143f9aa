//! Functions whose callers are redirected in the place of their entries: nothing else may lead there.
//!
//! The old code is decoded anew, from the first byte of each function to its last, and so each distance in it has one reading. At no other place of
//! the image may bytes stand that are a distance to the function, and at no place at all its address.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Function, Program};
use hpgen_diff::rva::{Rva, span};
use hpgen_runtime::format::{Demand, Space};
use hpgen_runtime::link::LinkedTrampoline;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use crate::facts::Facts;
use crate::process::{Place, Process};
use crate::trampolines::Doubt;

/// Bytes of a distance.
const DISTANCE: u32 = 4;
/// What may stand behind a distance in its instruction.
const BEHIND: [u32; 4] = [0, 1, 2, 4];
/// A short branch with all that it reaches.
const SHORT_REACH: u32 = 130;

/// The code of the old program, decoded where it is understood.
pub(crate) struct OldCode {
    /// Branches by the place of their distance.
    branches: BTreeMap<Rva, Branch>,
    /// Distances of operands in memory, with what they name.
    operands: BTreeMap<Rva, Rva>,
    /// Runs of code that have no other reading.
    decoded: BTreeMap<Rva, Rva>,
    /// Functions that control leaves at their ends.
    left: BTreeSet<AtomIndex>,
}

struct Branch {
    function: AtomIndex,
    instruction: Rva,
    to: Rva,
    is_long: bool,
}

impl OldCode {
    pub fn of(old: &Program) -> OldCode {
        let mut code = OldCode {
            branches: BTreeMap::new(),
            operands: BTreeMap::new(),
            decoded: BTreeMap::new(),
            left: BTreeSet::new(),
        };
        for function in old.functions.iter().filter(|function| function.code.unresolved.is_empty()) {
            code.add(old, function);
        }
        code
    }

    fn add(&mut self, old: &Program, function: &Function) {
        let Some(atom) = old.atom(function.atom) else { return };
        let tables = &function.code.data;
        let size = if tables.is_empty() { atom.size } else { tables.start.min(atom.size) };
        let bytes = old.image.bytes_up_to(span(atom.rva, size));
        if bytes.len() as u32 != size {
            return;
        }
        let mut decoder = Decoder::with_ip(64, bytes, atom.rva.0.into(), DecoderOptions::NONE);
        let mut last = None;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.code() == Code::INVALID {
                return;
            }
            let constants = decoder.get_constant_offsets(&instruction);
            let start = instruction.ip() as u32;
            let at = |offset: usize| Rva(start.wrapping_add(offset as u32));
            if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64 {
                let branch = Branch {
                    function: function.atom,
                    instruction: Rva(start),
                    to: Rva(instruction.near_branch64() as u32),
                    is_long: constants.immediate_size() == DISTANCE as usize && is_call_or_jump(&instruction),
                };
                self.branches.insert(at(constants.immediate_offset()), branch);
            }
            if instruction.is_ip_rel_memory_operand() {
                self.operands
                    .insert(at(constants.displacement_offset()), Rva(instruction.ip_rel_memory_address() as u32));
            }
            if !matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) {
                last = Some(instruction.flow_control());
            }
        }
        self.decoded.insert(atom.rva, span(atom.rva, size).end);
        if !matches!(
            last,
            None | Some(
                FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::Call | FlowControl::IndirectCall
            )
        ) {
            self.left.insert(function.atom);
        }
    }

    fn is_decoded(&self, place: Rva) -> bool {
        self.decoded.range(..=place).next_back().is_some_and(|(_, end)| place < *end)
    }

    /// Whether four bytes are an operand that was decoded.
    fn explains(&self, place: Rva) -> bool {
        self.branches.get(&place).is_some_and(|branch| branch.is_long) || self.operands.contains_key(&place)
    }
}

fn is_call_or_jump(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
    )
}

/// All that leads to the function is a call or jump that leads to the new one instead, or is made no more.
pub(crate) fn look(
    facts: &Facts<'_>,
    process: &Process,
    trampoline: &LinkedTrampoline,
    index: AtomIndex,
    code: &OldCode,
) -> Result<(), Doubt> {
    let Some(atom) = facts.old.atom(index) else { return Ok(()) };
    let body = atom.rva..atom.end();
    form(trampoline)?;
    let required = required(process, index, &body, code)?;
    let found: BTreeSet<Rva> = trampoline.callers.iter().map(|caller| Rva(caller.rva)).collect();
    if found != required {
        return Err((format!("all calls of {}, at {required:?}", atom.rva), format!("{found:?}")));
    }
    lead_on(facts, process, trampoline)?;
    let none = |what: Option<String>| what.map_or(Ok(()), |what| Err((format!("calls of {} alone", atom.rva), what)));
    none(known_to_the_system(facts.old, &body))?;
    none(run_into(facts.old, index, code))?;
    none(other_bytes(facts.old, process, &body, code))?;
    none(short_branch(facts.old, &body, code))?;
    none(named_by_the_payload(facts, &body))
}

fn form(trampoline: &LinkedTrampoline) -> Result<(), Doubt> {
    let is_bare = trampoline.expected.is_empty() && trampoline.replacement.is_empty() && trampoline.gap.is_none();
    if is_bare && trampoline.demand == Demand::Nothing && !trampoline.is_no_stop {
        return Ok(());
    }
    Err((
        "callers, and an entry that is left alone".to_owned(),
        format!("the demand `{}`, or bytes at the entry", trampoline.demand.name()),
    ))
}

/// The distances that must lead on; none of what leads to the function may do so in another way.
fn required(process: &Process, index: AtomIndex, body: &Range<Rva>, code: &OldCode) -> Result<BTreeSet<Rva>, Doubt> {
    let doubt = |found: String| Err((format!("long calls and jumps to {} alone", body.start), found));
    let mut required = BTreeSet::new();
    for (place, branch) in &code.branches {
        let is_own = branch.function == index && !(branch.is_long && branch.to == body.start);
        if !body.contains(&branch.to) || is_own {
            continue;
        }
        if !branch.is_long || branch.to != body.start {
            return doubt(format!("a branch at {} to {}", branch.instruction, branch.to));
        }
        let jumps = process.linked.trampolines.iter();
        let is_overwritten = jumps
            .map(|jump| span(Rva(jump.entry_rva), jump.replacement.len() as u32))
            .any(|written| written.contains(&branch.instruction));
        if !is_overwritten {
            required.insert(*place);
        }
    }
    match code.operands.iter().find(|(_, to)| body.contains(to)) {
        Some((place, to)) => doubt(format!("an operand at {place} that names {to}")),
        None => Ok(required),
    }
}

/// What is there, and what is written.
fn lead_on(facts: &Facts<'_>, process: &Process, trampoline: &LinkedTrampoline) -> Result<(), Doubt> {
    let leads = |distance: [u8; 4], address: u64| {
        let end = address.wrapping_add(DISTANCE.into());
        process.place(end.wrapping_add_signed(i32::from_le_bytes(distance).into()))
    };
    for caller in &trampoline.callers {
        let address = process.in_image(Rva(caller.rva));
        let there = process.read(address, DISTANCE);
        let is_old = there.as_deref() == Some(&caller.expected[..])
            && leads(caller.expected, address) == Place::Image(Rva(trampoline.entry_rva));
        let replaces = |offset: u32| facts.functions_at.get(&offset).and_then(|function| function.old_rva);
        let is_new = matches!(leads(caller.replacement, address), Place::Region(offset)
            if replaces(offset) == Some(trampoline.entry_rva));
        if !is_old || !is_new || caller.address != address {
            let expected =
                format!("a distance at {} to the function, replaced by one to its new body", Rva(caller.rva));
            return Err((expected, format!("{:02x?} in the place of {there:02x?}", caller.replacement)));
        }
    }
    Ok(())
}

fn known_to_the_system(old: &Program, body: &Range<Rva>) -> Option<String> {
    if body.contains(&old.image.identity.entry_point) {
        return Some("the image's entry point".to_owned());
    }
    let export = old.image.exports.iter().find(|export| body.contains(&export.rva))?;
    Some(format!("the export {}", export.name))
}

/// Whether control may come from what stands before the function.
fn run_into(old: &Program, index: AtomIndex, code: &OldCode) -> Option<String> {
    let before = AtomIndex(index.0.checked_sub(1)?);
    (!code.left.contains(&before)).then(|| {
        let name = old.atom(before).map(|atom| old.display(atom)).unwrap_or_default();
        format!("{name} before it, which control may not leave")
    })
}

/// The first place of the mapped image whose bytes are an address of the function, or a distance to it, in any reading but that of decoded operands.
fn other_bytes(old: &Program, process: &Process, body: &Range<Rva>, code: &OldCode) -> Option<String> {
    let table = function_table(old);
    let entry = process.in_image(body.start);
    let addresses = entry..process.in_image(body.end);
    for section in &old.image.sections {
        let size = section.range.end.0.saturating_sub(section.range.start.0);
        let bytes = process.read(process.in_image(section.range.start), size)?;
        for (place, window) in (section.range.start.0..).zip(bytes.windows(DISTANCE as usize)) {
            let Some(value) = window.first_chunk().map(|value| u32::from_le_bytes(*value)) else { continue };
            let place = Rva(place);
            let leads = |from: u32| body.contains(&Rva(from.wrapping_add(value)));
            let is_distance = BEHIND.iter().any(|behind| leads(place.0.wrapping_add(DISTANCE).wrapping_add(*behind)))
                || leads(place.0)
                || object_before(old, section.range.start, place, body, value).is_some_and(|object| leads(object.0));
            let is_address = || {
                let address = process.u64_at(process.in_image(place));
                address.is_some_and(|address| addresses.contains(&address))
            };
            let is_low = value.wrapping_sub(entry as u32) < body.end.0 - body.start.0;
            let is_hit = is_distance && !code.is_decoded(place)
                || value == body.start.0
                || u64::from(value) == entry
                || is_low && is_address();
            if is_hit && !code.explains(place) && !table.contains(&place) {
                return Some(format!("bytes at {place} that may lead there"));
            }
        }
    }
    None
}

/// The data object that holds a place, where it begins so that the value may count from there.
fn object_before(old: &Program, section: Rva, place: Rva, body: &Range<Rva>, value: u32) -> Option<Rva> {
    let base = body.start.0.wrapping_sub(value);
    (section.0..=place.0).contains(&base).then_some(())?;
    let object = old.atom(old.atom_before(place)?)?;
    (!object.is_function()).then_some(object.rva)
}

/// A short branch in bytes that were not decoded.
fn short_branch(old: &Program, body: &Range<Rva>, code: &OldCode) -> Option<String> {
    let near = body.start.0.saturating_sub(SHORT_REACH)..body.end.0.saturating_add(SHORT_REACH);
    near.map(Rva).filter(|place| !code.is_decoded(*place)).find_map(|place| {
        let &[opcode, distance] = old.image.bytes(place, 2)? else { return None };
        let to = Rva(place.0.wrapping_add(2).wrapping_add_signed(distance.cast_signed().into()));
        let is_branch = matches!(opcode, 0xeb | 0x70..=0x7f | 0xe0..=0xe3) && body.contains(&to);
        is_branch.then(|| format!("bytes at {place} that may be a short branch there"))
    })
}

/// Code and data of the payload that name the old function: nothing leads on from there.
fn named_by_the_payload(facts: &Facts<'_>, body: &Range<Rva>) -> Option<String> {
    let relocations = facts.payload.relocations.iter().filter(|relocation| relocation.space == Space::Image);
    let mut named = relocations.filter(|relocation| body.contains(&Rva(relocation.target)));
    named.next().map(|relocation| format!("the payload's own reference at region offset {:#x}", relocation.place))
}

/// The linker's table of functions names each once, as no caller does.
fn function_table(old: &Program) -> Range<Rva> {
    let Some(first) = old.image.runtime_functions.first() else { return Rva(0)..Rva(0) };
    let is_first = |table: &&Range<Rva>| {
        old.image.u32_at(table.start) == Some(first.range.start.0)
            && table.start.checked_add(8).and_then(|place| old.image.u32_at(place)) == Some(first.unwind_info.0)
    };
    old.image.directories.iter().find(is_first).cloned().unwrap_or(Rva(0)..Rva(0))
}
