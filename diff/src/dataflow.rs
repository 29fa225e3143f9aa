//! Follows addresses through a function's registers and stack slots: which tables are read relative to themselves or to the
//! image's base, and how each address that the function takes is used.
//!
//! A forward analysis over the control flow graph. Where paths bring different addresses into a register, it may hold any of them, and
//! what is done with it counts as a use of each. An address that leaves the analysis's sight (stored to memory, passed to a call,
//! taken along through an unknown jump) is noted as leaving.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    ConditionCode, FlowControl, Instruction, InstructionInfoFactory, MemorySize, Mnemonic, OpAccess, OpKind, Register,
};

use crate::image::Image;
use crate::index_bounds::{self, Comparison, Width};
use crate::operand_alignment;
use crate::rva::{Rva, span};

/// What the analysis found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Tables of 32-bit distances that are read and added to a base.
    pub tables: BTreeSet<OffsetTable>,
    /// Uses of every address that the function takes, by address.
    pub uses: BTreeMap<Rva, Uses>,
    /// Displacements that are RVAs because their base register holds the image base: instruction offset and RVA.
    pub image_relative: BTreeSet<(u32, Rva)>,
    /// Immediate operands that are RVAs because they are added to the image base.
    pub image_relative_immediates: BTreeSet<(u32, Rva)>,
    /// Fields that are offsets of thread-local variables: instruction offset, which field, and the offset.
    pub thread_local: BTreeSet<(u32, Field, u32)>,
    /// Offsets of jumps through a register to what a caller passed or a call returned.
    pub outward_jumps: BTreeSet<u32>,
    /// A thread-local block's address was used in a way that was not understood.
    pub thread_local_lost: bool,
    /// The largest alignment that an access through a register needs, those to the stack left out.
    pub alignment: u8,
}

/// A constant of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The displacement of its memory operand.
    Displacement,
    /// Its immediate operand.
    Immediate,
}

/// A table whose entries are distances from a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetTable {
    /// Where the table stands.
    pub rva: Rva,
    /// What its entries count from: the table itself, or the image's base (0).
    pub base: Rva,
    /// Whether the function jumps to what comes out.
    pub is_jump: bool,
}

/// How a function uses an address that it takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// Read or written at a constant distance of zero or more.
    pub direct: bool,
    /// Base of an indexed or negative access: may be an end or a biased base.
    pub indexed: bool,
    /// Of these, one whose index the code does not bound.
    pub unbounded: bool,
    /// So many bytes from the address on are in reach of accesses with a bounded index.
    pub reach: u32,
    /// Compared with something, or subtracted from it.
    pub compared: bool,
    /// Passed to a call, stored in memory, or returned.
    pub escapes: bool,
    /// Anything else that is computed with it.
    pub computed: bool,
    /// The alignment that accesses through it need; 0 where any will do.
    pub alignment: u8,
    /// It, or an address that was computed from it, is passed to a call, stored in memory, or returned.
    pub kept: bool,
    /// Compared for equality with what is no address of this function's: something that was stored or passed on before.
    pub recognised: bool,
}

impl Uses {
    /// Whether no indexed access leaves the first `size` bytes from the address on.
    pub fn is_indexed_within(&self, size: u32) -> bool {
        !self.unbounded && self.reach <= size
    }
}

/// What is known of a register or stack slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Unknown,
    /// One of a set of addresses in the image; where not `exact`, something else is possible besides.
    Addresses {
        set: SetIndex,
        exact: bool,
    },
    /// Computed from one of a set of addresses in the image, or something else.
    Moved(SetIndex),
    /// The stack pointer on entry plus a distance.
    Stack(i64),
    /// A 32-bit entry of the table, read relative to the base.
    Entry {
        table: Rva,
        base: Rva,
    },
    /// Base plus entry.
    Target {
        table: Rva,
        base: Rva,
    },
    /// The image's base plus an offset that is not known.
    Based,
    /// What the caller passed, or what a call returned: jumping there leaves the function.
    Foreign,
    /// The array of the thread's thread-local blocks (`gs:[58h]`).
    BlockArray,
    /// This module's thread-local block.
    Block,
    /// The block on some paths, something else on others.
    MaybeBlock,
    /// A constant, and the instruction that loads it.
    Number {
        value: u32,
        at: u32,
    },
    /// A number, without sign, of at most so much.
    AtMost(u32),
    /// A number whose lower half is at most so much.
    LowAtMost(u32),
    /// A number whose lowest bits, so many, are at most so much.
    PartAtMost {
        bits: u32,
        largest: u32,
    },
}

impl Value {
    /// The largest number that it can be.
    fn largest(self) -> Option<u32> {
        match self {
            Value::AtMost(largest) | Value::Number { value: largest, .. } => Some(largest),
            _ => None,
        }
    }

    /// Whether a number is known by how large it can be.
    fn is_bounded(self) -> bool {
        matches!(self, Value::Number { .. } | Value::AtMost(_) | Value::LowAtMost(_) | Value::PartAtMost { .. })
    }

    /// The largest number that its lower half can be.
    fn largest_half(self) -> Option<u32> {
        match self {
            Value::LowAtMost(largest) => Some(largest),
            _ => self.largest(),
        }
    }

    /// The same, once its lowest byte is 0 or 1.
    fn with_truth_value(self) -> Value {
        match self.largest() {
            Some(largest) if largest <= u8::MAX.into() => Value::AtMost(1),
            _ => Value::PartAtMost { bits: u8::BITS, largest: 1 },
        }
    }

