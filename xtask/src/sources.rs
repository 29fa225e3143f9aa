//! The third-party C sources, which Cargo fetches as parts of packages (`testdata/sources/Cargo.toml`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{toolchain, workspace};

/// The folders of the fetched packages, by name.
pub struct Sources(BTreeMap<String, PathBuf>);

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

impl Sources {
    /// Downloads what is not here yet, and says where everything is.
    pub fn fetch() -> Result<Self> {
        let manifest = workspace::testdata().join("sources").join("Cargo.toml");
        let mut command = Command::new("cargo");
        command.args(["metadata", "--format-version=1", "--locked", "--manifest-path"]).arg(&manifest);
        let metadata: Metadata = serde_json::from_str(&toolchain::output(&mut command)?)?;
        let folder = |path: PathBuf| path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self(metadata.packages.into_iter().map(|package| (package.name, folder(package.manifest_path))).collect()))
    }

    /// The folder of one package.
    pub fn package(&self, name: &str) -> Result<&Path> {
        let folder = self.0.get(name).with_context(|| format!("testdata/sources/Cargo.toml has no package {name}"))?;
        Ok(folder)
    }
}
