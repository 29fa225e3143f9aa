//! Functions that the start-up code calls before `main`, or the loader before the entry point: constructors of variables, and
//! thread-local callbacks. In a running process that has happened.
//!
//! The linker collects their addresses from sections whose names sort between two of the C runtime's: `.CRT$XC?`, `.CRT$XI?` and
//! `.CRT$XL?` (Microsoft's C runtime, `crt\src\vcruntime\internal_shared.h`), `.ctors` (mingw-w64, `crt\gccmain.c`). It names these
//! groups in the PDB (`S_COFFGROUP`); lld does not do so for mingw.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::AtomIndex;
use crate::pairing::indexed;
use crate::program::{Location, Program, pointers_in};
use crate::rva::Rva;

/// Who calls the functions of a table, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InitialiserKind {
    /// `int f(void)`, which ends the program where it returns another value than 0: `.CRT$XI?`. These come first.
    Checked,
    /// `void f(void)`: `.CRT$XC?`, `.ctors`, and those that are known by their names.
    Constructor,
    /// A thread-local callback, which the loader of the system calls for every thread: `.CRT$XL?`.
    ThreadCallback,
}

/// A function that runs before `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initialiser {
    /// How it is called.
    pub kind: InitialiserKind,
    /// Its place in the order in which those of its kind are called, where the table that names it is known.
    pub order: Option<i64>,
}

const GROUPS: [(&str, InitialiserKind); 4] = [
    (".CRT$XC", InitialiserKind::Constructor),
    (".CRT$XI", InitialiserKind::Checked),
    (".CRT$XL", InitialiserKind::ThreadCallback),
    (BACKWARDS, InitialiserKind::Constructor),
];

/// The table that start-up code walks from its end.
const BACKWARDS: &str = ".ctors";

/// All such functions of a program: those that the tables name, and those whose names say it where the PDB names no groups.
pub fn initialisers(program: &Program) -> BTreeMap<AtomIndex, Initialiser> {
    let by_name = indexed(program).filter(|(_, atom)| atom.is_dynamic_initialiser());
    let mut found: BTreeMap<AtomIndex, Initialiser> =
        by_name.map(|(index, _)| (index, Initialiser { kind: InitialiserKind::Constructor, order: None })).collect();
    for group in &program.symbols.groups {
        let Some((prefix, kind)) = GROUPS.into_iter().find(|(prefix, _)| group.name.starts_with(prefix)) else {
            continue;
        };
        for (place, target) in pointers_in(&program.image, group.range.clone()) {
            if let Some(Location::Atom { atom, offset: 0 }) = target.map(|target| program.locate(target))
                && program.function(atom).is_some()
            {
                let place = i64::from(place.0);
                let order = Some(if prefix == BACKWARDS { -place } else { place });
                found.insert(atom, Initialiser { kind, order });
            }
        }
    }
    found
}

/// Those of them that no table names and that another one calls: parts of that one, which compilers make without optimisation.
pub fn parts_of_others(
    program: &Program,
    all: &BTreeMap<AtomIndex, Initialiser>,
) -> BTreeMap<AtomIndex, BTreeSet<AtomIndex>> {
    let mut callers: BTreeMap<AtomIndex, BTreeSet<AtomIndex>> = BTreeMap::new();
    for caller in all.keys() {
        let references = program.function(*caller).map_or(&[][..], |function| function.code.references.as_slice());
        for reference in references.iter().filter(|reference| reference.kind.is_branch()) {
            if let Location::Atom { atom, offset: 0 } = program.locate(reference.target)
                && atom != *caller
                && all.get(&atom).is_some_and(|found| found.order.is_none())
            {
                callers.entry(atom).or_default().insert(*caller);
            }
        }
    }
    callers
}

/// Functions that data without a name points to which neither code nor other data names: whoever goes through it starts elsewhere, as
/// start-up code does that walks from the start of a table to its end. By function, where the pointer is.
pub fn named_by_silent_data(program: &Program) -> BTreeMap<AtomIndex, Rva> {
    let sections = program.image.sections.iter().map(|section| section.range.clone());
    let pointers: Vec<(Rva, Rva)> = sections
        .flat_map(|range| pointers_in(&program.image, range))
        .filter_map(|(place, target)| Some((place, target?)))
        .collect();
    let code = program.functions.iter().flat_map(|function| &function.code.references).map(|r| r.target);
    let named: BTreeSet<Rva> = code.chain(pointers.iter().map(|(_, target)| *target)).collect();
    let is_silent = |place: Rva| match program.locate(place) {
        Location::Atom { atom, .. } => program.atom(atom).is_some_and(|atom| {
            !atom.is_function() && atom.names.is_empty() && named.range(atom.rva..=atom.rva.max(place)).next().is_none()
        }),
        _ => false,
    };
    pointers
        .iter()
        .filter_map(|(place, target)| match program.locate(*target) {
            Location::Atom { atom, offset: 0 } => Some((atom, *place)),
            _ => None,
        })
        .filter(|(atom, place)| program.function(*atom).is_some() && is_silent(*place))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_constructor_is_found_by_its_table_with_or_without_the_tables_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/constructor");
        for (image, expected) in [("old.exe", 0), ("new.exe", 1)] {
            let program = Program::load(&folder.join(image), None).unwrap();
            let named = |found: Vec<AtomIndex>| -> Vec<String> {
                found.into_iter().map(|index| program.display(program.atom(index).unwrap())).collect()
            };
            let expected = vec!["double_rate".to_owned(); expected];
            assert_eq!(named(initialisers(&program).into_keys().collect()), expected, "{image}");
            assert_eq!(named(named_by_silent_data(&program).into_keys().collect()), expected, "{image}");
        }
    }
}