    /// The largest number that its lowest bits can be.
    fn largest_part(self, bits: u32) -> Option<u32> {
        match self {
            Value::AtMost(largest) | Value::LowAtMost(largest) => Some(largest),
            Value::PartAtMost { bits: known, largest } if bits <= known => Some(largest),
            _ => None,
        }
    }

    /// The same, once it is known that it, or its lower part, is no larger than this.
    fn bounded(self, largest: u32, width: Width) -> Value {
        let has_more = |known: u32, bits: u32| known.checked_shr(bits).is_some_and(|above| above > 0);
        match (self, width) {
            // What has no more bits than were compared is what was compared.
            (Value::AtMost(known) | Value::LowAtMost(known), Width::Part(bits)) if has_more(known, bits) => self,
            (Value::AtMost(known), _) => Value::AtMost(known.min(largest)),
            (Value::LowAtMost(known), Width::Half | Width::Part(_)) => Value::LowAtMost(known.min(largest)),
            (
                Value::Unknown | Value::Foreign | Value::Moved(_) | Value::LowAtMost(_) | Value::PartAtMost { .. },
                Width::Whole,
            ) => Value::AtMost(largest),
            (Value::Unknown | Value::Foreign | Value::Moved(_) | Value::PartAtMost { .. }, Width::Half) => {
                Value::LowAtMost(largest)
            }
            (Value::Unknown | Value::Foreign | Value::Moved(_), Width::Part(bits)) => {
                Value::PartAtMost { bits, largest }
            }
            (Value::PartAtMost { bits: known, largest: before }, Width::Part(bits)) => match bits.cmp(&known) {
                Ordering::Less => self,
                Ordering::Equal => Value::PartAtMost { bits, largest: before.min(largest) },
                Ordering::Greater => Value::PartAtMost { bits, largest },
            },
            _ => self,
        }
    }
}

/// Index of a set in [`AddressSets`].
type SetIndex = u32;

/// The sets of addresses that values can be; each set is kept once.
#[derive(Debug, Default)]
struct AddressSets {
    sets: Vec<BTreeSet<Rva>>,
    indices: BTreeMap<BTreeSet<Rva>, SetIndex>,
}

impl AddressSets {
    fn index(&mut self, set: BTreeSet<Rva>) -> SetIndex {
        let next = self.sets.len() as SetIndex;
        *self.indices.entry(set).or_insert_with_key(|set| {
            self.sets.push(set.clone());
            next
        })
    }

    fn address(&mut self, rva: Rva) -> Value {
        Value::Addresses { set: self.index(BTreeSet::from([rva])), exact: true }
    }

    /// The addresses that a value may be.
    fn of(&self, value: Value) -> impl Iterator<Item = Rva> {
        let set = match value {
            Value::Addresses { set, .. } => self.sets.get(set as usize),
            _ => None,
        };
        set.into_iter().flatten().copied()
    }

    /// The addresses that a value may have been computed from.
    fn origins(&self, value: Value) -> impl Iterator<Item = Rva> {
        let set = match value {
            Value::Addresses { set, .. } | Value::Moved(set) => self.sets.get(set as usize),
            _ => None,
        };
        set.into_iter().flatten().copied()
    }

    /// What comes out where something is added to one value, or to either of two: no address of the image's base counts.
    fn moved(&mut self, a: Value, b: Value) -> Value {
        let origins: BTreeSet<Rva> = self.origins(a).chain(self.origins(b)).filter(|rva| *rva != Rva(0)).collect();
        if origins.is_empty() { Value::Unknown } else { Value::Moved(self.index(origins)) }
    }

    /// The one address that a value is for certain.
    fn exactly(&self, value: Value) -> Option<Rva> {
        let Value::Addresses { set, exact: true } = value else {
            return None;
        };
        self.sets.get(set as usize).filter(|set| set.len() == 1)?.first().copied()
    }

