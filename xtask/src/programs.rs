//! The test programs: real Windows programs with real PDBs, each built as the baseline (`old`), with a fix (`new`), and
//! as the baseline's objects in another layout (`relinked`).
//!
//! A variant is built in its own folder, with relative names for everything that the compiler sees, so that sources and
//! objects have the same names in all variants and two builds of one source are the same bytes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::digest::{self, Inputs};
use crate::edit::{self, Edit};
use crate::sources::Sources;
use crate::toolchain::{self, Toolchain};
use crate::{jobs, workspace};

/// What a test program is made of.
struct Program {
    /// Its name; our own main file is `testdata/<name>/<name>.c`, the fix `testdata/<name>/fix.toml`.
    name: &'static str,
    /// The package with the third-party sources, and the folder in it.
    package: &'static str,
    folder: &'static str,
    /// Picks the files of that folder that are compiled; headers always come along.
    compiles: fn(&str) -> bool,
}

const PROGRAMS: [Program; 2] = [
    Program { name: "lua_host", package: "lua-src", folder: "lua-5.4.9", compiles: |_| true },
    Program { name: "sqlite_host", package: "libsqlite3-sys", folder: "sqlite3", compiles: |file| file == "sqlite3.c" },
];

const COMPILE: [&str; 10] = [
    "--target=x86_64-w64-windows-gnu",
    "-O2",
    "-g",
    "-gcodeview",
    "-ffunction-sections",
    "-fdata-sections",
    // Relative names only, and no time in the objects: the same source gives the same object in every variant.
    "-ffile-compilation-dir=.",
    "-mno-incremental-linker-compatible",
    "-Wno-everything",
    "-c",
];

const LINK: [&str; 2] = ["--target=x86_64-w64-windows-gnu", "-Wl,--no-insert-timestamp"];

/// Where the relinked variant is linked to. mingw's default for programs is 0x140000000.
const OTHER_BASE: &str = "-Wl,--image-base=0x180000000";

/// A file of a program's source, as a variant sees it.
struct SourceFile {
    name: String,
    text: Vec<u8>,
}

impl SourceFile {
    fn object(&self) -> Option<PathBuf> {
        let stem = self.name.strip_suffix(".c")?;
        Some(Path::new("obj").join(format!("{stem}.o")))
    }
}

/// One variant of one program, ready to be built in its folder.
struct Variant {
    program: &'static str,
    folder: PathBuf,
    sources: Vec<SourceFile>,
    /// Where the objects come from, if they are not compiled.
    objects_from: Option<PathBuf>,
    /// The objects in link order, named relative to the folder.
    objects: Vec<PathBuf>,
    link_flags: Vec<&'static str>,
    /// Digest of everything that the result depends on.
    stamp: String,
}

/// The names of the programs.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|program| program.name)
}

/// Builds all variants of all programs whose inputs changed since they were built.
pub fn build_all(tools: &Toolchain) -> Result<()> {
    let fetched = Sources::fetch()?;
    let mut stale = Vec::new();
    for program in &PROGRAMS {
        stale.extend(program.variants(tools, &fetched)?.into_iter().filter(|variant| !variant.is_fresh()));
    }
    if stale.is_empty() {
        println!("test programs: nothing to do");
        return Ok(());
    }
    for variant in &stale {
        println!("test programs: building {}", variant.folder.strip_prefix(workspace::root())?.display());
        variant.prepare()?;
    }
    let compiled = stale.iter().filter(|variant| variant.objects_from.is_none());
    let mut compilations: Vec<_> =
        compiled.flat_map(|variant| variant.sources.iter().map(move |source| (variant, source))).collect();
    compilations.sort_by_key(|(_, source)| std::cmp::Reverse(source.text.len()));
    jobs::run_all(&compilations, |(variant, source)| variant.compile(tools, source))?;
    for variant in &stale {
        variant.copy_objects()?;
    }
    jobs::run_all(&stale, |variant| variant.link(tools))
}

/// Builds a program around another release of its library, whose sources are in `library`, unless it is here. Gives the EXE.
pub fn build_release(tools: &Toolchain, name: &str, library: &Path, folder: PathBuf) -> Result<PathBuf> {
    let program = PROGRAMS.iter().find(|program| program.name == name);
    let program = program.with_context(|| format!("no program is called {name}"))?;
    let sources = program.sources_with(&workspace::testdata().join(name), library)?;
    let variant = Variant { folder, ..program.variant(tools, "release", sources, &[]) };
    if !variant.is_fresh() {
        variant.prepare()?;
        let compilations: Vec<_> = variant.sources.iter().collect();
        jobs::run_all(&compilations, |source| variant.compile(tools, source))?;
        variant.link(tools)?;
    }
    Ok(variant.file("exe"))
}

