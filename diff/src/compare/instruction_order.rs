//! The instructions of a function that count, and the places that they give to branch targets.

use crate::x64::{Code, Instruction, Role};

/// The instructions that count, in order: padding is left out.
pub(super) struct Order {
    /// Indices into [`Code::instructions`].
    pub indices: Vec<usize>,
}

impl Order {
    /// Leaves padding out.
    pub fn of(code: &Code) -> Order {
        let is_real = |(_, i): &(usize, &Instruction)| i.role != Role::Padding;
        Order { indices: code.instructions.iter().enumerate().filter(is_real).map(|(index, _)| index).collect() }
    }

    /// Place of the first real instruction at or behind a branch target; none where no instruction starts at the target.
    pub fn position_of(&self, code: &Code, target: u32) -> Option<usize> {
        code.instruction_at(target)?;
        Some(self.end_position_of(code, target))
    }

    /// Number of real instructions before an offset.
    pub fn end_position_of(&self, code: &Code, offset: u32) -> usize {
        self.indices.partition_point(|i| code.instructions.get(*i).is_some_and(|x| x.offset < offset))
    }
}
