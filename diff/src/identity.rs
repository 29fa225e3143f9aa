//! Which constants are more than what they hold.
//!
//! Literals and what compilers make for themselves have no address that a program can count on: one that holds the same is as good. An object with a
//! name of its own has one: programs tell keys, markers and kinds apart by nothing else. Two such objects are never one because they hold the same.

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::image::ImportedSymbol;
use crate::matching::share_a_name;
use crate::pairing::Pairing;
use crate::program::{Location, Program};
use crate::rva::Rva;

/// How names begin that compilers give to constants which have none in the source: literals, vectors and floating-point numbers, tables of
/// `switch`, copies of initial values, and mingw's cells with addresses of DLLs' variables.
const MADE: [&str; 12] = [
    "??_C@",
    "__real@",
    "__xmm@",
    "__ymm@",
    "__zmm@",
    ".L",
    "L_",
    ".str",
    "switch.table",
    "anon.",
    "__const.",
    ".refptr.",
];

/// How the names of the tables begin that objects which describe types point to first (Itanium C++ ABI, 2.9.5).
const TYPE_DESCRIPTIONS: &str = "_ZTVN10__cxxabiv1";

/// Whether a constant is an object of the source with a name, which its address tells from all others.
pub(crate) fn has_identity(atom: &Atom) -> bool {
    let is_made = |name: &str| MADE.iter().any(|prefix| name.starts_with(prefix));
    atom.kind == AtomKind::ReadOnly && atom.names.iter().any(|name| !is_made(&name.key))
}

/// Whether an old constant may stand for a new one that holds the same.
pub(crate) fn may_stand_for(
    (old, new): (&Program, &Program),
    pairing: &Pairing,
    (x, a): (AtomIndex, &Atom),
    (y, b): (AtomIndex, &Atom),
) -> bool {
    match (has_identity(a), has_identity(b)) {
        (true, true) => pairing.is_pair(x, y) || share_a_name(a, b),
        (true, false) => pairing.new_of(x).is_empty(),
        // What has no name may be no more than the zeros between two objects.
        (false, true) => false,
        (false, false) => {
            old.module_name(a) == new.module_name(b) || !describes_type(old, a) || !describes_type(new, b)
        }
    }
}

/// The description of a type that other files cannot see (an anonymous namespace's): two files may each have one of the same name.
fn describes_type(program: &Program, atom: &Atom) -> bool {
    atom.names.is_empty()
        && program
            .data_fields(atom, atom.size.min(8))
            .first()
            .and_then(|field| field.named)
            .is_some_and(|named| leads_to_description(program, named.place()))
}

fn leads_to_description(program: &Program, target: Rva) -> bool {
    if let Some(slot) = program.image.import_at(target) {
        return matches!(&slot.import.symbol, ImportedSymbol::Name(name) if name.starts_with(TYPE_DESCRIPTIONS));
    }
    let Location::Atom { atom, .. } = program.locate(target) else { return false };
    program.atom(atom).is_some_and(|atom| atom.names.iter().any(|name| name.key.starts_with(TYPE_DESCRIPTIONS)))
}
