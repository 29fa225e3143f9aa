//! `cargo xtask suite mutation`: one small edit of a source changes exactly the functions that the object files say it changed.
//!
//! Each mutation is compiled and linked, and both images are compared, with their objects on disk and without. Truth comes from the object files
//! and the linker's map (`truth`). A miss is something that changed and that hpgen does not name, an extra something that hpgen names
//! and that did not change; there must be none of either but for the class of extras that `judge` explains and counts apart. Images of a mutation with a finding stay below `target/suite/mutation`.

mod active;
mod base;
mod judge;
mod lexer;
mod mutator;
mod plan;
mod sources;
mod table;
mod trial;
mod truth;
mod zones;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::jobs;
use crate::suite::compile::Tools;
use crate::suite::subjects;
use base::Base;
use plan::Group;
pub use plan::Selection;
use table::Row;
use trial::Trial;

/// Runs the suite and prints its table. Fails on any finding, and where a place of the plan found no mutation.
pub fn run(selection: &Selection) -> Result<ExitCode> {
    let start = Instant::now();
    let tools = Tools::find()?;
    let subjects = subjects::all()?;
    let groups = selection.groups(&subjects);
    let bases = in_order(&groups, |group| {
        Base::make(&tools, *group).with_context(|| format!("{} {}", group.subject.name, group.configuration))
    })?;
    let prepared = start.elapsed();
    let places: Vec<(&Base<'_>, usize)> =
        bases.iter().flat_map(|base| (0..base.group.wanted).map(move |place| (base, place))).collect();
    let progress = Progress { all: places.len(), done: Mutex::new((0, 0)), is_shown: !selection.sample };
    let trials = in_order(&places, |(base, place)| {
        let trial = trial::run(&tools, base, *place)
            .with_context(|| format!("{} {}, mutation {place}", base.group.subject.name, base.group.configuration))?;
        progress.tell(base.group, *place, &trial);
        Ok(trial)
    })?;
    let rows = rows(&places, trials);
    let findings = table::print(&rows);
    let missing: usize = rows.iter().map(|row| row.wanted - row.accepted().count()).sum();
    println!(
        "\n{findings} findings; {missing} places without a mutation; {:.1} s to prepare, {:.1} s in all",
        prepared.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    Ok(if findings == 0 && missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does jobs on all cores; the results are in the order of the jobs.
fn in_order<Job: Sync, Done: Send>(jobs: &[Job], work: impl Fn(&Job) -> Result<Done> + Sync) -> Result<Vec<Done>> {
    let done = Mutex::new(BTreeMap::new());
    let indexed: Vec<(usize, &Job)> = jobs.iter().enumerate().collect();
    jobs::run_all(&indexed, |(index, job)| {
        let result = work(job)?;
        done.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, result);
        Ok(())
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect())
}

/// One row for each program and configuration; the fixtures share theirs.
fn rows(places: &[(&Base<'_>, usize)], trials: Vec<Trial>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for ((base, _), trial) in places.iter().zip(trials) {
        let Group { subject, configuration, .. } = base.group;
        let labels = [subject.row.to_owned(), format!("-O{}", configuration.optimisation)];
        let index = rows.iter().position(|row| row.labels == labels).unwrap_or(rows.len());
        if index == rows.len() {
            rows.push(Row { labels, ..Row::default() });
        }
        if let Some(row) = rows.get_mut(index) {
            row.wanted += 1;
            row.trials.push(trial);
        }
    }
    rows
}

/// Says how far a long run came.
struct Progress {
    all: usize,
    /// Places and findings so far.
    done: Mutex<(usize, usize)>,
    is_shown: bool,
}

impl Progress {
    fn tell(&self, group: Group<'_>, place: usize, trial: &Trial) {
        let judgements = trial.accepted.iter().flat_map(|accepted| &accepted.judgements);
        let found: usize = judgements.map(|(_, judgement)| judgement.misses.len() + judgement.extras.len()).sum();
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.0 += 1;
        done.1 += found;
        if self.is_shown {
            let what = trial.accepted.as_ref().map_or("nothing found to mutate", |accepted| accepted.what.as_str());
            let (count, findings) = *done;
            let Group { subject, configuration, .. } = group;
            println!(
                "{count}/{} {} {configuration} {place}: {what} ({findings} findings so far)",
                self.all, subject.name
            );
        }
    }
}
