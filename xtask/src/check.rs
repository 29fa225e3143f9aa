//! `cargo xtask test`: everything that has to hold before a change goes in. CI runs exactly this.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::steps::Steps;
use crate::toolchain::{self, Toolchain};
use crate::{binaries, corpus, fixtures, runtime_library, setup, wine, workspace};

type Step = (&'static str, fn() -> Result<()>);

/// They do not build on each other: each is run, whatever became of the ones before.
const STEPS: [Step; 10] = [
    ("format", || cargo("fmt --all --check")),
    ("lints", || cargo("clippy --workspace --all-targets -- -D warnings")),
    ("fixtures", || fixtures::check(&Toolchain::find()?, &[])),
    ("hpgen.exe", || binaries::windows_hpgen().map(drop)),
    ("hpgen_runtime.dll", runtime_library::run),
    // Compares in its own process: a debug build would take minutes.
    ("metamorphic sample", || cargo("run --release --package xtask -- suite metamorphic --sample")),
    ("Microsoft's images, sample", || cargo("run --release --package xtask -- suite msvc --sample")),
    ("mutation sample", || cargo("run --release --package xtask -- suite mutation --sample")),
    ("corpus sample", corpus::test_sample),
    ("tests", || cargo("test --workspace --no-fail-fast")),
];

/// How often the loader's most thorough test patches its own process; a round takes a tenth of a second or so.
const LIVE_ROUNDS: &str = "20";

/// Sets up and runs all steps; says how long each took, and which failed.
pub fn test() -> Result<ExitCode> {
    let mut steps = Steps::default();
    steps.run("set-up, test programs", setup::setup)?;
    let mut failures = Vec::new();
    for (name, step) in STEPS {
        println!("\n=== {name}");
        if let Err(error) = steps.run(name, step) {
            eprintln!("{error:#}");
            failures.push(name);
        }
    }
    // Nothing of Wine stays behind, whatever the tests left running.
    wine::stop()?;
    println!();
    steps.print();
    if failures.is_empty() {
        println!("\nEverything holds.");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nfailed: {}", failures.join(", "));
    Ok(ExitCode::FAILURE)
}

fn cargo(arguments: &str) -> Result<()> {
    let mut command = Command::new("cargo");
    command.current_dir(workspace::root()).args(arguments.split(' '));
    command.env("CARGO_TARGET_DIR", workspace::target());
    // Tests that start Windows programs run only where this is set, so that `cargo test` works on a bare machine too.
    command.env("HPGEN_LIVE", "1").env("HPGEN_LIVE_ROUNDS", LIVE_ROUNDS);
    toolchain::run_visibly(&mut command)
}
