//! Functions that changed in files without type information: whether the new code lays out objects as the running process has them, nothing
//! tells.
//!
//! A layout that changed shows in what is done with objects by functions that both builds have: some of them change, or go. So new functions
//! alone are no danger (a part of a library that a fix needs, assembly), unless their own file lost or changed others. Nor are functions
//! that follow no pointer and name no variable without a type, or whose instructions are the same but for what they name.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{Atom, AtomIndex};
use crate::change_set::{FunctionChange, FunctionStatus, Reason};
use crate::file_names;
use crate::lines::Lines;
use crate::memory_reach::Reach;
use crate::pairing::indexed;
use crate::program::Program;
use crate::symbols::ModuleIndex;
use crate::type_information::TypeInformation;

/// Names at most that a reason lists.
const MAX_NAMES: usize = 3;

/// A reason for each file without types whose functions changed.
pub(crate) fn reasons(old: &Program, new: &Program, functions: &[FunctionChange]) -> Vec<Reason> {
    let changed: Vec<(Option<AtomIndex>, Option<AtomIndex>)> =
        functions.iter().filter(|change| is_change(change)).map(|change| (change.old, change.new)).collect();
    if changed.is_empty() {
        return Vec::new();
    }
    let (olds, news) = (changed.iter().filter_map(|(old, _)| *old), changed.iter().filter_map(|(_, new)| *new));
    let (old, new) = (Side::of(old, olds.collect()), Side::of(new, news.collect()));
    let is_suspect = |side: &Side<'_>, index: Option<AtomIndex>| {
        index.is_some_and(|index| !side.funclets.contains(&index) && side.is_suspect(index))
    };
    let mut files = BTreeMap::new();
    // Where functions were that dealt with objects.
    let mut origins = BTreeSet::new();
    for (before, after) in &changed {
        let (in_old, in_new) = (is_suspect(&old, *before), is_suspect(&new, *after));
        let is_gone = after.is_none() && before.is_some_and(|index| !old.funclets.contains(&index));
        origins.extend(before.filter(|_| in_old || in_new || is_gone).and_then(|index| old.origin(index)));
        let (Some(before), Some(after)) = (*before, *after) else { continue };
        let is_of_toolchain = || old.is_of_toolchain(before, &new) && new.is_of_toolchain(after, &old);
        if (in_old || in_new) && is_reached(&old, before, &new, after) && !is_of_toolchain() {
            note(&mut files, &new, after, (in_old, in_new));
        }
    }
    let added = changed.iter().filter(|(before, _)| before.is_none()).filter_map(|(_, after)| *after);
    for index in added.filter(|index| is_suspect(&new, Some(*index)) && new.reaches_given(*index)) {
        let is_exchanged = new.origin(index).is_some_and(|origin| origins.contains(&origin));
        if is_exchanged && !new.is_of_library(index, &old) {
            note(&mut files, &new, index, (false, true));
        }
    }
    files.into_iter().map(|(symbol, file)| file.reason(symbol)).collect()
}

/// Whether it goes into the payload, or goes. What is not understood cannot: that is said elsewhere.
fn is_change(change: &FunctionChange) -> bool {
    !matches!(change.status, FunctionStatus::Cosmetic | FunctionStatus::Unresolved)
}

/// Whether it matters to a pair of functions what some objects look like, and they may take them for different ones.
fn is_reached(old: &Side<'_>, before: AtomIndex, new: &Side<'_>, after: AtomIndex) -> bool {
    let (Some(a), Some(b)) = (Reach::of(old.program, before), Reach::of(new.program, after)) else { return true };
    let names = a.names_untyped_variable() || b.names_untyped_variable();
    let follows = || a.follows_pointers() || b.follows_pointers() || b.hands_on_other_numbers(Some(a));
    names || !a.has_instructions_of(b) && follows()
}

/// A file, or a function where link-time optimisation left no more, with its functions that changed.
#[derive(Default)]
struct Untyped {
    is_file: bool,
    functions: BTreeSet<String>,
    in_old: bool,
    in_new: bool,
}

fn note(files: &mut BTreeMap<String, Untyped>, new: &Side<'_>, index: AtomIndex, (in_old, in_new): (bool, bool)) {
    let Some(atom) = new.program.atom(index) else { return };
    let name = new.file_name(atom);
    let is_file = name.is_some();
    let file = files.entry(name.unwrap_or_else(|| new.program.linkage_name(atom))).or_default();
    file.functions.insert(new.program.display(atom));
    file.is_file |= is_file;
    file.in_old |= in_old;
    file.in_new |= in_new;
}

impl Untyped {
    fn reason(self, symbol: String) -> Reason {
        let who = match (self.in_old, self.in_new) {
            (true, false) => "the old build has no",
            (false, true) => "the new build has no",
            _ => "neither build has",
        };
        let shown = self.functions.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
        let more = self.functions.len().saturating_sub(MAX_NAMES);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let (what, whose) = match self.is_file {
            true => ("file", format!("its functions that changed ({shown}{more})")),
            false => ("function", "it".to_owned()),
        };
        Reason {
            code: "types-unknown",
            symbol,
            message: format!(
                "{who} type information for this {what}: nothing tells whether {whose} and the running process have the same layouts of objects; compile it with types (-g -gcodeview, /Z7, debuginfo=2), or answer for it"
            ),
        }
    }
}

/// Where functions come from, as far as it matters which ones may have taken the place of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A file of a library: another one of the library is another matter.
    Member(String, String),
    /// The program's own files.
    Program,
}

