//! A function that runs straight through, without a branch: what it does besides computing, in its order, and with which values.
//!
//! Whatever is not understood ends the walk with a [`Doubt`].

use std::collections::BTreeMap;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
    UsedMemory,
};

use crate::arguments::{ARGUMENTS, looked_at};
use crate::atoms::{AtomIndex, AtomKind};
use crate::effects::{Doubt, Place};
use crate::program::{DataFieldKind, Function, Location, Program};
use crate::rva::Rva;
use crate::value_numbers::{Deed, Origin, Thing, Value, Values};
use crate::x64::{Reference, ReferenceKind, Role};

/// Something that a function does besides computing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Offset of the instruction.
    pub offset: u32,
    /// Its length.
    pub len: u8,
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// Memory other than its own stack is written.
    Store { address: Value, size: usize, value: Value },
    /// A function is called, with what it may look at.
    Call {
        callee: Value,
        arguments: BTreeMap<Register, Value>,
        /// By distance from the stack pointer.
        on_stack: BTreeMap<i64, Value>,
        /// Nothing of the caller comes behind it.
        is_last: bool,
    },
    /// An address that is computed is read from.
    Read { address: Value },
    /// A division that fails where it divides by zero.
    Division { by: Value },
}

/// What the walk asks of each event: which one it is.
pub(crate) type Recogniser<'a> = dyn FnMut(&Event, &Values, &[Value]) -> Result<Deed, Doubt> + 'a;

/// The home of four arguments (x64 calling convention); others stand behind it.
const HOME: i64 = 32;
/// So many bytes behind the home are looked at for arguments.
const STACK_ARGUMENTS: i64 = 64;
/// No initialiser of a file is longer.
const MAX_INSTRUCTIONS: usize = 100_000;

/// Registers that a function preserves.
const PRESERVED: [Register; 18] = [
    Register::RBX,
    Register::RBP,
    Register::RDI,
    Register::RSI,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
    Register::ZMM6,
    Register::ZMM7,
    Register::ZMM8,
    Register::ZMM9,
    Register::ZMM10,
    Register::ZMM11,
    Register::ZMM12,
    Register::ZMM13,
    Register::ZMM14,
    Register::ZMM15,
];

/// Instructions whose result is zero where both operands are the same register.
pub(crate) fn is_zeroing(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::Xor | Mnemonic::Xorps | Mnemonic::Xorpd | Mnemonic::Pxor)
}

/// Walks a function; `thing` tells which object an atom is, `recognise` which event it is.
///
/// # Errors
/// Says what is not understood, or what the recogniser says.
pub(crate) fn run_through(
    program: &Program,
    index: AtomIndex,
    values: &mut Values,
    thing: &dyn Fn(AtomIndex) -> Thing,
    recognise: &mut Recogniser<'_>,
) -> Result<(), Doubt> {
    let start = Place { function: index, offset: 0 };
    let (Some(atom), Some(function)) = (program.atom(index), program.function(index)) else {
        return Err(Doubt { place: start, what: "is no function of the image".to_owned() });
    };
    if let Some(unresolved) = function.code.unresolved.first() {
        let place = Place { function: index, offset: unresolved.offset };
        return Err(Doubt { place, what: format!("is not understood: {}", unresolved.reason) });
    }
    let stack = values.of(Origin::Stack(0));
    let mut walk = Walk {
        program,
        function,
        place: start,
        start: atom.rva,
        values,
        thing,
        recognise,
        registers: BTreeMap::from([(Register::RSP, stack)]),
        flags: None,
        slots: BTreeMap::new(),
        left_by: None,
        deeds: 0,
        info: InstructionInfoFactory::new(),
    };
    walk.run()
}

struct Walk<'a, 'b> {
    program: &'a Program,
    function: &'a Function,
    place: Place,
    start: Rva,
    values: &'a mut Values,
    thing: &'a dyn Fn(AtomIndex) -> Thing,
    recognise: &'a mut Recogniser<'b>,
    /// Whole registers.
    registers: BTreeMap<Register, Value>,
    flags: Option<Value>,
    /// What is known of the stack: by distance from the first stack pointer, with its size.
    slots: BTreeMap<i64, (usize, Value)>,
    /// The call that was given an address on the stack.
    left_by: Option<Deed>,
    /// Deeds of both programs so far.
    deeds: u32,
    info: InstructionInfoFactory,
}

