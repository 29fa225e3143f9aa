//! Binary patches of other people's tools, to compare payloads with. Each tool is asked for its smallest.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::toolchain;

/// Debian packages of the others.
pub const PACKAGES: [&str; 3] = ["zstd", "bsdiff", "xdelta3"];

/// A way to say how one image becomes another.
#[derive(Debug)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Settings of which one or another gives the smallest patch.
    settings: &'static [&'static [&'static str]],
    /// What it is called with: a setting, the old image, the new one, and the file to write.
    command: fn(&[&str], &Path, &Path, &Path) -> Command,
}

/// The others.
pub const OTHERS: [Tool; 3] = [
    // The highest level is not always the best one.
    Tool { name: "zstd", settings: &[&["-19"], &["--ultra", "-22"]], command: zstd },
    Tool { name: "bsdiff", settings: &[&[]], command: bsdiff },
    Tool { name: "xdelta3", settings: &[&["-S", "lzma"], &["-S", "djw"], &["-S", "none"]], command: xdelta3 },
];

fn zstd(setting: &[&str], old: &Path, new: &Path, patch: &Path) -> Command {
    let mut command = Command::new("zstd");
    command.args(["--quiet", "--force", "--no-check"]).args(setting);
    command.arg(format!("--patch-from={}", old.display())).arg(new).arg("-o").arg(patch);
    command
}

fn bsdiff(_: &[&str], old: &Path, new: &Path, patch: &Path) -> Command {
    let mut command = Command::new("bsdiff");
    command.args([old, new, patch]);
    command
}

fn xdelta3(setting: &[&str], old: &Path, new: &Path, patch: &Path) -> Command {
    let mut command = Command::new("xdelta3");
    // Neither checksums nor the files' names.
    command.args(["-e", "-q", "-f", "-9", "-n", "-A"]).args(setting).arg("-s").args([old, new, patch]);
    command
}

/// The sizes of the patches that turn `old` into `new`, in bytes, in the order of [`OTHERS`]. They are written beside `stem`.
pub fn sizes(old: &Path, new: &Path, stem: &Path) -> Result<[u64; OTHERS.len()]> {
    let mut sizes = [0; OTHERS.len()];
    for (tool, bytes) in OTHERS.iter().zip(&mut sizes) {
        let patch = stem.with_extension(tool.name);
        let tried = tool.settings.iter().map(|setting| {
            toolchain::run(&mut (tool.command)(setting, old, new, &patch))?;
            size(&patch)
        });
        *bytes = tried.collect::<Result<Vec<_>>>()?.into_iter().min().context("a tool without settings")?;
    }
    Ok(sizes)
}

/// The size of a file.
pub fn size(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len())
}
