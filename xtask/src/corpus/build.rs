//! Compiles a library with our driver into one program, as people ship: optimised, default sections, with a PDB.
//!
//! Objects are kept by what they were made of, so that a fix of one file compiles that file only, in every case of a library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};

use super::flavour::Flavour;
use super::manifest::{self, Build, Manifest};
use crate::digest::{self, Inputs};
use crate::toolchain::{self, Toolchain};
use crate::{jobs, workspace};

const COMPILE: [&str; 7] = [
    "--target=x86_64-w64-windows-gnu",
    "-g",
    "-gcodeview",
    // Relative names only, and no time in the objects: the same source gives the same object in both builds.
    "-ffile-compilation-dir=.",
    "-mno-incremental-linker-compatible",
    "-Wno-everything",
    "-c",
];
const LINK: [&str; 2] = ["--target=x86_64-w64-windows-gnu", "-Wl,--no-insert-timestamp"];

/// A library's source in one state, below a folder that compilers are started in.
#[derive(Debug)]
pub struct Tree<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The library's own part of it, relative.
    pub part: &'a str,
    /// How it is compiled.
    pub build: &'a Build,
}

impl Tree<'_> {
    /// Puts files in place that the package's own configuration would make.
    pub fn configure(&self) -> Result<()> {
        let root = self.folder.join(self.part);
        for (name, from) in &self.build.copy {
            let file = root.join(name);
            fs::create_dir_all(file.parent().unwrap_or(&root))?;
            fs::copy(root.join(from), file).with_context(|| format!("cannot copy {from} to {name}"))?;
        }
        for (name, text) in &self.build.write {
            let file = root.join(name);
            fs::create_dir_all(file.parent().unwrap_or(&root))?;
            fs::write(file, text)?;
        }
        Ok(())
    }

    /// The files to compile, relative to the folder, in the order of their names.
    fn sources(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for pattern in &self.build.compile {
            let Some((stem, wanted)) = pattern.split_once("*.") else {
                names.push(pattern.clone());
                continue;
            };
            let folder = self.folder.join(self.part).join(stem);
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if Path::new(&name).extension().is_some_and(|extension| extension == wanted) {
                    names.push(format!("{stem}{name}"));
                }
            }
        }
        names.retain(|name| !self.build.except.contains(name));
        names.sort();
        ensure!(!names.is_empty(), "nothing to compile in {}", self.folder.display());
        Ok(names.iter().map(|name| format!("{}/{name}", self.part)).collect())
    }

    /// What objects rest on besides their own file: all that could be included.
    fn headers(&self, compiled: &[String]) -> Result<String> {
        let mut inputs = Inputs::default();
        let mut folders = vec![self.folder.join(self.part)];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    if path.file_name().is_none_or(|name| !NOT_INCLUDED.iter().any(|not| name == *not)) {
                        folders.push(path);
                    }
                } else if path.extension().is_some_and(|extension| INCLUDED.iter().any(|name| *name == extension)) {
                    files.push(path);
                }
            }
        }
        files.sort();
        for file in files {
            let name = file.strip_prefix(self.folder)?.to_string_lossy().into_owned();
            if !compiled.contains(&name) {
                inputs.add(&name, &fs::read(&file)?);
            }
        }
        Ok(inputs.hex())
    }
}

/// Names of files that are included end so.
const INCLUDED: [&str; 9] = ["h", "hh", "hpp", "hxx", "c", "cc", "cpp", "def", "inc"];

/// Folders of which no library includes anything.
const NOT_INCLUDED: [&str; 6] = ["debian", "doc", "docs", "fuzz", "test", "tests"];

/// Whether a file of a library, by its relative name, can be a part of what is compiled.
pub fn is_compiled(name: &Path) -> bool {
    let is = |name: &std::ffi::OsStr, list: &[&str]| list.iter().any(|wanted| name == *wanted);
    let aside = name.components().any(|part| is(part.as_os_str(), &NOT_INCLUDED));
    !aside && name.extension().is_some_and(|extension| is(extension, &INCLUDED))
}

/// Whether a file is C++.
fn is_cpp(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension != "c")
}

/// A program to be made.
#[derive(Debug)]
pub struct Program<'a> {
    /// Whose driver it has, and which flags.
    pub manifest: &'a Manifest,
    /// The library, and then what it needs; all below one folder.
    pub trees: Vec<Tree<'a>>,
    /// The program's path; the PDB stands beside it.
    pub output: &'a Path,
    /// How it is optimised.
    pub flavour: Flavour,
    /// A file of ours that the fixed build has besides: hooks.
    pub hooks: Option<PathBuf>,
}

struct Compilation {
    source: String,
    object: PathBuf,
    cached: PathBuf,
    flags: Vec<String>,
}

/// Where the driver is, as the compiler sees it.
const DRIVER: &str = "driver/driver";

