//! Decodes x64 functions and finds every reference in them.

use iced_x86::{
    Code as IcedCode, ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction as Iced, Mnemonic, OpKind,
    Register,
};

use crate::dataflow::{self, Facts, Field};
use crate::exact_fields::{ExactField, ExactFields, FieldKind, FieldSet};
use crate::image::Image;
use crate::operand_alignment;
use crate::rva::{Rva, span};

/// A function's code, decoded once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Code {
    /// All instructions by rising offset.
    pub instructions: Vec<Instruction>,
    /// Places that name something outside the function, by rising offset.
    pub references: Vec<Reference>,
    /// What could not be understood. A function with any of these is never put into a payload.
    pub unresolved: Vec<Unresolved>,
    /// Offsets of jumps through a register that go to places inside the function. Tail calls are not among them: the x64
    /// calling convention has them carry a REX.W prefix, so that the unwinder can tell an epilogue.
    pub register_jumps: Vec<u32>,
    /// Offsets behind calls through a register or memory: where they return to.
    pub calls: Vec<u32>,
    /// Control can run on behind the last instruction that is not padding.
    pub falls_through: bool,
    /// Where among the function's bytes its tables are, behind the code; empty where it has none of its own.
    pub data: std::ops::Range<u32>,
    /// What following addresses through the function showed.
    pub facts: Facts,
    /// What the references rest on.
    pub evidence: Evidence,
}

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Offset from the function's start.
    pub offset: u32,
    /// Length in bytes.
    pub len: u8,
    /// What comparison does with it.
    pub role: Role,
}

/// What an instruction means for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Compared byte for byte, its references by meaning.
    Plain,
    /// Does nothing: padding, alignment.
    Padding,
    /// A near branch to an offset of the same function, in whatever length.
    Branch {
        /// The iced mnemonic's number, which tells `jmp`, `jz`, `loop` and so on apart.
        mnemonic: u16,
        /// Offset that it leads to.
        target: u32,
    },
}

/// A place in code that names an address outside its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Index into [`Code::instructions`].
    pub instruction: u32,
    /// Offset of the field from the function's start.
    pub field: u32,
    /// Bytes from the field's start to the end of the instruction, which relative distances count from.
    pub to_end: u8,
    /// Form of the field and use of the address.
    pub kind: ReferenceKind,
    /// The address that is named.
    pub target: Rva,
    /// The object that is meant, where an object file tells: an address can be the end of one and the start of another.
    pub symbol: Option<Rva>,
    /// Bytes that are read or written there; 0 where the instruction does not tell.
    pub accessed: u8,
    /// The alignment that the instruction needs of its memory operand; 0 where it is not known.
    pub alignment: u8,
}

impl Reference {
    /// The address with the object that is meant.
    pub fn named(&self) -> Named {
        Named { target: self.target, symbol: self.symbol }
    }

    /// An address in the object that is meant where that is known, else the one that is named.
    pub fn place(&self) -> Rva {
        self.named().place()
    }
}

/// An address, and the object that is meant by it where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The address.
    pub target: Rva,
    /// Where the object begins.
    pub symbol: Option<Rva>,
}

impl Named {
    /// An address in the object that is meant where that is known, else the address itself.
    pub fn place(self) -> Rva {
        self.symbol.unwrap_or(self.target)
    }
}

impl From<Rva> for Named {
    fn from(target: Rva) -> Named {
        Named { target, symbol: None }
    }
}

/// What a function's references rest on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The fixups that the linker wrote into the PDB, which are exact.
    Fixups,
    /// The relocations of its object file, which are exact.
    Objects,
    /// What its instructions show.
    #[default]
    Analysis,
}

/// How an instruction names an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceKind {
    /// `call rel32`.
    Call,
    /// `jmp rel32` or a conditional jump with a 32-bit distance that leaves the function.
    Jump,
    /// A branch with an 8-bit distance that leaves the function.
    ShortJump,
    /// RIP-relative memory operand that is read, written, or jumped through.
    Access,
    /// RIP-relative `lea`: the address itself is taken.
    Address,
    /// 64-bit absolute address with a base relocation.
    Absolute,
    /// RVA in the displacement of an operand whose base register holds the image base.
    ImageRelative,
    /// Offset of a thread-local variable from the start of its module's thread-local block.
    ThreadLocal,
}

