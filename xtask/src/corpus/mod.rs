//! `cargo xtask corpus`: security fixes that were made to real libraries, as payloads for processes that run.
//!
//! Each case is a patch of a Debian source package. The baseline is the package with all patches before it; nothing of
//! anybody's source is committed, or changed other than by that patch. What a refused fix is refused for is a result too.

mod author;
mod bars;
mod build;
mod committed;
mod definitions;
pub mod flavour;
mod live;
pub mod manifest;
mod outcome;
mod places;
mod sources;
mod table;
mod touched;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};

use self::build::{Program, Tree};
use self::flavour::Flavour;
use self::manifest::{Build, Case, Manifest};
use self::outcome::{Answered, Outcome};
use self::sources::Package;
use self::touched::Touched;
use crate::digest::{self, Inputs};
use crate::live::Hpgen;
use crate::toolchain::Toolchain;
use crate::{binaries, binary_patches, jobs, setup, wine, workspace};

/// A case of every kind, done by `cargo xtask test`: a check that was missing, a state and a string that are new, a function
/// that is new, a size, C++, and a structure that grew, which is refused. With each, whether it is hotpatchable.
const SAMPLE: [(&str, bool); 6] = [
    ("cjson-CVE-2023-53154", true),
    ("expat-2.2-CVE-2024-50602", true),
    ("expat-2.2-CVE-2022-25236", true),
    ("giflib-CVE-2026-26740", true),
    ("tinyxml-CVE-2021-42260", true),
    ("zlib-CVE-2018-25032", false),
];

fn in_sample(name: &str) -> Option<bool> {
    SAMPLE.iter().find(|(wanted, _)| *wanted == name).map(|(_, hotpatchable)| *hotpatchable)
}

/// Which cases, and whether again.
#[derive(Debug)]
pub struct Selection {
    /// Cases with one of these in their name; all if there is none.
    pub names: Vec<String>,
    /// Also those whose outcome is known.
    pub again: bool,
    /// Not in a process.
    pub authoring_only: bool,
    /// Only a few, all of which must be as they always were; the table is left alone.
    pub sample: bool,
    /// How they are compiled.
    pub flavours: Vec<Flavour>,
}

impl Selection {
    fn has(&self, name: &str, flavour: Flavour) -> bool {
        let sample = !self.sample || in_sample(name).is_some();
        let named = self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()));
        sample && named && self.flavours.contains(&flavour)
    }
}

/// A case, compiled in one way.
struct Task<'a> {
    name: String,
    manifest: &'a Manifest,
    case: &'a Case,
    flavour: Flavour,
}

impl Task<'_> {
    /// Fetches its sources, if they are not here.
    fn fetch(&self, manifests: &BTreeMap<String, Manifest>) -> Result<()> {
        Package::fetch(&self.manifest.source)?;
        self.manifest.build.needs.iter().try_for_each(|name| {
            Package::fetch(&needed(manifests, name)?.source)?;
            Ok(())
        })
    }
}

fn tasks<'a>(manifests: &'a BTreeMap<String, Manifest>) -> Vec<Task<'a>> {
    let mut tasks = Vec::new();
    for flavour in Flavour::ALL {
        for (name, manifest) in manifests {
            let of = |case: &'a Case| Task { name: format!("{name}-{}", case.cve), manifest, case, flavour };
            tasks.extend(manifest.cases.iter().map(of));
        }
    }
    tasks
}