impl Program<'_> {
    /// Compiles and links it.
    pub fn make(&self, tools: &Toolchain) -> Result<()> {
        let library = self.trees.first().context("a program without a library")?;
        self.place_driver(library.folder)?;
        let compilations = self.compilations(tools)?;
        let mut missing: Vec<_> = compilations.iter().filter(|compilation| !compilation.cached.is_file()).collect();
        // Cases of a library that are done at the same time need the same objects: they start at both ends, and meet.
        static PROGRAMS: AtomicUsize = AtomicUsize::new(0);
        if PROGRAMS.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            missing.reverse();
        }
        jobs::run_all(&missing, |compilation| compilation.make(tools, library.folder))?;
        for compilation in &compilations {
            let object = library.folder.join(&compilation.object);
            fs::create_dir_all(object.parent().unwrap_or(library.folder))?;
            fs::copy(&compilation.cached, object)?;
        }
        let mut link = Command::new(tools.clang);
        link.current_dir(library.folder).args(LINK).args(self.flavour.link(tools));
        if compilations.iter().any(|compilation| is_cpp(&compilation.source)) {
            // One file that runs anywhere.
            link.args(["--driver-mode=g++", "-static"]);
        }
        link.args(compilations.iter().map(|compilation| &compilation.object));
        link.args(self.trees.iter().flat_map(|tree| &tree.build.link).map(|name| format!("-l{name}")));
        link.arg("-o").arg(self.output).arg(format!("-Wl,--pdb={}", self.output.with_extension("pdb").display()));
        toolchain::run(&mut link)
    }

    fn compilations(&self, tools: &Toolchain) -> Result<Vec<Compilation>> {
        let mut compilations = Vec::new();
        let mut headers = String::new();
        // Each library sees the headers of those that it needs, and the driver those of all.
        let mut seen = Vec::new();
        for tree in self.trees.iter().rev() {
            let sources = tree.sources()?;
            headers.push_str(&tree.headers(&sources)?);
            seen.splice(0..0, [format!("-I{}", tree.part)]);
            let mut flags = self.flags(tree);
            flags.extend(seen.iter().cloned());
            for source in sources {
                compilations.push(Compilation::new(tools, self.folder()?, source, &flags, &headers)?);
            }
        }
        let library = self.trees.first().context("a program without a library")?;
        let mut flags = self.flags(library);
        flags.extend(seen);
        headers.push_str(&digest::of(&fs::read(manifest::folder().join("driver.h"))?));
        for ours in self.ours().iter().rev() {
            let name = ours.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let source = format!("{DRIVER}/{name}");
            compilations.insert(0, Compilation::new(tools, self.folder()?, source, &flags, &headers)?);
        }
        Ok(compilations)
    }

    fn flags(&self, tree: &Tree<'_>) -> Vec<String> {
        let flavour = self.flavour.compile().iter().map(|flag| (*flag).to_owned());
        flavour.chain(tree.build.flags.iter().map(|flag| flag.replace("${part}", tree.part))).collect()
    }

    /// What is no part of any library.
    fn ours(&self) -> Vec<PathBuf> {
        [self.manifest.driver()].into_iter().chain(self.hooks.clone()).collect()
    }

    fn place_driver(&self, folder: &Path) -> Result<()> {
        let place = folder.join(DRIVER);
        fs::create_dir_all(&place)?;
        fs::copy(manifest::folder().join("driver.h"), folder.join("driver").join("driver.h"))?;
        for file in self.ours() {
            let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
            fs::copy(&file, place.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        Ok(())
    }

    fn folder(&self) -> Result<&Path> {
        Ok(self.trees.first().context("a program without a library")?.folder)
    }
}

impl Compilation {
    fn new(tools: &Toolchain, folder: &Path, source: String, flags: &[String], headers: &str) -> Result<Self> {
        let text = fs::read(folder.join(&source)).with_context(|| format!("cannot read {source}"))?;
        let mut inputs = Inputs::default();
        inputs.add("tools", tools.versions.as_bytes()).add("headers", headers.as_bytes());
        inputs.add("flags", format!("{COMPILE:?} {flags:?}").as_bytes()).add(&source, &text);
        let cached = workspace::target().join("corpus").join("objects").join(format!("{}.o", inputs.hex()));
        let object = Path::new("obj").join(Path::new(&source).with_extension("o"));
        Ok(Self { source, object, cached, flags: flags.to_vec() })
    }

    fn make(&self, tools: &Toolchain, folder: &Path) -> Result<()> {
        if self.cached.is_file() {
            return Ok(());
        }
        fs::create_dir_all(self.cached.parent().unwrap_or(folder))?;
        // Cases that are done at the same time may need the same object.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let fresh = self.cached.with_extension(format!("{}-{number}.tmp", std::process::id()));
        let mut command = Command::new(tools.clang);
        command.current_dir(folder).args(COMPILE).args(&self.flags).arg(&self.source).arg("-o").arg(&fresh);
        toolchain::run(&mut command)?;
        fs::rename(&fresh, &self.cached)?;
        Ok(())
    }
}
