//! The programs that a suite is run on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sources::Sources;
use crate::{fixtures, workspace};

/// How a program is compiled and linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// C with mingw-w64's runtime.
    Mingw,
    /// C++ in Microsoft's ABI, with our start-up object.
    Msvc,
    /// C in Microsoft's ABI that needs no runtime.
    Freestanding,
    /// Rust in Microsoft's ABI.
    Rust,
}

/// A program and its sources.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// The name of its row in the table; the fixtures share one.
    pub row: &'static str,
    /// How it is built.
    pub kind: Kind,
    /// The files that are compiled, in link order: the module's name and the source.
    pub modules: Vec<(String, PathBuf)>,
    /// Folders with headers.
    pub includes: Vec<PathBuf>,
    /// Macros, as flags of the compiler.
    pub definitions: Vec<String>,
}

/// All programs: the longest to compile first.
pub fn all() -> Result<Vec<Subject>> {
    let fetched = Sources::fetch()?;
    let sqlite = fetched.package("libsqlite3-sys")?.join("sqlite3");
    let lua = fetched.package("lua-src")?.join("lua-5.4.9");
    let mut subjects = vec![
        subject("sqlite", Kind::Mingw, vec![ours("sqlite_host").join("sqlite_host.c"), sqlite.join("sqlite3.c")]),
        subject("lua", Kind::Mingw, [vec![ours("lua_host").join("lua_host.c")], files(&lua, ".c")?].concat()),
        subject("rust_host", Kind::Rust, vec![ours("rust_host").join("rust_host.rs")]),
        subject("cpp_host", Kind::Msvc, files(&ours("cpp_host"), ".cpp")?),
    ];
    // Those of assembler, C++ or gcc need tools and flags of their own, which the suite's configurations would replace.
    for name in fixtures::all()? {
        if !fixtures::is_plain_c(&name)? {
            continue;
        }
        let mut fixture = subject("fixtures", Kind::Freestanding, files(&staged(&name)?, ".c")?);
        fixture.name = format!("fixtures/{name}");
        fixture.definitions = fixtures::definitions(&name)?;
        subjects.push(fixture);
    }
    Ok(subjects)
}

/// The program for exceptions and walks of the stack through frames of both builds: its old build, and the new one, in which every
/// function called `changed_…` differs. Of no suite: it is made to be patched.
pub fn throw_host() -> Result<[Subject; 2]> {
    let sources = files(&ours("throw_host"), ".cpp")?;
    let build = |name, definitions: &[&str]| {
        let mut subject = subject("throw_host", Kind::Msvc, sources.clone());
        subject.name = format!("throw_host/{name}");
        subject.definitions = definitions.iter().map(|&definition| definition.to_owned()).collect();
        subject
    };
    Ok([build("old", &[]), build("new", &["-DNEW"])])
}

/// The Rust program whose new build attaches state to live objects. Of no suite either.
pub fn shadow_host() -> [Subject; 2] {
    ["old", "new"].map(|build| {
        let folder = ours("shadow_host");
        let mut subject = subject("shadow_host", Kind::Rust, vec![folder.join(build).join("shadow_host.rs")]);
        subject.name = format!("shadow_host/{build}");
        // What its modules are read from.
        subject.includes.extend([folder, workspace::root().join("shadow").join("src")]);
        subject
    })
}

/// A folder with the sources of a fixture's old variant under the names that they are compiled with; see `fixtures.rs`.
fn staged(fixture: &str) -> Result<PathBuf> {
    let folder = workspace::target().join("suite").join("fixtures").join(fixture).join("src");
    fs::create_dir_all(&folder)?;
    for from in ["common", fixture].map(|name| ours("fixtures").join(name)) {
        for source in [files(&from, ".c")?, files(&from, ".h")?].concat() {
            let name = match file_name(&source).as_str() {
                "old.c" => "main.c".to_owned(),
                name if name.starts_with("new.") || name.starts_with("new_") => continue,
                name => name.strip_prefix("old_").unwrap_or(name).to_owned(),
            };
            let text = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(folder)
}

fn ours(name: &str) -> PathBuf {
    workspace::testdata().join(name)
}

fn subject(name: &'static str, kind: Kind, sources: Vec<PathBuf>) -> Subject {
    let mut includes: Vec<PathBuf> = sources.iter().filter_map(|path| path.parent()).map(Path::to_path_buf).collect();
    includes.sort();
    includes.dedup();
    let module = |path: PathBuf| (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path);
    let modules = sources.into_iter().map(module).collect();
    Subject { name: name.to_owned(), row: name, kind, modules, includes, definitions: Vec::new() }
}

impl Subject {
    /// Everything that its objects depend on: each source and header with its name.
    pub fn inputs(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut paths: Vec<PathBuf> = self.modules.iter().map(|(_, path)| path.clone()).collect();
        for folder in &self.includes {
            paths.extend(files(folder, ".h")?);
            if self.kind == Kind::Rust {
                paths.extend(files(folder, ".rs")?);
            }
        }
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((path.display().to_string(), bytes))
        };
        let mut inputs: Vec<(String, Vec<u8>)> = paths.into_iter().map(read).collect::<Result<_>>()?;
        if !self.definitions.is_empty() {
            inputs.push(("definitions".to_owned(), self.definitions.join(" ").into_bytes()));
        }
        Ok(inputs)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The files of a folder whose names end like this, sorted.
pub fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| file_name(path).ends_with(ending));
    paths.sort();
    Ok(paths)
}
