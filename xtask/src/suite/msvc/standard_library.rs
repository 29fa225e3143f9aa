//! Rust's standard library for Windows: rustc's code, linked by Microsoft's linker, with its PDB. The Windows target brings it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::toolchain;

/// The active toolchain's `std-*.dll`.
pub fn image() -> Result<PathBuf> {
    let root = toolchain::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let folder = Path::new(root.trim()).join("lib/rustlib/x86_64-pc-windows-msvc/lib");
    let files = fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}; `cargo xtask setup` installs the target", folder.display()))?;
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("std-") && name.ends_with(".dll")
    };
    let paths = files.filter_map(|entry| Some(entry.ok()?.path()));
    paths.into_iter().find(is_wanted).with_context(|| format!("no std-*.dll in {}", folder.display()))
}
