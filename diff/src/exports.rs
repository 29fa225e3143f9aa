//! What an image offers to others by name: those who ask the loader for it get what the old image has.

use std::collections::BTreeMap;

use crate::atoms::AtomKind;
use crate::compare::{Comparison, Outcome};
use crate::image::Image;
use crate::program::{Location, Program};
use crate::rva::Rva;

/// An exported name whose meaning changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExportChange {
    /// The name, or `#` and the ordinal.
    pub name: String,
    /// What happened to it, in words.
    pub what: &'static str,
}

/// Where an exported name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Own(Rva),
    Forwarded(&'a str),
}

/// Exports that came, went, or lead to something else, by name.
pub fn changes(old: &Program, new: &Program, comparison: &Comparison) -> Vec<ExportChange> {
    let (olds, news) = (targets(&old.image), targets(&new.image));
    let change = |name: &str, what| ExportChange { name: name.to_owned(), what };
    let gone_or_other = olds.iter().filter_map(|(name, target)| {
        let Some(other) = news.get(name) else { return Some(change(name, "is no longer exported")) };
        difference(old, new, comparison, *target, *other).map(|what| change(name, what))
    });
    let came = news.keys().filter(|name| !olds.contains_key(*name)).map(|name| change(name, "is exported now"));
    let renumbered = other_numbers(&numbers(&old.image), &numbers(&new.image))
        .into_iter()
        .map(|name| change(name, "is exported under another number"));
    let mut changes: Vec<ExportChange> = gone_or_other.chain(came).chain(renumbered).collect();
    changes.sort();
    changes
}

fn targets(image: &Image) -> BTreeMap<&str, Target<'_>> {
    let own = image.exports.iter().map(|export| (export.name.as_str(), Target::Own(export.rva)));
    own.chain(image.forwarders.iter().map(|f| (f.name.as_str(), Target::Forwarded(&f.to)))).collect()
}

/// What became of an export that both builds have.
fn difference(
    old: &Program,
    new: &Program,
    comparison: &Comparison,
    target: Target<'_>,
    other: Target<'_>,
) -> Option<&'static str> {
    match (target, other) {
        (Target::Own(a), Target::Own(b)) if !is_same(old, new, comparison, a, b) => {
            Some("is exported from another place")
        }
        (Target::Own(a), Target::Own(b)) if is_changed_constant(old, new, comparison, a, b) => {
            Some("is a constant that other images read, and it changed")
        }
        (Target::Own(_), Target::Own(_)) => None,
        (Target::Forwarded(a), Target::Forwarded(b)) if a.eq_ignore_ascii_case(b) => None,
        _ => Some("is forwarded elsewhere"),
    }
}

/// Names with another number. Where the linker numbers the names in their order, nobody can count on a number.
fn other_numbers<'a>(olds: &BTreeMap<&'a str, u32>, news: &BTreeMap<&str, u32>) -> Vec<&'a str> {
    if olds.values().is_sorted() && news.values().is_sorted() {
        return Vec::new();
    }
    let is_other = |name: &str, number: u32| news.get(name).is_some_and(|other| *other != number);
    olds.iter().filter(|(name, number)| is_other(name, **number)).map(|(name, _)| *name).collect()
}

/// The names of an image's exports, with their numbers.
fn numbers(image: &Image) -> BTreeMap<&str, u32> {
    let own = image.exports.iter().map(|export| (export.name.as_str(), export.ordinal));
    let all = own.chain(image.forwarders.iter().map(|f| (f.name.as_str(), f.ordinal)));
    all.filter(|(name, _)| !name.starts_with('#')).collect()
}

/// A constant of both builds that does not hold the same.
fn is_changed_constant(old: &Program, new: &Program, comparison: &Comparison, a: Rva, b: Rva) -> bool {
    match (old.locate(a), new.locate(b)) {
        (Location::Atom { atom: a, .. }, Location::Atom { atom: b, .. }) => {
            old.atom(a).is_some_and(|atom| atom.kind == AtomKind::ReadOnly)
                && comparison.outcome(a, b).is_some_and(Outcome::is_change)
        }
        _ => false,
    }
}

/// Whether two addresses are those of one thing, whatever it holds.
fn is_same(old: &Program, new: &Program, comparison: &Comparison, a: Rva, b: Rva) -> bool {
    match (old.locate(a), new.locate(b)) {
        (Location::Atom { atom: a, offset: x }, Location::Atom { atom: b, offset: y }) => {
            x == y && (comparison.pairing.is_pair(a, b) || comparison.outcome(a, b).is_some_and(|o| !o.is_change()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_the_linker_gave_may_move_and_others_may_not() {
        let automatic = BTreeMap::from([("a", 1), ("c", 2)]);
        let one_more = BTreeMap::from([("a", 1), ("b", 2), ("c", 3)]);
        assert!(other_numbers(&automatic, &one_more).is_empty());
        let swapped = BTreeMap::from([("a", 2), ("c", 1)]);
        assert_eq!(other_numbers(&automatic, &swapped), ["a", "c"]);
    }
}
