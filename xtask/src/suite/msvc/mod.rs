//! `cargo xtask suite msvc`: programs that Microsoft's compiler and linker made.
//!
//! Each image is compared with itself, and each with the version before: what was only built again has no change, what changed
//! has those changes that were found right by looking at the code (`testdata/suite/msvc/`). Files for other processors are refused.

mod image;
mod packages;
mod recorded;
mod standard_library;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;

pub use packages::Manager;

use image::Known;
use packages::{Package, Version};
use recorded::Recorded;
use table::Row;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// A small part, with what one package manager fetches: the one that is at hand.
    pub sample: bool,
    /// Write down what changed in place of comparing with what is written down.
    pub bless: bool,
    /// Only packages whose name has one of these in it; all if there is none. The standard library is called `std`.
    pub packages: Vec<String>,
}

/// Everything that is told at the end.
#[derive(Default)]
struct Results {
    rows: Vec<Row>,
    known: Vec<(String, Known)>,
    unresolved: Vec<(String, Vec<String>)>,
    changes: Vec<(String, Vec<String>)>,
}

/// An image that is loaded, so that its pair can be compared.
struct Loaded<'a> {
    version: &'a Version,
    image: &'a str,
    program: Program,
}

/// Runs the suite and prints its tables. Fails where anything is not as expected.
pub fn run(selection: &Selection) -> Result<ExitCode> {
    let start = Instant::now();
    let all = packages::all()?;
    let chosen = selection.choose(&all)?;
    let mut results = Results::default();
    if selection.has("std") {
        results.identity("std", &standard_library::image()?)?;
    }
    for (package, versions) in &chosen {
        results.package(selection, package, versions)?;
    }
    results.print();
    println!("\n{} comparisons, {:.1} s in all", results.rows.len(), start.elapsed().as_secs_f64());
    let is_clean = results.rows.iter().all(|row| row.findings.is_empty());
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The images of all packages that were fetched, each with that of the version before: a name, the old one, the new one.
pub fn pairs_at_hand() -> Result<Vec<(String, [PathBuf; 2])>> {
    let mut pairs = Vec::new();
    for package in packages::all()? {
        for versions in package.versions.windows(2) {
            let [old, new] = versions else { continue };
            for image in new.images.iter().filter(|image| old.images.contains(image)) {
                let paths = [package.image(old, image), package.image(new, image)];
                if paths.iter().all(|path| path.is_file()) {
                    let [before, after] = [&old.version, &new.version];
                    pairs.push((format!("{} {before}..{after} {image}", package.short_name()), paths));
                }
            }
        }
    }
    Ok(pairs)
}

impl Selection {
    fn has(&self, name: &str) -> bool {
        self.packages.is_empty() || self.packages.iter().any(|word| name.contains(word.as_str()))
    }

    /// The packages with the versions that are wanted.
    fn choose<'a>(&self, all: &'a [Package]) -> Result<Vec<(&'a Package, Vec<&'a Version>)>> {
        let sample_manager = if self.sample { Some(manager_at_hand()?) } else { None };
        let mut chosen = Vec::new();
        for package in all.iter().filter(|package| self.has(&package.name)) {
            if sample_manager.is_some_and(|manager| manager != package.manager) {
                continue;
            }
            let versions: Vec<_> = package.versions.iter().filter(|v| !self.sample || v.in_sample).collect();
            if !versions.is_empty() {
                chosen.push((package, versions));
            }
        }
        Ok(chosen)
    }
}

/// The package manager that the sample uses. `cargo xtask setup` sees to it that there is one.
fn manager_at_hand() -> Result<Manager> {
    match Manager::ALL.into_iter().find(|manager| manager.find().is_some()) {
        Some(manager) => {
            println!("the sample's packages come from {manager:?}");
            Ok(manager)
        }
        None => bail!("neither npm nor pip is in PATH; `cargo xtask setup` installs one"),
    }
}

