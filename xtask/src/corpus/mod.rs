//! `cargo xtask corpus`: security fixes that were made to real libraries, as payloads for processes that run.
//!
//! Each case is a patch of a Debian source package. The baseline is the package with all patches before it; nothing of
//! anybody's source is committed, or changed other than by that patch. What a refused fix is refused for is a result too.

mod author;
mod build;
mod live;
pub mod manifest;
mod outcome;
mod sources;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use self::build::{Program, Tree};
use self::manifest::{Build, Case, Manifest};
use self::outcome::Outcome;
use self::sources::Package;
use crate::digest::{self, Inputs};
use crate::live::Hpgen;
use crate::toolchain::Toolchain;
use crate::{binaries, setup, wine, workspace};

/// Which cases, and whether again.
#[derive(Debug)]
pub struct Selection {
    /// Cases with one of these in their name; all if there is none.
    pub names: Vec<String>,
    /// Also those whose outcome is known.
    pub again: bool,
    /// Not in a process.
    pub authoring_only: bool,
}

impl Selection {
    fn has(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Does all cases that are selected and whose outcome is not known, and writes the table.
pub fn run(selection: &Selection) -> Result<ExitCode> {
    setup::machine()?;
    setup::install(&["dpkg-dev", "patch"])?;
    let manifests = manifest::all()?;
    let corpus = Corpus::prepare(&manifests)?;
    let mut failed = Vec::new();
    let mut outcomes = Vec::new();
    for (name, manifest) in &manifests {
        for case in &manifest.cases {
            let name = format!("{name}-{}", case.cve);
            let file = outcome::file(&name);
            let known = Outcome::read(&file);
            if !selection.has(&name) {
                outcomes.extend(known);
                continue;
            }
            let stamp = corpus.stamp(manifest, case)?;
            let outcome = match known {
                Some(known) if known.stamp == stamp && known.is_sound() && !selection.again => known,
                _ => {
                    let outcome = corpus.perform(&name, manifest, case, stamp, selection);
                    println!("corpus: {name}: {}", outcome.summary());
                    outcome.write(&file)?;
                    outcome
                }
            };
            if !outcome.is_sound() {
                failed.push(name);
            }
            outcomes.push(outcome);
        }
    }
    wine::stop()?;
    table::write(&outcomes)?;
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nfailed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// What all cases need.
struct Corpus<'a> {
    manifests: &'a BTreeMap<String, Manifest>,
    tools: Toolchain,
    authoring: Hpgen,
    windows: Hpgen,
    /// Digest of the tool.
    hpgen: String,
}

impl<'a> Corpus<'a> {
    fn prepare(manifests: &'a BTreeMap<String, Manifest>) -> Result<Self> {
        let native = binaries::native_hpgen()?;
        let hpgen = digest::of(&fs::read(&native)?);
        let windows = Hpgen::for_windows()?;
        Ok(Self { manifests, tools: Toolchain::find()?, authoring: Hpgen::native(native), windows, hpgen })
    }

    fn stamp(&self, manifest: &Manifest, case: &Case) -> Result<String> {
        let mut inputs = Inputs::default();
        inputs.add("hpgen", self.hpgen.as_bytes()).add("tools", self.tools.versions.as_bytes());
        let text = serde_json::to_vec(&(&manifest.library, &manifest.source, &manifest.build, case))?;
        inputs.add("case", &text).add("driver", &fs::read(manifest.driver())?);
        inputs.add("driver.h", &fs::read(manifest::folder().join("driver.h"))?);
        Ok(inputs.hex())
    }

    /// Does one case. What goes wrong is a part of the outcome.
    fn perform(&self, name: &str, manifest: &Manifest, case: &Case, stamp: String, selection: &Selection) -> Outcome {
        let mut outcome = Outcome {
            stamp,
            library: manifest.library.clone(),
            version: manifest.source.version.clone(),
            case: case.clone(),
            authoring: None,
            live: None,
            failure: None,
        };
        if let Err(error) = self.try_perform(name, manifest, &mut outcome, selection) {
            outcome.failure = Some(format!("{error:#}"));
        }
        outcome
    }

    fn try_perform(&self, name: &str, manifest: &Manifest, outcome: &mut Outcome, selection: &Selection) -> Result<()> {
        let folder = workspace::target().join("corpus").join("cases").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let case = outcome.case.clone();
        self.make(manifest, &case, &folder).context("cannot build the two programs")?;
        let [old, new, payload] = ["old.exe", "new.exe", "fix.hpx"].map(|file| folder.join(file));
        let authoring = author::author(&self.authoring, &old, &new, &payload)?;
        let hotpatchable = authoring.verdict == "hotpatchable";
        outcome.authoring = Some(authoring);
        if let (true, false, Some(live)) = (hotpatchable, selection.authoring_only, &case.live) {
            outcome.live = Some(live::prove(&self.windows, &folder, live).context("live")?);
        }
        Ok(())
    }

    /// Makes `old.exe` and `new.exe` in `folder`. Sources and objects are gone afterwards: hpgen has images and PDBs only,
    /// as of a release that somebody else built.
    fn make(&self, manifest: &Manifest, case: &Case, folder: &Path) -> Result<()> {
        let source = folder.join("source");
        let package = Package::fetch(&manifest.source)?;
        package.baseline(case, &source.join("library"))?;
        for name in &manifest.build.needs {
            Package::fetch(&self.needed(name)?.source)?.whole(&source.join(name))?;
        }
        self.compile(manifest, &source, &folder.join("old.exe"))?;
        package.fix(case, &source.join("library"))?;
        self.compile(manifest, &source, &folder.join("new.exe"))?;
        fs::remove_dir_all(&source)?;
        Ok(())
    }

    fn compile(&self, manifest: &Manifest, source: &Path, output: &PathBuf) -> Result<()> {
        let mut parts: Vec<(&str, &Build)> = vec![("library", &manifest.build)];
        for name in &manifest.build.needs {
            parts.push((name, &self.needed(name)?.build));
        }
        let trees: Vec<_> = parts.into_iter().map(|(part, build)| Tree { folder: source, part, build }).collect();
        for tree in &trees {
            tree.configure()?;
        }
        Program { manifest, trees, output }.make(&self.tools)
    }

    fn needed(&self, name: &str) -> Result<&Manifest> {
        self.manifests.get(name).with_context(|| format!("there is no corpus/{name}.toml"))
    }
}
