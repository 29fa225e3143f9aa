//! What an author calls a file: its name as the PDB has it, with as many folders as tell it from all others.

use crate::symbols::{Module, ModuleIndex};

/// The name of a module by which none of its namesakes is meant.
pub(crate) fn of_module(modules: &[Module], namesakes: &[ModuleIndex], module: ModuleIndex) -> Option<String> {
    let own = modules.get(module)?;
    let others = namesakes.iter().filter(|other| **other != module).filter_map(|other| modules.get(*other));
    let others: Vec<Vec<&str>> = others.map(parts).collect();
    match shortest_end(&parts(own), &others) {
        Some([_]) => Some(own.short_name().to_owned()),
        Some(end) => Some(end.join("/")),
        None => {
            let number = namesakes.iter().position(|other| *other == module)?.checked_add(1)?;
            Some(format!("{}#{number}", own.short_name()))
        }
    }
}

/// The name of a source file by which no other of some files is meant.
pub(crate) fn of_source<'f>(path: &str, files: impl Iterator<Item = &'f str>) -> String {
    let others: Vec<Vec<&str>> = files.filter(|file| *file != path).map(split).collect();
    shortest_end(&split(path), &others).map_or_else(|| path.to_owned(), |end| end.join("/"))
}

/// The file's name without folders.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// From the file's name to more and more of the folders that it is in.
fn shortest_end<'p, 's>(path: &'p [&'s str], others: &[Vec<&str>]) -> Option<&'p [&'s str]> {
    let mut ends = (0..path.len()).rev().filter_map(|start| path.get(start..));
    ends.find(|end| !others.iter().any(|other| other.ends_with(end)))
}

/// Folders, the archive where there is one, and the file.
fn parts(module: &Module) -> Vec<&str> {
    let archive = Some(module.object_file.as_str()).filter(|archive| *archive != module.path);
    archive.into_iter().chain([module.path.as_str()]).flat_map(split).collect()
}

fn split(path: &str) -> Vec<&str> {
    path.split(['/', '\\']).collect()
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
        let name = |index, namesakes: &[ModuleIndex]| of_module(&modules, namesakes, index).unwrap();
        assert_eq!(name(0, &[0]), "main.obj");
        let all = [1, 2, 3].map(|index| name(index, &[1, 2, 3]));
        assert_eq!(all, ["net/util.obj", "disk/util.obj", "libnet.a/util.obj"]);
        assert_eq!([name(4, &[4, 5]), name(5, &[4, 5])], ["same.obj#1", "same.obj#2"]);
    }

    #[test]
    fn source_files_of_one_name_are_told_apart() {
        let files = ["c:\\work\\net\\mod.rs", "c:\\work\\disk\\mod.rs", "c:\\work\\main.rs"];
        assert_eq!(files.map(|file| of_source(file, files.into_iter())), ["net/mod.rs", "disk/mod.rs", "main.rs"]);
    }
}
