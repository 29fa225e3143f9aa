//! What a function writes when it is called, with everything that it calls.
//!
//! For functions that are to be called in a process that has long started: what they write must be known to the last byte. The
//! function is followed instruction by instruction from its entry, with what is known of each register and stack slot, through its calls.
//! A write must go to the stack below the caller, to a named object, or to memory that was allocated on the way; where that cannot be
//! shown, there is a [`Doubt`]. A pointer that is loaded from memory other than a stack slot is never trusted.
//!
//! An address inside an object, with something added that is not known, stays in that object: that is the language's own rule. An
//! address that could be the end of a neighbour, or a biased base, is not known.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
    UsedMemory,
};

use crate::atoms::{AtomIndex, AtomKind};
use crate::image::ImportedSymbol;
use crate::known_calls::{KnownCall, known_call, known_import};
use crate::new_part::{NewPart, Removed};
use crate::program::{Function, Location, Program};
use crate::x64::{Reference, ReferenceKind, Role};

/// What a call does besides returning.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Effects {
    /// Variables that are written, each with the function and the offset that first do so.
    pub written: BTreeMap<AtomIndex, Place>,
    /// A function is registered that the process calls when it ends.
    pub registers_exit_function: bool,
    /// Instructions that take addresses which are written at: those are no ends of other objects.
    pub taken: BTreeSet<Place>,
}

/// An instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The function.
    pub function: AtomIndex,
    /// Bytes from its start.
    pub offset: u32,
}

/// Why it is not known what a function does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Where.
    pub place: Place,
    /// What is the matter, in words.
    pub what: String,
}

impl Doubt {
    /// In words, with the place.
    pub fn describe(&self, program: &Program) -> String {
        let name = program.atom(self.place.function).map(|atom| program.display(atom)).unwrap_or_default();
        format!("{name}+{:#x} {}", self.place.offset, self.what)
    }
}

/// Follows a function that is called without arguments.
///
/// # Errors
/// Says where it does something that is not understood, or that is more than writing variables.
pub fn effects(program: &Program, function: AtomIndex) -> Result<Effects, Doubt> {
    effects_of_part(program, function, &NewPart::default())
}

/// The same of a function from which instructions are taken out.
///
/// # Errors
/// Says where it does something that is not understood, or that is more than writing variables.
pub fn effects_of_part(program: &Program, function: AtomIndex, part: &NewPart) -> Result<Effects, Doubt> {
    let mut walk = Walk {
        program,
        part,
        effects: Effects::default(),
        active: Vec::new(),
        steps: 0,
        info: InstructionInfoFactory::new(),
    };
    let mut state = State::default();
    state.set(Register::RSP, Value::Stack(Some(0)));
    walk.call(function, state)?;
    Ok(walk.effects)
}

/// Instructions that are looked at before giving up.
const MAX_STEPS: usize = 200_000;
/// Calls inside calls.
const MAX_DEPTH: usize = 16;
/// The return address, and the home of four arguments, which belongs to who is called (x64 calling convention).
const RETURN_ADDRESS: std::ops::Range<i64> = 0..8;
const HOME_END: i64 = 40;

/// What is known of a register or stack slot.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Value {
    #[default]
    Unknown,
    Number(i64),
    /// The first stack pointer plus a distance, where it is known.
    Stack(Option<i64>),
    /// A place in an object, at an offset where it is known, with the instruction that took its address.
    Object(AtomIndex, Option<i64>, Option<Place>),
    /// Memory that was allocated on the way.
    Fresh,
}

impl Value {
    fn join(self, other: Value) -> Value {
        match (self, other) {
            _ if self == other => self,
            (Value::Stack(_), Value::Stack(_)) => Value::Stack(None),
            (Value::Object(a, _, by), Value::Object(b, _, other)) if a == b => {
                Value::Object(a, None, by.filter(|_| by == other))
            }
            _ => Value::Unknown,
        }
    }

    fn plus(self, distance: Option<i64>) -> Value {
        let add = |offset: Option<i64>| offset.zip(distance).and_then(|(a, b)| a.checked_add(b));
        match self {
            Value::Number(number) => add(Some(number)).map_or(Value::Unknown, Value::Number),
            Value::Stack(offset) => Value::Stack(add(offset)),
            Value::Object(atom, offset, by) => Value::Object(atom, add(offset), by),
            Value::Fresh | Value::Unknown => self,
        }
    }