impl ReferenceKind {
    /// Bytes of the field.
    pub fn width(self) -> u32 {
        match self {
            ReferenceKind::ShortJump => 1,
            ReferenceKind::Absolute => 8,
            _ => 4,
        }
    }

    /// Transfers control, rather than naming data.
    pub fn is_branch(self) -> bool {
        matches!(self, ReferenceKind::Call | ReferenceKind::Jump | ReferenceKind::ShortJump)
    }
}

/// A place that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unresolved {
    /// Offset of the instruction from the function's start.
    pub offset: u32,
    /// The reason, for the report.
    pub reason: String,
}

/// Decodes the function of `size` bytes at `start`.
pub fn decode(image: &Image, exact: &ExactFields, start: Rva, size: u32) -> Code {
    let code = sweep(image, exact, start, size);
    // MSVC puts a function's tables behind its code and counts them into its length: what was decoded there is no code.
    match code.first_own_table(start, size) {
        Some(end) => {
            let mut code = sweep(image, exact, start, end);
            code.data = end..size;
            code
        }
        None => code,
    }
}

/// Decodes everything up to `size` as code.
fn sweep(image: &Image, exact: &ExactFields, start: Rva, size: u32) -> Code {
    let mut code = Code::default();
    let source = exact.covering(start);
    if let Some((evidence, _)) = source {
        code.evidence = evidence;
    }
    let bytes = image.bytes_up_to(span(start, size));
    if bytes.len() != size as usize {
        code.unresolved.push(Unresolved { offset: 0, reason: "the function's bytes are not all in the file".into() });
        return code;
    }
    let mut decoder = Decoder::with_ip(64, bytes, u64::from(start.0), DecoderOptions::NONE);
    let mut walk = Walk {
        image,
        start,
        size,
        code: &mut code,
        image_base: None,
        image_offsets: Vec::new(),
        thread_local: None,
        falls_through: true,
    };
    let mut instruction = Iced::default();
    let mut decoded = Vec::new();
    let mut all_fields = Vec::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let offset = (instruction.ip() - u64::from(start.0)) as u32;
        if instruction.is_invalid() {
            walk.unresolved(offset, "bytes that are no instruction (data inside the function?)");
            break;
        }
        let fields = decoder.get_constant_offsets(&instruction);
        walk.visit(offset, &instruction, &fields);
        decoded.push(instruction);
        all_fields.push(fields);
    }
    walk.code.falls_through = decoded
        .iter()
        .zip(&walk.code.instructions)
        .rev()
        .find(|(_, i)| i.role != Role::Padding)
        // A call at the end is one that does not return.
        .is_some_and(|(last, _)| {
            !ends_flow(last) && !matches!(last.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
        });
    let takes_addresses = walk.code.references.iter().any(|r| r.kind == ReferenceKind::Address);
    if takes_addresses || walk.thread_local.is_some() || !walk.code.register_jumps.is_empty() {
        walk.code.facts = dataflow::analyse(image, start, size, &decoded);
        walk.add_found_fields(&decoded, &all_fields);
    }
    walk.check_image_relative();
    if let Some((_, source)) = source {
        add_exact_fields(source, start, size, &mut code);
    }
    check_branch_targets(&mut code);
    check_base_relocations(image, start, size, &mut code);
    code
}

struct Walk<'a> {
    image: &'a Image,
    start: Rva,
    size: u32,
    code: &'a mut Code,
    /// Where the image base's address is taken.
    image_base: Option<u32>,
    /// Where displacements or immediates could be RVAs.
    image_offsets: Vec<u32>,
    /// Where the thread's array of thread-local blocks is taken.
    thread_local: Option<u32>,
    /// Whether control can reach the instruction from the one before it.
    falls_through: bool,
}