    /// What holds where one path brings one value and another path the other.
    fn merge(&mut self, a: Value, b: Value) -> Value {
        match (a, b) {
            _ if a == b => a,
            (Value::Addresses { set, exact }, Value::Addresses { set: other, exact: other_exact }) => {
                let union = self.of(a).chain(self.of(b)).collect();
                let exact = exact && other_exact;
                if set == other {
                    Value::Addresses { set, exact }
                } else {
                    Value::Addresses { set: self.index(union), exact }
                }
            }
            (Value::Addresses { set, .. }, _) | (_, Value::Addresses { set, .. }) => {
                Value::Addresses { set, exact: false }
            }
            (Value::Block | Value::MaybeBlock, _) | (_, Value::Block | Value::MaybeBlock) => Value::MaybeBlock,
            (Value::Moved(set), Value::Moved(other)) => {
                let union = self.origins(Value::Moved(set)).chain(self.origins(Value::Moved(other))).collect();
                Value::Moved(self.index(union))
            }
            (Value::Moved(_), _) => a,
            (_, Value::Moved(_)) => b,
            (Value::LowAtMost(a), Value::LowAtMost(b)) => Value::LowAtMost(a.max(b)),
            // A constant is a bounded number, too: the default of a `switch` whose other paths were compared.
            (Value::LowAtMost(low), other) | (other, Value::LowAtMost(low)) if let Some(known) = other.largest() => {
                Value::LowAtMost(low.max(known))
            }
            (Value::PartAtMost { bits, largest: a }, Value::PartAtMost { bits: other, largest: b })
                if bits == other =>
            {
                Value::PartAtMost { bits, largest: a.max(b) }
            }
            _ => match (a.largest(), b.largest()) {
                (Some(a), Some(b)) => Value::AtMost(a.max(b)),
                _ => Value::Unknown,
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    registers: [Value; 16],
    slots: BTreeMap<i64, Value>,
}

impl State {
    fn unknown() -> State {
        State { registers: [Value::Unknown; 16], slots: BTreeMap::new() }
    }

    fn entry() -> State {
        let mut state = State { registers: [Value::Foreign; 16], slots: BTreeMap::new() };
        state.set(Register::RSP, Value::Stack(0));
        state
    }

    fn get(&self, register: Register) -> Value {
        slot_of(register).and_then(|index| self.registers.get(index)).copied().unwrap_or(Value::Unknown)
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(place) = slot_of(register).and_then(|index| self.registers.get_mut(index)) {
            *place = value;
        }
    }

    /// Forgets how large numbers can be: what comes next can be reached in other ways, too.
    fn forget_bounds(&mut self) {
        for value in self.registers.iter_mut().filter(|value| value.is_bounded()) {
            *value = Value::Unknown;
        }
    }

    /// Keeps what a comparison proves on one side of a branch.
    fn bound(&mut self, comparison: Comparison, largest: Option<u32>) {
        if let Some(largest) = largest {
            let value = self.get(comparison.register).bounded(largest, comparison.width);
            self.set(comparison.register, value);
        }
    }

    /// Adds what another path brings; says whether that changed anything.
    fn join(&mut self, other: &State, sets: &mut AddressSets) -> bool {
        let before = self.clone();
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *mine = sets.merge(*mine, *theirs);
        }
        for (place, value) in &mut self.slots {
            *value = sets.merge(*value, other.slots.get(place).copied().unwrap_or(Value::Unknown));
        }
        for (place, value) in &other.slots {
            self.slots.entry(*place).or_insert_with(|| sets.merge(Value::Unknown, *value));
        }
        self.slots.retain(|_, value| *value != Value::Unknown);
        *self != before
    }
}

fn slot_of(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

/// Analyses a function whose instructions have RVAs as addresses.
pub(crate) fn analyse(image: &Image, start: Rva, size: u32, instructions: &[Instruction]) -> Facts {
    let mut analysis = Analysis {
        image,
        range: span(start, size),
        instructions,
        table_starts: instructions.iter().filter_map(|i| named_place(image, i)).collect(),
        states: BTreeMap::new(),
        sets: AddressSets::default(),
        facts: Facts::default(),
        jumps_anywhere: false,
        info: InstructionInfoFactory::new(),
    };
    analysis.run();
    if analysis.jumps_anywhere {
        // Who jumps there brings other indices.
        for uses in analysis.facts.uses.values_mut().filter(|uses| uses.indexed) {
            uses.unbounded = true;
        }
    }
    analysis.facts
}

/// An address that an instruction names or may name relative to the image's base: a table that runs up to there ends there.
fn named_place(image: &Image, i: &Instruction) -> Option<Rva> {
    let address = if i.is_ip_rel_memory_operand() {
        i.ip_rel_memory_address()
    } else if i.memory_index() != Register::None && i.memory_displ_size() != 0 {
        i.memory_displacement64()
    } else {
        return None;
    };
    u32::try_from(address).ok().map(Rva).filter(|rva| image.section_at(*rva).is_some())
}

struct Analysis<'a> {
    image: &'a Image,
    range: std::ops::Range<Rva>,
    instructions: &'a [Instruction],
    /// Addresses that the function names: a table ends where something else begins.
    table_starts: BTreeSet<Rva>,
    /// State on entry to a block, by index of its first instruction.
    states: BTreeMap<usize, State>,
    sets: AddressSets,
    facts: Facts,
    /// Some jump leads to places inside that are not known.
    jumps_anywhere: bool,
    info: InstructionInfoFactory,
}

/// Entries read from a table while following a jump; one that is longer leads anywhere.
const MAX_FOLLOWED: usize = 1 << 16;

impl Analysis<'_> {
    fn run(&mut self) {
        let leaders = self.leaders();
        let mut work = BTreeSet::new();
        self.flow_to(0, &State::entry(), &mut work);
        self.drain(&leaders, &mut work);
        // Blocks that only an unknown jump or an exception reaches start with nothing known. Padding between blocks does not
        // run: what it leads to is reached otherwise, or is such a block itself.
        for leader in &leaders {
            let first = self.skip_padding(*leader);
            if !self.states.contains_key(&first) {
                self.flow_to(first, &State::unknown(), &mut work);
                self.drain(&leaders, &mut work);
            }
        }
    }

    fn drain(&mut self, leaders: &BTreeSet<usize>, work: &mut BTreeSet<usize>) {
        while let Some(block) = work.pop_first() {
            self.block(block, leaders, work);
        }
    }

    /// Index of the first instruction from `index` on that is not padding.
    fn skip_padding(&self, index: usize) -> usize {
        let is_padding = |i: &&Instruction| matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
        index + self.instructions.iter().skip(index).take_while(is_padding).count()
    }

    /// Indices of instructions that blocks begin with.
    fn leaders(&self) -> BTreeSet<usize> {
        let mut leaders = BTreeSet::from([0]);
        for (index, instruction) in self.instructions.iter().enumerate() {
            if instruction.flow_control() != FlowControl::Next && instruction.flow_control() != FlowControl::Call {
                leaders.insert(index + 1);
                leaders.extend(self.index_of(instruction.near_branch_target()));
            }
        }
        leaders.retain(|index| *index < self.instructions.len());
        leaders
    }

    fn index_of(&self, address: u64) -> Option<usize> {
        self.instructions.binary_search_by_key(&address, |i| i.ip()).ok()
    }

    fn flow_to(&mut self, block: usize, state: &State, work: &mut BTreeSet<usize>) {
        if block >= self.instructions.len() {
            return;
        }
        let changed = match self.states.get_mut(&block) {
            Some(known) => known.join(state, &mut self.sets),
            None => {
                self.states.insert(block, state.clone());
                true
            }
        };
        if changed {
            work.insert(block);
        }
    }

    fn block(&mut self, first: usize, leaders: &BTreeSet<usize>, work: &mut BTreeSet<usize>) {
        let Some(mut state) = self.states.get(&first).cloned() else {
            return;
        };
        let end = leaders.range(first + 1..).next().copied().unwrap_or(self.instructions.len());
        let mut compared = None;
        for index in first..end {
            let Some(instruction) = self.instructions.get(index).copied() else {
                return;
            };
            let jump = self.step(&instruction, &mut state);
            compared = self.compared(&instruction, compared);
            match instruction.flow_control() {
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                    let mut taken = state.clone();
                    if let Some(comparison) = compared {
                        let largest = comparison.largest(instruction.condition_code());
                        for (state, largest) in [&mut taken, &mut state].into_iter().zip(largest) {
                            state.bound(comparison, largest);
                        }
                    }
                    if let Some(target) = self.index_of(instruction.near_branch_target()) {
                        self.flow_to(target, &taken, work);
                    }
                    if instruction.flow_control() == FlowControl::UnconditionalBranch {
                        return;
                    }
                }
                FlowControl::IndirectBranch => {
                    if let Value::Target { table, base } = jump {
                        self.facts.tables.insert(OffsetTable { rva: table, base, is_jump: true });
                        let (targets, are_all) = self.table_targets(table, base);
                        self.jumps_anywhere |= !are_all;
                        for target in targets {
                            // A table's entries can lead into what was one block: precision is lost there, nothing else.
                            self.flow_to(target, &state, work);
                        }
                    } else if jump == Value::Foreign {
                        let offset = self.offset_of(&instruction);
                        self.facts.outward_jumps.insert(offset);
                    } else if !instruction.is_ip_rel_memory_operand() {
                        self.jumps_anywhere = true;
                        if instruction.op0_kind() == OpKind::Memory && instruction.memory_index() != Register::None {
                            // Through a table of addresses, to places that are not followed: what they do is not known.
                            for value in state.registers.iter().chain(state.slots.values()) {
                                self.note(*value, |uses| uses.computed = true);
                            }
                        }
                    }
                    return;
                }
                FlowControl::Return | FlowControl::Exception => return,
                _ => {}
            }
        }
        self.flow_to(end, &state, work);
    }

