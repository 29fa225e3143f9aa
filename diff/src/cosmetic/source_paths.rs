//! `__FILE__` and what else names a source file, told from other paths by the files that the PDB lists.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ms_pdb::lines::{FileChecksumsSubsection, LineData};
use regex::{Captures, Regex};

use crate::error::Error;
use crate::pdb;
use crate::program::Program;

/// A path inside a longer text, and line and column behind it as compilers and editors write them: `a.c:12`, `a.c:12:5`, `a.c(12)`.
static PATHS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?P<path>(?:[A-Za-z]:)?[\w./\\+@~-]*\w\.\w+)(?P<line>(?::[0-9]+){1,2}|\([0-9]+\))?").ok()
});

/// A mark that no path holds.
const MARK: char = '\u{1}';

/// The source files of a program: by their name the paths that the PDB lists, in lower case and with slashes.
#[derive(Debug, Default)]
pub(crate) struct SourcePaths(HashMap<String, Vec<String>>);

impl SourcePaths {
    /// Those of all modules. What cannot be read is left out.
    pub fn of(program: &Program) -> SourcePaths {
        let mut listed = HashSet::new();
        // The PDB was read before; if it is gone since, it proves nothing.
        let _ = pdb::with_open(&program.symbols.pdb_path, &program.image, |pdb| {
            let mut names = HashSet::new();
            let modules = pdb.read_modules().map_err(|e| Error::pdb(&program.symbols.pdb_path, e.to_string()))?;
            for module in modules.iter().filter(|m| m.stream().is_some_and(|stream| stream < pdb.num_streams())) {
                let Ok(Some(stream)) = pdb.read_module_stream(&module) else { continue };
                let c13 = LineData::new(stream.c13_line_data_bytes());
                let checksums = FileChecksumsSubsection::new(c13.find_checksums_bytes().unwrap_or_default());
                names.extend(checksums.iter().map(|file| file.name()));
            }
            listed.extend(names.into_iter().filter_map(|name| Some(pdb.get_name(name).ok()?.to_string())));
            Ok(())
        });
        listed.iter().map(String::as_str).collect()
    }

    /// The name of the source file that a path leads to, from the folder of the build or any folder above the file.
    pub fn file_name(&self, path: &str) -> Option<String> {
        let path = normal(path);
        let relative = path.trim_start_matches("../").trim_start_matches("./");
        let name = relative.rsplit('/').next().filter(|name| name.contains('.'))?;
        let is_end = |file: &String| {
            let folders = file.strip_suffix(relative);
            folders.is_some_and(|rest| rest.is_empty() || rest.ends_with('/') || relative.starts_with('/'))
        };
        self.0.get(name)?.iter().any(is_end).then(|| name.to_owned())
    }

    /// A text with its source paths cut down to a mark and the file's name, and with another mark in place of line and column.
    pub fn without_folders(&self, text: &str) -> String {
        // Only the text as a whole is known to hold a path with blanks.
        if let Some(name) = self.file_name(text) {
            return format!("{MARK}{name}");
        }
        let Some(paths) = &*PATHS else { return text.to_owned() };
        let replaced = paths.replace_all(text, |found: &Captures<'_>| {
            let whole = found.get(0).map_or("", |all| all.as_str());
            let Some(name) = found.name("path").and_then(|path| self.file_name(path.as_str())) else {
                return whole.to_owned();
            };
            let line = if found.name("line").is_some() { MARK.to_string() } else { String::new() };
            format!("{MARK}{name}{line}")
        });
        replaced.into_owned()
    }
}

impl<'t> FromIterator<&'t str> for SourcePaths {
    fn from_iter<I: IntoIterator<Item = &'t str>>(paths: I) -> SourcePaths {
        let mut files: HashMap<String, Vec<String>> = HashMap::new();
        for path in paths.into_iter().map(normal) {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            files.entry(name).or_default().push(path);
        }
        SourcePaths(files)
    }
}

fn normal(path: &str) -> String {
    path.replace('\\', "/").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> SourcePaths {
        [r"C:\build 7\src\Main.c", "/home/me/lib/util.rs", "x.h"].into_iter().collect()
    }

    #[test]
    fn a_path_is_one_that_the_pdb_lists_or_its_end() {
        for path in [r"C:\build 7\src\main.c", "src/Main.c", "Main.c", r"..\src\main.c", "./main.c"] {
            assert_eq!(paths().file_name(path).as_deref(), Some("main.c"), "{path}");
        }
        for path in ["ain.c", "other/main.c", "main", "", "/", "src/", "lib/util.c"] {
            assert_eq!(paths().file_name(path), None, "{path}");
        }
    }

    #[test]
    fn folders_and_lines_of_source_files_are_cut_out_of_a_text() {
        let text = |text| paths().without_folders(text);
        assert_eq!(text("/home/me/lib/util.rs:12:5 failed"), text("util.rs:7:11 failed"));
        assert_eq!(text("main.c(3): n > 0"), text(r"src\main.c(44): n > 0"));
        assert_ne!(text("util.rs:12: n > 0"), text("util.rs:12: n > 1"));
        assert_ne!(text("util.rs"), text("main.c"));
        assert_ne!(text("util.rs:12"), text("util.rs"));
        assert_eq!(text("data.bin:12"), "data.bin:12");
    }
}
