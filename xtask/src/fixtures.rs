//! The fixtures: pairs of small Windows programs of ours, one case each, committed with their PDBs.
//!
//! A fixture is a folder of `testdata/fixtures`. Its variants are `old` and `new`, and each is made of these files; for `.c` there may also be
//! `.cpp`, or `.S` for assembler, which goes through the preprocessor:
//!
//! | file | is compiled as | in |
//! |---|---|---|
//! | `<variant>.c` | `main.c` | this variant |
//! | `<variant>_<module>.c` | `<module>.c` | this variant |
//! | any other `<module>.c` | `<module>.c` | both variants |
//! | `common/support.c` | `support.c` | every fixture |
//!
//! Headers follow the same rule (those of `runtime/include` are there for all), and so do module definition files, each of which becomes an import library. An optional `fixture.toml` gives a
//! variant another link order or more flags, or has gcc compile some of its modules. The result depends on these files and
//! on the tools' versions (`testdata/fixtures/toolchain.txt`) alone: no path and no time of the machine is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::toolchain::{self, Toolchain};
use crate::{jobs, workspace};

/// The builds that each fixture compares.
pub const VARIANTS: [&str; 2] = ["old", "new"];

/// The folder of what all fixtures share; not a fixture.
const COMMON: &str = "common";

/// The headers for programs that are to be patched.
const HEADERS: &str = "runtime/include";

/// The base folder that the PDBs name in place of the machine's.
const SOURCE_PATH: &str = "/pdbsourcepath:c:\\hpgen";

const COMPILE: [&str; 12] = [
    "--target=x86_64-pc-windows-msvc",
    "-O2",
    "-g",
    "-gcodeview",
    "-gno-codeview-command-line",
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    "-ffile-compilation-dir=.",
    "-mno-incremental-linker-compatible",
    "-Wall",
    "-c",
];

/// mingw-w64's gcc, which few fixtures need.
const GCC: &str = "x86_64-w64-mingw32-gcc";

/// gcc writes no CodeView: of what it compiles, the PDB has public symbols only.
const COMPILE_WITH_GCC: [&str; 6] = ["-O2", "-ffreestanding", "-ffunction-sections", "-fno-ident", "-Wall", "-c"];

/// What is compiled, by the ends of file names.
const SOURCES: [&str; 3] = [".c", ".cpp", ".S"];

const LINK: [&str; 9] = [
    "/nologo",
    "/nodefaultlib",
    "/entry:entry",
    "/subsystem:console",
    "/opt:ref,noicf",
    "/debug",
    "/Brepro",
    SOURCE_PATH,
    "/pdbaltpath:%_PDB%",
];

/// What `fixture.toml` may say of a variant.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    /// The modules in link order; without it, in the order of their names.
    order: Option<Vec<String>>,
    /// Flags of the compiler, after the ones that all fixtures have.
    #[serde(default)]
    compile: Vec<String>,
    /// Flags of the linker, likewise.
    #[serde(default)]
    link: Vec<String>,
    /// The modules that gcc compiles, in place of clang.
    #[serde(default)]
    gcc: Vec<String>,
}

/// What a variant is made of.
struct Staged {
    /// Name and source file of each module, sorted.
    modules: BTreeMap<String, String>,
    /// The DLLs that module definition files describe, without extensions.
    dlls: Vec<String>,
}

/// Rebuilds the fixtures called `names`, or all of them, in place.
pub fn rebuild(tools: &Toolchain, names: &[String]) -> Result<()> {
    for (built, committed) in build(tools, names)? {
        fs::copy(&built, &committed).with_context(|| format!("cannot write {}", committed.display()))?;
    }
    if names.is_empty() {
        fs::write(versions_file(), versions(tools)?)?;
    }
    Ok(())
}