impl Walk<'_> {
    fn unresolved(&mut self, offset: u32, reason: impl Into<String>) {
        self.code.unresolved.push(Unresolved { offset, reason: reason.into() });
    }

    fn visit(&mut self, offset: u32, instruction: &Iced, fields: &ConstantOffsets) {
        // A breakpoint that control can reach is code; behind a return or jump it fills a gap.
        let fills_gap = instruction.mnemonic() == Mnemonic::Int3 && !self.falls_through;
        let mut role = if is_nop(instruction) || fills_gap { Role::Padding } else { Role::Plain };
        if role == Role::Plain {
            self.falls_through = !ends_flow(instruction);
        }
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call
                if has_near_target(instruction) =>
            {
                if let Some(target) = self.branch(offset, instruction, fields) {
                    role = Role::Branch { mnemonic: instruction.mnemonic() as u16, target };
                }
            }
            FlowControl::IndirectBranch if instruction.op0_kind() == OpKind::Register && !self.has_rex_w(offset) => {
                self.code.register_jumps.push(offset);
            }
            FlowControl::IndirectCall => self.code.calls.push(offset + instruction.len() as u32),
            FlowControl::XbeginXabortXend => {
                self.unresolved(offset, "transactional memory instruction");
            }
            _ => {}
        }
        if role == Role::Plain {
            self.operands(offset, instruction, fields);
        }
        self.code.instructions.push(Instruction { offset, len: instruction.len() as u8, role });
    }

    /// A near branch: gives its target's offset when that is inside the function, else records a reference.
    fn branch(&mut self, offset: u32, instruction: &Iced, fields: &ConstantOffsets) -> Option<u32> {
        let Some(target) = u32::try_from(instruction.near_branch_target()).ok().map(Rva) else {
            self.unresolved(offset, "a branch leads outside the image");
            return None;
        };
        let is_call = instruction.flow_control() == FlowControl::Call;
        let distance = target.distance_from(self.start);
        if !is_call && (0..i64::from(self.size)).contains(&distance) {
            return Some(distance as u32);
        }
        let kind = match (is_call, fields.immediate_size()) {
            (true, 4) => ReferenceKind::Call,
            (false, 4) => ReferenceKind::Jump,
            (false, 1) => ReferenceKind::ShortJump,
            _ => {
                self.unresolved(offset, "a branch with an operand size of 16 bits");
                return None;
            }
        };
        self.reference(offset, instruction, fields.immediate_offset(), kind, target);
        None
    }

    fn operands(&mut self, offset: u32, instruction: &Iced, fields: &ConstantOffsets) {
        if instruction.is_ip_rel_memory_operand() {
            match u32::try_from(instruction.ip_rel_memory_address()) {
                Ok(target) => {
                    let is_address = instruction.mnemonic() == Mnemonic::Lea;
                    let kind = if is_address { ReferenceKind::Address } else { ReferenceKind::Access };
                    if is_address && target == 0 {
                        self.image_base.get_or_insert(offset);
                    }
                    self.reference(offset, instruction, fields.displacement_offset(), kind, Rva(target));
                }
                Err(_) => self.unresolved(offset, "a RIP-relative operand leads outside the image"),
            }
        } else if fields.has_displacement() {
            self.displacement(offset, instruction, fields);
        }
        self.immediate(offset, instruction, fields);
        // ThreadLocalStoragePointer of the TEB (winternl.h; offset 58h on x64).
        if instruction.segment_prefix() == Register::GS && instruction.memory_displacement64() == 0x58 {
            self.thread_local.get_or_insert(offset);
        }
    }

    fn displacement(&mut self, offset: u32, instruction: &Iced, fields: &ConstantOffsets) {
        let value = instruction.memory_displacement64();
        if fields.displacement_size() == 8 {
            self.absolute(offset, instruction, fields.displacement_offset(), value);
        } else if fields.displacement_size() == 4
            && instruction.memory_base() != Register::RSP
            && self.may_be_rva(value)
        {
            self.image_offsets.push(offset);
        }
    }

    fn immediate(&mut self, offset: u32, instruction: &Iced, fields: &ConstantOffsets) {
        if !fields.has_immediate() || has_near_target(instruction) {
            return;
        }
        let value =
            (0..instruction.op_count()).find_map(|operand| instruction.try_immediate(operand).ok()).unwrap_or_default();
        match fields.immediate_size() {
            8 => self.absolute(offset, instruction, fields.immediate_offset(), value),
            4 if self.may_be_rva(value) => {
                self.image_offsets.push(offset);
            }
            _ => {}
        }
    }

    /// A 64-bit field: an address only where the image has a base relocation for it, else a number.
    fn absolute(&mut self, offset: u32, instruction: &Iced, at: usize, value: u64) {
        let Some(place) = self.start.checked_add(offset).and_then(|rva| rva.checked_add(at as u32)) else {
            return;
        };
        if self.image.base_relocations.binary_search(&place).is_err() {
            return;
        }
        let target = value.checked_sub(self.image.identity.image_base).and_then(|rva| u32::try_from(rva).ok());
        match target {
            Some(target) => self.reference(offset, instruction, at, ReferenceKind::Absolute, Rva(target)),
            None => self.unresolved(offset, "a relocated address leads outside the image"),
        }
    }

    /// The instruction begins with a REX prefix whose W bit is set.
    fn has_rex_w(&self, offset: u32) -> bool {
        let first = self.start.checked_add(offset).and_then(|rva| self.image.bytes(rva, 1));
        first.is_some_and(|bytes| bytes.iter().all(|byte| byte & 0xf8 == 0x48))
    }

    fn may_be_rva(&self, value: u64) -> bool {
        let first = self.image.sections.first().map_or(0, |s| s.range.start.0);
        (u64::from(first)..u64::from(self.image.identity.size_of_image)).contains(&value)
    }

    fn reference(&mut self, offset: u32, instruction: &Iced, at: usize, kind: ReferenceKind, target: Rva) {
        self.code.references.push(Reference {
            instruction: self.code.instructions.len() as u32,
            field: offset + at as u32,
            to_end: (instruction.len() - at) as u8,
            kind,
            target,
            symbol: None,
            accessed: if kind == ReferenceKind::Access { instruction.memory_size().size() as u8 } else { 0 },
            alignment: operand_alignment::of_instruction(instruction),
        });
    }

    /// Turns fields that the dataflow showed to be RVAs or offsets of thread-local variables into references.
    fn add_found_fields(&mut self, decoded: &[Iced], fields: &[ConstantOffsets]) {
        let facts = std::mem::take(&mut self.code.facts);
        for (offset, target) in &facts.image_relative {
            self.add_field(*offset, Field::Displacement, ReferenceKind::ImageRelative, *target, decoded, fields);
        }
        for (offset, target) in &facts.image_relative_immediates {
            self.add_field(*offset, Field::Immediate, ReferenceKind::ImageRelative, *target, decoded, fields);
        }
        self.code.register_jumps.retain(|offset| !facts.outward_jumps.contains(offset));
        let start = self.image.thread_local_data.as_ref().map(|range| range.start);
        for (offset, field, value) in &facts.thread_local {
            match start.and_then(|start| start.checked_add(*value)) {
                Some(target) => self.add_field(*offset, *field, ReferenceKind::ThreadLocal, target, decoded, fields),
                None => {
                    self.unresolved(*offset, "uses a thread-local variable, and the image has no thread-local data")
                }
            }
        }
        let is_exact = self.code.evidence != Evidence::Analysis;
        if let (Some(offset), true, false) =
            (self.thread_local, facts.thread_local_lost || facts.thread_local.is_empty(), is_exact)
        {
            self.unresolved(offset, "uses thread-local storage in a way that could not be followed");
        }
        self.code.references.sort_by_key(|r| r.field);
        self.code.facts = facts;
    }

    fn add_field(
        &mut self,
        offset: u32,
        field: Field,
        kind: ReferenceKind,
        target: Rva,
        decoded: &[Iced],
        fields: &[ConstantOffsets],
    ) {
        let Some(index) = self.code.instruction_at(offset) else { return };
        let (Some(instruction), Some(fields)) = (decoded.get(index), fields.get(index)) else { return };
        let (at, size) = match field {
            Field::Displacement => (fields.displacement_offset(), fields.displacement_size()),
            Field::Immediate => (fields.immediate_offset(), fields.immediate_size()),
        };
        if size != 4 {
            self.unresolved(offset, "a relative address in a field of less than 32 bits");
            return;
        }
        self.code.references.push(Reference {
            instruction: index as u32,
            field: offset + at as u32,
            to_end: (instruction.len() - at) as u8,
            kind,
            target,
            symbol: None,
            accessed: 0,
            // An immediate becomes a part of an address that some other instruction accesses.
            alignment: if field == Field::Displacement { operand_alignment::of_instruction(instruction) } else { 0 },
        });
    }

    /// The image base was computed with in a way that the dataflow did not follow, and the function has numbers that could be RVAs.
    fn check_image_relative(&mut self) {
        let Some(base) = self.image_base.filter(|_| self.code.evidence == Evidence::Analysis) else { return };
        let facts = &self.code.facts;
        if !facts.uses.get(&Rva(0)).is_some_and(|uses| uses.computed || uses.indexed) {
            return;
        }
        let known = |offset: &u32| {
            facts.image_relative.iter().chain(&facts.image_relative_immediates).any(|(known, _)| known == offset)
        };
        if let Some(offset) = self.image_offsets.iter().find(|offset| !known(offset)).copied() {
            self.unresolved(
                offset,
                format!("may be an address relative to the image base that +{base:#x} takes, and the two could not be connected"),
            );
        }
    }
}

