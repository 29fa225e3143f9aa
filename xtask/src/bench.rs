//! `cargo xtask bench`: for how long threads stand still when a patch goes in and out, by the number of its functions and of threads.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{binaries, child, wine};

/// A hundred rounds of the largest case take some seconds on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Measures and prints a table.
pub fn run(rounds: u32) -> Result<()> {
    let host = binaries::optimised_windows_example("hpgen-runtime", "live_host", &[])?;
    let ended = child::run(wine::command(host).args(["bench", &rounds.to_string()]), PATIENCE)?;
    ensure!(ended.code == Some(0), "the measurement failed: {ended}");
    println!(
        "{rounds} applies and as many rollbacks each, in process, {}",
        if wine::is_native() { "on Windows" } else { "under Wine" }
    );
    print!("{}", ended.stdout);
    Ok(())
}