impl Program {
    fn variants(&self, tools: &Toolchain, fetched: &Sources) -> Result<[Variant; 3]> {
        let ours = workspace::testdata().join(self.name);
        let baseline = self.sources(&ours, fetched)?;
        let fixed = apply_all(&edit::read(&ours.join("fix.toml"))?, self.sources(&ours, fetched)?)?;

        let old = self.variant(tools, "old", baseline, &[]);
        let new = self.variant(tools, "new", fixed, &[]);
        let mut relinked = self.variant(tools, "relinked", Vec::new(), &[OTHER_BASE]);
        relinked.objects_from = Some(old.folder.clone());
        relinked.objects = shuffled(&old.objects);
        relinked.stamp.push_str(&old.stamp);
        Ok([old, new, relinked])
    }

    fn variant(&self, tools: &Toolchain, name: &str, sources: Vec<SourceFile>, link_flags: &[&'static str]) -> Variant {
        let link_flags = [&LINK, link_flags].concat();
        let mut inputs = Inputs::default();
        inputs.add("tools", tools.versions.as_bytes());
        inputs.add("flags", format!("{COMPILE:?} {link_flags:?}").as_bytes());
        for source in &sources {
            inputs.add(&source.name, &source.text);
        }
        Variant {
            program: self.name,
            folder: workspace::built_programs().join(self.name).join(name),
            objects: sources.iter().filter_map(SourceFile::object).collect(),
            sources,
            objects_from: None,
            link_flags,
            stamp: inputs.hex(),
        }
    }

    /// Our main file, then the third-party sources in the order of their names, headers included.
    fn sources(&self, ours: &Path, fetched: &Sources) -> Result<Vec<SourceFile>> {
        self.sources_with(ours, &fetched.package(self.package)?.join(self.folder))
    }

    fn sources_with(&self, ours: &Path, theirs: &Path) -> Result<Vec<SourceFile>> {
        let mut names: Vec<String> = fs::read_dir(theirs)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .with_context(|| format!("cannot list {}", theirs.display()))?
            .into_iter()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".h") || name.ends_with(".c") && (self.compiles)(name))
            .collect();
        names.sort();
        let main = (ours, format!("{}.c", self.name));
        let files = [main].into_iter().chain(names.into_iter().map(|name| (theirs, name)));
        files.map(|(folder, name)| Ok(SourceFile { text: read(&folder.join(&name))?, name })).collect()
    }
}

fn apply_all(edits: &[Edit], mut sources: Vec<SourceFile>) -> Result<Vec<SourceFile>> {
    for edit in edits {
        let source = sources.iter_mut().find(|source| source.name == edit.file);
        let source = source.with_context(|| format!("no source file is named {}", edit.file))?;
        let text = std::str::from_utf8(&source.text).with_context(|| format!("{} is not UTF-8", edit.file))?;
        source.text = edit.apply(text)?.into_bytes();
    }
    Ok(sources)
}

/// Another order of the same objects, the same on every machine.
fn shuffled(objects: &[PathBuf]) -> Vec<PathBuf> {
    let mut objects = objects.to_vec();
    objects.sort_by_key(|object| digest::of(object.file_name().unwrap_or_default().as_encoded_bytes()));
    objects
}

impl Variant {
    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.program))
    }

    fn is_fresh(&self) -> bool {
        fs::read_to_string(self.file("stamp")).is_ok_and(|stamp| stamp == self.stamp)
            && self.file("exe").is_file()
            && self.file("pdb").is_file()
    }

    /// Makes the folder anew, with the sources in it.
    fn prepare(&self) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("cannot empty {}", self.folder.display()))?;
        }
        fs::create_dir_all(self.folder.join("obj"))?;
        fs::create_dir_all(self.folder.join("src"))?;
        for source in &self.sources {
            fs::write(self.folder.join("src").join(&source.name), &source.text)?;
        }
        Ok(())
    }

    fn compile(&self, tools: &Toolchain, source: &SourceFile) -> Result<()> {
        let Some(object) = source.object() else {
            return Ok(());
        };
        let mut command = Command::new(tools.clang);
        command.current_dir(&self.folder).args(COMPILE);
        toolchain::run(command.arg(Path::new("src").join(&source.name)).arg("-o").arg(object))
    }

    fn copy_objects(&self) -> Result<()> {
        let Some(from) = &self.objects_from else {
            return Ok(());
        };
        for object in &self.objects {
            fs::copy(from.join(object), self.folder.join(object))
                .with_context(|| format!("cannot copy {}", from.join(object).display()))?;
        }
        Ok(())
    }

    fn link(&self, tools: &Toolchain) -> Result<()> {
        ensure!(!self.objects.is_empty(), "{} has no objects to link", self.program);
        let mut command = Command::new(tools.clang);
        command
            .current_dir(&self.folder)
            .args(&self.link_flags)
            .arg(format!("-fuse-ld={}", tools.linker_name))
            .args(self.objects.iter().map(AsRef::<OsStr>::as_ref))
            .args(["-o", &format!("{}.exe", self.program), &format!("-Wl,--pdb={}.pdb", self.program)]);
        toolchain::run(&mut command)?;
        // Last, so that an interrupted build is not taken for a finished one.
        fs::write(self.file("stamp"), &self.stamp)?;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
