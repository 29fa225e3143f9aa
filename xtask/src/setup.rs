//! `cargo xtask setup`: makes a machine able to build and test everything. Each step looks before it does something.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::sources::Sources;
use crate::suite::msvc::Manager;
use crate::toolchain::{self, Toolchain};
use crate::{corpus, programs, wine};

/// Debian packages: Wine, the compilers, and mingw-w64's C runtime and linker for Rust's `windows-gnu` target.
const PACKAGES: [&str; 8] = [
    "wine64",
    "wine",
    "clang-19",
    "lld-19",
    "llvm-19",
    "gcc-mingw-w64-x86-64",
    "g++-mingw-w64-x86-64",
    "mingw-w64-x86-64-dev",
];

/// Rust targets: the first is what hpgen's Windows build and the runtime are made for here.
const RUST_TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "x86_64-pc-windows-msvc"];

/// The standard library's source is for `cargo xtask runtime`.
const RUST_COMPONENTS: [&str; 3] = ["clippy", "rustfmt", "rust-src"];

/// Package mirrors fail now and then.
const APT_ATTEMPTS: u32 = 3;

/// Does all steps.
pub fn setup() -> Result<()> {
    machine()?;
    Sources::fetch()?;
    println!("third-party sources: here");
    if !cfg!(windows) {
        corpus::set_up()?;
        println!("sources of the corpus's sample: here");
    }
    programs::build_all(&Toolchain::find()?)
}

/// Installs what programs of any kind are built and run with.
pub fn machine() -> Result<()> {
    if !cfg!(windows) {
        packages()?;
    }
    rust()?;
    if wine::is_native() { Ok(()) } else { prefix() }
}

fn packages() -> Result<()> {
    let mut wanted = PACKAGES.to_vec();
    // The tests fetch images that Microsoft's compiler made.
    if Manager::ALL.into_iter().all(|manager| manager.find().is_none()) {
        wanted.push(Manager::Pip.debian_package());
    }
    install(&wanted)
}

/// Installs Debian packages that are missing. Elsewhere what they bring must be there.
pub fn install(wanted: &[&'static str]) -> Result<()> {
    if toolchain::find_in_path("dpkg-query").is_none() {
        println!("packages: not a Debian system, nothing is installed; the tools must be in PATH");
        return Ok(());
    }
    let missing: Vec<_> = wanted.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        println!("packages: all are here");
        return Ok(());
    }
    println!("packages: installing {}", missing.join(" "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat())
}

fn is_installed(package: &str) -> bool {
    let query = toolchain::output(Command::new("dpkg-query").args(["--show", "--showformat=${Status}", package]));
    query.is_ok_and(|status| status.ends_with("ok installed"))
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut attempt = 1;
    loop {
        let mut command = as_root("apt-get")?;
        match toolchain::run(command.arg("--quiet").args(arguments)) {
            Err(error) if attempt < APT_ATTEMPTS => {
                println!("packages: trying again after: {error:#}")
            }
            result => return result,
        }
        thread::sleep(Duration::from_secs(5) * attempt);
        attempt += 1;
    }
}

/// A command that runs with root's rights: directly, or through sudo without a question.
fn as_root(program: &str) -> Result<Command> {
    const NO_QUESTIONS: &str = "DEBIAN_FRONTEND=noninteractive";
    let user = toolchain::output(Command::new("id").arg("-u")).context("cannot tell who runs this")?;
    let mut command = match user.trim() {
        "0" => Command::new("env"),
        _ if toolchain::find_in_path("sudo").is_some() => {
            let mut sudo = Command::new("sudo");
            sudo.args(["--non-interactive", "env"]);
            sudo
        }
        _ => bail!("packages are missing, and this is neither root nor is there sudo: run `{program}` as root first"),
    };
    command.args([NO_QUESTIONS, program]);
    Ok(command)
}

/// What rustup has: the Windows targets, and what the lints need, which a minimal installation of Rust lacks.
fn rust() -> Result<()> {
    if toolchain::find_in_path("rustup").is_none() {
        println!("Rust: no rustup here, so these must be installed already: {}", RUST_TARGETS.join(" "));
        return Ok(());
    }
    rustup("target", &RUST_TARGETS)?;
    rustup("component", &RUST_COMPONENTS)
}

fn rustup(kind: &str, wanted: &[&str]) -> Result<()> {
    let installed = toolchain::output(Command::new("rustup").args([kind, "list", "--installed"]))?;
    // Components are listed with the machine's own target behind their name.
    let is_missing = |name: &&&str| !installed.lines().any(|line| line.starts_with(**name));
    let missing: Vec<_> = wanted.iter().filter(is_missing).collect();
    if missing.is_empty() {
        println!("Rust {kind}s: all are here");
        return Ok(());
    }
    println!("Rust {kind}s: installing {missing:?}");
    toolchain::run(Command::new("rustup").args([kind, "add"]).args(missing))
}

fn prefix() -> Result<()> {
    if wine::is_made() {
        println!("Wine prefix: here");
        return Ok(());
    }
    let place = wine::prefix();
    println!("Wine prefix: making it");
    std::fs::create_dir_all(place.parent().unwrap_or(Path::new(".")))?;
    wine::make_prefix()
}