    fn number(self) -> Option<i64> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn is_pointer(self) -> bool {
        matches!(self, Value::Stack(_) | Value::Object(..) | Value::Fresh)
    }
}

/// Registers and stack slots on one path.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct State {
    registers: [Value; 16],
    /// Eight bytes each, by distance from the first stack pointer.
    slots: BTreeMap<i64, Value>,
}

impl State {
    fn get(&self, register: Register) -> Value {
        if !register.is_gpr64() {
            return Value::Unknown;
        }
        self.registers.get(register.number()).copied().unwrap_or_default()
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(place) = self.registers.get_mut(register.full_register().number())
            && register.is_gpr()
        {
            *place = value;
        }
    }

    /// Takes in what another path brings; whether anything changed.
    fn join(&mut self, other: &State) -> bool {
        let before = self.clone();
        for (ours, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *ours = ours.join(*theirs);
        }
        self.slots.retain(|place, _| other.slots.contains_key(place));
        for (place, value) in &mut self.slots {
            *value = value.join(other.slots.get(place).copied().unwrap_or_default());
        }
        *self != before
    }

    /// Forgets the slots that a write touches.
    fn forget(&mut self, offset: Option<i64>, size: i64) {
        match offset {
            Some(start) => self.slots.retain(|place, _| *place + 8 <= start || start + size <= *place),
            None => self.slots.clear(),
        }
    }
}

/// What comes after an instruction.
enum Next {
    /// The one behind it.
    Behind,
    /// These offsets of the function.
    At(Vec<u32>),
    /// The caller, with what the call left; nothing where it does not return.
    Caller(Option<Box<State>>),
}

struct Walk<'a> {
    program: &'a Program,
    /// What is taken out of the first function.
    part: &'a NewPart,
    effects: Effects,
    /// Functions that are being followed, the caller before the called.
    active: Vec<AtomIndex>,
    steps: usize,
    info: InstructionInfoFactory,
}

/// One instruction of one function.
struct Step<'a> {
    place: Place,
    function: &'a Function,
    instruction: Instruction,
    references: &'a [Reference],
}

impl Step<'_> {
    fn doubt<T>(&self, what: impl Into<String>) -> Result<T, Doubt> {
        Err(Doubt { place: self.place, what: what.into() })
    }

    fn reference(&self, kinds: &[ReferenceKind]) -> Option<&Reference> {
        self.references.iter().find(|reference| kinds.contains(&reference.kind))
    }
}

