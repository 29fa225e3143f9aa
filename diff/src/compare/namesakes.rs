//! Variables whose names others have, too, and which only functions that changed use: files' own variables after link-time optimisation, which
//! makes one module of all files, or those of blocks of one function.
//!
//! In one function a name means one variable, so where a function uses one of that name in either build, and no more, it is the same one. Of
//! two in one function, as blocks have them, nothing tells which is which. What guards are called tells not even that: one that is the only one
//! of its function guards the same as long as the function's blocks have the same variables.

use std::collections::{BTreeMap, BTreeSet};

use super::Comparison;
use crate::atoms::{AtomIndex, Name};
use crate::ordinals::{is_guard, stable_name, surroundings};
use crate::program::{Function, Program};

/// Variables by the name that they share.
type ByName = BTreeMap<String, BTreeSet<AtomIndex>>;

impl Comparison {
    /// Pairs those that all functions which use one of the name agree about; gives the pairs.
    pub(super) fn pair_namesakes(&mut self, old: &Program, new: &Program) -> Vec<(AtomIndex, AtomIndex)> {
        let mut partners: BTreeMap<AtomIndex, BTreeSet<AtomIndex>> = BTreeMap::new();
        let mut partners_of_new = partners.clone();
        let mut doubted: BTreeSet<AtomIndex> = BTreeSet::new();
        for function in &new.functions {
            let [other] = self.pairing.old_of(function.atom) else { continue };
            // What functions that did not change say, their comparison took in.
            if self.outcome(*other, function.atom).is_some_and(|outcome| !outcome.is_change()) {
                continue;
            }
            let Some(old_function) = old.function(*other) else { continue };
            let olds = self.variables(old, old_function, |index| self.pairing.is_left(index));
            if olds.is_empty() {
                continue;
            }
            let news = self.variables(new, function, |index| self.pairing.shares_name(index));
            for (name, users) in &olds {
                let Some(others) = news.get(name) else {
                    // It may go on under another name here, and another one has taken its name.
                    let brings_one = used(new, function).any(|(index, _)| self.pairing.old_of(index).is_empty());
                    doubted.extend(users.iter().filter(|_| brings_one));
                    continue;
                };
                let (Some(a), Some(b)) = (only(users), only(others)) else { continue };
                if guard_the_same((old, old_function, a), (new, function, b)) {
                    partners.entry(a).or_default().insert(b);
                    partners_of_new.entry(b).or_default().insert(a);
                }
            }
        }
        let agreed = partners.iter().filter(|(a, _)| !doubted.contains(a)).filter_map(|(a, others)| {
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
        for (index, names) in used(program, function).filter(|(index, _)| shares_name(*index)) {
            for name in names {
                named.entry(stable_name(&name.key).into_owned()).or_default().insert(index);
            }
        }
        named
    }
}

/// The variables that a function uses, with their names.
fn used<'p>(program: &'p Program, function: &Function) -> impl Iterator<Item = (AtomIndex, &'p [Name])> {
    let variables = program.variables_of(function).into_iter();
    variables.filter_map(|index| Some((index, program.atom(index)?.names.as_slice())))
}

/// Whether what an old and a new function use to know what is constructed says so of the same variables; true for other variables.
fn guard_the_same(old: (&Program, &Function, AtomIndex), new: (&Program, &Function, AtomIndex)) -> bool {
    let (olds, news) = (guarded(old), guarded(new));
    // A guard of the newer kind has one variable. The older one has a bit for each, in an order that nothing tells.
    let are_clear =
        |guarded: &Guarded| !guarded.variables.is_empty() && (guarded.variables.len() == 1 || !guarded.by_bits);
    match (olds, news) {
        (None, None) => true,
        (Some(olds), Some(news)) => olds == news && are_clear(&olds),
        _ => false,
    }
}

/// What a guard may say of which variables.
#[derive(PartialEq, Eq)]
struct Guarded {
    by_bits: bool,
    /// Names of the variables in blocks of the same function.
    variables: BTreeSet<String>,
}

/// What a variable guards in a function; none where it is no guard.
fn guarded((program, function, variable): (&Program, &Function, AtomIndex)) -> Option<Guarded> {
    let guard = program.atom(variable)?.names.iter().filter(|name| is_guard(&name.key)).collect::<Vec<_>>();
    let by_bits = !guard.first()?.key.contains("$TSS");
    let around: BTreeSet<&str> = guard.iter().filter_map(|name| surroundings(name)).collect();
    let names = used(program, function).flat_map(|(_, names)| names);
    let in_blocks =
        names.filter(|name| !is_guard(&name.key) && surroundings(name).is_some_and(|at| around.contains(at)));
    let variables = in_blocks.map(|name| stable_name(&name.key).into_owned()).collect();
    Some(Guarded { by_bits, variables })
}

fn only(all: &BTreeSet<AtomIndex>) -> Option<AtomIndex> {
    all.first().copied().filter(|_| all.len() == 1)
}