impl Walk<'_, '_> {
    fn doubt<T>(&self, what: impl Into<String>) -> Result<T, Doubt> {
        Err(Doubt { place: self.place, what: what.into() })
    }

    fn run(&mut self) -> Result<(), Doubt> {
        let mut offset = 0;
        for _ in 0..MAX_INSTRUCTIONS {
            self.place.offset = offset;
            let code = &self.function.code;
            let number = code.instruction_at(offset);
            let known = number.and_then(|number| Some((number, code.instructions.get(number)?)));
            let Some((number, known)) = known else { return self.doubt("runs on behind its end") };
            let at = self.start.checked_add(offset);
            let bytes = at.and_then(|at| self.program.image.bytes(at, known.len.into()));
            let (Some(at), Some(bytes)) = (at, bytes) else { return self.doubt("is not in the file") };
            let instruction = Decoder::with_ip(64, bytes, at.0.into(), DecoderOptions::NONE).decode();
            let references = code.references_of(number);
            let behind = offset.saturating_add(known.len.into());
            offset = match (instruction.flow_control(), known.role) {
                (_, Role::Padding) => behind,
                (FlowControl::Next, _) => {
                    self.transfer(&instruction, references)?;
                    behind
                }
                // Forwards only: nothing is done twice.
                (FlowControl::UnconditionalBranch, Role::Branch { target, .. }) if target > offset => target,
                (FlowControl::Call | FlowControl::IndirectCall, _) => {
                    self.call(&instruction, references, false)?;
                    behind
                }
                (FlowControl::UnconditionalBranch | FlowControl::IndirectBranch, _) if !references.is_empty() => {
                    return self.call(&instruction, references, true);
                }
                (FlowControl::Return, _) => return Ok(()),
                _ => return self.doubt("branches"),
            };
        }
        self.doubt("does too much to be followed")
    }

    fn get(&mut self, register: Register) -> Value {
        let whole = register.full_register();
        if let Some(known) = self.registers.get(&whole) {
            return *known;
        }
        let value =
            if PRESERVED.contains(&whole) { self.values.of(Origin::Entry(whole)) } else { self.values.undefined() };
        self.registers.insert(whole, value);
        value
    }

    fn stack_offset(&self, value: Value) -> Option<i64> {
        match self.values.origin(value) {
            Origin::Stack(offset) => Some(*offset),
            _ => None,
        }
    }

    /// A value and a distance.
    fn plus(&mut self, value: Value, distance: i64) -> Value {
        let moved = match self.values.origin(value) {
            _ if distance == 0 => return value,
            Origin::Stack(offset) => offset.checked_add(distance).map(Origin::Stack),
            Origin::Object(thing, offset) => offset.checked_add(distance).map(|offset| Origin::Object(*thing, offset)),
            Origin::Number(number) => Some(Origin::Number(number.wrapping_add_signed(distance))),
            _ => None,
        };
        let distance = || distance.to_le_bytes();
        let origin =
            moved.unwrap_or_else(|| Origin::Computed { how: distance().to_vec(), which: SUM, from: vec![value] });
        self.values.of(origin)
    }

    fn address(
        &mut self,
        (base, index, scale, displacement): (Register, Register, u32, i64),
        named: Option<&Reference>,
    ) -> Result<Value, Doubt> {
        let base = match named {
            Some(reference) => self.object(reference)?,
            None if base == Register::None => self.values.of(Origin::Number(0)),
            None => self.get(base),
        };
        // The reference has the displacement in it.
        let base = if named.is_some() { base } else { self.plus(base, displacement) };
        if index == Register::None {
            return Ok(base);
        }
        let from = vec![base, self.get(index)];
        Ok(self.values.of(Origin::Computed { how: scale.to_le_bytes().to_vec(), which: SUM, from }))
    }

