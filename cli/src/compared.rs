//! Two builds, loaded, compared and planned: what `diff`, `check` and `build` have in common.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use hpgen_diff::change_set::{ChangeSet, Verdict};
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_diff::report::Report;
use hpgen_emit::plan::{Include, Plan};
use hpgen_emit::rules::{Accepted, Action, Rule};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::Images;
use crate::rules;

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

impl Compared {
    /// Loads, compares and plans.
    pub fn load(images: &Images) -> Result<Compared> {
        // Shown on a terminal only, and only when something takes over a second.
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(Duration::from_secs(1));
        let step = |name: String| progress.set_message(name);
        step(format!("reading {}", images.old.display()));
        let old = Program::load(&images.old, images.old_pdb.as_deref())?;
        step(format!("reading {}", images.new.display()));
        let new = Program::load(&images.new, images.new_pdb.as_deref())?;
        step("comparing".to_owned());
        let comparison = Comparison::of(&old, &new);
        comparison.check_related(&old, &new)?;
        let mut changes = ChangeSet::of(&old, &new, &comparison);
        let rules = rules::read(images.rules.as_ref(), &images.accept)?;
        let plan = Plan::of(&old, &new, &comparison, &changes, &include(&images.include, &rules));
        let accepted = hpgen_emit::rules::accept(&mut changes.reasons, &rules, !plan.hooks.is_empty())?;

        progress.finish_and_clear();
        if let [name, ..] = plan.unknown_names.as_slice() {
            bail!("--include {name}: no function that both builds have is called so; `hpgen diff` shows the names");
        }
        Ok(Compared { old, new, comparison, changes, plan, accepted })
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
    Include { all: names.remove("all"), cosmetic: names.remove("cosmetic"), names, set }
}