/// Does all cases that are selected and whose outcome is not known, and writes the table.
pub fn run(selection: &Selection) -> Result<ExitCode> {
    prepare_machine()?;
    let manifests = manifest::all()?;
    let corpus = Corpus::prepare(&manifests)?;
    let tasks = tasks(&manifests);
    let selected: Vec<_> = tasks.iter().filter(|task| selection.has(&task.name, task.flavour)).collect();
    for task in &selected {
        task.fetch(&manifests)?;
    }
    let done = AtomicUsize::new(0);
    jobs::run_all(&selected, |task| {
        let file = outcome::file(&task.name, task.flavour);
        let stamp = corpus.stamp(task)?;
        let is_known = Outcome::read(&file)
            .is_some_and(|known| known.stamp == stamp && known.is_whole(selection.authoring_only) && !selection.again);
        let number = done.fetch_add(1, Ordering::Relaxed) + 1;
        if !is_known {
            let outcome = corpus.perform(task, stamp, selection);
            let (name, flavour, all) = (&task.name, task.flavour.name(), selected.len());
            println!("corpus: {number} of {all}: {name} {flavour}: {}", outcome.summary());
            outcome.write(&file)?;
        }
        Ok(())
    })?;
    wine::stop()?;
    let mut failed = Vec::new();
    for task in &selected {
        let outcome = Outcome::read(&outcome::file(&task.name, task.flavour));
        let wrong = selection.sample && in_sample(&task.name) != outcome.as_ref().map(Outcome::is_hotpatchable);
        if wrong || !outcome.is_some_and(|outcome| outcome.is_sound()) {
            failed.push(format!("{} {}", task.name, task.flavour.name()));
        }
    }
    if !selection.sample {
        write_table(&tasks)?;
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nfailed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Writes what became of all cases, here and on other machines.
fn write_table(tasks: &[Task<'_>]) -> Result<()> {
    for flavour in Flavour::ALL {
        let mut committed = committed::read(flavour)?;
        let outcomes = tasks.iter().filter(|task| task.flavour == flavour).filter_map(|task| {
            let elsewhere = committed.remove(&task.name).filter(|outcome| outcome.case == *task.case);
            let is_better = |here: &Outcome| here.is_whole(false) || elsewhere.is_none();
            let here = Outcome::read(&outcome::file(&task.name, flavour)).filter(is_better);
            let outcome = here.map(|here| committed::form_of(flavour, here)).or(elsewhere)?;
            Some((task.name.clone(), outcome))
        });
        let outcomes = outcomes.collect();
        committed::write(flavour, outcomes)?;
    }
    table::write(&table_of(tasks)?)
}

/// The table of the outcomes that are committed.
fn table_of(tasks: &[Task<'_>]) -> Result<String> {
    let (mut outcomes, mut not_run) = (Vec::new(), Vec::new());
    for flavour in Flavour::ALL {
        let mut committed = committed::read(flavour)?;
        for task in tasks.iter().filter(|task| task.flavour == flavour) {
            match committed.remove(&task.name) {
                Some(outcome) => outcomes.push(outcome),
                None if flavour == Flavour::O2 => not_run.push(task.name.as_str()),
                None => {}
            }
        }
    }
    Ok(table::text(&outcomes, &not_run))
}

/// What payloads and others weigh, of every case whose outcome is that of this hpgen: a name, image, payload, others. With how many cases
/// have none.
pub fn weighed(hpgen: &Path) -> Result<(Vec<Weighed>, usize)> {
    let hpgen = digest::of(&fs::read(hpgen)?);
    let manifests = manifest::all()?;
    let (mut weighed, mut missing) = (Vec::new(), 0);
    for task in tasks(&manifests) {
        let outcome = Outcome::read(&outcome::file(&task.name, task.flavour)).filter(|outcome| outcome.hpgen == hpgen);
        let Some(figures) = outcome.and_then(|outcome| outcome.authoring?.figures) else {
            missing += 1;
            continue;
        };
        if let (Some(payload), Some(others)) = (figures.payload_bytes, figures.others) {
            let name = format!("corpus/{} {}", task.name, task.flavour.name());
            weighed.push(Weighed { name, image: figures.image_bytes, payload, others });
        }
    }
    Ok((weighed, missing))
}

/// A case of the corpus that is hotpatchable, in bytes.
#[derive(Debug)]
pub struct Weighed {
    /// Library, fix and flavour.
    pub name: String,
    /// The baseline's file.
    pub image: u64,
    /// The payload.
    pub payload: u64,
    /// Binary patches, by the tools of `binary_patches`.
    pub others: [u64; binary_patches::OTHERS.len()],
}

/// A few cases, each done again: a step of `cargo xtask test`.
pub fn test_sample() -> Result<()> {
    if cfg!(windows) {
        println!("skipped: the corpus is built from Debian's source packages");
        return Ok(());
    }
    let selection =
        Selection { names: Vec::new(), again: true, authoring_only: false, sample: true, flavours: vec![Flavour::O2] };
    ensure!(run(&selection)? == ExitCode::SUCCESS, "a case of the sample is not as it should be");
    Ok(())
}

/// Installs what is missing, and fetches the sources of the sample.
pub fn set_up() -> Result<()> {
    setup::install(&PACKAGES)?;
    let manifests = manifest::all()?;
    tasks(&manifests).iter().filter(|task| in_sample(&task.name).is_some()).try_for_each(|task| task.fetch(&manifests))
}

/// Debian packages that source packages are unpacked and patched with.
const PACKAGES: [&str; 3] = ["dpkg-dev", "patch", "diffutils"];

fn prepare_machine() -> Result<()> {
    setup::machine()?;
    setup::install(&PACKAGES)?;
    setup::install(&binary_patches::PACKAGES)
}

fn needed<'a>(manifests: &'a BTreeMap<String, Manifest>, name: &str) -> Result<&'a Manifest> {
    manifests.get(name).with_context(|| format!("there is no corpus/{name}.toml"))
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

    fn stamp(&self, task: &Task<'_>) -> Result<String> {
        let Task { manifest, case, .. } = task;
        let mut inputs = Inputs::default();
        inputs.add("hpgen", self.hpgen.as_bytes()).add("tools", self.tools.versions.as_bytes());
        let text = serde_json::to_vec(&(&manifest.library, &manifest.source, &manifest.build, case, task.flavour))?;
        inputs.add("case", &text).add("driver", &fs::read(manifest.driver())?);
        inputs.add("driver.h", &fs::read(manifest::folder().join("driver.h"))?);
        if let Some(answer) = &case.answer {
            for name in [Some(&answer.rules), answer.hooks.as_ref()].into_iter().flatten() {
                inputs.add(name, &fs::read(manifest.file(name))?);
            }
        }
        Ok(inputs.hex())
    }

    /// Does one case. What goes wrong is a part of the outcome.
    fn perform(&self, task: &Task<'_>, stamp: String, selection: &Selection) -> Outcome {
        let mut outcome = Outcome {
            stamp,
            hpgen: self.hpgen.clone(),
            library: task.manifest.library.clone(),
            version: task.manifest.source.version.clone(),
            case: task.case.clone(),
            flavour: task.flavour,
            touched: None,
            authoring: None,
            answered: None,
            live: None,
            failure: None,
        };
        let folder = workspace::target().join("corpus").join("cases").join(task.flavour.name()).join(&task.name);
        match self.try_perform(task, &folder, &mut outcome, selection) {
            // Images and PDBs of all cases would be gigabytes; what is to be looked into stays.
            Ok(()) if outcome.live.is_some() || outcome.verdict() == Some("unchanged") => {
                let _ = fs::remove_dir_all(&folder);
            }
            Ok(()) => {}
            Err(error) => outcome.failure = Some(format!("{error:#}")),
        }
        outcome
    }

    fn try_perform(&self, task: &Task<'_>, folder: &Path, outcome: &mut Outcome, selection: &Selection) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        outcome.touched = Some(self.make(task, folder).context("cannot build the programs")?);
        let [old, new, payload] = ["old.exe", "new.exe", "fix.hpx"].map(|file| folder.join(file));
        outcome.authoring = Some(author::author(&self.authoring, &old, &new, &[], &payload)?);
        if let (Some(answer), false) = (&task.case.answer, outcome.is_hotpatchable()) {
            let new = if answer.hooks.is_some() { folder.join("answered.exe") } else { new };
            let options = answer.options(task.manifest);
            let authoring = author::author(&self.authoring, &old, &new, &options, &payload)?;
            outcome.answered = Some(Answered { authoring, lines: answer.lines(task.manifest)? });
        }
        if !selection.authoring_only && (outcome.is_hotpatchable() || outcome.is_answered()) {
            let answer = task.case.answer.as_ref().filter(|_| outcome.is_answered());
            let at_once = answer.is_some_and(|answer| !answer.not_during.is_empty());
            outcome.live = Some(live::prove(&self.windows, folder, task.case.live.as_ref(), at_once).context("live")?);
        }
        Ok(())
    }

    /// Makes `old.exe` and `new.exe` in `folder`. Sources and objects are gone afterwards: hpgen has images and PDBs only,
    /// as of a release that somebody else built.
    fn make(&self, task: &Task<'_>, folder: &Path) -> Result<Touched> {
        let source = folder.join("source");
        let library = source.join("library");
        let package = Package::fetch(&task.manifest.source)?;
        package.baseline(task.case, &library)?;
        for name in &task.manifest.build.needs {
            Package::fetch(&self.needed(name)?.source)?.whole(&source.join(name))?;
        }
        self.compile(task, &source, &folder.join("old.exe"), None)?;
        let before = touched::Before::copy(&library, &folder.join("before"))?;
        package.fix(task.case, &library)?;
        self.compile(task, &source, &folder.join("new.exe"), None)?;
        if let Some(hooks) = task.case.answer.as_ref().and_then(|answer| answer.hooks.as_ref()) {
            self.compile(task, &source, &folder.join("answered.exe"), Some(task.manifest.file(hooks)))?;
        }
        let touched = before.compare(&library)?;
        fs::remove_dir_all(&source)?;
        Ok(touched)
    }

    fn compile(&self, task: &Task<'_>, source: &Path, output: &Path, hooks: Option<PathBuf>) -> Result<()> {
        let mut parts: Vec<(&str, &Build)> = vec![("library", &task.manifest.build)];
        for name in &task.manifest.build.needs {
            parts.push((name, &self.needed(name)?.build));
        }
        let trees: Vec<_> = parts.into_iter().map(|(part, build)| Tree { folder: source, part, build }).collect();
        for tree in &trees {
            tree.configure()?;
        }
        Program { manifest: task.manifest, trees, output, flavour: task.flavour, hooks }.make(&self.tools)
    }

    fn needed(&self, name: &str) -> Result<&Manifest> {
        needed(self.manifests, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_outcomes_say() {
        let manifests = manifest::all().unwrap();
        let table = fs::read_to_string(manifest::folder().join("README.md")).unwrap();
        assert!(table == table_of(&tasks(&manifests)).unwrap(), "`cargo xtask corpus` writes another table");
    }

    #[test]
    fn no_place_of_a_machine_is_committed() {
        for flavour in Flavour::ALL {
            for (name, outcome) in committed::read(flavour).unwrap() {
                let failure = outcome.failure.unwrap_or_default();
                assert_eq!(places::without(&failure), failure, "{name}");
            }
        }
    }
}