/// Fails if a rebuild of the fixtures called `names`, or all of them, gives other bytes than the committed ones.
/// That can only be told with the tools' versions that they were made with.
pub fn check(tools: &Toolchain, names: &[String]) -> Result<()> {
    let made_with = fs::read_to_string(versions_file()).unwrap_or_default();
    let here = versions(tools)?;
    if made_with != here {
        println!("fixtures: not compared, they were made with other tools:\n{made_with}here:\n{here}");
        return Ok(());
    }
    let files = build(tools, names)?;
    let differs = |(built, committed): &&(PathBuf, PathBuf)| fs::read(built).ok() != fs::read(committed).ok();
    let different: Vec<_> = files.iter().filter(differs).map(|(_, file)| file.display().to_string()).collect();
    ensure!(
        different.is_empty(),
        "these fixtures are not what their sources give; run `cargo xtask fixtures`:\n{}",
        different.join("\n")
    );
    println!("fixtures: {} files are what their sources give", files.len());
    Ok(())
}

fn folder() -> PathBuf {
    workspace::testdata().join("fixtures")
}

/// The versions of all tools that fixtures are made with.
fn versions(tools: &Toolchain) -> Result<String> {
    Ok(format!("{}{}", tools.versions, toolchain::version(toolchain::tool(&[GCC])?)?))
}

fn versions_file() -> PathBuf {
    folder().join("toolchain.txt")
}

/// The names of all fixtures.
pub fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != COMMON {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds from a clean state below the target folder; returns each file that was made with its committed place.
fn build(tools: &Toolchain, names: &[String]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let names = if names.is_empty() { all()? } else { names.to_vec() };
    let pairs: Vec<_> = names.iter().flat_map(|name| VARIANTS.map(|variant| (name.as_str(), variant))).collect();
    jobs::run_all(&pairs, |(name, variant)| {
        build_variant(tools, name, variant).with_context(|| format!("fixture {name}, {variant}"))
    })?;
    let files = pairs.iter().flat_map(|(name, variant)| {
        ["exe", "pdb"].map(|extension| {
            let file = format!("{variant}.{extension}");
            (work_folder(name, variant).join(&file), folder().join(name).join(&file))
        })
    });
    Ok(files.collect())
}

fn work_folder(name: &str, variant: &str) -> PathBuf {
    workspace::target().join("fixtures").join(name).join(variant)
}

fn build_variant(tools: &Toolchain, name: &str, variant: &str) -> Result<()> {
    let work = work_folder(name, variant);
    let staged = stage(name, variant, &work)?;
    let layout = layout_of(name, variant)?;
    compile(tools, &staged, &layout, &work)?;
    link(tools, &staged, &layout, variant, &work)?;
    for extension in ["exe", "pdb"] {
        refuse_machine_paths(&work.join(format!("{variant}.{extension}")))?;
    }
    Ok(())
}

/// Makes the work folder anew with all sources in it, and returns what is there to compile.
fn stage(name: &str, variant: &str, work: &Path) -> Result<Staged> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work)?;
    let mut staged = Staged { modules: BTreeMap::new(), dlls: Vec::new() };
    let folders = [folder().join(COMMON), workspace::root().join(HEADERS), folder().join(name)];
    for (file, source) in folders.iter().map(|folder| files_of(folder, variant)).collect::<Result<Vec<_>>>()?.concat() {
        let copy = work.join(&file);
        ensure!(!copy.exists(), "two files would be {file}; the second is {}", source.display());
        fs::copy(source, copy)?;
        staged.dlls.extend(file.strip_suffix(".def").map(str::to_owned));
        if let Some(module) = SOURCES.iter().find_map(|end| file.strip_suffix(end)) {
            let other = staged.modules.insert(module.to_owned(), file.clone());
            ensure!(other.is_none(), "two sources of one name: {file}");
        }
    }
    staged.dlls.sort();
    Ok(staged)
}

/// The files of `folder` that are in `variant`: what each is called there, and where it is.
fn files_of(folder: &Path, variant: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no fixture {}", folder.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if ![".h", ".def"].iter().chain(&SOURCES).any(|extension| name.ends_with(extension)) {
            continue;
        }
        let owner = VARIANTS.into_iter().find(|owner| name.starts_with(&format!("{owner}_")));
        let (owner, staged) = match owner {
            Some(owner) => (owner, &name[owner.len() + 1..]),
            None => match name.strip_suffix(".c") {
                Some(stem) if VARIANTS.contains(&stem) => (stem, "main.c"),
                _ => (variant, name),
            },
        };
        if owner == variant {
            files.push((staged.to_owned(), path.clone()));
        }
    }
    Ok(files)
}

