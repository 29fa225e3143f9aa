//! Runs the `hpgen` binary as a person does, in a folder of its own that holds a fixture's files.
//!
//! What it prints names files only as they were given. With relative paths and the files in the current folder, nothing of
//! the machine gets into it, so that goldens need no normalising; colours, which depend on the environment, are off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `hpgen` in a folder.
pub fn hpgen(folder: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_hpgen"))
        .args(["--color", "never"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("hpgen starts");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
    }
}

/// Where the committed files of a fixture are.
pub fn fixture(name: &str) -> PathBuf {
    fixtures().join(name)
}

/// Where the fixtures are.
pub fn fixtures() -> PathBuf {
    xtask::workspace::testdata().join("fixtures")
}

/// A new folder with the images and PDBs of a fixture.
pub fn copy_of(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["old.exe", "old.pdb", "new.exe", "new.pdb"] {
        fs::copy(fixture(name).join(file), folder.path().join(file)).expect("the fixture is complete");
    }
    folder
}
