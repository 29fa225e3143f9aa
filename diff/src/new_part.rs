//! What is new in a function that runs before `main` and that both builds have. Of all variables of a file whose first values are computed, the
//! compiler makes one such function; with one variable more it changes.
//!
//! What the function does besides computing (it writes, it calls) is put beside what the old one does: with the same values, in the same
//! order. All of the old must be found in the new again. The rest is new; the instructions of the old can be taken out, if nothing of the
//! rest needs what a call among them gave.

use std::collections::BTreeMap;

use crate::atoms::{AtomIndex, AtomKind};
use crate::compare::{Comparison, Outcome};
use crate::effects::{Doubt, Place};
use crate::program::Program;
use crate::run_through::{Event, EventKind, run_through};
use crate::value_numbers::{Deed, Origin, Thing, Value, Values};

/// The function of the new build without what the old build did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct NewPart {
    /// Instructions that are taken out, by offset.
    pub removed: BTreeMap<u32, Removed>,
    /// Something is left that the old function does not do.
    pub does_something: bool,
}

/// An instruction that is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Its length.
    pub len: u8,
    /// It was a jump to a function that returns in the place of this one: what is left returns there.
    pub returns: bool,
}

impl Removed {
    /// The bytes in its place.
    pub fn bytes(self) -> Vec<u8> {
        const NOTHING: u8 = 0x90;
        const RETURN: u8 = 0xc3;
        const NEVER: u8 = 0xcc;
        match self.returns {
            true => (0..self.len).map(|index| if index == 0 { RETURN } else { NEVER }).collect(),
            false => vec![NOTHING; self.len.into()],
        }
    }
}

impl NewPart {
    /// Whether a byte of the function belongs to an instruction that is taken out.
    pub fn is_removed(&self, offset: u32) -> bool {
        let before = self.removed.range(..=offset).next_back();
        before.is_some_and(|(start, removed)| offset.saturating_sub(*start) < u32::from(removed.len))
    }
}

