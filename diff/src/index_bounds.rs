//! How large an index can be: what a comparison proves of a register on each side of the branch that follows it.
//!
//! A table that is only read at indices which cannot leave it is the object that was meant, whatever stands around it. Bounds may be
//! larger than what the program allows, never smaller.

use iced_x86::{ConditionCode, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// How much of a register was compared, from its lowest bit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// So many bits: 8 or 16.
    Part(u32),
    /// 32 bits.
    Half,
    /// All 64.
    Whole,
}

/// A comparison of a register, as a number without sign, with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// All 64 bits of the register.
    pub register: Register,
    /// Which of them were compared.
    pub width: Width,
    constant: u32,
}

impl Comparison {
    /// The comparison that an instruction is.
    pub fn of(i: &Instruction) -> Option<Comparison> {
        if i.mnemonic() != Mnemonic::Cmp || i.op0_kind() != OpKind::Register {
            return None;
        }
        let (register, constant) = (i.op0_register(), i.try_immediate(1).ok()?);
        // Sign-extended, a constant can have more bits than were compared.
        let (width, constant) = match register {
            _ if register.is_gpr64() => (Width::Whole, u32::try_from(constant).ok()?),
            _ if register.is_gpr32() => (Width::Half, constant as u32),
            _ if register.is_gpr16() => (Width::Part(u16::BITS), u32::from(constant as u16)),
            _ if is_low_byte(register) => (Width::Part(u8::BITS), u32::from(constant as u8)),
            _ => return None,
        };
        Some(Comparison { register: register.full_register(), width, constant })
    }

    /// The largest number that the register can hold where a branch is taken, and where it is not.
    pub fn largest(&self, condition: ConditionCode) -> [Option<u32>; 2] {
        let (same, below) = (Some(self.constant), self.constant.checked_sub(1));
        match condition {
            ConditionCode::a => [None, same],
            ConditionCode::ae => [None, below],
            ConditionCode::b => [below, None],
            ConditionCode::be => [same, None],
            _ => [None, None],
        }
    }
}

/// A register of the lowest eight bits, not one of the next eight.
fn is_low_byte(register: Register) -> bool {
    register.is_gpr8() && !matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}

/// Whether an instruction sets the lowest byte of its register to whether a condition holds (`setcc`): 0 or 1.
pub(crate) fn is_set_by_condition(i: &Instruction) -> bool {
    i.code().condition_code() != ConditionCode::None
        && i.flow_control() == FlowControl::Next
        && i.op_count() == 1
        && i.op0_kind() == OpKind::Register
        && is_low_byte(i.op0_register())
}

/// The register of whose bits an instruction leaves some, from the lowest one on, in its first operand, and how many.
pub(crate) fn extended_part(i: &Instruction) -> Option<(Register, u32)> {
    let source = i.op1_register();
    match (i.mnemonic(), i.op1_kind()) {
        (Mnemonic::Movzx, OpKind::Register) if is_low_byte(source) => Some((source, u8::BITS)),
        (Mnemonic::Movzx, OpKind::Register) if source.is_gpr16() => Some((source, u16::BITS)),
        _ => None,
    }
}

/// The largest number that an instruction can leave in its first operand, a register, whatever it held before.
pub(crate) fn largest_result(i: &Instruction) -> Option<u32> {
    let target = i.op0_register();
    if i.op0_kind() != OpKind::Register || !(target.is_gpr32() || target.is_gpr64()) {
        return None;
    }
    match i.mnemonic() {
        // Sign-extended, a constant with its highest bit set leaves the upper half as it is.
        Mnemonic::And => {
            i.try_immediate(1).ok().and_then(|mask| u32::try_from(mask).ok()).filter(|mask| *mask <= i32::MAX as u32)
        }
        Mnemonic::Movzx => match (i.op1_kind(), i.op1_register(), i.memory_size().size()) {
            (OpKind::Register, register, _) if register.is_gpr8() => Some(u8::MAX.into()),
            (OpKind::Register, register, _) if register.is_gpr16() => Some(u16::MAX.into()),
            (OpKind::Memory, _, 1) => Some(u8::MAX.into()),
            (OpKind::Memory, _, 2) => Some(u16::MAX.into()),
            _ => None,
        },
        _ => None,
    }
}

/// The largest number that a shift to the left by a constant leaves of one that is at most `largest`, where no bit is lost.
pub(crate) fn largest_shifted(i: &Instruction, largest: u32) -> Option<u32> {
    let by = i.try_immediate(1).ok().and_then(|by| u32::try_from(by).ok()).filter(|by| *by < u32::BITS)?;
    largest.checked_mul(1 << by)
}

/// The largest number that a `lea` makes of an index alone, times its scale and plus a constant, where no bit is lost. Not where it only adds:
/// in a loop, what it makes would grow by a little each time it is looked at.
pub(crate) fn largest_multiple(i: &Instruction, largest: Option<u32>) -> Option<u32> {
    let is_index = i.memory_base() == Register::None
        && i.memory_index().is_gpr64()
        && i.memory_index_scale() > 1
        && !i.op0_register().is_gpr16();
    let constant = u32::try_from(i.memory_displacement64()).ok().filter(|_| is_index)?;
    largest?.checked_mul(i.memory_index_scale())?.checked_add(constant)
}

/// How many bytes from its base register's value on a memory operand can touch, where its index is at most `largest`.
pub(crate) fn reach(i: &Instruction, scale: u32, largest: u32) -> Option<u32> {
    let size = u32::try_from(i.memory_size().size()).ok().filter(|size| *size > 0)?;
    let displacement = u32::try_from(i.memory_displacement64()).ok()?;
    largest.checked_mul(scale)?.checked_add(displacement)?.checked_add(size)
}
