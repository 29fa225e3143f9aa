//! A payload's code as text: what was written, decoded anew, with the destination of every relocation in place of its empty field.
//!
//! It reads the payload alone. Names of the old image come from its PDB, where the caller has it.

use std::collections::HashMap;

use hpgen_diff::demangle::demangle;
use hpgen_diff::listing;
use hpgen_diff::program::Program;
use hpgen_diff::rva::Rva;
use hpgen_runtime::format::{Function, ImportSymbol, Payload, Protection, Relocation, RelocationKind, Space};
use iced_x86::{
    ConstantOffsets, Decoder, DecoderOptions, Formatter, Instruction, OpKind, SymbolResolver, SymbolResult,
};

/// A payload whose functions are to be read.
pub struct Disassembly<'a> {
    payload: &'a Payload,
    old: Option<&'a Program>,
    relocations: HashMap<u32, &'a Relocation>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Bytes from the function's start.
    pub offset: u32,
    /// Intel syntax. Places of the function itself read `+0x12`, others by name, else as `image+RVA` or `region+OFFSET`.
    pub text: String,
    /// The text that a constant without a name begins with, where the instruction leads to one that reads as text.
    pub literal: Option<String>,
}

/// Something in the patched process, as distance from the start of the old image or the region.
#[derive(Debug, Clone, Copy)]
struct Target {
    space: Space,
    offset: i64,
}

/// Shorter ones are as likely numbers.
const SHORTEST_LITERAL: usize = 4;