/// Compares a function of both builds.
///
/// # Errors
/// Says why it cannot be told what is new, or why that cannot run without the rest.
pub fn new_part(
    (old, old_index): (&Program, AtomIndex),
    (new, new_index): (&Program, AtomIndex),
    comparison: &Comparison,
) -> Result<NewPart, String> {
    let mut values = Values::default();
    let mut olds: Vec<Event> = Vec::new();
    let is_gone = |thing: Thing| match thing {
        Thing::Old(index) => comparison.pairing.new_of(index).is_empty(),
        Thing::New(_) => false,
    };
    // Apart from those of the new build.
    let mut own = u32::MAX / 2;
    run_through(old, old_index, &mut values, &Thing::Old, &mut |event, values, _| {
        let is_void = matches!(event.kind, EventKind::Read { .. } | EventKind::Division { .. });
        if is_void || is_about(event, values, &is_gone) {
            own += 1;
            return Ok(Deed::Own(own));
        }
        olds.push(event.clone());
        Ok(Deed::Old(number(olds.len())))
    })
    .map_err(|doubt| format!("in the old build, {}", doubt.describe(old)))?;

    let counterpart = |index: AtomIndex| counterpart(new, comparison, index).map_or(Thing::New(index), Thing::Old);
    let mut part = NewPart::default();
    let mut found = 0;
    let mut own = 0;
    run_through(new, new_index, &mut values, &counterpart, &mut |event, values, slots| {
        if olds.get(found).is_some_and(|expected| is_same(expected, event, values)) {
            found += 1;
            let returns = matches!(event.kind, EventKind::Call { is_last: true, .. });
            part.removed.insert(event.offset, Removed { len: event.len, returns });
            return Ok(Deed::Old(number(found)));
        }
        own += 1;
        part.does_something |= !matches!(event.kind, EventKind::Read { .. } | EventKind::Division { .. });
        match needs_what_is_removed(event, values, slots) {
            None => Ok(Deed::Own(own)),
            Some(what) => {
                Err(Doubt { place: Place { function: new_index, offset: event.offset }, what: what.to_owned() })
            }
        }
    })
    .map_err(|doubt| doubt.describe(new))?;
    match olds.get(found) {
        None => Ok(part),
        Some(missing) => {
            let place = Place { function: old_index, offset: missing.offset };
            let what = format!("{}, and the new build does not do the same", describe(old, missing, &values));
            Err(format!("in the old build, {}", Doubt { place, what }.describe(old)))
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The old object that stands for a new one in the running process.
fn counterpart(new: &Program, comparison: &Comparison, index: AtomIndex) -> Option<AtomIndex> {
    // A part of the function that is compared counts by what it does.
    let counts_whole =
        new.atom(index).is_some_and(|atom| atom.kind == AtomKind::ReadOnly || atom.is_dynamic_initialiser());
    match comparison.pairing.old_of(index) {
        [only] if !counts_whole || comparison.outcome(*only, index) == Some(&Outcome::Same) => Some(*only),
        _ => None,
    }
}

/// It writes to a variable that the new build has no longer, or registers its destructor.
fn is_about(event: &Event, values: &Values, is_such: &dyn Fn(Thing) -> bool) -> bool {
    let is_object = |value: &Value| matches!(values.origin(*value), Origin::Object(thing, _) if is_such(*thing));
    match &event.kind {
        EventKind::Store { address, .. } => is_object(address),
        EventKind::Call { arguments, on_stack, .. } => {
            // Only where nothing else is handed over: its address alone tells what the call is about.
            !arguments.is_empty() && on_stack.is_empty() && arguments.values().all(is_object)
        }
        EventKind::Read { .. } | EventKind::Division { .. } => false,
    }
}

/// The same deed with the same values. What the old function gave no value to, nobody counts on.
fn is_same(old: &Event, new: &Event, values: &Values) -> bool {
    let is_defined = |value: &Value| !matches!(values.origin(*value), Origin::Undefined(_));
    let is_on_stack =
        |value: &Value| values.rests_on(*value, |origin| matches!(origin, Origin::Stack(_) | Origin::Left(..)));
    match (&old.kind, &new.kind) {
        (
            EventKind::Store { address, size, value },
            EventKind::Store { address: new_address, size: new_size, value: new_value },
        ) => {
            (address, size, value) == (new_address, new_size, new_value) && !is_on_stack(address) && !is_on_stack(value)
        }
        (
            EventKind::Call { callee, arguments, on_stack, .. },
            EventKind::Call { callee: new_callee, arguments: new_arguments, on_stack: new_on_stack, .. },
        ) => {
            let is_known = |values: &&Value| is_defined(values) && !is_on_stack(values);
            let has_same = arguments
                .iter()
                .filter(|(_, value)| is_defined(value))
                .all(|(register, value)| is_known(&value) && new_arguments.get(register) == Some(value));
            callee == new_callee && has_same && on_stack.iter().all(|entry| new_on_stack.get(entry.0) == Some(entry.1))
        }
        _ => false,
    }
}

/// Whether something new cannot be done alone, in words.
fn needs_what_is_removed(event: &Event, values: &Values, slots: &[Value]) -> Option<&'static str> {
    let is_missing =
        |origin: &Origin| matches!(origin, Origin::Result(Deed::Old(_), _) | Origin::Left(Deed::Old(_), ..));
    let is_nothing = |origin: &Origin| is_missing(origin) || matches!(origin, Origin::Undefined(_));
    let needs = |value: &Value| values.rests_on(*value, is_nothing);
    const RESULT: &str = "uses what a call gave that the old build has, too";
    match &event.kind {
        EventKind::Store { address, value, .. } => [address, value].into_iter().any(needs).then_some(RESULT),
        EventKind::Call { callee, arguments, on_stack, .. } => {
            // A register that was given no value is no argument.
            let given = |value: &&Value| !matches!(values.origin(**value), Origin::Undefined(_));
            let is_stack = |origin: &Origin| matches!(origin, Origin::Stack(_));
            let sees_stack = arguments.values().any(|value| values.rests_on(*value, is_stack));
            let is_unsound = needs(callee)
                || arguments.values().chain(on_stack.values()).filter(given).any(needs)
                || sees_stack && slots.iter().filter(given).any(needs);
            is_unsound.then_some(RESULT)
        }
        // What once led somewhere may lead nowhere now, and there is nobody to tell whether it is of the new or of the old.
        EventKind::Read { address } => {
            let is_own = |origin: &Origin| matches!(origin, Origin::Result(Deed::Own(_), _));
            let is_sound = values.rests_on(*address, is_own) && !needs(address);
            (!is_sound).then_some("reads at an address that it computes")
        }
        EventKind::Division { by } => {
            let is_open = |origin: &Origin| matches!(origin, Origin::Loaded { .. }) || is_nothing(origin);
            values.rests_on(*by, is_open).then_some("divides by what may be another number now")
        }
    }
}

fn describe(program: &Program, event: &Event, values: &Values) -> String {
    let name = |value: Value| match values.origin(value) {
        Origin::Object(Thing::Old(index), _) => program.atom(*index).map(|atom| program.display(atom)),
        Origin::Loaded { address, .. } => match values.origin(*address) {
            Origin::Object(Thing::Old(index), _) => program.atom(*index).map(|atom| program.display(atom)),
            _ => None,
        },
        _ => None,
    };
    match &event.kind {
        EventKind::Store { address, .. } => {
            format!("writes to {}", name(*address).unwrap_or_else(|| "memory".to_owned()))
        }
        EventKind::Call { callee, .. } => {
            format!("calls {}", name(*callee).unwrap_or_else(|| "a function".to_owned()))
        }
        EventKind::Read { .. } | EventKind::Division { .. } => "computes".to_owned(),
    }
}

#[cfg(test)]
#[path = "new_part_tests.rs"]
mod tests;
