//! `cargo xtask bless`: accepts what `hpgen` prints now as the goldens of the fixtures. The diff is to be reviewed.

use std::process::Command;

use anyhow::Result;

use crate::{toolchain, workspace};

/// Runs the golden tests so that they rewrite what differs.
pub fn bless() -> Result<()> {
    let mut command = Command::new("cargo");
    command.current_dir(workspace::root()).args([
        "test",
        "--quiet",
        "--package",
        "hpgen",
        "--test",
        "golden",
        "goldens",
    ]);
    toolchain::run_visibly(command.env("HPGEN_BLESS", "1"))
}
