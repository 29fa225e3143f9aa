//! Pairs of functions that are not called alike: the entry of the old one must not lead to the new one.
//!
//! What calls the old entry was compiled for the old function: loops that were running as the payload went in, pointers that the process
//! stored, other images. Where the new function takes other arguments, or gives another result, such a pair is taken apart: the old function
//! stays as it is for who knows it, the new one is a new function, and all that names it in the new build is replaced along with it.
//!
//! Where all that calls a function did not change itself, it calls old and new alike, whatever the types say.

use std::collections::{BTreeMap, BTreeSet};

use crate::after_calls::after_calls;
use crate::arguments;
use crate::atoms::{Atom, AtomIndex};
use crate::compare::{Comparison, Outcome};
use crate::function_users::{self, Users};
use crate::initialisers::initialisers;
use crate::pairing::How;
use crate::program::{Function, Program};
use crate::signatures::{self, Procedure, Procedures, Value};
use crate::x64::{Instruction, Reference, ReferenceKind};

/// Why an old and a new function are kept apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// What differs, in words.
    pub why: String,
    /// What the reason is about.
    pub kind: Kind,
    /// Pointers that the process may hold lead to the old function.
    pub is_stored: bool,
}

/// Why functions are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They are called in different ways.
    Contract,
    /// They go on with waiting calls of a coroutine.
    Coroutine,
    /// Too little tells that they are one.
    Uncertain,
}

/// Pairs that are kept apart.
pub(crate) type Parted = BTreeMap<(AtomIndex, AtomIndex), Apart>;

/// What of two programs tells how functions are called.
pub(crate) struct Contracts<'a> {
    old: &'a Program,
    new: &'a Program,
    old_procedures: Procedures,
    new_procedures: Procedures,
    /// Who names functions of the old program.
    users: BTreeMap<AtomIndex, Users>,
    /// Who names functions of the new program.
    new_users: BTreeMap<AtomIndex, Users>,
    /// Functions of the old program that nobody calls after its start.
    at_start: BTreeSet<AtomIndex>,
}

