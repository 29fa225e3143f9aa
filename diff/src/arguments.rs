//! Which registers that can hold arguments a function may look at: those that some path reads before it writes them.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, OpAccess, OpKind, Register};

use crate::atoms::AtomIndex;
use crate::image::ImportedSymbol;
use crate::known_calls::{KnownCall, known_call, known_import};
use crate::program::{Function, Location, Program};
use crate::rva::Rva;
use crate::x64::{Reference, ReferenceKind, Role};

/// Whole registers, in the order of arguments: numbers and addresses, then floating-point numbers (x64 calling convention).
pub(crate) const ARGUMENTS: [Register; 8] = [
    Register::RCX,
    Register::RDX,
    Register::R8,
    Register::R9,
    Register::ZMM0,
    Register::ZMM1,
    Register::ZMM2,
    Register::ZMM3,
];

/// Calls inside calls that are followed; what lies deeper may look at everything.
const MAX_DEPTH: usize = 8;

type Registers = BTreeSet<Register>;

/// What a call that a reference names may look at.
pub(crate) fn looked_at(program: &Program, callee: &Reference) -> Registers {
    Search { program, of_unknown: everything() }.of_callee(callee, 0)
}

/// What a function looks at. Of functions that it calls and that are not known, it passes on either all or nothing.
pub(crate) fn read_by(program: &Program, index: AtomIndex, passes_on: bool) -> Registers {
    let search = Search { program, of_unknown: if passes_on { everything() } else { Registers::new() } };
    match (program.atom(index), program.function(index)) {
        (Some(atom), Some(function)) => search.of_function(atom.rva, function, 0),
        _ => search.of_unknown,
    }
}

struct Search<'a> {
    program: &'a Program,
    /// What code is taken to look at of which nothing is known.
    of_unknown: Registers,
}

fn everything() -> Registers {
    ARGUMENTS.into()
}

impl Search<'_> {
    /// So many arguments are looked at as are documented, or fewer.
    fn of_known(&self, call: &KnownCall) -> Registers {
        let documented: Registers = ARGUMENTS.into_iter().take(call.arguments.min(4)).collect();
        documented.intersection(&self.of_unknown).copied().collect()
    }

    fn of_callee(&self, callee: &Reference, depth: usize) -> Registers {
        let (program, unknown) = (self.program, || self.of_unknown.clone());
        if let Some(slot) = program.image.import_at(callee.target) {
            let known = match &slot.import.symbol {
                ImportedSymbol::Name(name) => known_import(name),
                ImportedSymbol::Ordinal(_) => None,
            };
            return known.map_or_else(unknown, |call| self.of_known(&call));
        }
        let Location::Atom { atom: index, offset: 0 } = program.locate(callee.target) else { return unknown() };
        let names = program.atom(index).map_or(&[][..], |atom| atom.names.as_slice());
        if let Some(known) = names.iter().find_map(|name| known_call(&name.key)) {
            return self.of_known(&known);
        }
        match (program.atom(index), program.function(index)) {
            (Some(atom), Some(function)) if depth < MAX_DEPTH && function.code.unresolved.is_empty() => {
                self.of_function(atom.rva, function, depth)
            }
            _ => unknown(),
        }
    }

    fn of_function(&self, start: Rva, function: &Function, depth: usize) -> Registers {
        let (program, unknown) = (self.program, || self.of_unknown.clone());
        let code = &function.code;
        let mut info = InstructionInfoFactory::new();
        let mut read = Registers::new();
        // Registers that still hold what the caller put there, by offset.
        let mut untouched: BTreeMap<u32, Registers> = BTreeMap::from([(0, everything())]);
        let mut queue = BTreeSet::from([0u32]);
        while let Some(offset) = queue.pop_first() {
            let number = code.instruction_at(offset);
            let known = number.and_then(|number| Some((number, code.instructions.get(number)?)));
            let bytes = |len: u8| start.checked_add(offset).and_then(|at| program.image.bytes(at, len.into()));
            let Some((number, known)) = known else { return unknown() };
            let Some(bytes) = bytes(known.len) else { return unknown() };
            let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
            let mut left = untouched.get(&offset).cloned().unwrap_or_default();
            let sets_to_zero = instruction.op_count() == 2
                && instruction.op0_kind() == OpKind::Register
                && instruction.op1_kind() == OpKind::Register
                && instruction.op0_register() == instruction.op1_register()
                && crate::run_through::is_zeroing(instruction.mnemonic());
            let used = info.info(&instruction).used_registers();
            for used in used {
                let whole = used.register().full_register();
                let is_read = !matches!(used.access(), OpAccess::Write | OpAccess::CondWrite | OpAccess::None);
                if left.contains(&whole) && is_read && !sets_to_zero {
                    read.insert(whole);
                }
            }
            // A part that is written leaves the rest.
            let is_whole = |register: Register| !register.is_gpr8() && !register.is_gpr16();
            for used in used.iter().filter(|used| used.access() == OpAccess::Write && is_whole(used.register())) {
                left.remove(&used.register().full_register());
            }
            let behind = offset.saturating_add(u32::from(known.len));
            let mut called = |left: &Registers| {
                if left.is_subset(&read) {
                    return;
                }
                let kinds = [ReferenceKind::Call, ReferenceKind::Jump, ReferenceKind::ShortJump, ReferenceKind::Access];
                let callee = code.references_of(number).iter().find(|reference| kinds.contains(&reference.kind));
                let inner = callee.map_or_else(unknown, |callee| self.of_callee(callee, depth + 1));
                read.extend(inner.intersection(left));
            };
            let next = match (instruction.flow_control(), known.role) {
                (FlowControl::Next, _) => vec![behind],
                (FlowControl::UnconditionalBranch, Role::Branch { target, .. }) => vec![target],
                (FlowControl::ConditionalBranch, Role::Branch { target, .. }) => vec![behind, target],
                (FlowControl::Call | FlowControl::IndirectCall, _) => {
                    called(&left);
                    // A call leaves nothing in them that anybody may count on.
                    left.clear();
                    vec![behind]
                }
                (FlowControl::UnconditionalBranch | FlowControl::IndirectBranch, _) => {
                    called(&left);
                    Vec::new()
                }
                (FlowControl::Return | FlowControl::Exception | FlowControl::Interrupt, _) => Vec::new(),
                _ => return unknown(),
            };
            for target in next {
                let known = untouched.get(&target).cloned();
                let joined: Registers = known.iter().flatten().chain(&left).copied().collect();
                if known.as_ref() != Some(&joined) {
                    untouched.insert(target, joined);
                    queue.insert(target);
                }
            }
        }
        read
    }
}