/// One of the programs.
struct Side<'a> {
    program: &'a Program,
    types: TypeInformation,
    /// Parts of others, told with them.
    funclets: BTreeSet<AtomIndex>,
    /// Source lines of object files that are no file of the program's sources.
    lines: Lines,
    /// How many modules have a file name.
    namesakes: BTreeMap<&'a str, Vec<ModuleIndex>>,
}

impl<'a> Side<'a> {
    fn of(program: &'a Program, functions: Vec<AtomIndex>) -> Side<'a> {
        let types = TypeInformation::of(program, functions.iter().copied());
        let lines = Lines::of(program, merged_with(program, &types, &functions));
        let mut namesakes: BTreeMap<&str, Vec<ModuleIndex>> = BTreeMap::new();
        for (index, module) in program.symbols.modules.iter().enumerate() {
            namesakes.entry(module.short_name()).or_default().push(index);
        }
        Side { program, types, funclets: program.funclets(), lines, namesakes }
    }

    fn is_suspect(&self, index: AtomIndex) -> bool {
        self.program.atom(index).is_some_and(|atom| !self.types.has_types(self.program, atom))
    }

    /// Whether it matters to a new function what objects look like that it is given or names.
    fn reaches_given(&self, index: AtomIndex) -> bool {
        let takes_nothing = self.program.atom(index).is_some_and(|atom| self.types.takes_nothing(atom));
        Reach::of(self.program, index).is_none_or(|reach| {
            let goes_on = reach.follows_pointers() || reach.hands_on_other_numbers(None);
            reach.names_untyped_variable() || !takes_nothing && goes_on
        })
    }

    fn origin(&self, index: AtomIndex) -> Option<Origin> {
        let module = self.program.symbols.modules.get(self.program.atom(index)?.module?)?;
        Some(match module.path == module.object_file {
            true => Origin::Program,
            false => {
                Origin::Member(file_names::last_part(&module.object_file).to_owned(), module.short_name().to_owned())
            }
        })
    }

    /// It is a part of rustc's own library, the types in its name included, and the other program was made by the same rustc.
    fn is_of_toolchain(&self, index: AtomIndex, other: &Side<'_>) -> bool {
        let name = self.program.atom(index).map(|atom| self.program.display(atom)).unwrap_or_default();
        self.is_of_library(index, other) && crates_in(&name).all(|name| LIBRARIES.contains(&name))
    }

    /// It is made of rustc's own library, for whatever types, and the other program was made by the same rustc.
    fn is_of_library(&self, index: AtomIndex, other: &Side<'_>) -> bool {
        let Some(atom) = self.program.atom(index) else { return false };
        let compilers = self.types.rust_compilers();
        let source = self.source(atom).unwrap_or_default().replace('\\', "/");
        let is_of_library = source.starts_with("/rustc/") || source.contains("/lib/rustlib/src/rust/library/");
        !compilers.is_empty() && compilers == other.types.rust_compilers() && is_of_library
    }

    /// The source file that a function begins in.
    fn source(&self, atom: &Atom) -> Option<String> {
        Some(self.lines.at(atom.rva).pop()?.source?.file)
    }

    /// What an author calls the file that a function came from. Behind link-time optimisation, and behind rustc, which divides a program into
    /// object files as it likes, that is the source file, where the PDB has it.
    fn file_name(&self, atom: &Atom) -> Option<String> {
        let module = atom.module?;
        if let Some(source) = self.source(atom) {
            return Some(file_names::of_source(&source, self.lines.files()));
        }
        let modules = &self.program.symbols.modules;
        let namesakes = self.namesakes.get(modules.get(module)?.short_name())?;
        let is_merged = self.types.is_merged(self.program, module);
        (!is_merged).then(|| file_names::of_module(modules, namesakes, module)).flatten()
    }
}

/// The crates that come with rustc.
const LIBRARIES: [&str; 3] = ["core", "alloc", "std"];

/// The crates that a name of Rust's names things of: what stands first in each path.
fn crates_in(name: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':');
    name.split(move |c| !is_word(c)).filter_map(|path| Some(path.split_once("::")?.0)).filter(|first| !first.is_empty())
}

/// All functions of the object files that some functions without types are in, where these are no file of the program's sources.
fn merged_with(program: &Program, types: &TypeInformation, functions: &[AtomIndex]) -> Vec<AtomIndex> {
    let suspects = functions.iter().filter_map(|index| program.atom(*index));
    let suspects = suspects.filter(|atom| !types.has_types(program, atom)).filter_map(|atom| atom.module);
    let modules: BTreeSet<ModuleIndex> =
        suspects.filter(|module| types.is_merged(program, *module) || types.is_rust(*module)).collect();
    if modules.is_empty() {
        return Vec::new();
    }
    let is_in = |atom: &Atom| atom.module.is_some_and(|module| modules.contains(&module));
    indexed(program).filter(|(_, atom)| atom.is_function() && is_in(atom)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_a_name() {
        let of = |name| crates_in(name).collect::<Vec<_>>();
        assert_eq!(
            of("core::ptr::drop_in_place<alloc::vec::Vec<u8,alloc::alloc::Global> >"),
            ["core", "alloc", "alloc"]
        );
        assert_eq!(of("alloc::vec::Vec::push<app::Account,alloc::alloc::Global>"), ["alloc", "app", "alloc"]);
        assert_eq!(of("core::fmt::impl$10::fmt"), ["core"]);
        assert_eq!(of("main"), Vec::<&str>::new());
    }
}