    /// The comparison that the flags and its register still show after an instruction.
    fn compared(&mut self, i: &Instruction, before: Option<Comparison>) -> Option<Comparison> {
        if i.rflags_modified() != 0 {
            return Comparison::of(i);
        }
        if !matches!(i.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch) {
            return None;
        }
        let register = before?.register;
        let used = self.info.info(i).used_registers();
        let is_written = used.iter().any(|u| u.register().full_register() == register && u.access() != OpAccess::Read);
        before.filter(|_| !is_written)
    }

    /// The places inside that a table leads to, and whether these are all.
    fn table_targets(&self, table: Rva, base: Rva) -> (Vec<usize>, bool) {
        let section_end = self.image.section_at(table).map_or(table, |s| s.range.end);
        let end = self.table_starts.range(Rva(table.0.saturating_add(1))..).next().map_or(section_end, |next| *next);
        let entries = self.image.bytes_up_to(table..end).chunks_exact(4).take(MAX_FOLLOWED);
        let targets: Vec<usize> = entries
            .map_while(|entry| {
                let distance = i32::from_le_bytes(entry.try_into().ok()?);
                let target = base.checked_offset(i64::from(distance))?;
                self.range.contains(&target).then(|| self.index_of(u64::from(target.0))).flatten()
            })
            .collect();
        let are_all = targets.len() < MAX_FOLLOWED;
        (targets, are_all)
    }

    /// Applies one instruction. Gives the value that an indirect jump goes to.
    fn step(&mut self, i: &Instruction, state: &mut State) -> Value {
        let jump = if i.flow_control() == FlowControl::IndirectBranch && i.op0_kind() == OpKind::Register {
            state.get(i.op0_register())
        } else {
            Value::Unknown
        };
        self.note_memory(i, state);
        let result = self.result(i, state);
        let stored = stored_value(i, state);
        self.note_values(i, state);
        self.forget_written(i, state);
        if let Some((register, value)) = result {
            state.set(register, value);
        }
        state.slots.extend(stored);
        match i.mnemonic() {
            Mnemonic::Push => adjust_stack(state, -8),
            Mnemonic::Pop => adjust_stack(state, 8),
            _ => {}
        }
        jump
    }

