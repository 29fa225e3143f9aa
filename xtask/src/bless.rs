//! `cargo xtask bless`: accepts what `hpgen` prints now as the goldens of the fixtures and the example of `FORMAT.md`. The diff is to be reviewed.

use std::process::Command;

use anyhow::Result;

use crate::{toolchain, workspace};

/// Runs the golden tests so that they rewrite what differs.
pub fn bless() -> Result<()> {
    for (package, tests, name) in
        [("hpgen", "golden", "goldens"), ("hpgen-runtime", "format", "the_example_of_the_specification")]
    {
        let mut command = Command::new("cargo");
        command.current_dir(workspace::root());
        command.args(["test", "--quiet", "--package", package, "--test", tests, name]);
        toolchain::run_visibly(command.env("HPGEN_BLESS", "1"))?;
    }
    Ok(())
}
