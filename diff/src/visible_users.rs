//! Who names a constant, as far as code and data show it.
//!
//! The comparison of two functions ends at their first difference: what they name behind it, it never looks at. Such a function is replaced, and
//! its new version has the new constant; what has to be shown is that nobody else names the old one.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{AtomIndex, AtomKind};
use crate::program::{Function, Location, Program, pointers_in};
use crate::rva::Rva;

/// The functions of a program that name each constant, and the constants that other data names.
#[derive(Debug, Default)]
pub(crate) struct VisibleUsers {
    by_code: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
    by_data: BTreeSet<AtomIndex>,
}

impl VisibleUsers {
    /// Collects them. Where code computes with an address at which a constant ends, it may mean that one, too.
    pub fn of(program: &Program) -> VisibleUsers {
        let mut users = VisibleUsers::default();
        for function in &program.functions {
            for reference in &function.code.references {
                let named = reference.place();
                let before =
                    reference.symbol.is_none().then(|| ended_at(program, function, reference.target)).flatten();
                users.note(program, function, constant_at(program, named).into_iter().chain(before));
            }
            let tables = function.data_tables.iter().flat_map(|table| table.targets.iter());
            users.note(program, function, tables.filter_map(|target| constant_at(program, *target)));
        }
        for section in &program.image.sections {
            for (place, target) in pointers_in(&program.image, section.range.clone()) {
                let holder = program.atom_before(place);
                let named = target.and_then(|target| constant_at(program, target));
                users.by_data.extend(named.filter(|atom| Some(*atom) != holder));
            }
        }
        users
    }

    fn note(&mut self, program: &Program, function: &Function, constants: impl Iterator<Item = AtomIndex>) {
        let is_constant = |index: &AtomIndex| program.atom(*index).is_some_and(|atom| atom.kind == AtomKind::ReadOnly);
        for constant in constants.filter(is_constant) {
            self.by_code.entry(constant).or_default().insert(function.atom);
        }
    }

    /// The functions that name a constant, if nothing else does.
    pub fn functions(&self, constant: AtomIndex) -> Option<&BTreeSet<AtomIndex>> {
        self.by_code.get(&constant).filter(|_| !self.by_data.contains(&constant))
    }
}

fn constant_at(program: &Program, target: Rva) -> Option<AtomIndex> {
    match program.locate(target) {
        Location::Atom { atom, .. } => Some(atom),
        _ => program.atom_before(target),
    }
}

/// The object that ends at an address, where what the function does with that fits an end.
fn ended_at(program: &Program, function: &Function, target: Rva) -> Option<AtomIndex> {
    let own = constant_at(program, target)?;
    let size = program.atom(own)?.end().0.saturating_sub(target.0);
    let uses = function.code.facts.uses.get(&target).copied().unwrap_or_default();
    let fits = uses.compared || uses.computed || uses.indexed && !uses.is_indexed_within(size);
    let before = AtomIndex(own.0.checked_sub(1)?);
    (fits && program.atom(before)?.end() == target).then_some(before)
}