impl<'a> Contracts<'a> {
    /// Reads both programs' symbols.
    pub fn of(old: &'a Program, new: &'a Program) -> Contracts<'a> {
        let entry = old.atom_before(old.image.identity.entry_point);
        Contracts {
            old,
            new,
            old_procedures: signatures::read(old),
            new_procedures: signatures::read(new),
            users: function_users::users(old),
            new_users: function_users::users(new),
            at_start: initialisers(old).into_keys().chain(entry).collect(),
        }
    }

    /// Changed pairs that are not called alike.
    pub fn broken(&self, comparison: &Comparison) -> Parted {
        let mut changed: BTreeSet<AtomIndex> =
            self.old.functions.iter().map(|f| f.atom).filter(|index| is_changed(comparison, *index)).collect();
        let mut broken = Parted::new();
        // What names a function that is kept apart is replaced with it, which may leave another one without an unchanged caller.
        loop {
            let before = broken.len();
            for old in changed.clone() {
                for new in comparison.pairing.new_of(old) {
                    if broken.contains_key(&(old, *new)) {
                        continue;
                    }
                    if let Some(apart) = self.conflict(comparison, &changed, old, *new) {
                        broken.insert((old, *new), apart);
                        let users = self.users.get(&old);
                        changed.extend(users.into_iter().flat_map(|users| users.callers()));
                    }
                }
            }
            if broken.len() == before {
                return broken;
            }
        }
    }

    fn conflict(
        &self,
        comparison: &Comparison,
        changed: &BTreeSet<AtomIndex>,
        old: AtomIndex,
        new: AtomIndex,
    ) -> Option<Apart> {
        let (a, b) = (self.old.atom(old)?, self.new.atom(new)?);
        let users = self.users.get(&old).filter(|_| !self.at_start.contains(&old))?;
        let procedures = self.procedures(a, b);
        if is_uncertain(comparison.pairing.how(old, new), a, b) && users.is_taken() {
            let why = "nothing but a name or an order tells that they are one".to_owned();
            return Some(Apart { why, kind: Kind::Uncertain, is_stored: false });
        }
        if !users.takers.is_empty() && is_part_of_coroutine(a, &procedures) {
            let why = "a part of a coroutine, whose waiting calls need the part that they began with";
            return Some(Apart { why: why.to_owned(), kind: Kind::Coroutine, is_stored: false });
        }
        let by_type = type_conflict(&procedures);
        let is_called_anew =
            users.is_taken() || !users.jumps.is_empty() || users.calls.iter().any(|c| changed.contains(c));
        if let Some(why) = by_type {
            return is_called_anew.then(|| Apart { why, kind: Kind::Contract, is_stored: users.is_stored(self.old) });
        }
        if let Some(why) = self.is_counted_on(old, &mut BTreeSet::new()) {
            return Some(Apart { why, kind: Kind::Contract, is_stored: users.is_stored(self.old) });
        }
        // Nobody but callers that are all replaced can tell how it is to be called, and the optimiser may have decided that.
        let is_open = users.is_taken() || users.calls.iter().any(|caller| !changed.contains(caller));
        let is_visible = a.names.iter().any(|name| name.local.is_none());
        if is_open || is_visible {
            return None;
        }
        self.optimised_otherwise(old, new, &procedures).map(|why| Apart { why, kind: Kind::Contract, is_stored: false })
    }

    /// The procedures of an old and a new function that are the same one by their names; all of both where none is.
    fn procedures(&self, old: &Atom, new: &Atom) -> Vec<(&Procedure, &Procedure)> {
        let olds = self.old_procedures.get(&old.rva).map_or(&[][..], Vec::as_slice);
        let news = self.new_procedures.get(&new.rva).map_or(&[][..], Vec::as_slice);
        let all = || olds.iter().flat_map(|old| news.iter().map(move |new| (old, new)));
        let same: Vec<_> = all().filter(|(old, new)| old.name == new.name).collect();
        if same.is_empty() { all().collect() } else { same }
    }

    /// Whether the optimiser gave the new function other arguments than the old one, in words.
    fn optimised_otherwise(
        &self,
        old: AtomIndex,
        new: AtomIndex,
        procedures: &[(&Procedure, &Procedure)],
    ) -> Option<String> {
        if let Some(name) = procedures.iter().find_map(|(old, new)| old.moved_parameter(new)) {
            return Some(format!("its parameter {name} comes in another register than before"));
        }
        if self.lost_result(old, new, procedures) {
            return Some("nobody looks at its result any more, which it may no longer give".to_owned());
        }
        let parameters = procedures.first().and_then(|(_, new)| Some(new.signature.as_ref()?.parameters.as_slice()));
        let looked_at = arguments::read_by(self.new, new, parameters.is_some());
        let known = arguments::read_by(self.old, old, false);
        let takes = parameters.map(arguments_of);
        let more = looked_at.difference(&known).find(|register| takes.as_ref().is_none_or(|t| t.contains(register)));
        more.map(|register| {
            format!("it looks at {register:?} where it begins, which the old one does not, so that its callers may not set it")
        })
    }
}

/// Callers, and callers of callers, that are asked whether they count on what a function leaves alone.
const MAX_SEEN: usize = 256;

impl Contracts<'_> {
    /// Whether callers of a function keep values in registers over its calls that others may overwrite, in words. Only compilers that write no
    /// debug information for PDBs do so.
    fn is_counted_on(&self, old: AtomIndex, seen: &mut BTreeSet<AtomIndex>) -> Option<String> {
        let function = self.old.function(old)?;
        let is_described = self.old.atom(old).is_none_or(|atom| self.old_procedures.contains_key(&atom.rva));
        if is_described || !returns(self.old, function) || seen.len() >= MAX_SEEN || !seen.insert(old) {
            return None;
        }
        let users = self.users.get(&old)?;
        let kept = users.calls.iter().find_map(|caller| Some((caller, after_calls(self.old, *caller, old).keeps?)));
        if let Some((caller, register)) = kept {
            let caller = self.old.atom(*caller).map(|atom| self.old.display(atom)).unwrap_or_default();
            return Some(format!("{caller} counts on what it leaves in {register:?}"));
        }
        // Those that call it leave alone what it leaves alone, as far as the compiler sees: in one file.
        let module = self.old.atom(old)?.module;
        let is_beside = |caller: &AtomIndex| self.old.atom(*caller).is_some_and(|atom| atom.module == module);
        users.callers().filter(is_beside).find_map(|caller| self.is_counted_on(caller, seen))
    }

    /// Whether callers looked at the result, and no caller of the new build does: then the optimiser may have left it out.
    fn lost_result(&self, old: AtomIndex, new: AtomIndex, procedures: &[(&Procedure, &Procedure)]) -> bool {
        let gives_nothing = |(_, new): &(&Procedure, &Procedure)| {
            new.signature.as_ref().is_none_or(|signature| signature.result == Value::Nothing)
        };
        if procedures.iter().any(gives_nothing) {
            return false;
        }
        let uses = |program: &Program, procedures: &Procedures, users: Option<&Users>, callee: AtomIndex| {
            users.into_iter().flat_map(|users| users.callers()).any(|caller| {
                let after = after_calls(program, caller, callee);
                let of_caller = program.atom(caller).and_then(|atom| procedures.get(&atom.rva));
                let is_void = |known: &Procedure| {
                    known.signature.as_ref().is_some_and(|signature| signature.result == Value::Nothing)
                };
                let gives_on = after.returns_result && !of_caller.is_some_and(|known| known.iter().all(is_void));
                after.uses_result || gives_on
            })
        };
        uses(self.old, &self.old_procedures, self.users.get(&old), old)
            && !uses(self.new, &self.new_procedures, self.new_users.get(&new), new)
    }
}

