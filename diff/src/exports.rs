//! What an image offers to others by name: those who ask the loader for it get what the old image has.

use std::collections::BTreeMap;

use crate::compare::Comparison;
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

/// Exports that came, went, or lead to something else, by name.
pub fn changes(old: &Program, new: &Program, comparison: &Comparison) -> Vec<ExportChange> {
    let by_name = |program: &Program| -> BTreeMap<String, Rva> {
        program.image.exports.iter().map(|export| (export.name.clone(), export.rva)).collect()
    };
    let (olds, news) = (by_name(old), by_name(new));
    let change = |name: &String, what| ExportChange { name: name.clone(), what };
    let gone_or_other = olds.iter().filter_map(|(name, rva)| match news.get(name) {
        None => Some(change(name, "is no longer exported")),
        Some(other) if !is_same(old, new, comparison, *rva, *other) => {
            Some(change(name, "is exported from another place"))
        }
        Some(_) => None,
    });
    let came = news.keys().filter(|name| !olds.contains_key(*name)).map(|name| change(name, "is exported now"));
    let mut changes: Vec<ExportChange> = gone_or_other.chain(came).collect();
    changes.sort();
    changes
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
