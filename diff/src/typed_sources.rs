//! Functions that link-time optimisation put among others and that can show no types themselves, since they take nothing and keep nothing: whether
//! their source file was compiled with types, the file's other functions show.
//!
//! A header can be compiled with types in one file and without in another. So nothing counts where any function of all that were merged takes
//! something and does not show what: some file has no types then.

use std::collections::BTreeSet;

use crate::atoms::Atom;
use crate::lines::Lines;
use crate::pairing::indexed;
use crate::program::Program;
use crate::rva::Rva;
use crate::symbols::ModuleIndex;
use crate::type_information::TypeInformation;

/// Those of some functions whose source file has types.
pub(crate) fn functions_of(program: &Program, types: &TypeInformation, functions: &[&Atom]) -> BTreeSet<Rva> {
    let bare: Vec<&Atom> = functions.iter().copied().filter(|atom| types.has_nothing_to_show(atom)).collect();
    let modules: BTreeSet<ModuleIndex> = bare.iter().filter_map(|atom| atom.module).collect();
    let is_uniform = |module: &ModuleIndex| types.is_merged(program, *module) && !types.hides_parameters(*module);
    let modules: BTreeSet<ModuleIndex> = modules.into_iter().filter(is_uniform).collect();
    if modules.is_empty() {
        return BTreeSet::new();
    }
    let is_in = |atom: &Atom| atom.module.is_some_and(|module| modules.contains(&module));
    let merged: Vec<_> = indexed(program).filter(|(_, atom)| atom.is_function() && is_in(atom)).collect();
    let lines = Lines::of(program, merged.iter().map(|(index, _)| *index));
    let source = |atom: &Atom| Some((atom.module?, lines.at(atom.rva).pop()?.source?.file));
    let shown = merged.iter().map(|(_, atom)| *atom).filter(|atom| types.shows_types(atom));
    let typed: BTreeSet<_> = shown.filter_map(source).collect();
    let is_typed = |atom: &&Atom| source(atom).is_some_and(|source| typed.contains(&source));
    bare.into_iter().filter(is_typed).map(|atom| atom.rva).collect()
}
