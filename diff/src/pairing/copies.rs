//! Copies of one Rust function. rustc cuts a crate into units and compiles what several of them use into each, or into one that the others
//! call; after any edit it may cut and choose otherwise. So a copy can be gone, have come, or have another linkage, and still every
//! copy is as good as every other.

use std::collections::{BTreeMap, HashMap};

use super::{How, Pairing, indexed};
use crate::atoms::AtomIndex;
use crate::program::Program;
use crate::rva::Rva;

/// Copies of one function that are looked at in each build.
const MAX_COPIES: usize = 64;

/// By crate and name in the source: the bytes of each copy without what they name, and where it is.
type Copies = BTreeMap<(String, String), Vec<(Vec<u8>, AtomIndex)>>;

impl Pairing {
    /// Pairs each copy that has no partner with each copy of the other build that has the same code.
    pub(super) fn pair_copies(&mut self, old: &Program, new: &Program) {
        let mut news = copies(new);
        let mut found = Vec::new();
        for (name, olds) in copies(old) {
            let Some(news) = news.remove(&name) else { continue };
            for (code, old_copy) in olds.iter().take(MAX_COPIES) {
                for (_, new_copy) in news.iter().take(MAX_COPIES).filter(|(other, _)| other == code) {
                    // What names and units pair stays so: a copy in another crate names that crate's constants.
                    if self.new_of(*old_copy).is_empty() || self.old_of(*new_copy).is_empty() {
                        found.push((*old_copy, *new_copy));
                    }
                }
            }
        }
        for (old_copy, new_copy) in found {
            self.add(old_copy, new_copy, How::Copy);
        }
    }
}

fn copies(program: &Program) -> Copies {
    let names: HashMap<Rva, (&str, &str)> = program
        .symbols
        .procedures
        .iter()
        .filter_map(|procedure| {
            let module = program.symbols.modules.get(procedure.module)?;
            Some((procedure.rva, (crate_of(module.short_name())?, procedure.name.as_str())))
        })
        .collect();
    let mut copies = Copies::new();
    for (index, atom) in indexed(program).filter(|(_, atom)| atom.is_function()) {
        if let (Some((unit, name)), Some(code)) = (names.get(&atom.rva), code(program, index)) {
            copies.entry(((*unit).to_owned(), (*name).to_owned())).or_default().push((code, index));
        }
    }
    copies
}

/// The crate that rustc made an object of, by the object's name: `NAME.CRATE.HASH-cgu.NUMBER.rcgu.o` ("codegen unit").
fn crate_of(object: &str) -> Option<&str> {
    let name = object.strip_suffix(".rcgu.o")?;
    Some(name.rsplit_once("-cgu.").map_or(name, |(before, _)| before))
}

/// A function's bytes with zeros where it names something.
fn code(program: &Program, index: AtomIndex) -> Option<Vec<u8>> {
    let (atom, function) = (program.atom(index)?, program.function(index)?);
    let mut bytes = program.image.bytes(atom.rva, atom.size)?.to_vec();
    for reference in &function.code.references {
        let start = reference.field as usize;
        bytes.get_mut(start..start.checked_add(reference.kind.width() as usize)?)?.fill(0);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::crate_of;

    #[test]
    fn units_of_one_crate_are_recognised() {
        assert_eq!(crate_of("app.app.fa407b8063df5ea8-cgu.3.rcgu.o"), Some("app.app.fa407b8063df5ea8"));
        assert_eq!(crate_of("app.app.fa407b8063df5ea8-cgu.12.rcgu.o"), Some("app.app.fa407b8063df5ea8"));
        assert_eq!(crate_of("app.6zo3dr2582mp5r3yrzg9r1lwa.rcgu.o"), Some("app.6zo3dr2582mp5r3yrzg9r1lwa"));
        assert_eq!(crate_of("lvm.o"), None);
    }
}
