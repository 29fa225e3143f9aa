//! What is built of hpgen to be run: the tool for this system and for Windows, the loader's test program, and two helpers
//! that Wine makes necessary (`testdata/wine`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::msvc_abi::MsvcAbi;
use crate::toolchain::{self, Toolchain};
use crate::{wine, workspace};

/// The Rust target of hpgen's Windows build on other systems.
const TARGET: &str = "x86_64-pc-windows-gnu";

/// That of Windows machines themselves.
const NATIVE_TARGET: &str = "x86_64-pc-windows-msvc";

/// Rust's standard library asks this DLL of Windows for random numbers; Wine 8 lacks it.
const PROCESS_PRNG: &str = "bcryptprimitives.dll";

/// Builds the release `hpgen` for this system, if it is not up to date.
pub fn native_hpgen() -> Result<PathBuf> {
    toolchain::run_visibly(cargo("build").args(HPGEN))?;
    Ok(workspace::target().join("release").join(format!("hpgen{}", std::env::consts::EXE_SUFFIX)))
}

/// Builds the release `hpgen.exe`, if it is not up to date, with what it needs under Wine beside it.
pub fn windows_hpgen() -> Result<PathBuf> {
    let mut build = cargo("build");
    build.args(HPGEN);
    let output = output_folder(&mut build, "release");
    toolchain::run_visibly(&mut build)?;
    place_process_prng(&output)?;
    Ok(output.join("hpgen.exe"))
}

/// Builds an example of a package for Windows, not optimised, with these features besides the default ones.
pub fn windows_example(package: &str, name: &str, features: &[&str]) -> Result<PathBuf> {
    example("debug", package, name, &["--features", &features.join(",")])
}

/// The same, optimised, for what is measured.
pub fn optimised_windows_example(package: &str, name: &str, features: &[&str]) -> Result<PathBuf> {
    example("release", package, name, &["--release", "--features", &features.join(",")])
}

fn example(profile: &str, package: &str, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let mut build = cargo("build");
    build.args(["--quiet", "--package", package, "--example", name]).args(flags);
    let output = output_folder(&mut build, profile).join("examples");
    toolchain::run_visibly(&mut build)?;
    place_process_prng(&output)?;
    Ok(output.join(format!("{name}.exe")))
}

/// Builds an example of a package for Windows with a PDB, as programs are released, with more flags for its own compilation. What was
/// built before is overwritten.
pub fn windows_example_with_pdb(package: &str, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let mut build = cargo("rustc");
    build.args(["--quiet", "--release", "--target", NATIVE_TARGET, "--package", package, "--example", name]);
    if !wine::is_native() {
        let tools = Toolchain::find()?;
        let libraries = MsvcAbi::make(&tools)?;
        build.env("CARGO_TARGET_X86_64_PC_WINDOWS_MSVC_LINKER", tools.lld_link);
        build.env("CARGO_ENCODED_RUSTFLAGS", format!("-Lnative={}", libraries.folder().display()));
    }
    toolchain::run_visibly(build.arg("--").args(flags))?;
    Ok(workspace::target().join(NATIVE_TARGET).join("release").join("examples").join(format!("{name}.exe")))
}

/// A call of cargo for Windows, and the folder where a profile's results will be, with what they need under Wine in it. The target is always
/// named, as some options want it.
pub fn cargo_for_windows(command: &str, profile: &str) -> Result<(Command, PathBuf)> {
    let target = if wine::is_native() { NATIVE_TARGET } else { TARGET };
    let mut cargo = cargo(command);
    cargo.args(["--target", target]);
    let folder = workspace::target().join(target).join(profile);
    fs::create_dir_all(&folder)?;
    place_process_prng(&folder)?;
    Ok((cargo, folder))
}

/// Builds the program that tells the process id of what it starts; see `testdata/wine/launch.c`.
pub fn launcher() -> Result<PathBuf> {
    let folder = workspace::built_programs().join("wine");
    fs::create_dir_all(&folder)?;
    let program = folder.join("launch.exe");
    helper("launch.c", &program, &[])?;
    Ok(program)
}

/// Puts the DLL that Rust programs miss under Wine into `folder`. Windows has it.
pub fn place_process_prng(folder: &Path) -> Result<()> {
    if wine::is_native() {
        return Ok(());
    }
    helper("process_prng.c", &folder.join(PROCESS_PRNG), &["-shared", "-ladvapi32"])
}

const HPGEN: [&str; 6] = ["--quiet", "--release", "--package", "hpgen", "--bin", "hpgen"];

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).env("CARGO_TARGET_DIR", workspace::target()).arg(command);
    cargo
}

/// Adds the target, which on Windows is the machine's own, and returns where the profile's results will be.
fn output_folder(cargo: &mut Command, profile: &str) -> PathBuf {
    if wine::is_native() {
        return workspace::target().join(profile);
    }
    cargo.args(["--target", TARGET]);
    workspace::target().join(TARGET).join(profile)
}

/// Compiles a file of `testdata/wine`, if what it gives is older than it.
fn helper(source: &str, output: &Path, flags: &[&str]) -> Result<()> {
    // Tests that run at the same time want the same one.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let source = workspace::testdata().join("wine").join(source);
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    if modified(output).is_ok_and(|output| modified(&source).is_ok_and(|source| source <= output)) {
        return Ok(());
    }
    let tools = Toolchain::find()?;
    // Renamed when it is complete: programs that run may use the one that is there.
    let fresh = output.with_extension(format!("{}.tmp", process::id()));
    let mut command = Command::new(tools.clang);
    command
        .args(["--target=x86_64-w64-windows-gnu", "-O1", "-Wall", &format!("-fuse-ld={}", tools.linker_name)])
        .arg(&source)
        .arg("-o")
        .arg(&fresh)
        .args(flags);
    toolchain::run(&mut command)?;
    fs::rename(&fresh, output).with_context(|| format!("cannot write {}", output.display()))
}