    /// Uses as the base of a memory operand.
    fn note_memory(&mut self, i: &Instruction, state: &State) {
        let is_memory = (0..i.op_count()).any(|operand| i.op_kind(operand) == OpKind::Memory);
        if !is_memory || i.is_ip_rel_memory_operand() {
            return;
        }
        let (base, index) = (i.memory_base(), i.memory_index());
        let displacement = i.memory_displacement64() as i64;
        let alignment = operand_alignment::of_instruction(i);
        if base != Register::RSP && !matches!(state.get(base), Value::Stack(_)) {
            self.facts.alignment = self.facts.alignment.max(alignment);
        }
        let operands = [state.get(base), state.get(index)];
        let from_image = operands.iter().any(|value| self.sets.exactly(*value) == Some(Rva(0)));
        if i.memory_index_scale() == 1 && !from_image && self.reads_by_table(operands[0], operands[1]) {
            return;
        }
        for (register, other) in [(base, index), (index, base)] {
            let value = state.get(register);
            self.facts.thread_local_lost |= value == Value::MaybeBlock;
            if value == Value::Block {
                self.note_block(i, state.get(other), other == Register::None, displacement);
                continue;
            }
            if self.sets.exactly(value) == Some(Rva(0)) || value == Value::Based {
                self.note_image_relative(i, displacement);
                continue;
            }
            let is_lea = i.mnemonic() == Mnemonic::Lea;
            let reach = reach(i, register, state.get(other));
            self.note(value, |uses| {
                if alignment > 1 {
                    uses.alignment = uses.alignment.max(alignment);
                }
                if other != Register::None || displacement < 0 {
                    uses.indexed = true;
                    uses.unbounded |= reach.is_none();
                    uses.reach = uses.reach.max(reach.unwrap_or_default());
                } else if is_lea {
                    uses.computed = true;
                } else {
                    uses.direct = true;
                }
            });
        }
    }

    /// A memory operand that adds an entry of a table to what the entries count from: it lies in what the table leads to.
    fn reads_by_table(&mut self, base: Value, index: Value) -> bool {
        match (base, index) {
            (Value::Entry { table, base }, other) | (other, Value::Entry { table, base })
                if self.sets.exactly(other) == Some(base) =>
            {
                self.facts.tables.insert(OffsetTable { rva: table, base, is_jump: false });
                true
            }
            _ => false,
        }
    }

    /// A memory operand whose base is the image's: its displacement is an RVA, unless it lies inside the headers.
    fn note_image_relative(&mut self, i: &Instruction, displacement: i64) {
        let Ok(target) = u32::try_from(displacement) else { return };
        if i.memory_displ_size() != 0 && self.image.section_at(Rva(target)).is_some() {
            let offset = self.offset_of(i);
            self.facts.image_relative.insert((offset, Rva(target)));
        }
    }

    /// A memory operand inside the thread-local block: the variable's offset is the displacement, or a constant in the other
    /// register.
    fn note_block(&mut self, i: &Instruction, other: Value, alone: bool, displacement: i64) {
        let offset = self.offset_of(i);
        match (other, u32::try_from(displacement)) {
            // With or without an index: the displacement is the variable's offset.
            (other, Ok(value)) if i.memory_displ_size() != 0 && !matches!(other, Value::Number { .. }) => {
                self.facts.thread_local.insert((offset, Field::Displacement, value));
            }
            // The first variable of the block.
            (_, Ok(0)) if alone => {}
            (Value::Number { value, at }, Ok(0)) => {
                self.facts.thread_local.insert((at, Field::Immediate, value));
            }
            _ => self.facts.thread_local_lost = true,
        }
    }

    fn offset_of(&self, i: &Instruction) -> u32 {
        (i.ip() - u64::from(self.range.start.0)) as u32
    }

