//! Values by how they come about: two that come about in the same way are the same, in whichever of two programs and registers.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::Register;

use crate::atoms::AtomIndex;

/// A value; equal numbers are equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(u32);

/// An object that both programs have, or the new one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// By its atom in the old program.
    Old(AtomIndex),
    /// By its atom in the new program.
    New(AtomIndex),
}

/// Something that a function does besides computing: by its number among those that both programs have, or of the new one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    /// Both do it.
    Old(u32),
    /// The new one alone does it; or the old one, for something that is no more.
    Own(u32),
}

/// How a value comes about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// What a register that has to be preserved holds at the start.
    Entry(Register),
    /// Of this, nothing is known: no two are equal.
    Undefined(u32),
    Number(u64),
    /// Read from a constant.
    Bytes(Vec<u8>),
    /// An address: so far from the stack pointer at the start.
    Stack(i64),
    /// An address: so far from the start of an object.
    Object(Thing, i64),
    /// Read from memory, after so many deeds of both programs.
    Loaded {
        address: Value,
        size: usize,
        after: u32,
    },
    /// What a call left in a register.
    Result(Deed, Register),
    /// What a call left on the stack, at a distance from the stack pointer at the start.
    Left(Deed, i64, usize),
    /// By an instruction: its form and numbers, which of its results, and what it is made of.
    Computed {
        how: Vec<u8>,
        which: u8,
        from: Vec<Value>,
    },
}

/// All values that were met.
#[derive(Debug, Default)]
pub(crate) struct Values {
    origins: Vec<Origin>,
    numbers: BTreeMap<Origin, Value>,
}

impl Values {
    /// The value that comes about in this way.
    pub fn of(&mut self, origin: Origin) -> Value {
        if let Some(known) = self.numbers.get(&origin) {
            return *known;
        }
        let value = Value(u32::try_from(self.origins.len()).unwrap_or(u32::MAX));
        self.origins.push(origin.clone());
        self.numbers.insert(origin, value);
        value
    }

    /// A value that is equal to no other.
    pub fn undefined(&mut self) -> Value {
        let number = u32::try_from(self.origins.len()).unwrap_or(u32::MAX);
        self.of(Origin::Undefined(number))
    }

    /// How a value comes about.
    pub fn origin(&self, value: Value) -> &Origin {
        const UNKNOWN: &Origin = &Origin::Undefined(u32::MAX);
        self.origins.get(value.0 as usize).unwrap_or(UNKNOWN)
    }

    /// Whether anything that a value is made of, itself included, is such.
    pub fn rests_on(&self, value: Value, is_such: impl Fn(&Origin) -> bool) -> bool {
        let mut seen = BTreeSet::new();
        let mut queue = vec![value];
        while let Some(value) = queue.pop() {
            if !seen.insert(value) {
                continue;
            }
            let origin = self.origin(value);
            if is_such(origin) {
                return true;
            }
            match origin {
                Origin::Loaded { address, .. } => queue.push(*address),
                Origin::Computed { from, .. } => queue.extend(from),
                _ => {}
            }
        }
        false
    }
}
