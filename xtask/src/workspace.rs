//! Where things are in this workspace.

use std::path::{Path, PathBuf};

/// The workspace's root folder.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The committed sources and fixtures.
pub fn testdata() -> PathBuf {
    root().join("testdata")
}

/// Cargo's output folder. Always the workspace's own, so that tests and CI find things in one place.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Where the test programs are built: `<program>/<variant>/<program>.exe` below it.
pub fn built_programs() -> PathBuf {
    target().join("testdata")
}

/// The built program `name` in one of its variants: `old`, `new` or `relinked`.
pub fn program(name: &str, variant: &str) -> PathBuf {
    built_programs().join(name).join(variant).join(format!("{name}.exe"))
}

/// The committed image of a fixture in one of its variants: `old` or `new`.
pub fn fixture(name: &str, variant: &str) -> PathBuf {
    testdata().join("fixtures").join(name).join(format!("{variant}.exe"))
}
