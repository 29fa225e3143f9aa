//! The third-party C sources, which Cargo fetches as parts of packages (`testdata/sources/Cargo.toml`).

use std::collections::BTreeMap;
use std::fs;
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
        Self::of(&workspace::testdata().join("sources").join("Cargo.toml"), &["--locked"])
    }

    /// One version of a package, downloaded if it is not here yet.
    pub fn release(package: &str, version: &str) -> Result<PathBuf> {
        let folder = workspace::target().join("release-jump").join("sources").join(format!("{package}-{version}"));
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("src").join("lib.rs"), "")?;
        let dependency = format!("{package} = {{ version = \"={version}\", default-features = false }}");
        let about = "[package]\nname = \"hpgen-release-sources\"\nversion = \"0.0.0\"\nedition = \"2024\"";
        let manifest = folder.join("Cargo.toml");
        fs::write(&manifest, format!("{about}\n\n[dependencies]\n{dependency}\n\n[workspace]\n"))?;
        Ok(Self::of(&manifest, &[])?.package(package)?.to_path_buf())
    }

    fn of(manifest: &Path, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new("cargo");
        command.args(["metadata", "--format-version=1"]).args(flags).arg("--manifest-path").arg(manifest);
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
