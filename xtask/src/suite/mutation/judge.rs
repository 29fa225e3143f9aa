//! Holds what hpgen says of two images against the truth.

use std::collections::BTreeSet;

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::change_set::{ChangeSet, DataStatus, FunctionChange, FunctionStatus};
use hpgen_diff::program::{Function, Program};

use super::truth::{Change, Kind, Truth};
use crate::suite::variants::Source;

/// An image as both sides know it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// What the object files say.
    pub truth: &'a Truth,
    /// What hpgen reads.
    pub program: &'a Program,
}

/// What came of one comparison.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// Functions and variables that changed, came or went, by the truth.
    pub changed: usize,
    /// Those of them that hpgen names.
    pub found: usize,
    /// Functions that hpgen did not understand.
    pub unresolved: usize,
    /// What hpgen does not name.
    pub misses: Vec<String>,
    /// What hpgen names without a reason in the truth.
    pub extras: Vec<String>,
    /// Extras of a class that is known and meant; see [`is_doubt`].
    pub explained: usize,
}

/// Judges a change set.
pub fn judge(changes: &[Change], source: Source, old: Side<'_>, new: Side<'_>, set: &ChangeSet) -> Judgement {
    let mut judgement = Judgement {
        unresolved: set.functions.iter().filter(|f| f.status == FunctionStatus::Unresolved).count(),
        ..Judgement::default()
    };
    let real = |f: &&FunctionChange| f.status != FunctionStatus::Cosmetic;
    let all = |_: &&FunctionChange| true;
    let really_reported = [reported(old, set, real, |f| f.old), reported(new, set, real, |f| f.new)];
    let reported = [reported(old, set, all, |f| f.old), reported(new, set, all, |f| f.new)];
    let data: BTreeSet<&str> = set.data.iter().map(|data| data.name.as_str()).collect();
    for change in changes {
        let is_found = match change.kind {
            Kind::Function => {
                // Only what the truth, too, calls cosmetic may be so.
                let [olds, news] = if change.is_cosmetic { &reported } else { &really_reported };
                let is_in = |here: &[u32], reported: &BTreeSet<u32>| {
                    here.is_empty() || here.iter().any(|address| reported.contains(address))
                };
                is_in(&change.old, olds) && is_in(&change.new, news)
            }
            Kind::Variable => {
                let of =
                    |side: Side<'_>, here: &[u32]| here.iter().filter_map(|a| side.name_at(*a)).collect::<Vec<_>>();
                let mut names = [of(old, &change.old), of(new, &change.new)].concat().into_iter();
                let [_, users] = &really_reported;
                names.any(|name| data.contains(name.as_str()))
                    // A part of a variable that the optimiser splits has no name in the PDB: who uses it is told, and refused.
                    || change.old.is_empty() && change.new.iter().all(|a| new.is_nameless_variable_of(*a, users))
            }
            // Whoever names a constant changes with it; libraries are what they were.
            Kind::Constant | Kind::Outside => continue,
        };
        judgement.changed += 1;
        if is_found {
            judgement.found += 1;
        } else {
            let Change { kind, name, old, new, .. } = change;
            judgement.misses.push(format!("{kind:?} {name}, at {old:x?} in the old image and {new:x?} in the new one"));
        }
    }
    let chunks = Chunks::of(changes, old, new);
    for function in set.functions.iter().filter(|function| !chunks.have_function(function)) {
        let FunctionChange { status, display, why, .. } = function;
        if source == Source::Analysis && is_doubt(function, changes, old) {
            judgement.explained += 1;
            continue;
        }
        judgement.extras.push(format!("{status:?} {display}: {why}"));
    }
    for data in set.data.iter().filter(|data| !chunks.have_data(&data.name)) {
        // Variables of one name in blocks of one function, which nothing but that function uses: once it changed, nothing tells them apart, and
        // hpgen refuses it.
        if data.status == DataStatus::Unresolved && data.why.starts_with("one of several variables of this name") {
            judgement.explained += 1;
            continue;
        }
        judgement.extras.push(format!("data {:?} {}: {}", data.status, data.name, data.why));
    }
    judgement
}