    /// The new value of a register that the instruction sets to something known.
    fn result(&mut self, i: &Instruction, state: &State) -> Option<(Register, Value)> {
        if i.op_count() == 0 || i.op0_kind() != OpKind::Register {
            return None;
        }
        let target = i.op0_register();
        if index_bounds::is_set_by_condition(i) {
            return Some((target, state.get(target).with_truth_value()));
        }
        if i.op_count() < 2 {
            return None;
        }
        let source_is_register = i.op1_kind() == OpKind::Register;
        let wide = target.is_gpr64();
        match i.mnemonic() {
            _ if clears(i) && (wide || target.is_gpr32()) => Some((target, Value::AtMost(0))),
            Mnemonic::Lea
                if let Some(largest) = index_bounds::largest_multiple(i, state.get(i.memory_index()).largest()) =>
            {
                Some((target, Value::AtMost(largest)))
            }
            Mnemonic::Lea if wide => {
                let value = if i.is_ip_rel_memory_operand() {
                    let rva = Rva(u32::try_from(i.ip_rel_memory_address()).ok()?);
                    self.facts.uses.entry(rva).or_default();
                    self.sets.address(rva)
                } else if i.memory_index() == Register::None {
                    let base = state.get(i.memory_base());
                    self.known_or_moved(offset(base, i.memory_displacement64() as i64), base, Value::Unknown)
                } else {
                    let (base, index) = (state.get(i.memory_base()), state.get(i.memory_index()));
                    let plain = i.memory_index_scale() == 1 && i.memory_displacement64() == 0;
                    let value = if plain {
                        self.sum(base, index)
                    } else if self.sets.exactly(base) == Some(Rva(0)) {
                        Value::Based
                    } else {
                        Value::Unknown
                    };
                    self.known_or_moved(value, base, index)
                };
                Some((target, value))
            }
            Mnemonic::Mov if source_is_register && wide => Some((target, state.get(i.op1_register()))),
            // The upper half is cleared.
            Mnemonic::Mov if source_is_register && target.is_gpr32() => {
                state.get(i.op1_register()).largest_half().map(|largest| (target, Value::AtMost(largest)))
            }
            Mnemonic::And | Mnemonic::Movzx => {
                let part = index_bounds::extended_part(i);
                let part = part.and_then(|(source, bits)| state.get(source).largest_part(bits));
                let largest = index_bounds::largest_result(i)?;
                Some((target, Value::AtMost(part.map_or(largest, |part| part.min(largest)))))
            }
            Mnemonic::Shl if wide || target.is_gpr32() => {
                let value = state.get(target);
                let largest = if wide { value.largest() } else { value.largest_half() };
                index_bounds::largest_shifted(i, largest?).map(|largest| (target, Value::AtMost(largest)))
            }
            Mnemonic::Mov if target.is_gpr32() && i.op1_kind() == OpKind::Immediate32 => {
                Some((target, Value::Number { value: i.immediate32(), at: self.offset_of(i) }))
            }
            Mnemonic::Mov if wide && is_block_array(i) => Some((target, Value::BlockArray)),
            Mnemonic::Mov if wide && i.op1_kind() == OpKind::Memory && is_block(i, state) => {
                Some((target, Value::Block))
            }
            Mnemonic::Mov if i.op1_kind() == OpKind::Memory && wide => {
                stack_place(i, state).map(|place| (target, state.slots.get(&place).copied().unwrap_or(Value::Unknown)))
            }
            // Tables of distances are read with sign extension; tables of RVAs (MSVC) without.
            Mnemonic::Movsxd if i.op1_kind() == OpKind::Memory => {
                self.table_entry(i, state).map(|value| (target, value))
            }
            Mnemonic::Mov if target.is_gpr32() && i.memory_size() == MemorySize::UInt32 => {
                self.table_entry(i, state).map(|value| (target, value))
            }
            // The upper half is extended in a step of its own where the entry was read as 32 bits.
            Mnemonic::Movsxd if source_is_register => match state.get(i.op1_register()) {
                value @ Value::Entry { .. } => Some((target, value)),
                _ => None,
            },
            _ if is_conditional_move(i) && source_is_register && wide => {
                let (kept, moved) = (state.get(target), state.get(i.op1_register()));
                let merged = self.sets.merge(kept, moved);
                Some((target, merged))
            }
            // The upper half is cleared, whether the condition holds or not.
            _ if is_conditional_move(i) && source_is_register && target.is_gpr32() => {
                let halves = [target, i.op1_register()].map(|register| state.get(register).largest_half());
                halves[0].zip(halves[1]).map(|(kept, moved)| (target, Value::AtMost(kept.max(moved))))
            }
            Mnemonic::Add if wide => {
                let left = state.get(target);
                let (value, right) = if source_is_register {
                    let right = state.get(i.op1_register());
                    (self.sum(left, right), right)
                } else {
                    let value = i.try_immediate(1).map_or(Value::Unknown, |by| stack_only(offset(left, by as i64)));
                    (value, Value::Unknown)
                };
                Some((target, self.known_or_moved(value, left, right)))
            }
            Mnemonic::Sub if wide => {
                let left = state.get(target);
                let value = i
                    .try_immediate(1)
                    .map_or(Value::Unknown, |by| stack_only(offset(left, (by as i64).wrapping_neg())));
                // A difference of two addresses is none.
                let left = if source_is_register { Value::Unknown } else { left };
                Some((target, self.known_or_moved(value, left, Value::Unknown)))
            }
            _ => None,
        }
    }

    /// What an addition gave, or that it gave something made from the addresses that went in.
    fn known_or_moved(&mut self, value: Value, left: Value, right: Value) -> Value {
        if value == Value::Unknown { self.sets.moved(left, right) } else { value }
    }

    /// A 32-bit entry of a table whose address or whose image base is in the base register.
    fn table_entry(&self, i: &Instruction, state: &State) -> Option<Value> {
        if i.memory_index() == Register::None || i.memory_base() == Register::None {
            return None;
        }
        let displacement = i.memory_displacement64();
        // The other register counts entries, or bytes where a loop was simplified.
        let base = match i.memory_index_scale() {
            4 => self.sets.exactly(state.get(i.memory_base())),
            1 => [i.memory_base(), i.memory_index()].into_iter().find_map(|r| self.sets.exactly(state.get(r))),
            _ => None,
        };
        match base? {
            Rva(0) => Some(Value::Entry { table: Rva(u32::try_from(displacement).ok()?), base: Rva(0) }),
            table if displacement == 0 => Some(Value::Entry { table, base: table }),
            // An index that begins with 1 or more: the bytes before the table are no entries of it.
            table if i.memory_index_scale() == 4 && self.begins_at(table, displacement.cast_signed()) => {
                Some(Value::Entry { table, base: table })
            }
            _ => None,
        }
    }

    /// Whether a table of distances to data that is read from a little before an address begins at that address: the bytes there lead to what
    /// begins where they say, and none of those between leads to anything of that kind.
    fn begins_at(&self, table: Rva, from: i64) -> bool {
        const MAX_SKIPPED: i64 = 16;
        const ENTRY: i64 = 4;
        if from >= 0 || from % ENTRY != 0 || from < -ENTRY * MAX_SKIPPED {
            return false;
        }
        let target = |place: Option<Rva>| {
            let distance = self.image.u32_at(place?)?.cast_signed();
            table.checked_offset(distance.into())
        };
        let section = |target: Rva| self.image.section_at(target);
        // Behind the end of a text, or where a compiler aligns.
        let may_begin = |target: Rva| {
            let before = target.checked_offset(-1).and_then(|before| self.image.bytes(before, 1));
            target.0.is_multiple_of(4) || before.is_none_or(|before| before == [0])
        };
        let is_first = target(Some(table))
            .is_some_and(|target| section(target).is_some_and(|found| !found.is_executable()) && may_begin(target));
        let mut skipped = (1..).map_while(|number: i64| (number * ENTRY <= -from).then_some(number * -ENTRY));
        let leads = |target: Rva| section(target).is_some_and(|found| found.is_executable() || may_begin(target));
        is_first && skipped.all(|distance| !target(table.checked_offset(distance)).is_some_and(leads))
    }

