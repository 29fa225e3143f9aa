//! Functions that changed in files without type information: whether the new code lays out objects as the running process has them, nothing
//! tells.
//!
//! A layout that changed shows in what is done with objects by functions that both builds have: some of them change, or go. So new functions
//! alone are no danger (a part of a library that a fix needs, assembly), unless their own file lost or changed others. Nor are functions
//! that follow no pointer and name no variable without a type, or whose instructions are the same but for what they name.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{Atom, AtomIndex};
use crate::change_set::{FunctionChange, FunctionStatus, Reason};
use crate::lines::Lines;
use crate::memory_reach::Reach;
use crate::program::Program;
use crate::symbols::{Module, ModuleIndex};
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
    for index in added.filter(|index| is_suspect(&new, Some(*index)) && new.reaches(*index)) {
        let is_exchanged = new.origin(index).is_some_and(|origin| origins.contains(&origin));
        if is_exchanged && !new.is_of_toolchain(index, &old) {
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
    let follows = || a.follows_pointers() || b.follows_pointers();
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
    /// Source lines of what link-time optimisation left without a file.
    lines: Lines,
    /// How many modules have a file name.
    namesakes: BTreeMap<&'a str, Vec<ModuleIndex>>,
}

impl<'a> Side<'a> {
    fn of(program: &'a Program, functions: Vec<AtomIndex>) -> Side<'a> {
        let types = TypeInformation::of(program, functions.iter().copied());
        let is_merged = |index: &AtomIndex| {
            let Some(atom) = program.atom(*index) else { return false };
            atom.module.is_some_and(|module| types.is_merged(program, module)) && !types.has_types(program, atom)
        };
        let lines = Lines::of(program, functions.into_iter().filter(is_merged));
        let mut namesakes: BTreeMap<&str, Vec<ModuleIndex>> = BTreeMap::new();
        for (index, module) in program.symbols.modules.iter().enumerate() {
            namesakes.entry(module.short_name()).or_default().push(index);
        }
        Side { program, types, funclets: program.funclets(), lines, namesakes }
    }

    fn is_suspect(&self, index: AtomIndex) -> bool {
        self.program.atom(index).is_some_and(|atom| !self.types.has_types(self.program, atom))
    }

    /// Whether it matters to a function what some objects look like.
    fn reaches(&self, index: AtomIndex) -> bool {
        Reach::of(self.program, index).is_none_or(|reach| reach.names_untyped_variable() || reach.follows_pointers())
    }

    fn origin(&self, index: AtomIndex) -> Option<Origin> {
        let module = self.program.symbols.modules.get(self.program.atom(index)?.module?)?;
        Some(match module.path == module.object_file {
            true => Origin::Program,
            false => Origin::Member(last_part(&module.object_file).to_owned(), module.short_name().to_owned()),
        })
    }

    /// Its source is that of rustc's own library, and the other program was made by the same rustc.
    fn is_of_toolchain(&self, index: AtomIndex, other: &Side<'_>) -> bool {
        let source = self.program.atom(index).and_then(|atom| self.source(atom)).unwrap_or_default();
        let source = source.replace('\\', "/");
        let Some((commit, _)) = source.strip_prefix("/rustc/").and_then(|rest| rest.split_once("/library/")) else {
            return false;
        };
        // `clang LLVM (rustc version 1.95.0 (59807616e 2026-04-14))`
        let is_made_by = |version: &&str| {
            let short = version.rsplit('(').next().and_then(|rest| rest.split(' ').next());
            short.is_some_and(|short| short.len() >= 7 && commit.starts_with(short))
        };
        let own = self.types.rust_compilers();
        own.iter().any(is_made_by) && other.types.rust_compilers().iter().any(is_made_by)
    }

    /// The source file that a function begins in.
    fn source(&self, atom: &Atom) -> Option<String> {
        Some(self.lines.at(atom.rva).pop()?.source?.file)
    }

    /// What an author calls the file: its name as the PDB has it, with as many folders as tell it from others. After link-time optimisation
    /// the name of the source file, where the PDB has it.
    fn file_name(&self, atom: &Atom) -> Option<String> {
        let module = atom.module?;
        if self.types.is_merged(self.program, module) {
            return self.source(atom).map(|path| last_part(&path).to_owned());
        }
        let modules = &self.program.symbols.modules;
        let namesakes = self.namesakes.get(modules.get(module)?.short_name())?;
        name_among(modules, namesakes, module)
    }
}

/// The name of a module by which none of its namesakes is meant.
fn name_among(modules: &[Module], namesakes: &[ModuleIndex], module: ModuleIndex) -> Option<String> {
    let own = modules.get(module)?;
    let path = parts(own);
    let others = namesakes.iter().filter(|other| **other != module).filter_map(|other| modules.get(*other));
    let others: Vec<Vec<&str>> = others.map(parts).collect();
    // From the file's name to more and more of the folders that it is in.
    let ends = (0..path.len()).rev().filter_map(|start| path.get(start..));
    for end in ends {
        if !others.iter().any(|other| other.ends_with(end)) {
            return Some(if end.len() == 1 { own.short_name().to_owned() } else { end.join("/") });
        }
    }
    let number = namesakes.iter().position(|other| *other == module)?.checked_add(1)?;
    Some(format!("{}#{number}", own.short_name()))
}

/// Folders, the archive where there is one, and the file.
fn parts(module: &Module) -> Vec<&str> {
    let archive = Some(module.object_file.as_str()).filter(|archive| *archive != module.path);
    archive.into_iter().chain([module.path.as_str()]).flat_map(|path| path.split(['/', '\\'])).collect()
}

fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_what_no_other_is() {
        let module =
            |path: &str, object_file: &str| Module { path: path.to_owned(), object_file: object_file.to_owned() };
        let modules = [
            module("c:\\work\\main.obj", "c:\\work\\main.obj"),
            module("c:\\work\\net\\util.obj", "c:\\work\\net\\util.obj"),
            module("c:\\work\\disk\\util.obj", "c:\\work\\disk\\util.obj"),
            module("util.obj", "/lib/libnet.a"),
            module("same.obj", "/lib/libnet.a"),
            module("same.obj", "/lib/libnet.a"),
        ];
        let name = |index, namesakes: &[ModuleIndex]| name_among(&modules, namesakes, index).unwrap();
        assert_eq!(name(0, &[0]), "main.obj");
        let all = [1, 2, 3].map(|index| name(index, &[1, 2, 3]));
        assert_eq!(all, ["net/util.obj", "disk/util.obj", "libnet.a/util.obj"]);
        assert_eq!([name(4, &[4, 5]), name(5, &[4, 5])], ["same.obj#1", "same.obj#2"]);
    }
}