/// Adds what only exact relocations tell: the objects that addresses belong to, and fields that the analysis did not connect.
fn add_exact_fields(source: &FieldSet, start: Rva, size: u32, code: &mut Code) {
    let mut found = Vec::new();
    for (place, field) in source.inside(span(start, size)) {
        let offset = place.0 - start.0;
        if let Ok(index) = code.references.binary_search_by_key(&offset, |r| r.field) {
            if let Some(reference) = code.references.get_mut(index).filter(|r| is_of_field(r, field)) {
                reference.symbol = field.symbol;
            }
            continue;
        }
        let kind = match field.kind {
            FieldKind::Rva => ReferenceKind::ImageRelative,
            FieldKind::SectionOffset => ReferenceKind::ThreadLocal,
            // Branches inside the function need no reference; anything else that was not seen is not understood.
            FieldKind::Relative if span(start, size).contains(&field.target) => continue,
            FieldKind::Relative | FieldKind::Address => {
                code.unresolved.push(Unresolved {
                    offset,
                    reason: "there is a relocation here that belongs to no operand".into(),
                });
                continue;
            }
        };
        let Some(instruction) = code.instructions.partition_point(|i| i.offset <= offset).checked_sub(1) else {
            continue;
        };
        let end = code.instructions.get(instruction).map_or(offset, |i| i.offset + u32::from(i.len));
        found.push(Reference {
            instruction: instruction as u32,
            field: offset,
            to_end: end.saturating_sub(offset) as u8,
            kind,
            target: field.target,
            symbol: field.symbol,
            accessed: 0,
            alignment: 0,
        });
    }
    code.references.extend(found);
    code.references.sort_by_key(|r| r.field);
}

