//! Functions whose address the old code stored and that the new code stores another one for: who was given the old one goes on calling that.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::AtomIndex;
use crate::compare::Comparison;
use crate::contracts::Kind;
use crate::function_users::{taken_by, users};
use crate::program::Program;

/// Functions of the old program that are gone, each with a new one whose address is taken by a function that took that of the old one.
pub(crate) fn replaced_callbacks(
    old: &Program,
    new: &Program,
    comparison: &Comparison,
) -> BTreeMap<AtomIndex, AtomIndex> {
    let pairing = &comparison.pairing;
    // The others are told as what they are.
    let told = comparison.apart().iter().filter(|(_, apart)| apart.kind != Kind::Uncertain);
    let told: BTreeSet<AtomIndex> = told.map(|((index, _), _)| *index).collect();
    let is_gone = |index: AtomIndex| pairing.new_of(index).is_empty() && !told.contains(&index);
    let gone: Vec<AtomIndex> = old.functions.iter().map(|f| f.atom).filter(|index| is_gone(*index)).collect();
    let users = if gone.is_empty() { BTreeMap::new() } else { users(old) };
    let is_new = |index: AtomIndex| pairing.old_of(index).is_empty();
    let replacement = |index: AtomIndex| {
        let takers = users.get(&index)?.takers.iter().flat_map(|taker| pairing.new_of(*taker));
        takers.flat_map(|taker| taken_by(new, *taker)).find(|taken| is_new(*taken))
    };
    gone.into_iter().filter_map(|index| Some((index, replacement(index)?))).collect()
}