    /// The object that an operand names: not where it could as well be a neighbour's end or a biased base.
    fn object(&mut self, reference: &Reference) -> Result<Value, Doubt> {
        let uses = self.function.code.facts.uses.get(&reference.target).copied().unwrap_or_default();
        let is_taken = matches!(reference.kind, ReferenceKind::Address | ReferenceKind::Absolute);
        let is_open = is_taken && reference.symbol.is_none() && (uses.indexed || uses.compared || uses.computed);
        let named = reference.place();
        match self.program.locate(named) {
            Location::Atom { atom, .. } if !is_open => {
                let start = self.program.atom(atom).map_or(named, |atom| atom.rva);
                let distance = reference.target.distance_from(start);
                Ok(self.values.of(Origin::Object((self.thing)(atom), distance)))
            }
            _ => self.doubt("names an address that may be that of another object"),
        }
    }

    /// What stands in memory.
    fn loaded(&mut self, address: Value, size: usize, named: Option<&Reference>) -> Result<Value, Doubt> {
        match self.values.origin(address) {
            Origin::Stack(offset) => {
                let offset = *offset;
                let known = self.slots.get(&offset).filter(|(known, _)| *known == size).map(|(_, value)| *value);
                let left = self.left_by.map(|deed| Origin::Left(deed, offset, size));
                Ok(match (known, left) {
                    (Some(known), _) => known,
                    (None, Some(left)) => self.values.of(left),
                    (None, None) => self.values.undefined(),
                })
            }
            Origin::Object(..) => {
                if let Some(bytes) = named.and_then(|reference| self.constant(reference, size)) {
                    return Ok(self.values.of(Origin::Bytes(bytes)));
                }
                Ok(self.values.of(Origin::Loaded { address, size, after: self.deeds }))
            }
            _ => {
                self.event(0, EventKind::Read { address })?;
                Ok(self.values.of(Origin::Loaded { address, size, after: self.deeds }))
            }
        }
    }

    /// The bytes of a constant, where none of them is a part of an address.
    fn constant(&self, reference: &Reference, size: usize) -> Option<Vec<u8>> {
        let Location::Atom { atom, offset } = self.program.locate(reference.target) else { return None };
        let atom = self.program.atom(atom).filter(|atom| atom.kind == AtomKind::ReadOnly)?;
        let size = u32::try_from(size).ok()?;
        let end = offset.checked_add(size).filter(|end| *end <= atom.size)?;
        let is_plain = self.program.data_fields(atom, atom.size).iter().all(|field| {
            let width = if field.kind == DataFieldKind::Pointer { 8 } else { 4 };
            field.offset.saturating_add(width) <= offset || end <= field.offset
        });
        is_plain.then(|| self.program.image.bytes(reference.target, size).map(<[u8]>::to_vec)).flatten()
    }

    fn event(&mut self, len: usize, kind: EventKind) -> Result<Deed, Doubt> {
        let event = Event { offset: self.place.offset, len: u8::try_from(len).unwrap_or_default(), kind };
        let slots: Vec<Value> = self.slots.values().map(|(_, value)| *value).collect();
        let deed = (self.recognise)(&event, self.values, &slots)?;
        if matches!(deed, Deed::Old(_)) {
            self.deeds = self.deeds.saturating_add(1);
        }
        Ok(deed)
    }