    /// Base plus entry of one table, in either order.
    fn sum(&mut self, a: Value, b: Value) -> Value {
        match (a, b) {
            (Value::Entry { table, base }, _) | (_, Value::Entry { table, base }) if self.reads_by_table(a, b) => {
                Value::Target { table, base }
            }
            (Value::Number { value, at }, other) | (other, Value::Number { value, at })
                if self.sets.exactly(other) == Some(Rva(0)) =>
            {
                if self.image.section_at(Rva(value)).is_some() {
                    self.facts.image_relative_immediates.insert((at, Rva(value)));
                }
                Value::Based
            }
            (a, b) if self.sets.exactly(a) == Some(Rva(0)) || self.sets.exactly(b) == Some(Rva(0)) => Value::Based,
            _ => Value::Unknown,
        }
    }

    /// Uses of addresses as values.
    fn note_values(&mut self, i: &Instruction, state: &State) {
        if i.flow_control() == FlowControl::Call || i.flow_control() == FlowControl::IndirectCall {
            for register in [Register::RCX, Register::RDX, Register::R8, Register::R9] {
                self.note(state.get(register), |uses| uses.escapes = true);
                self.note_passed(i, register, state);
            }
        }
        if i.flow_control() == FlowControl::IndirectBranch {
            for register in [Register::RCX, Register::RDX, Register::R8, Register::R9] {
                self.note_passed(i, register, state);
            }
        }
        if i.flow_control() == FlowControl::Return {
            self.note(state.get(Register::RAX), |uses| uses.escapes = true);
            self.note_kept(state.get(Register::RAX));
        }
        // A branch out of the function may be a tail call with addresses among its arguments.
        if i.flow_control() == FlowControl::UnconditionalBranch && self.index_of(i.near_branch_target()).is_none() {
            for register in [Register::RCX, Register::RDX, Register::R8, Register::R9] {
                self.note(state.get(register), |uses| uses.escapes = true);
                self.note_passed(i, register, state);
            }
        }
        for operand in 0..i.op_count() {
            if i.op_kind(operand) != OpKind::Register {
                continue;
            }
            let value = state.get(i.op_register(operand));
            if value == Value::Block && !matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Lea) {
                // Its address plus a constant is the variable's address; anything else is not understood.
                match i.try_immediate(1) {
                    Ok(value) if i.mnemonic() == Mnemonic::Add && operand == 0 && value <= u64::from(u32::MAX) => {
                        let offset = self.offset_of(i);
                        self.facts.thread_local.insert((offset, Field::Immediate, value as u32));
                    }
                    _ => {
                        let overwrites = operand == 0 && self.info.info(i).op0_access() == OpAccess::Write;
                        self.facts.thread_local_lost |= !overwrites && !clears(i);
                    }
                }
            }
            if operand == 1 && is_store(i) && (stack_place(i, state).is_none() || i.memory_base() == Register::RSP)
                || i.mnemonic() == Mnemonic::Push
            {
                self.note_kept(value);
            }
            if !matches!(value, Value::Addresses { .. }) {
                continue;
            }
            if self.is_recognised(i, operand, state) {
                self.note(value, |uses| uses.recognised = true);
            }
            match i.mnemonic() {
                // A stack slot may be an argument of the next call as well as a place to keep the value.
                Mnemonic::Mov if operand == 1 && i.op0_kind() == OpKind::Memory => {
                    if stack_place(i, state).is_none() || i.memory_base() == Register::RSP {
                        self.note(value, |uses| uses.escapes = true);
                    }
                }
                Mnemonic::Mov | Mnemonic::Lea if operand == 0 => {}
                Mnemonic::Mov => {}
                _ if is_conditional_move(i) => {}
                // Tested for null: the address is not computed with.
                Mnemonic::Test if i.op0_register() == i.op1_register() => {}
                // The base as such: what is added to it was looked at.
                Mnemonic::Add | Mnemonic::Cmp | Mnemonic::Sub if self.sets.exactly(value) == Some(Rva(0)) => {}
                Mnemonic::Cmp | Mnemonic::Sub => self.note(value, |uses| uses.compared = true),
                Mnemonic::Push => self.note(value, |uses| uses.escapes = true),
                Mnemonic::Add if i.op1_kind() == OpKind::Register => {
                    let other = state.get(i.op_register(1 - operand.min(1)));
                    if !matches!(other, Value::Entry { .. }) {
                        self.note(value, |uses| (uses.indexed, uses.unbounded) = (true, true));
                    }
                }
                Mnemonic::Xor if i.op0_register() == i.op1_register() => {}
                Mnemonic::Pop | Mnemonic::Movsxd | Mnemonic::Movzx | Mnemonic::Movsx if operand == 0 => {}
                _ => {
                    self.note(value, |uses| uses.computed = true);
                    self.note_kept(value);
                }
            }
        }
    }

    /// A register that may hold an argument of a call. Where a function is called through a table, the table's address is left over from that.
    fn note_passed(&mut self, i: &Instruction, register: Register, state: &State) {
        let is_indirect = matches!(i.flow_control(), FlowControl::IndirectCall | FlowControl::IndirectBranch);
        let has_index = i.op0_kind() == OpKind::Memory && i.memory_index() != Register::None;
        let calls_through = has_index && (i.memory_base() == register || i.memory_index() == register);
        let value = state.get(register);
        let is_indexed = |rva: Rva| self.facts.uses.get(&rva).is_some_and(|uses| uses.indexed);
        let was_read = is_indirect && self.sets.exactly(value).is_some_and(is_indexed);
        if !calls_through && !was_read {
            self.note_kept(value);
        }
    }

    fn note(&mut self, value: Value, mark: impl Fn(&mut Uses)) {
        for rva in self.sets.of(value) {
            mark(self.facts.uses.entry(rva).or_default());
        }
    }

    /// It, or what was computed from it, leaves the function.
    fn note_kept(&mut self, value: Value) {
        let origins: Vec<Rva> = self.sets.origins(value).filter(|rva| *rva != Rva(0)).collect();
        for rva in origins {
            self.facts.uses.entry(rva).or_default().kept = true;
        }
    }

    /// Whether an instruction compares the address in one of its operands with something that was not made from an address of this function's.
    fn is_recognised(&self, i: &Instruction, operand: u32, state: &State) -> bool {
        let other = 1 - operand.min(1);
        let value = match i.op_kind(other) {
            OpKind::Register => state.get(i.op_register(other)),
            OpKind::Memory => {
                stack_place(i, state).and_then(|place| state.slots.get(&place)).copied().unwrap_or(Value::Unknown)
            }
            _ => return false,
        };
        match i.mnemonic() {
            Mnemonic::Cmp => !matches!(value, Value::Addresses { .. } | Value::Moved(_)),
            // What a call returned is often a place in what was passed to it (`strchr(text, c) - text`).
            Mnemonic::Sub => operand == 1 && value == Value::Unknown,
            _ => false,
        }
    }

    fn forget_written(&mut self, i: &Instruction, state: &mut State) {
        let stack = state.get(Register::RSP);
        let info = self.info.info(i);
        for used in info.used_registers() {
            let writes = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if writes {
                state.set(used.register(), Value::Unknown);
            }
        }
        if let Some(place) = stack_place(i, state)
            && i.op0_kind() == OpKind::Memory
            && i.mnemonic() != Mnemonic::Cmp
            && i.mnemonic() != Mnemonic::Test
        {
            state.slots.remove(&place);
        }
        // Behind a call that does not come back, a landing pad can stand.
        if matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall | FlowControl::Interrupt) {
            state.forget_bounds();
        }
        if matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            const VOLATILE: [Register; 7] =
                [Register::RAX, Register::RCX, Register::RDX, Register::R8, Register::R9, Register::R10, Register::R11];
            for register in VOLATILE {
                state.set(register, Value::Unknown);
            }
            state.set(Register::RAX, Value::Foreign);
            state.set(Register::RSP, stack);
        }
        if matches!(i.mnemonic(), Mnemonic::Push | Mnemonic::Pop) {
            let popped = (i.mnemonic() == Mnemonic::Pop && i.op0_register().full_register() == Register::RSP)
                .then_some(Value::Unknown);
            state.set(Register::RSP, popped.unwrap_or(stack));
        }
    }
}