/// Whether control comes back from a function.
fn returns(program: &Program, function: &Function) -> bool {
    let Some(start) = program.atom(function.atom).map(|atom| atom.rva) else { return true };
    let leaves = |reference: &Reference| matches!(reference.kind, ReferenceKind::Jump | ReferenceKind::ShortJump);
    let is_return = |instruction: &Instruction| {
        let first = start.checked_add(instruction.offset).and_then(|at| program.image.bytes(at, 1));
        matches!(first, Some([0xc2 | 0xc3 | 0xf2 | 0xf3]))
    };
    function.code.references.iter().any(leaves) || function.code.instructions.iter().any(is_return)
}

/// Whether a function of the old program is not what it was, so that running calls of it go on as no caller of the new build does.
fn is_changed(comparison: &Comparison, old: AtomIndex) -> bool {
    let news = comparison.pairing.new_of(old);
    news.is_empty() || news.iter().any(|new| comparison.outcome(old, *new).is_none_or(Outcome::is_change))
}

/// Whether a pair rests on so little that its pointers may be to another function: a name in another module, or an order.
fn is_uncertain(how: Option<How>, old: &Atom, new: &Atom) -> bool {
    let module = |atom: &Atom| atom.names.iter().find_map(|name| name.local.as_ref()).map(|local| local.module.clone());
    match how {
        Some(How::NameOnly) => match (module(old), module(new)) {
            (Some(old), Some(new)) => old != new,
            _ => false,
        },
        Some(How::Order) => old.names.is_empty() && new.names.is_empty(),
        _ => false,
    }
}

/// What a suspended call of a coroutine goes on with, or is ended by: clang makes it a function of the same name and type that only code
/// points to, Microsoft's compiler gives it a name of its own.
fn is_part_of_coroutine(old: &Atom, procedures: &[(&Procedure, &Procedure)]) -> bool {
    const PARTS: [&str; 2] = ["_ResumeCoro$", "_DestroyCoro$"];
    let is_named = old.names.iter().any(|name| PARTS.iter().any(|part| name.key.contains(part)));
    let is_local = !old.names.is_empty() && old.names.iter().all(|name| name.local.is_some());
    is_named || is_local && procedures.iter().any(|(old, _)| old.shares_name)
}

/// Why an old and a new function are called otherwise by their types. Where several were folded, one that agrees is enough.
fn type_conflict(procedures: &[(&Procedure, &Procedure)]) -> Option<String> {
    let mut conflicts = procedures.iter().map(|(old, new)| old.conflict(new));
    let first = conflicts.next()??;
    conflicts.all(|conflict| conflict.is_some()).then_some(first)
}

/// The registers that parameters come in.
fn arguments_of(parameters: &[Value]) -> BTreeSet<iced_x86::Register> {
    let of = |(place, value): (usize, &Value)| match value {
        Value::Float(_) => arguments::ARGUMENTS.get(4 + place),
        _ => arguments::ARGUMENTS.get(place),
    };
    parameters.iter().take(4).enumerate().filter_map(of).copied().collect()
}

#[cfg(test)]
#[path = "contracts_tests.rs"]
mod tests;
