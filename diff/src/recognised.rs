//! Constants that code recognises by their addresses: the end of a list, a default that is never freed, a kind of object.
//!
//! A constant that changed has another address in new code. What the running process stored is the old one, which new code takes for something else.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{AtomIndex, AtomKind};
use crate::compare::{Comparison, Outcome};
use crate::program::{Function, Location, Program};
use crate::rva::Rva;

/// The constants that each function recognises.
type ByFunction = BTreeMap<AtomIndex, BTreeSet<AtomIndex>>;

/// Old constants that code recognises, and whose address new code does not know any more.
pub(crate) fn replaced(old: &Program, new: &Program, comparison: &Comparison) -> BTreeSet<AtomIndex> {
    let (olds, news) = (recognised(old), recognised(new));
    if olds.is_empty() && news.is_empty() {
        return BTreeSet::new();
    }
    let pairing = &comparison.pairing;
    let kept = comparison.same_content(old, new);
    let known: BTreeSet<AtomIndex> = kept.values().copied().collect();
    let is_changed = |a: AtomIndex, b: AtomIndex| comparison.outcome(a, b).is_some_and(Outcome::is_change);
    let changed = |a: &AtomIndex| pairing.new_of(*a).iter().any(|b| is_changed(*a, *b));
    // Of both builds, and not the same.
    let by_old_code = olds.values().flatten().copied().filter(changed);
    let olds_of = |b: &AtomIndex| pairing.old_of(*b).iter().copied().filter(|a| is_changed(*a, *b)).collect::<Vec<_>>();
    let by_new_code = news.values().flatten().flat_map(olds_of);
    // Gone, and the same function recognises one that is new.
    let is_new = |b: &AtomIndex| pairing.old_of(*b).is_empty() && !kept.contains_key(b);
    let recognises_new = |function: &AtomIndex| {
        let partners = pairing.new_of(*function).iter().filter_map(|partner| news.get(partner));
        partners.flatten().any(is_new)
    };
    let users = olds.iter().filter(|(function, _)| recognises_new(function));
    let gone = users.flat_map(|(_, constants)| constants).copied();
    let gone = gone.filter(|a| pairing.new_of(*a).is_empty() && !known.contains(a));
    by_old_code.chain(by_new_code).chain(gone).collect()
}

fn recognised(program: &Program) -> ByFunction {
    let of = |function: &Function| -> BTreeSet<AtomIndex> {
        let uses = function.code.facts.uses.iter().filter(|(_, uses)| uses.recognised);
        let found: BTreeSet<(AtomIndex, bool)> =
            uses.filter_map(|(target, _)| constant_at(program, function, *target)).collect();
        let is_meant = |(constant, may_be_end): &(AtomIndex, bool)| {
            let before = AtomIndex(constant.0.saturating_sub(1));
            // What ends there is recognised itself: two objects side by side.
            !may_be_end || found.iter().any(|(other, _)| *other == before)
        };
        found.iter().filter(|found| is_meant(found)).map(|(constant, _)| *constant).collect()
    };
    let found = program.functions.iter().map(|function| (function.atom, of(function)));
    found.filter(|(_, constants)| !constants.is_empty()).collect()
}

/// The constant at an address, and whether the end of the one before may be meant, which the function names, too.
fn constant_at(program: &Program, function: &Function, target: Rva) -> Option<(AtomIndex, bool)> {
    let Location::Atom { atom, offset } = program.locate(target) else { return None };
    let constant = program.atom(atom).filter(|found| found.kind == AtomKind::ReadOnly && offset < found.size)?;
    let before = AtomIndex(atom.0.checked_sub(1)?);
    let is_end = offset == 0 && program.atom(before).is_some_and(|before| before.end() == constant.rva);
    let is_named = || {
        let references = function.code.references.iter();
        references
            .map(|r| program.locate(r.target))
            .any(|place| matches!(place, Location::Atom { atom, .. } if atom == before))
    };
    Some((atom, is_end && is_named()))
}
