//! Functions whose address the old code stored and that the new code stores another one for: who was given the old one goes on calling that.

use std::collections::BTreeMap;

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
    // Those are told as what they are.
    let is_told = |index: AtomIndex| {
        comparison.apart().iter().any(|((a, _), apart)| *a == index && apart.kind != Kind::Uncertain)
    };
    let is_gone = |index: AtomIndex| pairing.new_of(index).is_empty() && !is_told(index);
    let gone: Vec<AtomIndex> = old.functions.iter().map(|f| f.atom).filter(|index| is_gone(*index)).collect();
    let users = if gone.is_empty() { BTreeMap::new() } else { users(old) };
    let replacement = |index: AtomIndex| {
        let takers = users.get(&index)?.takers.iter().flat_map(|taker| pairing.new_of(*taker));
        takers.flat_map(|taker| taken_by(new, *taker)).find(|taken| pairing.old_of(*taken).is_empty())
    };
    gone.into_iter().filter_map(|index| Some((index, replacement(index)?))).collect()
}
