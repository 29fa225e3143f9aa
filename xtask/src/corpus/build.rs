//! Compiles a library with our driver into one program, as people ship: optimised, default sections, with a PDB.
//!
//! Objects are kept by what they were made of, so that a fix of one file compiles that file only, in every case of a library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::manifest::{self, Build, Manifest};
use crate::digest::{self, Inputs};
use crate::toolchain::{self, Toolchain};
use crate::{jobs, workspace};

const COMPILE: [&str; 8] = [
    "--target=x86_64-w64-windows-gnu",
    "-O2",
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
            fs::copy(root.join(from), root.join(name)).with_context(|| format!("cannot copy {from} to {name}"))?;
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
            let Some(stem) = pattern.strip_suffix("*.c") else {
                names.push(pattern.clone());
                continue;
            };
            let folder = self.folder.join(self.part).join(stem);
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if Path::new(&name).extension().is_some_and(|extension| extension == "c") {
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
                    folders.push(path);
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
const INCLUDED: [&str; 4] = ["h", "c", "def", "inc"];

/// A program to be made.
#[derive(Debug)]
pub struct Program<'a> {
    /// Whose driver it has, and which flags.
    pub manifest: &'a Manifest,
    /// The library, and then what it needs; all below one folder.
    pub trees: Vec<Tree<'a>>,
    /// The program's path; the PDB stands beside it.
    pub output: &'a Path,
}

struct Compilation {
    source: String,
    object: PathBuf,
    cached: PathBuf,
    flags: Vec<String>,
}

/// The driver, as the compiler sees it.
const DRIVER: &str = "driver/driver/driver.c";

impl Program<'_> {
    /// Compiles and links it.
    pub fn make(&self, tools: &Toolchain) -> Result<()> {
        let library = self.trees.first().context("a program without a library")?;
        place_driver(self.manifest, library.folder)?;
        let compilations = self.compilations(tools)?;
        let missing: Vec<_> = compilations.iter().filter(|compilation| !compilation.cached.is_file()).collect();
        jobs::run_all(&missing, |compilation| compilation.make(tools, library.folder))?;
        for compilation in &compilations {
            let object = library.folder.join(&compilation.object);
            fs::create_dir_all(object.parent().unwrap_or(library.folder))?;
            fs::copy(&compilation.cached, object)?;
        }
        let mut link = Command::new(tools.clang);
        link.current_dir(library.folder).args(LINK).arg(format!("-fuse-ld={}", tools.linker_name));
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
            let mut flags = tree.build.flags.iter().map(|flag| flag.replace("${part}", tree.part)).collect::<Vec<_>>();
            flags.extend(seen.iter().cloned());
            for source in sources {
                compilations.push(Compilation::new(tools, self.folder()?, source, &flags, &headers)?);
            }
        }
        let library = self.trees.first().context("a program without a library")?;
        let mut flags: Vec<_> = library.build.flags.iter().map(|flag| flag.replace("${part}", library.part)).collect();
        flags.extend(seen);
        headers.push_str(&digest::of(&fs::read(manifest::folder().join("driver.h"))?));
        compilations.insert(0, Compilation::new(tools, self.folder()?, DRIVER.to_owned(), &flags, &headers)?);
        Ok(compilations)
    }

    fn folder(&self) -> Result<&Path> {
        Ok(self.trees.first().context("a program without a library")?.folder)
    }
}

fn place_driver(manifest: &Manifest, folder: &Path) -> Result<()> {
    let place = folder.join("driver").join("driver");
    fs::create_dir_all(&place)?;
    fs::copy(manifest::folder().join("driver.h"), folder.join("driver").join("driver.h"))?;
    let driver = manifest.driver();
    fs::copy(&driver, place.join("driver.c")).with_context(|| format!("cannot copy {}", driver.display()))?;
    Ok(())
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
        fs::create_dir_all(self.cached.parent().unwrap_or(folder))?;
        let fresh = self.cached.with_extension(format!("{}.tmp", std::process::id()));
        let mut command = Command::new(tools.clang);
        command.current_dir(folder).args(COMPILE).args(&self.flags).arg(&self.source).arg("-o").arg(&fresh);
        toolchain::run(&mut command)?;
        fs::rename(&fresh, &self.cached)?;
        Ok(())
    }
}