/// The one class of extras that is explained: without the objects' relocations, an address inside one constant may be a biased base of another
/// one nearby. hpgen refuses such a function, and says so, where that other constant did change; the truth must say that it did.
fn is_doubt(function: &FunctionChange, changes: &[Change], old: Side<'_>) -> bool {
    let doubted = function.why.strip_suffix(", which changed").and_then(|why| {
        let (_, name) = why.rsplit_once(" may compute an address of ")?;
        Some(name)
    });
    let has_changed = |name: &str| {
        let mut constants = changes.iter().filter(|change| change.kind == Kind::Constant);
        // A text is told by what it holds.
        let is_at = |address: &u32| old.display_at(*address).is_some_and(|display| display == name);
        constants.any(|change| {
            change.name == name || change.name.ends_with(&format!(".{name}")) || change.old.iter().any(is_at)
        })
    };
    function.status == FunctionStatus::Unresolved && doubted.is_some_and(has_changed)
}

/// Addresses of the functions of one side that hpgen names.
fn reported(
    side: Side<'_>,
    set: &ChangeSet,
    is_wanted: impl Fn(&&FunctionChange) -> bool,
    of: impl Fn(&FunctionChange) -> Option<AtomIndex>,
) -> BTreeSet<u32> {
    let atoms = set.functions.iter().filter(is_wanted).filter_map(of).filter_map(|index| side.program.atom(index));
    atoms.map(|atom| atom.rva.0).collect()
}

impl<'a> Side<'a> {
    fn atom_at(self, address: u32) -> Option<&'a Atom> {
        self.program.atoms.iter().find(|atom| atom.rva.0 == address)
    }

    /// What hpgen calls the thing at an address.
    fn name_at(self, address: u32) -> Option<String> {
        Some(self.program.linkage_name(self.atom_at(address)?))
    }

    /// What hpgen shows for the thing at an address.
    fn display_at(self, address: u32) -> Option<String> {
        Some(self.program.display(self.atom_at(address)?))
    }

    /// Whether the thing at an address has no name, and all functions that name it are among these, one at least.
    fn is_nameless_variable_of(self, address: u32, functions: &BTreeSet<u32>) -> bool {
        let is_named_by = |function: &&Function| function.code.references.iter().any(|r| r.place().0 == address);
        let mut users = self.program.functions.iter().filter(is_named_by).peekable();
        self.atom_at(address).is_some_and(|atom| atom.names.is_empty())
            && users.peek().is_some()
            && users.all(|user| self.program.atom(user.atom).is_some_and(|atom| functions.contains(&atom.rva.0)))
    }
}

/// The sections of the objects that the truth calls changed, by their address in each image.
struct Chunks<'a> {
    sides: [Side<'a>; 2],
    /// Names of libraries' functions that came or went: some, import thunks among them, are not in the map.
    outside: BTreeSet<&'a str>,
    changed: [BTreeSet<u32>; 2],
}

impl<'a> Chunks<'a> {
    fn of(changes: &'a [Change], old: Side<'a>, new: Side<'a>) -> Chunks<'a> {
        let collect = |side: Side<'_>, here: fn(&Change) -> &[u32]| {
            changes.iter().flat_map(here).filter_map(|address| side.truth.map.chunk_of(*address)).collect()
        };
        let changed = [collect(old, |change| &change.old), collect(new, |change| &change.new)];
        let outside = changes.iter().filter(|change| change.kind == Kind::Outside);
        Chunks { sides: [old, new], outside: outside.map(|change| change.name.as_str()).collect(), changed }
    }

    fn have(&self, index: usize, address: u32) -> bool {
        let (Some(side), Some(changed)) = (self.sides.get(index), self.changed.get(index)) else { return false };
        side.truth.map.chunk_of(address).is_some_and(|chunk| changed.contains(&chunk))
    }

    /// A funclet is a part of its function's section.
    fn have_function(&self, function: &FunctionChange) -> bool {
        let is_outside = || self.outside.contains(function.name.as_str());
        is_outside()
            || [function.old, function.new].into_iter().enumerate().any(|(index, atom)| {
                let atom = self.sides.get(index).zip(atom).and_then(|(side, atom)| side.program.atom(atom));
                atom.is_some_and(|atom| self.have(index, atom.rva.0))
            })
    }

    fn have_data(&self, name: &str) -> bool {
        self.sides.iter().enumerate().any(|(index, side)| {
            let mut named = side.program.atoms.iter().filter(|atom| !atom.is_function());
            named.any(|atom| self.have(index, atom.rva.0) && side.program.linkage_name(atom) == name)
        })
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
