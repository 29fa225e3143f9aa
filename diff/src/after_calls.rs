//! What a caller does with registers behind a call: whether it looks at the result, and whether it counts on others that a call may overwrite.
//!
//! By the x64 calling convention a function may leave anything in the registers that arguments come in. gcc knows what the functions of its own file
//! leave alone, and has callers keep values there (`-fipa-ra`).

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, OpAccess, Register};

use crate::atoms::AtomIndex;
use crate::program::{Location, Program};
use crate::x64::{ReferenceKind, Role};

/// Where results come: numbers and addresses, floating-point numbers.
const RESULTS: [Register; 2] = [Register::RAX, Register::ZMM0];

/// What a call may overwrite, but for results.
const VOLATILE: [Register; 6] =
    [Register::RCX, Register::RDX, Register::R8, Register::R9, Register::R10, Register::R11];

/// What a function does behind its calls of another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AfterCalls {
    /// Looks at the result.
    pub uses_result: bool,
    /// Leaves the result to its own caller.
    pub returns_result: bool,
    /// Counts on a register that a call may overwrite.
    pub keeps: Option<Register>,
}

/// What a function does behind its direct calls of another one.
pub(crate) fn after_calls(program: &Program, caller: AtomIndex, callee: AtomIndex) -> AfterCalls {
    let mut after = AfterCalls::default();
    let Some(function) = program.function(caller) else { return after };
    for reference in &function.code.references {
        let leads_there = matches!(
            program.locate(reference.place()),
            Location::Atom { atom, offset: 0 } if atom == callee
        );
        match reference.kind {
            _ if !leads_there => {}
            ReferenceKind::Call => {
                let call = function.code.instructions.get(reference.instruction as usize);
                let behind = call.map(|call| call.offset.saturating_add(call.len.into()));
                follow(program, caller, behind, &mut after);
            }
            ReferenceKind::Jump | ReferenceKind::ShortJump => after.returns_result = true,
            _ => {}
        }
    }
    after
}

/// Walks all paths from a place up to the next call or the end.
fn follow(program: &Program, caller: AtomIndex, from: Option<u32>, after: &mut AfterCalls) {
    let (Some(atom), Some(function)) = (program.atom(caller), program.function(caller)) else { return };
    let code = &function.code;
    let all: BTreeSet<Register> = RESULTS.into_iter().chain(VOLATILE).collect();
    let mut info = InstructionInfoFactory::new();
    // Registers that still hold what the call left there, by offset.
    let mut untouched: BTreeMap<u32, BTreeSet<Register>> = from.iter().map(|offset| (*offset, all.clone())).collect();
    let mut queue: BTreeSet<u32> = from.into_iter().collect();
    while let Some(offset) = queue.pop_first() {
        let known = code.instruction_at(offset).and_then(|number| code.instructions.get(number));
        let Some(known) = known else { continue };
        let at = atom.rva.checked_add(offset);
        let Some(bytes) = at.and_then(|at| program.image.bytes(at, known.len.into())) else { continue };
        let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
        let mut left = untouched.get(&offset).cloned().unwrap_or_default();
        let behind = offset.saturating_add(known.len.into());
        let is_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        let is_zeroing = instruction.op0_register() != Register::None
            && instruction.op0_register() == instruction.op1_register()
            && crate::run_through::is_zeroing(instruction.mnemonic());
        let used = info.info(&instruction).used_registers();
        // What a call is given is for its own sake: nothing that was left over.
        for used in used.iter().filter(|_| !is_call) {
            let whole = used.register().full_register();
            let is_read = matches!(used.access(), OpAccess::Read | OpAccess::ReadWrite | OpAccess::CondRead);
            if is_read && !is_zeroing && left.contains(&whole) {
                match RESULTS.contains(&whole) {
                    true => after.uses_result = true,
                    false => after.keeps = Some(whole),
                }
            }
        }
        for used in used.iter().filter(|used| !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)) {
            left.remove(&used.register().full_register());
        }
        let next = match (instruction.flow_control(), known.role) {
            (FlowControl::Next, _) => vec![behind],
            (FlowControl::UnconditionalBranch, Role::Branch { target, .. }) => vec![target],
            (FlowControl::ConditionalBranch, Role::Branch { target, .. }) => vec![behind, target],
            (FlowControl::Return, _) => {
                after.returns_result |= RESULTS.iter().any(|register| left.contains(register));
                Vec::new()
            }
            _ => Vec::new(),
        };
        for target in next {
            let known = untouched.get(&target).cloned();
            let joined: BTreeSet<Register> = known.iter().flatten().chain(&left).copied().collect();
            if !joined.is_empty() && known.as_ref() != Some(&joined) {
                untouched.insert(target, joined);
                queue.insert(target);
            }
        }
    }
}
