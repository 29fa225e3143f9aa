//! Whether it matters to a function what objects of the process look like.

use std::collections::BTreeSet;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::compare::masked_bytes;
use crate::program::{Function, Location, Program};
use crate::x64::Role;

/// A function of a program.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    program: &'a Program,
    function: &'a Function,
}

impl<'a> Reach<'a> {
    /// The reach of an atom that is a function.
    pub fn of(program: &'a Program, index: AtomIndex) -> Option<Reach<'a>> {
        Some(Reach { program, function: program.function(index)? })
    }

    /// It names a variable that has no type in the PDB, or what nobody knows.
    pub fn names_untyped_variable(self) -> bool {
        let mut named = self.function.code.references.iter().filter(|reference| !reference.kind.is_branch());
        named.any(|reference| match self.program.locate(reference.place()) {
            Location::Atom { atom, .. } => {
                self.program.atom(atom).is_none_or(|atom| atom.kind == AtomKind::Writable && !atom.is_sized)
            }
            Location::Headers(_) => false,
            Location::Nowhere => true,
        })
    }

    /// It reads or writes at addresses that it was given or has loaded, or computes with such. What the functions that it calls do is
    /// theirs.
    pub fn follows_pointers(self) -> bool {
        let Some(instructions) = self.instructions() else { return true };
        let entries = self.entries();
        let mut info = InstructionInfoFactory::new();
        // Registers that hold the address of a constant or of a variable with a type, since control came here for sure.
        let mut named: BTreeSet<Register> = BTreeSet::new();
        for (offset, instruction) in &instructions {
            if entries.contains(offset) {
                named.clear();
            }
            let used = info.info(instruction);
            let follows = used.used_memory().iter().any(|memory| {
                let is_own = is_stack_or_code(memory.base())
                    || instruction.is_ip_rel_memory_operand() && memory.index() == Register::None
                    || named.contains(&memory.base());
                let is_thread = matches!(memory.segment(), Register::FS | Register::GS);
                memory.access() != OpAccess::NoMemAccess && (!is_own || is_thread)
            });
            if follows || computes_address(instruction, &named) {
                return true;
            }
            for register in used.used_registers().iter().filter(|used| !is_read(used.access())) {
                named.remove(&register.register().full_register());
            }
            if instruction.flow_control() != FlowControl::Next {
                named.clear();
            } else if instruction.mnemonic() == Mnemonic::Lea && self.names_object(*offset) {
                named.insert(instruction.op0_register());
            }
        }
        false
    }

    /// Where control comes to from elsewhere in the function.
    fn entries(self) -> BTreeSet<u32> {
        let code = &self.function.code;
        let branches = code.instructions.iter().filter_map(|instruction| match instruction.role {
            Role::Branch { target, .. } => Some(target),
            _ => None,
        });
        branches.chain(self.function.tables.iter().flat_map(|table| table.targets.iter().copied())).collect()
    }

    /// Whether the instruction at an offset names the start of a constant, or of a variable that has a type.
    fn names_object(self, offset: u32) -> bool {
        let code = &self.function.code;
        let Some(number) = code.instruction_at(offset) else { return false };
        let [reference] = code.references_of(number) else { return false };
        let Location::Atom { atom, offset: 0 } = self.program.locate(reference.place()) else { return false };
        let is_known = |atom: &Atom| match atom.kind {
            AtomKind::ReadOnly => true,
            AtomKind::Writable => atom.is_sized,
            AtomKind::Function(_) | AtomKind::ImportSlot => false,
        };
        self.program.atom(atom).is_some_and(is_known)
    }

    /// It calls others, with numbers among what they are given that the other function does not have: sizes of objects, maybe. A jump alone leads
    /// to who is given the same.
    pub fn hands_on_other_numbers(self, other: Option<Reach<'_>>) -> bool {
        let Some(instructions) = self.instructions() else { return true };
        let calls = self.function.code.references.iter().any(|reference| reference.kind.is_branch())
            || instructions.iter().any(|(_, instruction)| instruction.flow_control() == FlowControl::IndirectCall)
            || self.function.tables.is_empty()
                && instructions.iter().any(|(_, i)| i.flow_control() == FlowControl::IndirectBranch);
        if !calls || instructions.len() == 1 {
            return false;
        }
        let known = other.map(Reach::numbers).unwrap_or_default();
        self.numbers().iter().any(|number| !known.contains(number))
    }

    /// Numbers that may be sizes: what is handed on as it is, and what is multiplied by.
    fn numbers(self) -> BTreeSet<u64> {
        let mut numbers = BTreeSet::new();
        for (_, instruction) in self.instructions().unwrap_or_default() {
            // What a function returns goes there, and no parameter.
            let is_result = instruction.op0_register().full_register() == Register::RAX;
            let is_size = match instruction.mnemonic() {
                Mnemonic::Mov => !is_result,
                Mnemonic::Push | Mnemonic::Imul | Mnemonic::Shl | Mnemonic::Sal => true,
                _ => false,
            };
            if is_size {
                let operands = 0..instruction.op_count();
                numbers.extend(operands.filter_map(|operand| instruction.try_immediate(operand).ok()));
            }
        }
        numbers
    }

    /// Both do the same, but for where branches lead and what references name: whatever pointers lead to, they take it for the same.
    pub fn has_instructions_of(self, other: Reach<'_>) -> bool {
        let (own, others) = (self.masked_instructions(), other.masked_instructions());
        own.is_some() && own == others
    }

    /// All that counts, each with its offset.
    fn instructions(self) -> Option<Vec<(u32, Instruction)>> {
        let atom = self.program.atom(self.function.atom)?;
        let code = self.function.code.instructions.iter().filter(|instruction| instruction.role != Role::Padding);
        code.map(|known| {
            let at = atom.rva.checked_add(known.offset)?;
            let bytes = self.program.image.bytes(at, known.len.into())?;
            Some((known.offset, Decoder::with_ip(64, bytes, u64::from(at.0), DecoderOptions::NONE).decode()))
        })
        .collect()
    }

    /// The same in what two builds can share: bytes without fields of references, and the mnemonics of branches.
    fn masked_instructions(self) -> Option<Vec<([u8; 15], u16)>> {
        let atom = self.program.atom(self.function.atom)?;
        let code = &self.function.code;
        let real = code.instructions.iter().enumerate().filter(|(_, instruction)| instruction.role != Role::Padding);
        real.map(|(number, known)| match known.role {
            Role::Branch { mnemonic, .. } => Some(([0; 15], mnemonic)),
            _ => {
                let references = code.references_of(number);
                let (bytes, len) = masked_bytes(&self.program.image, atom, known.offset, known.len, references)?;
                Some((bytes, len.into()))
            }
        })
        .collect()
    }
}

/// Whether an instruction makes an address of another one that is not known to be in a named object: a member's, an element's.
fn computes_address(instruction: &Instruction, named: &BTreeSet<Register>) -> bool {
    let result = instruction.op0_register();
    if result.size() != 8 || result == Register::RSP {
        return false;
    }
    match instruction.mnemonic() {
        Mnemonic::Lea => {
            let base = instruction.memory_base();
            base != Register::None && !is_stack_or_code(base) && !named.contains(&base)
        }
        Mnemonic::Add | Mnemonic::Sub => !named.contains(&result) && !named.contains(&instruction.op1_register()),
        _ => false,
    }
}

fn is_stack_or_code(register: Register) -> bool {
    matches!(register, Register::RSP | Register::RIP)
}

fn is_read(access: OpAccess) -> bool {
    matches!(access, OpAccess::Read | OpAccess::CondRead)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pairing::indexed;

    fn with_reach<T>(image: &str, function: &str, look: impl Fn(Reach<'_>) -> T) -> T {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(image);
        let program = Program::load(&image, None).unwrap();
        let is_meant = |atom: &Atom| atom.names.iter().any(|name| name.key == function);
        let (index, _) = indexed(&program).find(|(_, atom)| is_meant(atom)).unwrap();
        look(Reach::of(&program, index).unwrap())
    }

    #[test]
    fn objects_are_reached_by_pointers() {
        let follows = |image, function| with_reach(image, function, |reach| reach.follows_pointers());
        assert!(follows("untyped_file/old.exe", "account_use"), "a parameter");
        assert!(!follows("untyped_file/old.exe", "limit"), "values alone");
        assert!(!follows("gcc_code/old.exe", "gcc_switch_changed"), "a table of its own");
        assert!(follows("untyped_file/old.exe", "account_left"), "the address of a member");
    }

    #[test]
    fn numbers_that_are_handed_on() {
        let others = |fixture: &str, function: &str| {
            with_reach(&format!("{fixture}/old.exe"), function, |old| {
                with_reach(&format!("{fixture}/new.exe"), function, |new| new.hands_on_other_numbers(Some(old)))
            })
        };
        assert!(others("untyped_file", "account_copy"), "a size");
        assert!(!others("untyped_file", "limit"), "nobody is called");
        assert!(!others("gcc_code", "gcc_switch_changed"), "the same ones");
    }

    #[test]
    fn variables_are_known_by_their_types() {
        let names = |image, function| with_reach(image, function, |reach| reach.names_untyped_variable());
        assert!(names("nameless_variables/old.exe", "fruit_changed"), "gcc's, without a type");
        assert!(!names("lto_statics/old.exe", "changed"), "a number");
        assert!(!names("untyped_file/old.exe", "limit"));
    }

    #[test]
    fn instructions_are_the_same_but_for_what_they_name() {
        let same = |fixture: &str, function: &str| {
            with_reach(&format!("{fixture}/old.exe"), function, |old| {
                with_reach(&format!("{fixture}/new.exe"), function, |new| old.has_instructions_of(new))
            })
        };
        assert!(same("image_relative", "array_changed"));
        assert!(!same("untyped_file", "account_use"));
    }
}
