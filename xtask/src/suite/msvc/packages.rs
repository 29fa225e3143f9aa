//! The packages of `testdata/suite/msvc.toml`: fetched by their package managers, checked, and unpacked below `target/suite`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::digest::{self, Inputs};
use crate::setup;
use crate::suite::compile;
use crate::{toolchain, workspace};

/// One package with the versions that are compared, each with the one before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name in the registry.
    pub name: String,
    /// Who fetches it.
    pub manager: Manager,
    /// Where the images are in the archive.
    pub folder: String,
    /// In the order in which they are compared.
    #[serde(rename = "version")]
    pub versions: Vec<Version>,
}

/// One version of a package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Its number.
    pub version: String,
    /// The file that the package manager makes.
    archive: String,
    /// Its digest.
    sha256: String,
    /// The images in the package's folder, each with its PDB beside it.
    pub images: Vec<String>,
    /// Those that are the same program as in the version before.
    #[serde(default)]
    pub noise: BTreeSet<String>,
    /// Images for other processors by the processor's name: paths in the archive.
    #[serde(default)]
    pub foreign: BTreeMap<String, Vec<String>>,
    /// Compared with the tests.
    #[serde(default)]
    pub in_sample: bool,
}

/// A program that fetches packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Node's; its archives are compressed tar files.
    Npm,
    /// Python's; its archives are zip files.
    Pip,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    package: Vec<Package>,
}

/// All packages.
pub fn all() -> Result<Vec<Package>> {
    let file = workspace::testdata().join("suite").join("msvc.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let list: List = toml::from_str(&text).with_context(|| file.display().to_string())?;
    Ok(list.package)
}

impl Manager {
    /// All of them, those that the tests ask first in front.
    pub const ALL: [Manager; 2] = [Manager::Npm, Manager::Pip];

    /// The Debian package that it comes with. pip is by far the smaller.
    pub fn debian_package(self) -> &'static str {
        match self {
            Manager::Npm => "npm",
            Manager::Pip => "python3-pip",
        }
    }

    /// The program, if this machine has it.
    pub fn find(self) -> Option<&'static str> {
        let names: &[&str] = match self {
            // A script there, which has to be named with its extension.
            Manager::Npm if cfg!(windows) => return is_script_here("npm.cmd").then_some("npm.cmd"),
            Manager::Npm => &["npm"],
            Manager::Pip => &["pip3", "pip"],
        };
        names.iter().copied().find(|name| toolchain::find_in_path(name).is_some())
    }

    fn fetch(self, package: &str, version: &str, folder: &Path) -> Result<()> {
        let program = match self.find() {
            Some(program) => program,
            None => {
                setup::install(&[self.debian_package()])?;
                self.find().with_context(|| format!("{self:?} is not in PATH though it was installed"))?
            }
        };
        let mut command = Command::new(program);
        command.current_dir(folder);
        match self {
            Manager::Npm => command.args(["pack", "--silent", &format!("{package}@{version}")]),
            // The version of Python decides between wheels: always the same.
            Manager::Pip => command
                .args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform=win_amd64"])
                .args(["--python-version=3.11", "--implementation=cp", &format!("{package}=={version}")]),
        };
        toolchain::run(&mut command)
    }

    fn unpack(self, archive: &[u8], wanted: &BTreeSet<String>, folder: &Path) -> Result<()> {
        match self {
            Manager::Npm => {
                let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
                for entry in archive.entries()? {
                    let mut entry = entry?;
                    let path = entry.path()?.to_string_lossy().into_owned();
                    if wanted.contains(&path) {
                        write(&folder.join(path), &mut entry)?;
                    }
                }
            }
            Manager::Pip => {
                let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive))?;
                for path in wanted {
                    write(&folder.join(path), &mut archive.by_name(path)?)?;
                }
            }
        }
        Ok(())
    }
}

fn is_script_here(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

fn write(path: &Path, from: &mut impl Read) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

impl Package {
    /// Where one version is unpacked.
    fn unpacked(&self, version: &Version) -> PathBuf {
        folder().join(self.short_name()).join(&version.version)
    }

    /// The name as a folder's.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// An image of a version that is here.
    pub fn image(&self, version: &Version, image: &str) -> PathBuf {
        self.unpacked(version).join(&self.folder).join(image)
    }

    /// A file for another processor.
    pub fn foreign(&self, version: &Version, path: &str) -> PathBuf {
        self.unpacked(version).join(path)
    }

    /// Fetches and unpacks a version, unless it is here.
    pub fn make(&self, version: &Version) -> Result<()> {
        let wanted = self.wanted(version)?;
        let mut inputs = Inputs::default();
        inputs.add("archive", version.sha256.as_bytes());
        for path in &wanted {
            inputs.add(path, &[]);
        }
        let stamp = inputs.hex();
        let unpacked = self.unpacked(version);
        let stamp_file = unpacked.join("stamp");
        if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
            return Ok(());
        }
        let archive = self.archive(version)?;
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked)?;
        }
        self.manager.unpack(&archive, &wanted, &unpacked).with_context(|| version.archive.clone())?;
        if let Some(missing) = wanted.iter().find(|path| !unpacked.join(path).is_file()) {
            bail!("{} has no {missing}", version.archive);
        }
        fs::write(stamp_file, stamp).map_err(Into::into)
    }

    /// What is taken out of the archive: images with their PDBs, and files for other processors.
    fn wanted(&self, version: &Version) -> Result<BTreeSet<String>> {
        let mut wanted: BTreeSet<String> = version.foreign.values().flatten().cloned().collect();
        for image in &version.images {
            let (stem, _) = image.rsplit_once('.').with_context(|| format!("{image} has no extension"))?;
            wanted.insert(format!("{}/{image}", self.folder));
            wanted.insert(format!("{}/{stem}.pdb", self.folder));
        }
        Ok(wanted)
    }

    /// The archive's bytes, which have the digest that they should have.
    fn archive(&self, version: &Version) -> Result<Vec<u8>> {
        let folder = folder().join("archives");
        fs::create_dir_all(&folder)?;
        let file = folder.join(&version.archive);
        // One that was cut off or has another digest is fetched once more.
        let is_right = |bytes: &Vec<u8>| digest::of(bytes) == version.sha256;
        if let Some(bytes) = fs::read(&file).ok().filter(is_right) {
            return Ok(bytes);
        }
        println!("fetching {} {}", self.name, version.version);
        self.manager.fetch(&self.name, &version.version, &folder)?;
        let bytes = fs::read(&file).with_context(|| format!("no {} was fetched", version.archive))?;
        ensure!(
            is_right(&bytes),
            "{} has the digest {}, and not {}",
            version.archive,
            digest::of(&bytes),
            version.sha256
        );
        Ok(bytes)
    }
}

fn folder() -> PathBuf {
    compile::folder().join("msvc")
}