    fn call(&mut self, instruction: &Instruction, references: &[Reference], is_last: bool) -> Result<(), Doubt> {
        let kinds = [ReferenceKind::Call, ReferenceKind::Jump, ReferenceKind::ShortJump, ReferenceKind::Access];
        let Some(reference) = references.iter().find(|reference| kinds.contains(&reference.kind)) else {
            return self.doubt("calls a function that is chosen at run time");
        };
        let named = self.object(reference)?;
        if !matches!(self.values.origin(named), Origin::Object(_, 0)) {
            return self.doubt("leads into the middle of a function");
        }
        let callee = match reference.kind {
            ReferenceKind::Access => self.loaded(named, 8, None)?,
            _ => named,
        };
        let looked_at = looked_at(self.program, reference);
        let arguments: BTreeMap<Register, Value> = ARGUMENTS
            .into_iter()
            .filter(|register| looked_at.contains(register))
            .map(|register| (register, self.get(register)))
            .collect();
        let stack = self.get(Register::RSP);
        let Some(top) = self.stack_offset(stack) else { return self.doubt("moves its stack in an unknown way") };
        // The stack pointer of a jump is that behind a call's return address.
        let first = top.saturating_add(if is_last { HOME + 8 } else { HOME });
        let on_stack = self
            .slots
            .range(first..first.saturating_add(STACK_ARGUMENTS))
            .map(|(place, (_, value))| (place.saturating_sub(first), *value))
            .collect();
        let is_stack = |origin: &Origin| matches!(origin, Origin::Stack(_));
        let gets_stack = arguments.values().any(|value| self.values.rests_on(*value, is_stack));
        let deed = self.event(instruction.len(), EventKind::Call { callee, arguments, on_stack, is_last })?;
        if gets_stack {
            self.left_by = Some(deed);
            self.slots.clear();
        }
        // What lies below the stack pointer, and the home of the arguments, belongs to who was called.
        self.slots.retain(|place, _| *place >= top.saturating_add(HOME));
        self.registers.retain(|register, _| PRESERVED.contains(register) || *register == Register::RSP);
        self.flags = None;
        for register in [Register::RAX, Register::ZMM0] {
            let result = self.values.of(Origin::Result(deed, register));
            self.registers.insert(register, result);
        }
        Ok(())
    }

    fn transfer(&mut self, instruction: &Instruction, references: &[Reference]) -> Result<(), Doubt> {
        if instruction.has_rep_prefix() || instruction.has_repne_prefix() || instruction.is_string_instruction() {
            return self.doubt("repeats an instruction");
        }
        let (memory, used): (Vec<UsedMemory>, Vec<(Register, OpAccess)>) = {
            let info = self.info.info(instruction);
            let registers = info.used_registers().iter().map(|used| (used.register(), used.access()));
            (info.used_memory().to_vec(), registers.collect())
        };
        if memory.iter().any(|used| matches!(used.segment(), Register::FS | Register::GS)) {
            return self.doubt("uses a thread-local variable");
        }
        if used.iter().any(|(register, _)| register.is_ymm() || register.is_zmm()) {
            return self.doubt("computes with wide vectors");
        }
        if self.moves(instruction, references)? {
            return Ok(());
        }
        let (how, from, target) = self.operands(instruction, references)?;
        let mut how = how;
        let mut from = from;
        // Registers that stand nowhere in the instruction.
        let is_operand =
            |register: Register| (0..instruction.op_count()).any(|operand| names(instruction, operand, register));
        for (register, access) in used.iter().filter(|(register, _)| !is_operand(*register)) {
            if !matches!(access, OpAccess::Write | OpAccess::None) {
                how.push(register.number() as u8);
                from.push(self.get(*register));
            }
        }
        if instruction.rflags_read() != 0 {
            let flags = match self.flags {
                Some(flags) => flags,
                None => self.values.undefined(),
            };
            from.push(flags);
        }
        if matches!(instruction.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) {
            let all = self.values.of(Origin::Computed { how: how.clone(), which: DIVIDED, from: from.clone() });
            self.event(instruction.len(), EventKind::Division { by: all })?;
        }
        let result = |which: u8, values: &mut Values| {
            values.of(Origin::Computed { how: how.clone(), which, from: from.clone() })
        };
        let mut deed = None;
        if let Some((address, size)) = target {
            let value = result(STORED, self.values);
            deed = self.store(instruction, (address, size, value))?;
        }
        for (register, _) in used.iter().filter(|(_, access)| writes(*access)) {
            let own = (0..instruction.op_count()).find(|operand| names(instruction, *operand, *register));
            let which = own.map_or(IMPLICIT | register.number() as u8, |operand| operand as u8);
            let value = match deed {
                // Of a deed, it is its result: what is not done leaves none.
                Some(deed) => self.values.of(Origin::Result(deed, register.full_register())),
                None => result(which, self.values),
            };
            self.registers.insert(register.full_register(), value);
        }
        if instruction.rflags_modified() != 0 {
            self.flags = deed.is_none().then(|| result(FLAGS, self.values));
        }
        Ok(())
    }

