//! Finding the compilers and running commands so that a failure tells what was run and what it said.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

/// The tools that build the test programs and fixtures: names, not paths, because a PDB records how its linker was called.
pub struct Toolchain {
    /// clang, which compiles and drives the mingw-w64 linker.
    pub clang: &'static str,
    /// lld as Microsoft's `link.exe`.
    pub lld_link: &'static str,
    /// Makes import libraries.
    pub dlltool: &'static str,
    /// What `-fuse-ld=` has to name.
    pub linker_name: &'static str,
    /// The versions of all of them, one a line.
    pub versions: String,
}

impl Toolchain {
    /// Finds the tools in the search path, those of the version that the fixtures were made with first.
    pub fn find() -> Result<Self> {
        let clang = tool(&["clang-19", "clang"])?;
        let lld_link = tool(&["lld-link-19", "lld-link"])?;
        let dlltool = tool(&["llvm-dlltool-19", "llvm-dlltool"])?;
        let linker_name = if find_in_path("ld.lld-19").is_some() { "lld-19" } else { "lld" };
        let versions = format!("{}{}", version(clang)?, version(lld_link)?);
        Ok(Self { clang, lld_link, dlltool, linker_name, versions })
    }
}

/// The first of `names` that is in the search path.
pub fn tool(names: &[&'static str]) -> Result<&'static str> {
    let mut found = names.iter().copied().filter(|name| find_in_path(name).is_some());
    found.next().with_context(|| format!("{} not found in PATH; `cargo xtask setup` installs it", names.join(" or ")))
}

/// Looks for a program in the search path.
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&file)).find(|path| path.is_file())
}

/// What a tool says of itself, in one line.
pub fn version(tool: &str) -> Result<String> {
    let text = output(Command::new(tool).arg("--version"))?;
    Ok(text.lines().next().map(|line| format!("{line}\n")).unwrap_or_default())
}

/// Runs a command with its output captured; a failure carries that output.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a command and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot start {}", describe(command)))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        bail!("{}\nfailed ({status}):\n{stdout}{stderr}", describe(command));
    }
    Ok(stdout)
}

/// Runs a command that a person watches: its output goes where ours goes.
pub fn run_visibly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", describe(command)))?;
    ensure!(status.success(), "{} failed ({status})", describe(command));
    Ok(())
}

/// The command as one would type it, nearly.
pub fn describe(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