/// The reference is what a relocation of its field makes. Some compilers count immediates behind the field into the addend, others have a form of
/// relocation for each of their sizes.
fn is_of_field(reference: &Reference, field: &ExactField) -> bool {
    let behind = if field.kind == FieldKind::Relative { i64::from(reference.to_end) - 4 } else { 0 };
    (0..=behind).contains(&reference.target.distance_from(field.target))
}

/// Control does not reach the next instruction.
fn ends_flow(instruction: &Iced) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return | FlowControl::Exception
    ) || instruction.mnemonic() == Mnemonic::Int3
}

fn has_near_target(instruction: &Iced) -> bool {
    matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

/// Instructions without effect, which compilers align loops with.
fn is_nop(instruction: &Iced) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Nop => true,
        // Two-byte fillers of older assemblers.
        Mnemonic::Xchg => {
            instruction.code() == IcedCode::Xchg_rm16_r16 && instruction.op0_register() == instruction.op1_register()
        }
        _ => false,
    }
}

/// Branches must lead to instructions that the sweep saw: else the function was not decoded as it runs.
fn check_branch_targets(code: &mut Code) {
    let starts = &code.instructions;
    let lost = starts.iter().filter_map(|i| match i.role {
        Role::Branch { target, .. } if starts.binary_search_by_key(&target, |s| s.offset).is_err() => {
            Some(Unresolved {
                offset: i.offset,
                reason: format!("branches into the middle of an instruction, +{target:#x}"),
            })
        }
        _ => None,
    });
    let lost: Vec<_> = lost.collect();
    code.unresolved.extend(lost);
}

