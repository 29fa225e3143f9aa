//! Variables whose names others have, too, and which only functions that changed use: files' own variables after link-time optimisation, which
//! makes one module of all files, or those of blocks of one function.
//!
//! In one function a name means one variable, so where a function uses one of that name in either build, and no more, it is the same one. Of
//! two in one function, as blocks have them, nothing tells which is which.

use std::collections::{BTreeMap, BTreeSet};

use super::Comparison;
use crate::atoms::{AtomIndex, AtomKind};
use crate::program::{Function, Program};

/// Variables by the name that they share.
type ByName = BTreeMap<String, BTreeSet<AtomIndex>>;

impl Comparison {
    /// Pairs those that all functions which use one of the name agree about; gives the pairs.
    pub(super) fn pair_namesakes(&mut self, old: &Program, new: &Program) -> Vec<(AtomIndex, AtomIndex)> {
        let mut partners: BTreeMap<AtomIndex, BTreeSet<AtomIndex>> = BTreeMap::new();
        let mut partners_of_new = partners.clone();
        for function in &new.functions {
            let [other] = self.pairing.old_of(function.atom) else { continue };
            let Some(old_function) = old.function(*other) else { continue };
            let news = self.variables(new, function, |index| self.pairing.shares_name(index));
            if news.is_empty() {
                continue;
            }
            let olds = self.variables(old, old_function, |index| self.pairing.is_left(index));
            for (name, users) in &news {
                let (Some(a), Some(b)) = (olds.get(name).and_then(only), only(users)) else { continue };
                partners.entry(a).or_default().insert(b);
                partners_of_new.entry(b).or_default().insert(a);
            }
        }
        let agreed = partners.iter().filter_map(|(a, others)| {
            let b = only(others)?;
            let is_free = self.pairing.new_of(*a).is_empty() && self.pairing.old_of(b).is_empty();
            (is_free && partners_of_new.get(&b).is_some_and(|others| others.len() == 1)).then_some((*a, b))
        });
        let agreed: Vec<_> = agreed.collect();
        for (a, b) in &agreed {
            self.pairing.add_told_apart(*a, *b);
        }
        agreed
    }

    /// The variables of shared names that a function uses.
    fn variables(&self, program: &Program, function: &Function, shares_name: impl Fn(AtomIndex) -> bool) -> ByName {
        let mut named = ByName::new();
        for reference in &function.code.references {
            for index in [Some(reference.target), reference.symbol]
                .into_iter()
                .flatten()
                .filter_map(|to| program.atom_before(to))
            {
                let Some(atom) = program.atom(index).filter(|atom| atom.kind == AtomKind::Writable) else { continue };
                if shares_name(index) {
                    for name in &atom.names {
                        named.entry(name.key.clone()).or_default().insert(index);
                    }
                }
            }
        }
        named
    }
}

fn only(all: &BTreeSet<AtomIndex>) -> Option<AtomIndex> {
    all.first().copied().filter(|_| all.len() == 1)
}
