//! Variables whose type gives their bytes another meaning at the same size: the running process has the old kind of value in them.

use std::collections::BTreeMap;

use crate::atoms::AtomKind;
use crate::pairing::{Pairing, indexed};
use crate::program::Program;
use crate::rva::Rva;
use crate::shapes::Shapes;
use crate::symbols::Variable;

/// A variable whose type changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableChange {
    /// Linkage name.
    pub name: String,
    /// Its old and its new type, in words.
    pub what: String,
}

/// Variables of both builds whose types do not mean the same.
pub fn changes(old: &Program, new: &Program, pairing: &Pairing) -> Vec<VariableChange> {
    let (olds, news) = (by_place(old), by_place(new));
    let mut shapes = Shapes::new(&old.symbols.layouts, &new.symbols.layouts);
    let mut found = Vec::new();
    for (index, atom) in indexed(old).filter(|(_, atom)| atom.kind == AtomKind::Writable) {
        for other in pairing.new_of(index).iter().filter_map(|new_index| new.atom(*new_index)) {
            let (Some(before), Some(after)) = (olds.get(&atom.rva), news.get(&other.rva)) else { continue };
            for (a, b) in pairs(before, after) {
                // Another size is said elsewhere.
                if a.size == b.size && !shapes.is_same(&a.shape, &b.shape) {
                    let (was, is) = shapes.describe(&a.shape, &b.shape);
                    let what = format!("it was {was} and is {is}");
                    found.push(VariableChange { name: new.linkage_name(other), what });
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn by_place(program: &Program) -> BTreeMap<Rva, Vec<&Variable>> {
    let mut found: BTreeMap<Rva, Vec<&Variable>> = BTreeMap::new();
    for variable in &program.symbols.variables {
        found.entry(variable.rva).or_default().push(variable);
    }
    found
}

/// Variables of one place by their names; where each build has but one there, these.
fn pairs<'v>(old: &[&'v Variable], new: &[&'v Variable]) -> Vec<(&'v Variable, &'v Variable)> {
    if let (&[a], &[b]) = (old, new) {
        return vec![(a, b)];
    }
    let of_name = |a: &&'v Variable| new.iter().find(|b| a.name == b.name).map(|b| (*a, *b));
    old.iter().filter_map(of_name).collect()
}