/// Every base relocation inside the function must be a reference that the decoder saw.
fn check_base_relocations(image: &Image, start: Rva, size: u32, code: &mut Code) {
    for place in image.base_relocations_in(span(start, size)) {
        let field = place.0 - start.0;
        let reference =
            code.references.binary_search_by_key(&field, |r| r.field).ok().and_then(|i| code.references.get(i));
        let seen = reference.is_some_and(|r| r.kind == ReferenceKind::Absolute);
        if !seen {
            code.unresolved.push(Unresolved {
                offset: field,
                reason: "a base relocation that belongs to no operand (data inside the function?)".into(),
            });
        }
    }
    code.unresolved.sort();
}

impl Code {
    /// The alignment that the function needs of what a reference names. Where it is not known which accesses that address takes part in, it may
    /// be any of them, as far as the object begins at an address that is so aligned: code counts on no more than its own build gives.
    pub fn alignment_of(&self, reference: &Reference, object: Rva) -> u8 {
        let largest = self.facts.alignment;
        let uses = self.facts.uses.get(&reference.target).copied().unwrap_or_default();
        let (known, is_lost) = match reference.kind {
            kind if kind.is_branch() => (1, false),
            ReferenceKind::Address => (uses.alignment, uses.computed),
            ReferenceKind::Absolute => (1, true),
            _ => (reference.alignment, reference.alignment == 0),
        };
        let is_given = object.0.is_multiple_of(u32::from(largest.max(1)));
        let lost = if is_lost && is_given { largest } else { 1 };
        known.max(lost).max(1)
    }

    /// Index of the instruction that begins at an offset.
    pub fn instruction_at(&self, offset: u32) -> Option<usize> {
        self.instructions.binary_search_by_key(&offset, |i| i.offset).ok()
    }

    /// Offset of the first table that stands among the function's own bytes.
    fn first_own_table(&self, start: Rva, size: u32) -> Option<u32> {
        let offset_of = |rva: Rva| rva.0.checked_sub(start.0);
        let tables = self.facts.tables.iter().filter_map(|table| offset_of(table.rva));
        // Code stands before the tables that it reads; a table's own entries lead back to code.
        let relative = self.references.iter().filter(|r| r.kind == ReferenceKind::ImageRelative);
        let relative = relative.filter_map(|r| offset_of(r.target).filter(|target| r.field < *target));
        tables.chain(relative).filter(|offset| (1..size).contains(offset)).min()
    }

    /// References of one instruction.
    pub fn references_of(&self, instruction: usize) -> &[Reference] {
        let start = self.references.partition_point(|r| (r.instruction as usize) < instruction);
        let end = self.references.partition_point(|r| r.instruction as usize <= instruction);
        self.references.get(start..end).unwrap_or(&[])
    }
}

#[cfg(test)]
#[path = "x64_tests.rs"]
mod tests;
