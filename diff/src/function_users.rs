//! Who names a function: who calls it, who jumps to it, and who takes its address.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{AtomIndex, AtomKind};
use crate::program::{Location, Program, pointers_in};
use crate::rva::Rva;
use crate::x64::{Reference, ReferenceKind};

/// The users of one function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// Functions that call it directly.
    pub calls: BTreeSet<AtomIndex>,
    /// Functions that end with a jump to it: what they were called with, they may pass on.
    pub jumps: BTreeSet<AtomIndex>,
    /// Functions that take its address.
    pub takers: BTreeSet<AtomIndex>,
    /// Data that holds its address.
    pub holders: BTreeSet<AtomIndex>,
    /// Other images can ask for it.
    pub is_exported: bool,
}

impl Users {
    /// Somebody may call it that nobody knows.
    pub fn is_taken(&self) -> bool {
        self.is_exported || !self.takers.is_empty() || !self.holders.is_empty()
    }

    /// Code that calls it or passes control on to it.
    pub fn callers(&self) -> impl Iterator<Item = AtomIndex> {
        self.calls.union(&self.jumps).copied()
    }

    /// Pointers to it may be anywhere in a running process: code stored it, or a variable holds it.
    pub fn is_stored(&self, program: &Program) -> bool {
        let is_writable =
            |holder: &AtomIndex| program.atom(*holder).is_some_and(|atom| atom.kind == AtomKind::Writable);
        !self.takers.is_empty() || self.holders.iter().any(is_writable)
    }
}

fn function_at(program: &Program, rva: Rva) -> Option<AtomIndex> {
    match program.locate(rva) {
        Location::Atom { atom, offset: 0 } if program.function(atom).is_some() => Some(atom),
        _ => None,
    }
}

/// The functions whose address a function takes.
pub(crate) fn taken_by(program: &Program, taker: AtomIndex) -> impl Iterator<Item = AtomIndex> {
    let references = program.function(taker).map_or(&[][..], |function| function.code.references.as_slice());
    let is_taken = |reference: &&Reference| !reference.kind.is_branch();
    references.iter().filter(is_taken).filter_map(|r| function_at(program, r.place()))
}

/// The users of all functions of a program that have any.
pub(crate) fn users(program: &Program) -> BTreeMap<AtomIndex, Users> {
    let mut users: BTreeMap<AtomIndex, Users> = BTreeMap::new();
    let function_at = |rva: Rva| function_at(program, rva);
    for function in &program.functions {
        for reference in &function.code.references {
            let Some(named) = function_at(reference.place()) else { continue };
            let of = users.entry(named).or_default();
            let set = match reference.kind {
                ReferenceKind::Call => &mut of.calls,
                ReferenceKind::Jump | ReferenceKind::ShortJump => &mut of.jumps,
                _ => &mut of.takers,
            };
            set.insert(function.atom);
        }
        let tables = function.data_tables.iter().flat_map(|table| table.targets.iter());
        for named in tables.filter_map(|target| function_at(*target)) {
            users.entry(named).or_default().takers.insert(function.atom);
        }
    }
    for section in &program.image.sections {
        for (place, target) in pointers_in(&program.image, section.range.clone()) {
            let holder = program.atom_before(place).filter(|holder| program.function(*holder).is_none());
            if let (Some(holder), Some(named)) = (holder, target.and_then(function_at)) {
                users.entry(named).or_default().holders.insert(holder);
            }
        }
    }
    for named in program.image.exports.iter().filter_map(|export| function_at(export.rva)) {
        users.entry(named).or_default().is_exported = true;
    }
    users
}