fn compile(tools: &Toolchain, staged: &Staged, layout: &Layout, work: &Path) -> Result<()> {
    for (module, source) in &staged.modules {
        let with_gcc = layout.gcc.contains(module);
        let (compiler, flags) = if with_gcc { (GCC, &COMPILE_WITH_GCC[..]) } else { (tools.clang, &COMPILE[..]) };
        let files = [source.clone(), "-o".to_owned(), format!("{module}.obj")];
        toolchain::run(Command::new(compiler).current_dir(work).args(flags).args(&layout.compile).args(files))?;
    }
    for dll in &staged.dlls {
        let files = [format!("{dll}.def"), "-l".to_owned(), format!("{dll}.lib")];
        toolchain::run(Command::new(tools.dlltool).current_dir(work).args(["-m", "i386:x86-64", "-d"]).args(files))?;
    }
    Ok(())
}

fn link(tools: &Toolchain, staged: &Staged, layout: &Layout, variant: &str, work: &Path) -> Result<()> {
    let modules: Vec<String> = staged.modules.keys().cloned().collect();
    let order = layout.order.as_deref().unwrap_or(&modules);
    let mut ordered = order.to_vec();
    ordered.sort();
    ensure!(ordered == modules, "the link order names {ordered:?}, the modules are {modules:?}");
    let mut command = Command::new(tools.lld_link);
    command.current_dir(work).args(LINK).args(&layout.link);
    command.arg(format!("/out:{variant}.exe")).arg(format!("/pdb:{variant}.pdb"));
    command.args(order.iter().map(|module| format!("{module}.obj")));
    command.args(staged.dlls.iter().map(|dll| format!("{dll}.lib")));
    toolchain::run(&mut command)
}

/// The macros that the old variant of a fixture is compiled with, as flags.
pub fn definitions(name: &str) -> Result<Vec<String>> {
    let mut flags = layout_of(name, "old")?.compile;
    flags.retain(|flag| flag.starts_with("-D"));
    Ok(flags)
}

fn layout_of(name: &str, variant: &str) -> Result<Layout> {
    let path = folder().join(name).join("fixture.toml");
    if !path.exists() {
        return Ok(Layout::default());
    }
    let mut layouts: BTreeMap<String, Layout> =
        toml::from_str(&fs::read_to_string(&path)?).with_context(|| format!("in {}", path.display()))?;
    Ok(layouts.remove(variant).unwrap_or_default())
}

/// Whether every module of a fixture is C that is compiled and linked without flags or tools of its own.
///
/// # Errors
/// When the fixture cannot be read.
pub fn is_plain_c(name: &str) -> Result<bool> {
    let has_other_sources = fs::read_dir(folder().join(name))?.flatten().any(|entry| {
        let file = entry.file_name().into_string().unwrap_or_default();
        !file.ends_with(".c") && SOURCES.iter().chain(&[".def"]).any(|end| file.ends_with(end))
    });
    let layouts = VARIANTS.map(|variant| layout_of(name, variant));
    let mut is_plain = !has_other_sources;
    for layout in layouts {
        let Layout { compile, gcc, .. } = layout?;
        is_plain &= gcc.is_empty() && compile.iter().all(|flag| flag == "-DNEW");
    }
    Ok(is_plain)
}

/// A file that is committed must not tell where it was made.
fn refuse_machine_paths(file: &Path) -> Result<()> {
    let bytes = fs::read(file)?;
    let root = workspace::root();
    let path = root.as_os_str().as_encoded_bytes();
    let found = bytes.windows(path.len()).any(|window| window == path);
    ensure!(!found, "{} contains the path of this workspace", file.display());
    Ok(())
}