impl Results {
    fn package(&mut self, selection: &Selection, package: &Package, versions: &[&Version]) -> Result<()> {
        let mut before: Vec<Loaded<'_>> = Vec::new();
        for &version in versions {
            package.make(version)?;
            let mut now = Vec::new();
            for image in &version.images {
                let name = format!("{} {} {image}", package.short_name(), version.version);
                let program = self.identity(&name, &package.image(version, image))?;
                now.push(Loaded { version, image, program });
            }
            for new in &now {
                if let Some(old) = before.iter().find(|old| old.image == new.image) {
                    self.pair(selection, package, old, new)?;
                }
            }
            for (processor, path) in
                version.foreign.iter().flat_map(|(name, paths)| paths.iter().map(move |p| (name, p)))
            {
                self.foreign(processor, path, &package.foreign(version, path));
            }
            before = now;
        }
        Ok(())
    }

    fn identity(&mut self, name: &str, path: &Path) -> Result<Program> {
        let (program, row) = image::identity(name, path)?;
        self.rows.push(row);
        self.known.push((name.to_owned(), Known::of(&program)));
        self.unresolved.push((name.to_owned(), image::unresolved(&program)));
        Ok(program)
    }

    fn pair(&mut self, selection: &Selection, package: &Package, old: &Loaded<'_>, new: &Loaded<'_>) -> Result<()> {
        let start = Instant::now();
        let versions = [old.version.version.as_str(), new.version.version.as_str()];
        let name = format!("{} {} .. {} {}", package.short_name(), versions[0], versions[1], new.image);
        let changes = ChangeSet::of(&old.program, &new.program, &Comparison::of(&old.program, &new.program));
        let time = start.elapsed();
        let is_noise = new.version.noise.contains(new.image);
        let expected = if is_noise { "noise" } else { "change" };
        let mut row = Row { time, ..Row::of(name.clone(), expected, &old.program, &changes) };
        if is_noise {
            row.findings = image::differences(&changes);
        } else {
            let file = Recorded::file(package.short_name(), versions, new.image);
            let found = Recorded::of(&changes);
            if selection.bless {
                found.clone().write(&file)?;
            }
            row.findings = Recorded::read(&file)?.differences(&found);
            if row.changed == 0 {
                row.findings.push("nothing changed".to_owned());
            }
            self.changes.push((name, found.to_string().lines().map(str::to_owned).collect()));
        }
        row.findings.extend(needless_reasons(&old.program, &changes));
        self.rows.push(row);
        Ok(())
    }

    /// A file for another processor must be refused, with the processor's name.
    fn foreign(&mut self, processor: &str, path: &str, file: &Path) {
        let start = Instant::now();
        let finding = match Program::load(file, None) {
            Ok(_) => Some("was not refused".to_owned()),
            Err(error) if error.to_string().contains(processor) => None,
            Err(error) => Some(format!("its refusal does not say {processor}: {error}")),
        };
        let name = path.rsplit('/').next().unwrap_or(path);
        self.rows.push(Row {
            name: format!("{name} for {processor}"),
            expected: "refused",
            time: start.elapsed(),
            findings: finding.into_iter().collect(),
            ..Row::default()
        });
    }

    fn print(&self) {
        table::print(&self.rows);
        println!(
            "\nhow functions are known: procedure, linkage name only, function table only, references only; exact references"
        );
        for (name, known) in &self.known {
            let Known { procedures, publics, table, references, exact } = known;
            println!("  {name}: {procedures}, {publics}, {table}, {references}; {exact}");
        }
        sections("not understood", self.unresolved.iter());
        sections("changed", self.changes.iter());
        let findings: Vec<_> = self.rows.iter().map(|row| (row.name.clone(), row.findings.clone())).collect();
        sections("not as expected", findings.iter());
    }
}

/// Folded funclets that differ now are no reason against patching: funclets go with their functions, never by themselves.
fn needless_reasons(old: &Program, changes: &ChangeSet) -> Vec<String> {
    let funclets = old.funclets();
    let names: BTreeSet<String> =
        funclets.iter().filter_map(|index| old.atom(*index)).map(|atom| old.linkage_name(atom)).collect();
    let folds = changes.reasons.iter().filter(|reason| reason.code == "folded-functions-diverge");
    let of_funclets = folds.filter(|reason| names.contains(&reason.symbol));
    of_funclets.map(|reason| format!("reason {} {}", reason.code, reason.symbol)).collect()
}

fn sections<'a>(title: &str, lists: impl Iterator<Item = &'a (String, Vec<String>)>) {
    for (name, lines) in lists.filter(|(_, lines)| !lines.is_empty()) {
        println!("\n{title}: {name}");
        for line in lines {
            println!("  {line}");
        }
    }
}
