//! Functions that a number tells apart from others of one function: lambdas, closures. Their numbers pair them, and say no more than an
//! order does.

use std::collections::{BTreeMap, HashMap};

use super::{How, Pairing, indexed};
use crate::atoms::{Atom, AtomIndex};
use crate::ordinals::{stable_name, without_impl_numbers, without_ordinals};
use crate::program::Program;
use crate::rva::Rva;

/// Those that only their numbers tell apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Siblings {
    /// Their name without the number.
    pub name: String,
    /// Both builds have as many.
    pub are_as_many: bool,
}

impl Pairing {
    /// Marks the pairs that numbers alone made, where there is more than one such function.
    pub(super) fn find_numbered(&mut self, old: &Program, new: &Program) {
        let (olds, news) = (families(old), families(new));
        for (name, members) in news {
            let in_old = olds.get(&name).map_or(0, Vec::len);
            if in_old == 0 || (in_old, members.len()) == (1, 1) {
                continue;
            }
            let siblings = Siblings { are_as_many: in_old == members.len(), name };
            for index in members {
                for partner in self.old_of(index).to_vec() {
                    self.how.insert((partner, index), How::Order);
                }
                self.numbered.insert(index, siblings.clone());
            }
        }
    }

    /// The functions that only a number tells apart from a new one.
    pub(crate) fn siblings(&self, new: AtomIndex) -> Option<&Siblings> {
        self.numbered.get(&new)
    }
}

/// Functions whose names have numbers, by their names without them, in whatever modules: files get renamed, units of a crate are cut anew.
fn families(program: &Program) -> BTreeMap<String, Vec<AtomIndex>> {
    // The debug information's names hold the arguments of templates and generic functions, and the numbers in plain figures.
    let in_source: HashMap<Rva, &str> =
        program.symbols.procedures.iter().map(|procedure| (procedure.rva, procedure.name.as_str())).collect();
    let mut families: BTreeMap<String, Vec<AtomIndex>> = BTreeMap::new();
    for (index, atom) in indexed(program).filter(|(_, atom)| atom.is_function()) {
        if let Some(family) = family(atom, in_source.get(&atom.rva).copied()) {
            families.entry(family).or_default().push(index);
        }
    }
    families
}

/// What a function is called without numbers, where it has one.
fn family(atom: &Atom, in_source: Option<&str>) -> Option<String> {
    let is_numbered = |name: &str| without_ordinals(name) != name;
    let Some(linkage) = atom.names.iter().find(|name| name.local.is_none()).map(|name| name.key.as_str()) else {
        let name = in_source.or_else(|| atom.names.first().map(|name| name.key.as_str()))?;
        return is_numbered(name).then(|| stable_name(name).into_owned());
    };
    // The linkage name of a closure has its number in a hash, if at all.
    let is_closure = in_source.is_some_and(|name| is_numbered(&without_impl_numbers(name)));
    let in_source = in_source.map(stable_name).unwrap_or_default();
    (is_closure || is_numbered(linkage)).then(|| format!("{in_source} {}", stable_name(linkage)))
}