impl Walk<'_> {
    /// Follows a function from its entry; what is known when it returns, nothing where it does not.
    fn call(&mut self, index: AtomIndex, entry: State) -> Result<Option<Box<State>>, Doubt> {
        let program = self.program;
        let start = Place { function: index, offset: 0 };
        let doubt = |what: &str| Err(Doubt { place: start, what: what.to_owned() });
        let (Some(atom), Some(function)) = (program.atom(index), program.function(index)) else {
            return doubt("is no function of the image");
        };
        if let Some(unresolved) = function.code.unresolved.first() {
            let place = Place { function: index, offset: unresolved.offset };
            return Err(Doubt { place, what: format!("is not understood: {}", unresolved.reason) });
        }
        if self.active.contains(&index) || self.active.len() >= MAX_DEPTH {
            return doubt("is called by itself, or in too many other calls");
        }
        self.active.push(index);
        let mut states: BTreeMap<u32, State> = BTreeMap::from([(0, entry)]);
        let mut queue = BTreeSet::from([0]);
        let mut result: Option<Box<State>> = None;
        while let Some(offset) = queue.pop_first() {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return doubt("does too much to be followed");
            }
            let place = Place { function: index, offset };
            let instruction = function.code.instruction_at(offset);
            let known = instruction.and_then(|number| Some((number, function.code.instructions.get(number)?)));
            let Some((number, known)) = known else {
                return Err(Doubt { place, what: "runs on behind its end".to_owned() });
            };
            let start = atom.rva.checked_add(offset);
            let bytes = start.and_then(|start| program.image.bytes(start, known.len.into()));
            let (Some(start), Some(bytes)) = (start, bytes) else {
                return Err(Doubt { place, what: "is not in the file".to_owned() });
            };
            let instruction = Decoder::with_ip(64, bytes, start.0.into(), DecoderOptions::NONE).decode();
            let references = function.code.references_of(number);
            let step = Step { place, function, instruction, references };
            let mut state = states.get(&offset).cloned().unwrap_or_default();
            let removed = self.part.removed.get(&offset).filter(|_| self.active.len() == 1);
            let next = match removed {
                Some(removed) => self.pass_over(&step, *removed, &mut state),
                None => self.follow(&step, known.role, &mut state)?,
            };
            let targets = match next {
                Next::Behind => vec![offset + u32::from(known.len)],
                Next::At(targets) => targets,
                Next::Caller(None) => continue,
                Next::Caller(Some(state)) => {
                    match &mut result {
                        Some(result) => drop(result.join(&state)),
                        None => result = Some(state),
                    }
                    continue;
                }
            };
            for target in targets {
                let changed = match states.get_mut(&target) {
                    Some(known) => known.join(&state),
                    None => states.insert(target, state.clone()).is_none(),
                };
                if changed {
                    queue.insert(target);
                }
            }
        }
        self.active.pop();
        Ok(result)
    }

    /// An instruction that is taken out: nothing is known of what it would have left in registers.
    fn pass_over(&mut self, step: &Step<'_>, removed: Removed, state: &mut State) -> Next {
        if removed.returns {
            return Next::Caller(Some(Box::new(state.clone())));
        }
        match step.instruction.flow_control() {
            FlowControl::Next => self.written_registers(&step.instruction, state),
            _ => {
                state.set(Register::RAX, Value::Unknown);
                VOLATILE.into_iter().for_each(|register| state.set(register, Value::Unknown));
            }
        }
        Next::Behind
    }

    fn follow(&mut self, step: &Step<'_>, role: Role, state: &mut State) -> Result<Next, Doubt> {
        if role == Role::Padding {
            return Ok(Next::Behind);
        }
        let instruction = &step.instruction;
        let behind = step.place.offset + instruction.len() as u32;
        match (instruction.flow_control(), role) {
            (FlowControl::Next, _) => {
                self.transfer(step, state)?;
                Ok(Next::Behind)
            }
            (FlowControl::UnconditionalBranch, Role::Branch { target, .. }) => Ok(Next::At(vec![target])),
            (FlowControl::ConditionalBranch, Role::Branch { target, .. }) => {
                // `loop` counts down its register.
                self.written_registers(instruction, state);
                Ok(Next::At(vec![behind, target]))
            }
            (FlowControl::Call, _) => {
                let Some(target) = step.reference(&[ReferenceKind::Call]) else {
                    return step.doubt("asks the system directly");
                };
                let after = self.called(step, target, state)?;
                Ok(resume(after, state))
            }
            (FlowControl::IndirectCall, _) => {
                let after = self.imported(step, state)?;
                Ok(resume(after, state))
            }
            (FlowControl::UnconditionalBranch, _) => {
                let Some(target) = step.reference(&[ReferenceKind::Jump, ReferenceKind::ShortJump]) else {
                    return step.doubt("jumps to what is not known");
                };
                // The stack pointer is as at the entry: it is the caller's return that comes next.
                Ok(Next::Caller(self.target(step, target, state)?))
            }
            (FlowControl::IndirectBranch, _) if instruction.op0_kind() == OpKind::Memory => {
                Ok(Next::Caller(self.imported(step, state)?))
            }
            (FlowControl::IndirectBranch, _) if !step.function.tables.is_empty() => {
                let targets = step.function.tables.iter().flat_map(|table| table.targets.iter().copied());
                Ok(Next::At(targets.collect()))
            }
            (FlowControl::Return, _) => Ok(Next::Caller(Some(Box::new(state.clone())))),
            // A breakpoint, `ud2`, `int 29h`: the process ends.
            (FlowControl::Exception | FlowControl::Interrupt, _) => Ok(Next::Caller(None)),
            _ => step.doubt("leads to what is not known"),
        }
    }

    /// Calls what a reference names; the return address goes onto the stack.
    fn called(&mut self, step: &Step<'_>, target: &Reference, state: &State) -> Result<Option<Box<State>>, Doubt> {
        let mut entry = state.clone();
        let top = state.get(Register::RSP).plus(Some(-8));
        entry.set(Register::RSP, top);
        if let Value::Stack(offset) = top {
            entry.forget(offset, 8);
        }
        self.target(step, target, &entry)
    }

    fn target(&mut self, step: &Step<'_>, target: &Reference, entry: &State) -> Result<Option<Box<State>>, Doubt> {
        let Location::Atom { atom: index, offset: 0 } = self.program.locate(target.target) else {
            return step.doubt("leads into the middle of a function");
        };
        let names = self.program.atom(index).map_or(&[][..], |atom| atom.names.as_slice());
        match names.iter().find_map(|name| known_call(&name.key)) {
            Some(known) => self.known(step, &known, entry).map(Some),
            None => self.call(index, entry.clone()),
        }
    }

    /// A call or jump through an import slot.
    fn imported(&mut self, step: &Step<'_>, state: &State) -> Result<Option<Box<State>>, Doubt> {
        let slot = step.reference(&[ReferenceKind::Access]);
        let import = slot.and_then(|slot| self.program.image.import_at(slot.target));
        let Some(import) = import else {
            return step.doubt("calls a function that is chosen at run time");
        };
        let known = match &import.import.symbol {
            ImportedSymbol::Name(name) => known_import(name),
            ImportedSymbol::Ordinal(_) => None,
        };
        match known {
            Some(known) => self.known(step, &known, state).map(Some),
            None => step.doubt(format!("calls {}, of which it is not known what it changes", import.import)),
        }
    }

    fn known(&mut self, step: &Step<'_>, known: &KnownCall, state: &State) -> Result<Box<State>, Doubt> {
        const ARGUMENTS: [Register; 4] = [Register::RCX, Register::RDX, Register::R8, Register::R9];
        let mut after = state.clone();
        for argument in known.written {
            let pointer = ARGUMENTS.get(*argument).map_or(Value::Unknown, |register| state.get(*register));
            // How much is written there, its own caller has to see to.
            let anywhere = match pointer {
                Value::Object(atom, _, by) => Value::Object(atom, None, by),
                Value::Stack(_) => Value::Stack(None),
                other => other,
            };
            self.write(step, anywhere, 1, &mut after)?;
        }
        self.effects.registers_exit_function |= known.registers_exit_function;
        after.set(Register::RAX, if known.allocates { Value::Fresh } else { Value::Unknown });
        Ok(Box::new(after))
    }

    /// An instruction that does not branch.
    fn transfer(&mut self, step: &Step<'_>, state: &mut State) -> Result<(), Doubt> {
        let instruction = &step.instruction;
        let result = self.result(step, state);
        let memory: Vec<UsedMemory> = self.info.info(instruction).used_memory().to_vec();
        let is_write = |memory: &&UsedMemory| {
            !matches!(memory.access(), OpAccess::None | OpAccess::NoMemAccess | OpAccess::Read | OpAccess::CondRead)
        };
        let stored = match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Push if instruction.op_count() > 0 => {
                let source = instruction.op_count() - 1;
                (instruction.op_kind(source) == OpKind::Register).then(|| state.get(instruction.op_register(source)))
            }
            _ => None,
        };
        // The stack pointer of `push` is that before it.
        let before = state.clone();
        for used in memory.iter().filter(is_write) {
            let size = i64::try_from(used.memory_size().size()).unwrap_or(i64::MAX);
            let target = if instruction.mnemonic() == Mnemonic::Push {
                before.get(Register::RSP).plus(Some(-8))
            } else {
                self.address(step, used, &before)
            };
            // Repeated instructions write more than one element.
            let target =
                if instruction.has_rep_prefix() || instruction.has_repne_prefix() { blurred(target) } else { target };
            self.write(step, target, size.max(1), state)?;
            if let (Value::Stack(Some(offset)), Some(value), 8) = (target, stored, size) {
                state.slots.insert(offset, value);
            }
        }
        let pop = (instruction.mnemonic() == Mnemonic::Pop).then(|| match before.get(Register::RSP) {
            Value::Stack(Some(offset)) => before.slots.get(&offset).copied().unwrap_or_default(),
            _ => Value::Unknown,
        });
        self.written_registers(instruction, state);
        match instruction.mnemonic() {
            Mnemonic::Push => state.set(Register::RSP, before.get(Register::RSP).plus(Some(-8))),
            Mnemonic::Pop => {
                state.set(Register::RSP, before.get(Register::RSP).plus(Some(8)));
                if instruction.op0_kind() == OpKind::Register {
                    state.set(instruction.op0_register(), pop.unwrap_or_default());
                }
            }
            _ => {
                if let Some(value) = result {
                    state.set(instruction.op0_register(), value);
                }
            }
        }
        Ok(())
    }

    /// What an instruction leaves in its first operand, a register.
    fn result(&self, step: &Step<'_>, state: &State) -> Option<Value> {
        let instruction = &step.instruction;
        if instruction.op_count() < 2 || instruction.op0_kind() != OpKind::Register {
            return None;
        }
        let to = instruction.op0_register();
        let is_same = instruction.op1_kind() == OpKind::Register && instruction.op1_register() == to;
        let immediate = instruction.try_immediate(1).ok().map(u64::cast_signed);
        match instruction.mnemonic() {
            Mnemonic::Xor if is_same => Some(Value::Number(0)),
            Mnemonic::Mov if to.is_gpr32() => immediate.map(|number| Value::Number(i64::from(number as u32))),
            _ if !to.is_gpr64() => None,
            Mnemonic::Mov => Some(match instruction.op1_kind() {
                OpKind::Register => state.get(instruction.op1_register()),
                OpKind::Memory => self.loaded(step, state),
                _ => match step.reference(&[ReferenceKind::Absolute]) {
                    Some(reference) => self.object(step, reference),
                    None => immediate.map_or(Value::Unknown, Value::Number),
                },
            }),
            Mnemonic::Lea => Some(match step.reference(&[ReferenceKind::Address]) {
                Some(reference) => self.object(step, reference),
                None => {
                    let displacement = instruction.memory_displacement64().cast_signed();
                    sum(
                        instruction.memory_base(),
                        instruction.memory_index(),
                        instruction.memory_index_scale(),
                        displacement,
                        state,
                    )
                }
            }),
            Mnemonic::Add | Mnemonic::Sub => {
                let other = match instruction.op1_kind() {
                    OpKind::Register => state.get(instruction.op1_register()),
                    OpKind::Memory => Value::Unknown,
                    _ => immediate.map_or(Value::Unknown, Value::Number),
                };
                let is_add = instruction.mnemonic() == Mnemonic::Add;
                let distance = other.number().and_then(|n| if is_add { Some(n) } else { n.checked_neg() });
                Some(match (state.get(to), other) {
                    (a, b) if a.is_pointer() && b.is_pointer() => Value::Unknown,
                    (a, b) if b.is_pointer() && is_add => b.plus(a.number()),
                    (a, _) => a.plus(distance),
                })
            }
            _ => None,
        }
    }

    /// What a load from memory brings: stack slots are known, nothing else is.
    fn loaded(&self, step: &Step<'_>, state: &State) -> Value {
        let instruction = &step.instruction;
        if instruction.is_ip_rel_memory_operand() || instruction.memory_index() != Register::None {
            return Value::Unknown;
        }
        let displacement = instruction.memory_displacement64().cast_signed();
        match state.get(instruction.memory_base()).plus(Some(displacement)) {
            Value::Stack(Some(offset)) => state.slots.get(&offset).copied().unwrap_or_default(),
            _ => Value::Unknown,
        }
    }

    /// The object that an operand names. An address that could as well be a neighbour's end or a biased base is not known.
    fn object(&self, step: &Step<'_>, reference: &Reference) -> Value {
        let uses = step.function.code.facts.uses.get(&reference.target).copied().unwrap_or_default();
        let is_taken = matches!(reference.kind, ReferenceKind::Address | ReferenceKind::Absolute);
        if is_taken && reference.symbol.is_none() && (uses.indexed || uses.compared || uses.computed) {
            return Value::Unknown;
        }
        let named = reference.place();
        match self.program.locate(named) {
            Location::Atom { atom, .. } => {
                let start = self.program.atom(atom).map_or(named, |atom| atom.rva);
                Value::Object(atom, Some(reference.target.distance_from(start)), is_taken.then_some(step.place))
            }
            _ => Value::Unknown,
        }
    }

    fn address(&self, step: &Step<'_>, used: &UsedMemory, state: &State) -> Value {
        if matches!(used.segment(), Register::FS | Register::GS) {
            return Value::Unknown;
        }
        if step.instruction.is_ip_rel_memory_operand() && used.base() == Register::None || used.base() == Register::RIP
        {
            let access = step.reference(&[ReferenceKind::Access, ReferenceKind::Address]);
            return access.map_or(Value::Unknown, |reference| self.object(step, reference));
        }
        sum(used.base(), used.index(), used.scale(), used.displacement().cast_signed(), state)
    }

    /// A write must go where nobody else has anything.
    fn write(&mut self, step: &Step<'_>, target: Value, size: i64, state: &mut State) -> Result<(), Doubt> {
        match target {
            Value::Stack(Some(offset)) => {
                let end = offset.saturating_add(size);
                if end > HOME_END || offset < RETURN_ADDRESS.end && end > RETURN_ADDRESS.start {
                    return step.doubt("writes to its caller's stack");
                }
                state.forget(Some(offset), size);
                Ok(())
            }
            Value::Stack(None) => {
                state.forget(None, size);
                Ok(())
            }
            Value::Fresh => Ok(()),
            Value::Object(index, offset, by) => {
                let atom = self.program.atom(index).filter(|atom| atom.kind == AtomKind::Writable);
                let Some(atom) = atom else {
                    return step.doubt("writes to what is no variable");
                };
                let is_inside = |offset: i64| offset >= 0 && offset.saturating_add(size) <= i64::from(atom.size);
                if !offset.is_none_or(is_inside) {
                    return step.doubt(format!("writes outside of {}", self.program.display(atom)));
                }
                self.effects.written.entry(index).or_insert(step.place);
                self.effects.taken.extend(by);
                Ok(())
            }
            Value::Unknown | Value::Number(_) => step.doubt("writes to an address that is not known"),
        }
    }

    fn written_registers(&mut self, instruction: &Instruction, state: &mut State) {
        for used in self.info.info(instruction).used_registers() {
            if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None) {
                state.set(used.register(), Value::Unknown);
            }
        }
    }
}

