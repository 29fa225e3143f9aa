//! Functions as lines of assembly, and two versions of one side by side.
//!
//! Lines are aligned by what they say with names in place of addresses (with `similar`), so that what moved is no difference.

use std::collections::HashMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::atoms::AtomIndex;
use crate::listing::{Naming, format_with, named_operands};
use crate::program::Program;
use crate::rva::Rva;
use crate::x64::Role;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Offset from the function's start.
    pub offset: u32,
    /// Address.
    pub rva: Rva,
    /// The instruction in Intel syntax with names in place of addresses.
    pub text: String,
    /// The text without addresses: equal for instructions that say the same.
    key: String,
    /// What the instruction does, whatever registers and stack slots it does it with; none for what only keeps registers and
    /// the stack in order.
    pub(crate) shape: Option<String>,
    /// Where a branch inside the function leads, as an offset.
    target: Option<u32>,
}

/// One row of two versions side by side: indices of their lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The same on both sides.
    Same(usize, usize),
    /// Not the same, or on one side only.
    Different(Option<usize>, Option<usize>),
}

/// The instructions of a function, padding left out.
pub fn lines(program: &Program, function: AtomIndex) -> Vec<Line> {
    let (Some(atom), Some(decoded)) = (program.atom(function), program.function(function)) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (index, instruction) in decoded.code.instructions.iter().enumerate() {
        if instruction.role == Role::Padding {
            continue;
        }
        let Some(rva) = atom.rva.checked_add(instruction.offset) else { break };
        let bytes = program.image.bytes_up_to(rva..atom.end());
        let iced = Decoder::with_ip(64, bytes, u64::from(rva.0), DecoderOptions::NONE).decode();
        let references = decoded.code.references_of(index);
        let names = |naming| named_operands(program, function, &iced, references, naming);
        let compared = names(Naming::Compared);
        let shape = shape(&iced, &compared);
        let target = match instruction.role {
            Role::Branch { target, .. } => Some(target),
            _ => None,
        };
        lines.push(Line {
            offset: instruction.offset,
            rva,
            text: format_with(&iced, names(Naming::Shown)),
            key: format_with(&iced, compared),
            shape,
            target,
        });
    }
    lines
}

/// Two versions side by side, in order.
pub fn align(old: &[Line], new: &[Line]) -> Vec<Row> {
    // Numbers in place of texts are faster to compare.
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut numbered: Vec<usize> = Vec::with_capacity(old.len() + new.len());
    for line in old.iter().chain(new) {
        let next = numbers.len();
        numbered.push(*numbers.entry(&line.key).or_insert(next));
    }
    let (old_numbers, new_numbers) = numbered.split_at(old.len());
    let mut rows = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, old_numbers, new_numbers) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            rows.extend((0..len).map(|i| Row::Same(old_index + i, new_index + i)));
            continue;
        }
        let (mut a, mut b) = (op.old_range(), op.new_range());
        rows.extend((0..a.len().max(b.len())).map(|_| Row::Different(a.next(), b.next())));
    }
    mark_branches(old, new, &mut rows);
    rows
}

/// Branches say the same only where they lead to the same line.
fn mark_branches(old: &[Line], new: &[Line], rows: &mut [Row]) {
    let mut partner: Vec<Option<usize>> = vec![None; old.len()];
    let mut has_partner = vec![false; new.len()];
    for row in rows.iter() {
        if let Row::Same(a, b) = *row {
            if let Some(place) = partner.get_mut(a) {
                *place = Some(b);
            }
            if let Some(place) = has_partner.get_mut(b) {
                *place = true;
            }
        }
    }
    let index_of = |lines: &[Line], offset: u32| lines.partition_point(|line| line.offset < offset);
    for row in rows.iter_mut() {
        let Row::Same(a, b) = *row else { continue };
        let targets = old.get(a).and_then(|l| l.target).zip(new.get(b).and_then(|l| l.target));
        let Some((t, u)) = targets else { continue };
        let (t, u) = (index_of(old, t), index_of(new, u));
        let is_same = match partner.get(t).copied().flatten() {
            Some(partner) => partner == u,
            None => !has_partner.get(u).copied().unwrap_or(false),
        };
        if !is_same {
            *row = Row::Different(Some(a), Some(b));
        }
    }
}

/// See [`Line::shape`].
fn shape(instruction: &Instruction, names: &[(u64, String)]) -> Option<String> {
    let is_stack = |i: u32| {
        instruction.op_kind(i) == OpKind::Memory
            && matches!(instruction.memory_base(), Register::RSP | Register::RBP)
            && instruction.memory_index() == Register::None
    };
    let is_register = |i: u32| instruction.op_kind(i) == OpKind::Register;
    let count = instruction.op_count();
    let is_move = matches!(
        instruction.mnemonic(),
        Mnemonic::Mov | Mnemonic::Movaps | Mnemonic::Movups | Mnemonic::Movapd | Mnemonic::Movdqa | Mnemonic::Movdqu
    );
    let keeps_order = match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pop => is_register(0),
        Mnemonic::Sub | Mnemonic::Add | Mnemonic::And | Mnemonic::Lea => {
            is_register(0) && instruction.op_register(0) == Register::RSP
                || instruction.mnemonic() == Mnemonic::Lea && is_stack(1)
        }
        _ => is_move && count == 2 && (0..2).all(|i| is_register(i) || is_stack(i)),
    };
    let is_jump = instruction.flow_control() == FlowControl::UnconditionalBranch && !names.iter().any(|n| n.1 != "+");
    if keeps_order || is_jump {
        return None;
    }
    let mut shape = match instruction.mnemonic() {
        // Whether a branch goes away if something holds or if it does not is a matter of layout.
        mnemonic if instruction.flow_control() == FlowControl::ConditionalBranch => {
            let mut same = instruction.to_owned();
            same.negate_condition_code();
            format!("{:?}", mnemonic.min(same.mnemonic()))
        }
        mnemonic => format!("{mnemonic:?}"),
    };
    for i in 0..count {
        shape.push(' ');
        match instruction.op_kind(i) {
            OpKind::Register => shape.push_str(&format!("r{}", instruction.op_register(i).size())),
            OpKind::Memory if is_stack(i) => shape.push_str("[stack]"),
            OpKind::Memory => {
                let has = |register: Register| u8::from(register != Register::None);
                let displacement = instruction.memory_displacement64();
                let name = names.iter().find(|(value, _)| *value == displacement).map(|(_, name)| name.clone());
                shape.push_str(&format!(
                    "[{}+{}*{}+{}]",
                    has(instruction.memory_base()),
                    has(instruction.memory_index()),
                    instruction.memory_index_scale(),
                    name.unwrap_or_else(|| format!("{displacement:#x}"))
                ));
            }
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                let target = instruction.near_branch_target();
                let name = names.iter().find(|(value, _)| *value == target).map(|(_, name)| name.as_str());
                shape.push_str(name.unwrap_or("?"));
            }
            kind => match instruction.try_immediate(i) {
                Ok(value) => {
                    let name = names.iter().find(|(known, _)| *known == value).map(|(_, name)| name.clone());
                    shape.push_str(&name.unwrap_or_else(|| format!("{value:#x}")));
                }
                // String instructions and far branches.
                Err(_) => shape.push_str(&format!("{kind:?}")),
            },
        }
    }
    Some(shape)
}
