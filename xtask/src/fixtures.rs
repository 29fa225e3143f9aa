//! The fixtures: pairs of small Windows programs of ours, one case each, committed with their PDBs.
//!
//! A fixture is a folder of `testdata/fixtures`. Its variants are `old` and `new`, and each is made of these C files:
//!
//! | file | is compiled as | in |
//! |---|---|---|
//! | `<variant>.c` | `main.c` | this variant |
//! | `<variant>_<module>.c` | `<module>.c` | this variant |
//! | any other `<module>.c` | `<module>.c` | both variants |
//! | `common/support.c` | `support.c` | every fixture |
//!
//! Headers follow the same rule. An optional `fixture.toml` gives a variant another link order or more flags. The result depends on these files and
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
}

/// Rebuilds the fixtures called `names`, or all of them, in place.
pub fn rebuild(tools: &Toolchain, names: &[String]) -> Result<()> {
    for (built, committed) in build(tools, names)? {
        fs::copy(&built, &committed).with_context(|| format!("cannot write {}", committed.display()))?;
    }
    if names.is_empty() {
        fs::write(versions_file(), &tools.versions)?;
    }
    Ok(())
}

/// Fails if a rebuild of the fixtures called `names`, or all of them, gives other bytes than the committed ones.
/// That can only be told with the tools' versions that they were made with.
pub fn check(tools: &Toolchain, names: &[String]) -> Result<()> {
    let made_with = fs::read_to_string(versions_file()).unwrap_or_default();
    if made_with != tools.versions {
        println!("fixtures: not compared, they were made with other tools:\n{made_with}here:\n{}", tools.versions);
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
    let modules = stage(name, variant, &work)?;
    let layout = layout_of(name, variant)?;
    compile(tools, &modules, &layout, &work)?;
    link(tools, &modules, &layout, variant, &work)?;
    for extension in ["exe", "pdb"] {
        refuse_machine_paths(&work.join(format!("{variant}.{extension}")))?;
    }
    Ok(())
}

/// Makes the work folder anew with all sources in it, and returns the modules, sorted.
fn stage(name: &str, variant: &str, work: &Path) -> Result<Vec<String>> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work)?;
    let mut modules = Vec::new();
    let folders = [folder().join(COMMON), folder().join(name)];
    for (file, source) in folders.iter().map(|folder| files_of(folder, variant)).collect::<Result<Vec<_>>>()?.concat() {
        let copy = work.join(&file);
        ensure!(!copy.exists(), "two files would be {file}; the second is {}", source.display());
        fs::copy(source, copy)?;
        modules.extend(file.strip_suffix(".c").map(str::to_owned));
    }
    modules.sort();
    Ok(modules)
}

/// The files of `folder` that are in `variant`: what each is called there, and where it is.
fn files_of(folder: &Path, variant: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no fixture {}", folder.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if ![".c", ".h", ".def"].iter().any(|extension| name.ends_with(extension)) {
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

fn compile(tools: &Toolchain, modules: &[String], layout: &Layout, work: &Path) -> Result<()> {
    for module in modules {
        let files = [format!("{module}.c"), "-o".to_owned(), format!("{module}.obj")];
        toolchain::run(Command::new(tools.clang).current_dir(work).args(COMPILE).args(&layout.compile).args(files))?;
    }
    let import_library = ["-m", "i386:x86-64", "-d", "kernel32.def", "-l", "kernel32.lib"];
    toolchain::run(Command::new(tools.dlltool).current_dir(work).args(import_library))
}

fn link(tools: &Toolchain, modules: &[String], layout: &Layout, variant: &str, work: &Path) -> Result<()> {
    let order = layout.order.as_deref().unwrap_or(modules);
    let mut ordered = order.to_vec();
    ordered.sort();
    ensure!(ordered == modules, "the link order names {ordered:?}, the modules are {modules:?}");
    let mut command = Command::new(tools.lld_link);
    command.current_dir(work).args(LINK).args(&layout.link);
    command.arg(format!("/out:{variant}.exe")).arg(format!("/pdb:{variant}.pdb"));
    command.args(order.iter().map(|module| format!("{module}.obj"))).arg("kernel32.lib");
    toolchain::run(&mut command)
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

/// A file that is committed must not tell where it was made.
fn refuse_machine_paths(file: &Path) -> Result<()> {
    let bytes = fs::read(file)?;
    let root = workspace::root();
    let path = root.as_os_str().as_encoded_bytes();
    let found = bytes.windows(path.len()).any(|window| window == path);
    ensure!(!found, "{} contains the path of this workspace", file.display());
    Ok(())
}