/// Registers besides the result that a call need not preserve.
const VOLATILE: [Register; 6] =
    [Register::RCX, Register::RDX, Register::R8, Register::R9, Register::R10, Register::R11];

/// After a call: its result, what it left of the registers that it has to preserve, and the caller's stack pointer.
fn resume(after: Option<Box<State>>, state: &mut State) -> Next {
    let Some(mut after) = after else { return Next::Caller(None) };
    after.set(Register::RSP, state.get(Register::RSP));
    for register in VOLATILE {
        after.set(register, Value::Unknown);
    }
    *state = *after;
    Next::Behind
}

fn blurred(value: Value) -> Value {
    match value {
        Value::Stack(_) => Value::Stack(None),
        Value::Object(atom, _, by) => Value::Object(atom, None, by),
        other => other,
    }
}

/// A sum of two registers and a displacement: one of them may be a pointer.
fn sum(base: Register, index: Register, scale: u32, displacement: i64, state: &State) -> Value {
    let of = |register: Register| if register == Register::None { Value::Number(0) } else { state.get(register) };
    let (base, index) = (of(base), of(index));
    let scaled = index.number().and_then(|number| number.checked_mul(i64::from(scale)));
    let value = match (base.is_pointer(), index.is_pointer()) {
        (true, true) => Value::Unknown,
        (false, true) if scale == 1 => index.plus(base.number()),
        (false, true) => Value::Unknown,
        (_, false) => base.plus(scaled),
    };
    value.plus(Some(displacement))
}

#[cfg(test)]
#[path = "effects_tests.rs"]
mod tests;