impl<'a> Disassembly<'a> {
    /// Prepares a payload; `old` is the image that it is made for.
    pub fn of(payload: &'a Payload, old: Option<&'a Program>) -> Disassembly<'a> {
        let relocations = payload.relocations.iter().map(|relocation| (relocation.place, relocation)).collect();
        Disassembly { payload, old, relocations }
    }

    /// The instructions of one of the payload's functions.
    pub fn function(&self, function: &Function) -> Vec<Line> {
        let bytes = self.bytes(function.offset, function.size);
        let mut decoder = Decoder::with_ip(64, bytes, u64::from(function.offset), DecoderOptions::NONE);
        let mut lines = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            let fields = decoder.get_constant_offsets(&instruction);
            lines.push(self.line(function, &instruction, &fields));
        }
        lines
    }

    fn line(&self, function: &Function, instruction: &Instruction, fields: &ConstantOffsets) -> Line {
        let memory = self.memory(instruction, fields);
        let immediate = self.immediate(instruction, fields);
        let name = |target: Option<Target>| target.map(|target| self.name(function, target));
        let names = Names { memory: name(memory), immediate: name(immediate) };
        let mut text = String::new();
        listing::formatter(Box::new(names)).format(instruction, &mut text);
        Line {
            offset: u32::try_from(instruction.ip()).unwrap_or(u32::MAX).saturating_sub(function.offset),
            text,
            literal: memory.or(immediate).and_then(|target| self.literal(target)),
        }
    }

    /// What a memory operand's displacement leads to.
    fn memory(&self, instruction: &Instruction, fields: &ConstantOffsets) -> Option<Target> {
        let field = fields.has_displacement().then(|| fields.displacement_offset());
        let relocated = field.and_then(|field| self.relocated(instruction, field));
        let own = || Target { space: Space::Region, offset: instruction.ip_rel_memory_address().cast_signed() };
        relocated.or_else(|| instruction.is_ip_rel_memory_operand().then(own))
    }

    /// What an immediate operand or a branch leads to.
    fn immediate(&self, instruction: &Instruction, fields: &ConstantOffsets) -> Option<Target> {
        let field = fields.has_immediate().then(|| fields.immediate_offset());
        let relocated = field.and_then(|field| self.relocated(instruction, field));
        let is_branch = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64;
        let own = || Target { space: Space::Region, offset: instruction.near_branch_target().cast_signed() };
        relocated.or_else(|| is_branch.then(own))
    }

    /// Where a field leads that is filled in when the payload is loaded.
    fn relocated(&self, instruction: &Instruction, field: usize) -> Option<Target> {
        let place = instruction.ip().checked_add(field as u64)?;
        let relocation = self.relocations.get(&u32::try_from(place).ok()?)?;
        let to_end = match relocation.kind {
            // Counted from the field when it is filled in, from the instruction's end when it is used.
            RelocationKind::Rel32 => i64::try_from(instruction.next_ip().checked_sub(place)?).ok()?,
            RelocationKind::Addr64 | RelocationKind::Rva32 | RelocationKind::Image32 => 0,
        };
        let offset = i64::from(relocation.target) + i64::from(relocation.addend) + to_end;
        Some(Target { space: relocation.space, offset })
    }

    fn name(&self, function: &Function, target: Target) -> String {
        match (target.space, u32::try_from(target.offset), self.old) {
            (Space::Image, Ok(rva), Some(old)) => listing::describe(old, Rva(rva)),
            (Space::Image, ..) => distance("image", target.offset),
            (Space::Region, Ok(offset), _) => self.region_name(function, offset),
            (Space::Region, ..) => distance("region", target.offset),
        }
    }

    fn region_name(&self, function: &Function, offset: u32) -> String {
        let within = |start: u32, size: u32| offset.checked_sub(start).filter(|inside| *inside < size);
        if let Some(inside) = within(function.offset, function.size) {
            return format!("+{inside:#x}");
        }
        let functions = self.payload.functions.iter().map(|f| (f.offset, f.size, &f.name));
        let variables = self.payload.variables.iter().map(|v| (v.offset, v.size, &v.name));
        for (start, size, name) in functions.chain(variables) {
            match within(start, size) {
                Some(0) => return demangle(name),
                Some(inside) => return format!("{}+{inside:#x}", demangle(name)),
                None => {}
            }
        }
        let slot = self.payload.imports.iter().find(|import| import.slot == offset);
        slot.map_or_else(
            || distance("region", i64::from(offset)),
            |import| match &import.symbol {
                ImportSymbol::Name(name) => format!("{}!{name}", import.dll),
                ImportSymbol::Ordinal(ordinal) => format!("{}!#{ordinal}", import.dll),
            },
        )
    }

    /// The text that begins at a place among the payload's constants.
    fn literal(&self, target: Target) -> Option<String> {
        let offset = u32::try_from(target.offset).ok().filter(|_| target.space == Space::Region)?;
        let holds = |offset: &u32, start: u32, size: u32| offset.checked_sub(start).is_some_and(|inside| inside < size);
        let constants = self.payload.segments.iter().filter(|segment| segment.protection == Protection::Read);
        let segment = constants.into_iter().find(|segment| holds(&offset, segment.offset, segment.size))?;
        let bytes = segment.content.get((offset - segment.offset) as usize..)?;
        let text = std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()?;
        let is_text =
            text.len() >= SHORTEST_LITERAL && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace());
        is_text.then(|| listing::quote(text))
    }

    fn bytes(&self, offset: u32, size: u32) -> &'a [u8] {
        let slices = self.payload.segments.iter().filter_map(|segment| {
            let start = offset.checked_sub(segment.offset)? as usize;
            segment.content.get(start..start.checked_add(size as usize)?)
        });
        slices.into_iter().next().unwrap_or_default()
    }
}

fn distance(from: &str, offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{from}{sign}{:#x}", offset.unsigned_abs())
}

/// Names of an instruction's operands.
struct Names {
    memory: Option<String>,
    immediate: Option<String>,
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _: u32,
        operand: Option<u32>,
        address: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        let name = match instruction.op_kind(operand?) {
            OpKind::Memory => self.memory.as_deref(),
            _ => self.immediate.as_deref(),
        };
        Some(SymbolResult::with_str(address, name?))
    }
}

#[cfg(test)]
#[path = "disassembly_tests.rs"]
mod tests;
