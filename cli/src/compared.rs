//! Two builds, loaded, compared and planned: what `diff`, `check` and `build` have in common.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use hpgen_diff::change_set::{ChangeSet, Verdict};
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_diff::report::Report;
use hpgen_emit::plan::{Include, Plan};
use hpgen_emit::rules::{Accepted, Action, Rule};
use hpgen_emit::{exports, initialisers};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::{Images, More};
use crate::rules::{self, ProbationArguments};

/// The builds and everything that is known of their difference.
pub struct Compared {
    pub old: Program,
    pub new: Program,
    pub comparison: Comparison,
    pub changes: ChangeSet,
    pub plan: Plan,
    /// Reasons that rules answered for.
    pub accepted: Vec<Accepted>,
}

/// The comparison's report, and what rules made of it.
#[derive(Serialize)]
pub struct FullReport {
    #[serde(flatten)]
    pub report: Report,
    /// Reasons that rules answered for.
    pub accepted: Vec<Accepted>,
}

/// All images of a release, each compared with its baseline.
pub struct Release {
    /// At least one.
    pub images: Vec<Compared>,
}

/// The reports of all images.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Reports {
    /// Of the only one.
    One(Box<FullReport>),
    /// Of several.
    Set { schema: &'static str, verdict: Verdict, images: Vec<FullReport> },
}

/// Name and version of the JSON form for several images.
const SET_SCHEMA: &str = "hpgen-diff-set/1";

impl Release {
    /// Loads, compares and plans all pairs.
    pub fn load(images: &Images, more: &More, probation: &ProbationArguments) -> Result<Release> {
        let (rules, probation) = rules::read(images.rules.as_ref(), &images.accept, probation)?;
        let check = probation.as_ref().and_then(|probation| probation.check.clone());
        let include = Include { probation, ..include(&images.include, &rules) };
        let first = (&images.old, &images.new, images.old_pdb.as_deref(), images.new_pdb.as_deref());
        let others = more.and.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.last()?, None, None)));
        let compare = |(old, new, old_pdb, new_pdb)| Compared::of((old, old_pdb), (new, new_pdb), &include, &rules);
        let images = [first].into_iter().chain(others).map(compare).collect::<Result<Vec<_>>>()?;
        let mut release = Release { images };
        release.satisfy_each_other(&include, &rules)?;
        release.require_known_names()?;
        release.require_health_check(check.as_deref())?;
        release.require_distinct()?;
        Ok(release)
    }

    /// Plans each image again with the new functions that others of the release import from it, until no more are asked for.
    fn satisfy_each_other(&mut self, include: &Include, rules: &[Rule]) -> Result<()> {
        let mut wanted: Vec<BTreeSet<String>> = vec![BTreeSet::new(); self.images.len()];
        loop {
            let mut is_settled = true;
            for (number, names) in wanted.iter_mut().enumerate() {
                let others = self.images.iter().enumerate().filter(|(other, _)| *other != number);
                let imports = others.flat_map(|(_, other)| &other.plan.imports);
                let asked: BTreeSet<String> = match self.images.get(number) {
                    Some(image) => imports
                        .filter_map(|import| exports::asked_for(import, &image.old, &image.new))
                        .map(str::to_owned)
                        .collect(),
                    None => continue,
                };
                if !asked.is_subset(names) {
                    names.extend(asked);
                    is_settled = false;
                    if let Some(image) = self.images.get_mut(number) {
                        image.plan(&Include { exported: names.clone(), ..include.clone() }, rules)?;
                    }
                }
            }
            if is_settled {
                return Ok(());
            }
        }
    }

    /// A name that was asked for must be in one of the images.
    fn require_known_names(&self) -> Result<()> {
        let mut unknown = self.images.iter().map(|image| image.plan.unknown_names.as_slice());
        let first = unknown.next().unwrap_or_default();
        let rest: Vec<&[String]> = unknown.collect();
        match first.iter().find(|name| rest.iter().all(|unknown| unknown.contains(name))) {
            Some(name) => {
                bail!("--include {name}: no function that both builds have is called so; `hpgen diff` shows the names")
            }
            None => Ok(()),
        }
    }

    /// The health check must be one function of one of the images.
    fn require_health_check(&self, name: Option<&str>) -> Result<()> {
        let checks = self.images.iter().filter_map(|image| image.plan.probation.as_ref()?.check.as_ref());
        match (name, checks.count()) {
            (None, _) | (_, 1) => Ok(()),
            (Some(name), 0) if self.images.iter().all(|image| image.plan.refusals.is_empty()) => {
                bail!("--health-check {name}: no function of the new build is called so, or more than one")
            }
            // Why it cannot be carried, the report says.
            (Some(_), 0) => Ok(()),
            (Some(name), _) => bail!("--health-check {name}: more than one image has a function of that name"),
        }
    }

    /// The loader finds images by their names.
    fn require_distinct(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for image in &self.images {
            let name = image.old.image.file_name();
            if !names.insert(name.to_lowercase()) {
                bail!(
                    "two baselines are called {name}; a process knows its images by name, so a payload cannot hold both"
                );
            }
        }
        Ok(())
    }

    /// The strictest of all.
    pub fn verdict(&self) -> Verdict {
        let verdicts: Vec<Verdict> = self.images.iter().map(Compared::verdict).collect();
        let strictest = [Verdict::RestartRequired, Verdict::Hotpatchable].into_iter().find(|v| verdicts.contains(v));
        strictest.unwrap_or(Verdict::Unchanged)
    }

    /// The reports for output.
    pub fn reports(&self) -> Reports {
        let mut images: Vec<FullReport> = self.images.iter().map(Compared::report).collect();
        match (images.len(), images.pop()) {
            (1, Some(only)) => Reports::One(Box::new(only)),
            (_, last) => {
                images.extend(last);
                Reports::Set { schema: SET_SCHEMA, verdict: self.verdict(), images }
            }
        }
    }
}