fn is_store(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Mov && i.op0_kind() == OpKind::Memory
}

/// The slot and value of a store of a whole register to the stack. Not how large a number can be: a slot can be written by whoever has its address, and in
/// parts.
fn stored_value(i: &Instruction, state: &State) -> Option<(i64, Value)> {
    let whole = i.mnemonic() == Mnemonic::Mov && i.op0_kind() == OpKind::Memory && i.op1_kind() == OpKind::Register;
    let value = state.get(i.op1_register());
    if !whole || !i.op1_register().is_gpr64() || value == Value::Unknown || value.is_bounded() {
        return None;
    }
    Some((stack_place(i, state)?, value))
}

/// How far from the address in one register of its memory operand an access with an index in the other can reach.
fn reach(i: &Instruction, register: Register, index: Value) -> Option<u32> {
    // Either of two registers can be the index where its scale is 1.
    let scale = i.memory_index_scale();
    (register == i.memory_base() || scale == 1).then(|| index_bounds::reach(i, scale, index.largest()?)).flatten()
}

/// Sets its register to zero, whatever it was.
fn clears(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Xor | Mnemonic::Sub) && i.op0_register() == i.op1_register()
}

/// Loads `ThreadLocalStoragePointer` of the TEB (winternl.h; offset 58h on x64).
fn is_block_array(i: &Instruction) -> bool {
    i.op1_kind() == OpKind::Memory && i.segment_prefix() == Register::GS && i.memory_displacement64() == 0x58
}

/// Loads an element of the array of thread-local blocks.
fn is_block(i: &Instruction, state: &State) -> bool {
    i.memory_displacement64() == 0
        && (state.get(i.memory_base()) == Value::BlockArray
            || state.get(i.memory_index()) == Value::BlockArray && i.memory_index_scale() == 1)
}

fn is_conditional_move(i: &Instruction) -> bool {
    i.code().condition_code() != ConditionCode::None && i.flow_control() == FlowControl::Next && i.op_count() == 2
}

fn adjust_stack(state: &mut State, by: i64) {
    let value = offset(state.get(Register::RSP), by);
    state.set(Register::RSP, value);
}

fn offset(value: Value, by: i64) -> Value {
    match value {
        Value::Stack(place) => Value::Stack(place.wrapping_add(by)),
        _ => Value::Unknown,
    }
}

fn stack_only(value: Value) -> Value {
    match value {
        Value::Stack(_) => value,
        _ => Value::Unknown,
    }
}

/// The stack slot that a memory operand without an index names.
fn stack_place(i: &Instruction, state: &State) -> Option<i64> {
    let is_memory = (0..i.op_count()).any(|operand| i.op_kind(operand) == OpKind::Memory);
    if !is_memory || i.memory_index() != Register::None || i.is_ip_rel_memory_operand() {
        return None;
    }
    match state.get(i.memory_base()) {
        Value::Stack(place) => Some(place.wrapping_add(i.memory_displacement64() as i64)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "dataflow_tests.rs"]
mod tests;
