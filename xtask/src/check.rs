//! `cargo xtask test`: everything that has to hold before a change goes in. CI runs exactly this.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::toolchain::{self, Toolchain};
use crate::{fixtures, setup, wine, workspace};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 6] = [
    ("setup", setup::setup),
    ("format", || cargo("fmt --all --check")),
    ("lints", || cargo("clippy --workspace --all-targets -- -D warnings")),
    ("hpgen for Windows", || cargo("build --release --package hpgen --target x86_64-pc-windows-gnu")),
    ("fixtures", || fixtures::check(&Toolchain::find()?, &[])),
    ("tests", || cargo("test --workspace")),
];

/// Runs all steps up to the first that fails, and says how long each took.
pub fn test() -> Result<ExitCode> {
    let mut times = Vec::new();
    let mut result = Ok(());
    for (name, step) in STEPS {
        println!("=== {name}");
        let start = Instant::now();
        result = step();
        times.push((name, start.elapsed()));
        if result.is_err() {
            break;
        }
    }
    // Nothing of Wine stays behind, whatever the tests left running.
    let stopped = wine::stop();
    print_times(&times);
    if let Err(error) = result.and(stopped) {
        eprintln!("{error:#}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn cargo(arguments: &str) -> Result<()> {
    let mut command = Command::new("cargo");
    command.current_dir(workspace::root()).args(arguments.split(' '));
    // Tests that start Windows programs run only where this is set, so that `cargo test` works on a bare machine too.
    command.env("HPGEN_LIVE", "1").env("CARGO_TARGET_DIR", workspace::target());
    toolchain::run_visibly(&mut command)
}

fn print_times(times: &[(&str, Duration)]) {
    println!("\n{:<20} {:>8}", "step", "seconds");
    for (name, time) in times {
        println!("{name:<20} {:>8.1}", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    println!("{:<20} {:>8.1}", "total", total.as_secs_f64());
}