impl Reports {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &FullReport> {
        match self {
            Reports::One(report) => std::slice::from_ref(&**report),
            Reports::Set { images, .. } => images.as_slice(),
        }
        .iter()
    }
}

impl Compared {
    /// Loads, compares and plans one pair.
    pub fn load(images: &Images) -> Result<Compared> {
        let mut release = Release::load(images, &More { and: Vec::new() }, &ProbationArguments::default())?;
        release.images.pop().ok_or_else(|| anyhow!("no image was named"))
    }

    fn of(
        (old, old_pdb): (&PathBuf, Option<&Path>),
        (new, new_pdb): (&PathBuf, Option<&Path>),
        include: &Include,
        rules: &[Rule],
    ) -> Result<Compared> {
        // Shown on a terminal only, and only when something takes over a second.
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(Duration::from_secs(1));
        let step = |name: String| progress.set_message(name);
        step(format!("reading {}", old.display()));
        let old = Program::load(old, old_pdb)?;
        step(format!("reading {}", new.display()));
        let new = Program::load(new, new_pdb)?;
        step("comparing".to_owned());
        let comparison = Comparison::of(&old, &new);
        comparison.check_related(&old, &new)?;
        let changes = ChangeSet::of(&old, &new, &comparison);
        let mut compared = Compared { old, new, comparison, changes, plan: Plan::default(), accepted: Vec::new() };
        compared.plan(include, rules)?;
        progress.finish_and_clear();
        Ok(compared)
    }

    /// Plans the payload anew.
    fn plan(&mut self, include: &Include, rules: &[Rule]) -> Result<()> {
        self.changes = ChangeSet::of(&self.old, &self.new, &self.comparison);
        self.plan = Plan::of(&self.old, &self.new, &self.comparison, &self.changes, include);
        self.changes.reasons.clone_from(&self.plan.reasons);
        self.accepted = hpgen_emit::rules::accept(&mut self.changes.reasons, rules, !self.plan.hooks.is_empty())?;
        Ok(())
    }

    /// The verdict, the plan's refusals included.
    pub fn verdict(&self) -> Verdict {
        match self.changes.verdict(&self.plan.refusals) {
            // Asked for by name, or all of them; or nothing but data.
            Verdict::Unchanged if !self.plan.functions.is_empty() || !self.plan.assignments.is_empty() => {
                Verdict::Hotpatchable
            }
            verdict => verdict,
        }
    }

    /// The report for output.
    pub fn report(&self) -> FullReport {
        let report =
            Report { verdict: self.verdict(), ..Report::of(&self.old, &self.new, &self.changes, &self.plan.refusals) };
        FullReport { report, accepted: self.accepted.clone() }
    }
}

fn include(wanted: &[String], rules: &[Rule]) -> Include {
    let mut names: BTreeSet<String> = wanted.iter().cloned().collect();
    let set = rules.iter().filter(|rule| rule.action == Action::Set).map(|rule| rule.symbol.clone()).collect();
    let is_about = |rule: &&Rule| rule.reason.as_ref().is_none_or(|code| code == initialisers::REASON);
    let keeps = rules.iter().filter(|rule| matches!(rule.action, Action::Keep | Action::Hook)).filter(is_about);
    let keep = keeps.map(|rule| rule.symbol.clone()).collect();
    let exported = BTreeSet::new();
    Include {
        all: names.remove("all"),
        cosmetic: names.remove("cosmetic"),
        names,
        set,
        keep,
        probation: None,
        exported,
    }
}