    /// Instructions that only carry values around, or move the stack pointer: whether it is one.
    fn moves(&mut self, instruction: &Instruction, references: &[Reference]) -> Result<bool, Doubt> {
        let to = instruction.op0_register();
        let is_pair = instruction.op_count() == 2 && instruction.op0_kind() == OpKind::Register;
        let is_register = instruction.op_count() == 2 && instruction.op1_kind() == OpKind::Register;
        let same = is_pair && is_register && instruction.op1_register() == to;
        let number = instruction.try_immediate(instruction.op_count().saturating_sub(1)).ok();
        let stack = self.get(Register::RSP);
        let value = match instruction.mnemonic() {
            mnemonic if same && is_zeroing(mnemonic) => {
                // A part of a register that becomes zero would leave the rest.
                if to.is_gpr8() || to.is_gpr16() {
                    return Ok(false);
                }
                if mnemonic == Mnemonic::Xor {
                    let how = vec![0];
                    self.flags = Some(self.values.of(Origin::Computed { how, which: FLAGS, from: Vec::new() }));
                }
                self.values.of(Origin::Number(0))
            }
            Mnemonic::Mov if is_pair && is_register && to.is_gpr64() => self.get(instruction.op1_register()),
            Mnemonic::Mov if is_pair && number.is_some() && references.is_empty() && to.is_gpr32() => {
                self.values.of(Origin::Number(number.unwrap_or_default() & u64::from(u32::MAX)))
            }
            Mnemonic::Mov if is_pair && number.is_some() && references.is_empty() && to.is_gpr64() => {
                self.values.of(Origin::Number(number.unwrap_or_default()))
            }
            Mnemonic::Mov if is_pair && to.is_gpr64() && number.is_some() => match references {
                [only] => self.object(only)?,
                _ => return self.doubt("names two addresses"),
            },
            Mnemonic::Mov if is_pair && to.is_gpr64() && instruction.op1_kind() == OpKind::Memory => {
                let address = self.memory(instruction, references)?;
                self.loaded(address, 8, references.first())?
            }
            Mnemonic::Lea if to.is_gpr64() => self.memory(instruction, references)?,
            Mnemonic::Add | Mnemonic::Sub if is_pair && to == Register::RSP && number.is_some() => {
                let distance = number.unwrap_or_default().cast_signed();
                let is_add = instruction.mnemonic() == Mnemonic::Add;
                self.flags = None;
                self.plus(stack, if is_add { distance } else { distance.wrapping_neg() })
            }
            Mnemonic::Push if instruction.op0_kind() == OpKind::Register && to.is_gpr64() => {
                let value = self.get(to);
                let top = self.plus(stack, -8);
                self.registers.insert(Register::RSP, top);
                self.store(instruction, (top, 8, value))?;
                return Ok(true);
            }
            Mnemonic::Pop if to.is_gpr64() => {
                let value = self.loaded(stack, 8, None)?;
                let top = self.plus(stack, 8);
                self.registers.insert(Register::RSP, top);
                value
            }
            Mnemonic::Mov
                if instruction.op0_kind() == OpKind::Memory && is_register && instruction.op1_register().is_gpr64() =>
            {
                let value = self.get(instruction.op1_register());
                let address = self.memory(instruction, references)?;
                self.store(instruction, (address, 8, value))?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.registers.insert(to.full_register(), value);
        Ok(true)
    }

    fn memory(&mut self, instruction: &Instruction, references: &[Reference]) -> Result<Value, Doubt> {
        let kinds = [ReferenceKind::Access, ReferenceKind::Address];
        let named = references.iter().find(|reference| kinds.contains(&reference.kind));
        if named.is_none() && (instruction.is_ip_rel_memory_operand() || !references.is_empty()) {
            return self.doubt("names an address in a way that is not followed");
        }
        let displacement = instruction.memory_displacement64().cast_signed();
        let parts =
            (instruction.memory_base(), instruction.memory_index(), instruction.memory_index_scale(), displacement);
        self.address(parts, named)
    }

    /// The form of an instruction, what it is made of, and where it writes.
    #[allow(clippy::type_complexity)]
    fn operands(
        &mut self,
        instruction: &Instruction,
        references: &[Reference],
    ) -> Result<(Vec<u8>, Vec<Value>, Option<(Value, usize)>), Doubt> {
        let mut how = (instruction.code() as u32).to_le_bytes().to_vec();
        let mut from = Vec::new();
        let mut target = None;
        for operand in 0..instruction.op_count() {
            let access = self.info.info(instruction).op_access(operand);
            match instruction.op_kind(operand) {
                OpKind::Register => {
                    let register = instruction.op_register(operand);
                    how.push(u8::from(matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)));
                    // What is not written over stays: a number's upper bytes, a vector's upper elements.
                    let is_whole = register.is_gpr32() || register.is_gpr64() || fills_vector(instruction);
                    if access != OpAccess::Write || !is_whole {
                        from.push(self.get(register));
                    }
                }
                OpKind::Memory => {
                    let address = self.memory(instruction, references)?;
                    let size = instruction.memory_size().size();
                    if instruction.mnemonic() == Mnemonic::Lea {
                        from.push(address);
                        continue;
                    }
                    if size == 0 {
                        return self.doubt("uses memory of a size that is not known");
                    }
                    if !matches!(access, OpAccess::Write | OpAccess::None) {
                        let named = references.iter().find(|reference| reference.kind == ReferenceKind::Access);
                        let value = self.loaded(address, size, named)?;
                        from.push(value);
                    }
                    if writes(access) {
                        target = Some((address, size));
                    }
                }
                _ => match instruction.try_immediate(operand) {
                    Ok(number) => how.extend(number.to_le_bytes()),
                    Err(_) => return self.doubt("has an operand that is not followed"),
                },
            }
        }
        Ok((how, from, target))
    }

    fn store(
        &mut self,
        instruction: &Instruction,
        (address, size, value): (Value, usize, Value),
    ) -> Result<Option<Deed>, Doubt> {
        let Some(place) = self.stack_offset(address) else {
            let kind = EventKind::Store { address, size, value };
            return self.event(instruction.len(), kind).map(Some);
        };
        let end = place.saturating_add(i64::try_from(size).unwrap_or(i64::MAX));
        self.slots.retain(|start, (size, _)| {
            start.saturating_add(i64::try_from(*size).unwrap_or(i64::MAX)) <= place || end <= *start
        });
        self.slots.insert(place, (size, value));
        Ok(None)
    }
}

/// Which result of an instruction a value is, where it is none of its operands.
const IMPLICIT: u8 = 0x40;
const SUM: u8 = 0xfc;
const DIVIDED: u8 = 0xfd;
const STORED: u8 = 0xfe;
const FLAGS: u8 = 0xff;

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::NoMemAccess | OpAccess::Read | OpAccess::CondRead)
}

fn names(instruction: &Instruction, operand: u32, register: Register) -> bool {
    instruction.op_kind(operand) == OpKind::Register
        && instruction.op_register(operand).full_register() == register.full_register()
}

/// Loads and copies that leave nothing of the vector register that they write to.
fn fills_vector(instruction: &Instruction) -> bool {
    let is_copy = matches!(
        instruction.mnemonic(),
        Mnemonic::Movaps | Mnemonic::Movups | Mnemonic::Movapd | Mnemonic::Movupd | Mnemonic::Movdqa | Mnemonic::Movdqu
    );
    let is_load = matches!(
        instruction.mnemonic(),
        Mnemonic::Movss | Mnemonic::Movsd | Mnemonic::Movq | Mnemonic::Movd | Mnemonic::Pshufd
    );
    is_copy || is_load && (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
}
