//! `cargo xtask suite metamorphic`: the same program in another layout is the same program. Every comparison must be empty.
//!
//! Objects are compiled once for each configuration and linked again in other orders, at another base, with and without
//! identical code folding, and with unused functions added. Each pair is compared twice: with its objects on disk, whose relocations are
//! exact, and without them. Images of a comparison that was not empty stay below `target/suite`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use hpgen_diff::change_set::{ChangeSet, DataStatus, FunctionStatus};
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;

use crate::jobs;
use crate::suite::compile::{Objects, Tools};
use crate::suite::configuration::{self, Configuration};
use crate::suite::link;
use crate::suite::running;
use crate::suite::subjects::{self, Kind, Subject};
use crate::suite::table::{self, Row};
use crate::suite::variants::{self, Layout, Source, Variant};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// A part that is over within a minute, the same each time.
    pub sample: bool,
    /// Only programs whose name has one of these in it; all if there is none.
    pub programs: Vec<String>,
    /// Only configurations that are called so, for example `O2-sections`.
    pub configurations: Vec<String>,
}

/// A program in one configuration, and what is compared there.
struct Job<'a> {
    subject: &'a Subject,
    configuration: Configuration,
    variants: Vec<Variant>,
}

/// Runs the suite and prints its table. Fails where a comparison was not empty.
pub fn run(selection: &Selection) -> Result<ExitCode> {
    let start = Instant::now();
    let tools = Tools::find()?;
    let subjects = subjects::all()?;
    let jobs = selection.jobs(&subjects);
    let objects: Vec<Objects<'_>> = jobs.iter().flat_map(Job::objects).collect();
    jobs::run_all(&objects, |objects| {
        let Objects { subject, configuration, .. } = objects;
        objects.make(&tools).with_context(|| format!("{} {configuration}", subject.name))
    })?;
    let compiled = start.elapsed();
    let rows = Mutex::new(BTreeMap::new());
    let indexed: Vec<(usize, &Job<'_>)> = jobs.iter().enumerate().collect();
    jobs::run_all(&indexed, |(index, job)| {
        let done = job.run(&tools).with_context(|| format!("{} {}", job.subject.name, job.configuration))?;
        rows.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, done);
        Ok(())
    })?;
    let rows = merged(rows.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten());
    table::print(&rows);
    println!(
        "\n{} comparisons; {:.1} s to compile what was not there, {:.1} s in all",
        jobs.iter().map(|job| 2 * job.variants.len()).sum::<usize>(),
        compiled.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    Ok(if rows.iter().all(Row::is_clean) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Selection {
    fn jobs<'a>(&self, subjects: &'a [Subject]) -> Vec<Job<'a>> {
        let mut jobs = Vec::new();
        for subject in subjects {
            for configuration in configuration::all() {
                let variants = variants::of(subject.kind);
                let variants = variants.into_iter().filter(|v| !self.sample || in_sample(subject, configuration, v));
                let variants: Vec<_> = variants.collect();
                if self.has(subject, configuration) && !variants.is_empty() {
                    jobs.push(Job { subject, configuration, variants });
                }
            }
        }
        jobs
    }

    fn has(&self, subject: &Subject, configuration: Configuration) -> bool {
        let is_one_of = |words: &[String], found: &dyn Fn(&String) -> bool| words.is_empty() || words.iter().any(found);
        is_one_of(&self.programs, &|word| subject.name.contains(word.as_str()))
            && is_one_of(&self.configurations, &|word| configuration.folder() == *word)
    }
}

/// What is worth a minute: every program, every optimisation and every variant at least once.
fn in_sample(subject: &Subject, configuration: Configuration, variant: &Variant) -> bool {
    let Configuration { optimisation, sections } = configuration;
    let is_two_in_one = variant.name == "order 3, base";
    match subject.row {
        "sqlite" => optimisation == "0" && sections && is_two_in_one,
        "lua" => optimisation == "2" && sections && !variant.new.prepended,
        "rust_host" => optimisation == "2" && sections,
        "cpp_host" => optimisation != "s" || is_two_in_one,
        _ => optimisation == "s" && !sections || optimisation == "1" && sections && is_two_in_one,
    }
}

/// Rows with the same labels as one, in the order of their first.
fn merged(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut merged: Vec<Row> = Vec::new();
    for row in rows {
        match merged.iter_mut().find(|known| known.labels == row.labels) {
            Some(known) => known.add(row),
            None => merged.push(row),
        }
    }
    merged
}

impl<'a> Job<'a> {
    fn objects(&self) -> Vec<Objects<'a>> {
        let prepended = self.variants.iter().any(|variant| variant.new.prepended);
        let both = [false, true].into_iter().filter(|with| prepended || !with);
        both.map(|prepended| self.objects_of(prepended)).collect()
    }

    fn objects_of(&self, prepended: bool) -> Objects<'a> {
        Objects { subject: self.subject, configuration: self.configuration, prepended }
    }

    /// Links the images, compares them with and without their objects, and keeps those that should have compared as equal.
    fn run(&self, tools: &Tools) -> Result<Vec<Row>> {
        let mut images: BTreeMap<Layout, PathBuf> = BTreeMap::new();
        for layout in self.variants.iter().flat_map(|variant| [variant.old, variant.new]) {
            if let Entry::Vacant(entry) = images.entry(layout) {
                entry.insert(link::link(tools, &self.objects_of(layout.prepended), layout)?);
            }
        }
        let mut rows = self.compare_all(&images, Source::Objects)?;
        rows.extend(self.run_two(&images)?);
        let hidden = [false, true].map(|prepended| self.objects_of(prepended).hide());
        rows.extend(self.compare_all(&images, Source::Analysis)?);
        drop(hidden);
        let is_wanted = |layout: Layout| {
            let mut found = self.variants.iter().filter(|variant| variant.old == layout || variant.new == layout);
            found.any(|variant| rows.iter().any(|row| row.labels[2] == variant.name && !row.is_clean()))
        };
        for (layout, image) in images.iter().filter(|(layout, _)| !is_wanted(**layout)) {
            link::remove(image).with_context(|| format!("cannot remove {layout}"))?;
        }
        Ok(rows)
    }

    /// Runs the program as it is and in the layout that is furthest from it.
    fn run_two(&self, images: &BTreeMap<Layout, PathBuf>) -> Result<Option<Row>> {
        let pair = self.variants.iter().find(|variant| variant.new.order.is_some() && variant.new.other_base);
        let pair = pair.and_then(|variant| Some([images.get(&variant.old)?, images.get(&variant.new)?]));
        let kind = self.subject.kind;
        let Some(pair) = pair.filter(|_| self.configuration.sections && running::can_run(kind)) else {
            return Ok(None);
        };
        let start = Instant::now();
        let difference = running::difference(kind, pair)?;
        Ok(Some(Row {
            labels: self.labels("output", "run"),
            others: usize::from(difference.is_some()),
            findings: difference.into_iter().collect(),
            time: start.elapsed(),
            ..Row::default()
        }))
    }

    fn labels(&self, variant: &str, source: &str) -> [String; 4] {
        [self.subject.row.to_owned(), self.configuration.to_string(), variant.to_owned(), source.to_owned()]
    }

    fn compare_all(&self, images: &BTreeMap<Layout, PathBuf>, source: Source) -> Result<Vec<Row>> {
        let image = |layout| images.get(&layout).context("an image was not linked");
        let compare = |variant: &Variant| self.compare(variant, source, image(variant.old)?, image(variant.new)?);
        self.variants.iter().map(compare).collect()
    }

    fn compare(&self, variant: &Variant, source: Source, old: &Path, new: &Path) -> Result<Row> {
        let start = Instant::now();
        let (old, new) = (Program::load(old, None)?, Program::load(new, None)?);
        let changes = ChangeSet::of(&old, &new, &Comparison::of(&old, &new));
        let mut row = Row {
            labels: self.labels(variant.name, &source.to_string()),
            functions: old.functions.len(),
            time: start.elapsed(),
            ..Row::default()
        };
        let prefix = match self.subject.kind {
            Kind::Freestanding => format!("{}: ", self.subject.name),
            _ => String::new(),
        };
        let brings_data = variant.new.extra || variant.new.prepended;
        let is_extra = |name: &str| name.contains("hpgen_extra");
        for function in changes.functions.iter().filter(|function| !is_extra(&function.name)) {
            match function.status {
                FunctionStatus::Changed | FunctionStatus::Cosmetic => row.changed += 1,
                FunctionStatus::Unresolved => row.unresolved += 1,
                FunctionStatus::Added | FunctionStatus::Removed => row.unpaired += 1,
            }
            let module = function.module.as_deref().unwrap_or("?");
            let (status, name, why) = (function.status, &function.display, &function.why);
            row.findings.push(format!("{prefix}{status:?} {name} [{module}]: {why}"));
        }
        for data in changes.data.iter().filter(|data| !is_extra(&data.name)) {
            // Constants and strings are named by what they hold.
            if brings_data && data.status == DataStatus::Added && !data.writable {
                continue;
            }
            row.others += 1;
            row.findings.push(format!("{prefix}data {:?} {}: {}", data.status, data.name, data.why));
        }
        for reason in changes.reasons.iter().filter(|reason| !is_extra(&reason.symbol)) {
            row.others += 1;
            row.findings.push(format!("{prefix}reason {} {}: {}", reason.code, reason.symbol, reason.message));
        }
        Ok(row)
    }
}
