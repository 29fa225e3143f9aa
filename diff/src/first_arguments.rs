//! Addresses that a function takes and passes on as a first argument, which some functions take for that of an object of its own.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register};

use crate::mangling::constructs_or_destroys;
use crate::program::{Function, Location, Program};
use crate::static_guards::takes_guard;
use crate::x64::{Reference, ReferenceKind};

/// Instructions between the address and the call.
const LONGEST_WAY: usize = 8;

/// Whether a reference takes an address, and passes it as the guard to the runtime, or as the object to a constructor or destructor: it is the start
/// of that, and the end of nothing.
pub fn passes_object(program: &Program, function: &Function, reference: &Reference) -> bool {
    let takes_object = |callee: &Reference| {
        let Location::Atom { atom, offset: 0 } = program.locate(callee.target) else { return false };
        let names = program.atom(atom).map_or(&[][..], |atom| atom.names.as_slice());
        names.iter().any(|name| constructs_or_destroys(&name.key))
    };
    passed_to(program, function, reference).is_some_and(|call| {
        let mut references = function.code.references_of(call).iter();
        references.any(|callee| takes_guard(program, callee) || takes_object(callee))
    })
}

/// The call, as an index into the function's instructions, that is given the address which a reference takes as its first argument.
pub(crate) fn passed_to(program: &Program, function: &Function, reference: &Reference) -> Option<usize> {
    let atom = program.atom(function.atom)?;
    let taken_by = reference.instruction as usize;
    let first = program.instruction(atom, function, taken_by)?;
    if reference.kind != ReferenceKind::Address || first.mnemonic() != Mnemonic::Lea {
        return None;
    }
    let mut holder = first.op0_register();
    for next in (taken_by.checked_add(1)?..).take(LONGEST_WAY) {
        let instruction = program.instruction(atom, function, next)?;
        match instruction.flow_control() {
            FlowControl::Next => holder = holder_behind(&instruction, holder)?,
            FlowControl::Call => return (holder == Register::RCX).then_some(next),
            _ => return None,
        }
    }
    None
}

/// The register with the address behind an instruction: it may be copied to the first argument, and nothing else may write it.
fn holder_behind(instruction: &Instruction, holder: Register) -> Option<Register> {
    let is_copy = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op1_register() == holder
        && instruction.op0_register() == Register::RCX;
    if is_copy {
        return Some(Register::RCX);
    }
    let mut info = InstructionInfoFactory::new();
    let used = info.info(instruction).used_registers().iter();
    let mut touched = used.filter(|used| used.register().full_register() == holder);
    touched.all(|used| used.access() == OpAccess::Read).then_some(holder)
}
