//! `hpgen diff` and `hpgen check`.

use anyhow::Result;
use hpgen_diff::change_set::{FunctionStatus, Verdict};
use hpgen_diff::report::Report;

use crate::Outcome;
use crate::args::{DiffArguments, Format};
use crate::compared::Compared;
use crate::output::{self, BAD, BOLD, DIM, GOOD, NOTE, count, paint};

/// Shows all differences. Succeeds whenever it could compare.
pub fn diff(arguments: &DiffArguments) -> Result<Outcome> {
    let report = Compared::load(&arguments.images)?.report();
    match arguments.format {
        Format::Text => output::print(&text(&report)),
        Format::Json => output::json(&report)?,
    }
    Ok(Outcome::Done)
}

/// Says whether the changes can go into a running process.
pub fn check(arguments: &DiffArguments) -> Result<Outcome> {
    let report = Compared::load(&arguments.images)?.report();
    match arguments.format {
        Format::Text => output::print(&verdict_text(&report)),
        Format::Json => output::json(&report)?,
    }
    Ok(outcome(report.verdict))
}

/// The exit of `check` and `build` for a verdict.
pub fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Hotpatchable => Outcome::Done,
        Verdict::RestartRequired => Outcome::RestartRequired,
        Verdict::Unchanged => Outcome::NothingToPatch,
    }
}

/// Verdict, counts and reasons.
pub fn verdict_text(report: &Report) -> String {
    let verdict = match report.verdict {
        Verdict::Unchanged => paint(BOLD, "unchanged"),
        Verdict::Hotpatchable => paint(GOOD, "hotpatchable"),
        Verdict::RestartRequired => paint(BAD, "restart required"),
    };
    let with = |status| report.functions.iter().filter(|f| f.status == status).count();
    let mut text = format!(
        "{verdict}: {} changed, {} added, {} removed, {} unresolved, {} unchanged\n",
        count(with(FunctionStatus::Changed), "function"),
        with(FunctionStatus::Added),
        with(FunctionStatus::Removed),
        with(FunctionStatus::Unresolved),
        report.unchanged,
    );
    for reason in &report.reasons {
        text.push_str(&format!(
            "  {} {}: {} {}\n",
            paint(BAD, "because"),
            paint(BOLD, &reason.symbol),
            reason.message,
            paint(DIM, format!("[{}]", reason.code))
        ));
    }
    text
}

fn text(report: &Report) -> String {
    let mut text = verdict_text(report);
    if !report.functions.is_empty() {
        text.push_str(&format!("\n{}\n", paint(BOLD, "functions")));
        let rows: Vec<Vec<String>> = report
            .functions
            .iter()
            .map(|f| {
                let status = match f.status {
                    FunctionStatus::Changed => paint(NOTE, "changed"),
                    FunctionStatus::Added => paint(GOOD, "added"),
                    FunctionStatus::Removed => paint(BAD, "removed"),
                    FunctionStatus::Unresolved => paint(BAD, "unresolved"),
                };
                vec![status, paint(BOLD, &f.display), paint(DIM, f.module.as_deref().unwrap_or("-")), f.why.clone()]
            })
            .collect();
        text.push_str(&output::table(&rows));
    }
    if !report.data.is_empty() {
        text.push_str(&format!("\n{}\n", paint(BOLD, "data")));
        let rows: Vec<Vec<String>> = report
            .data
            .iter()
            .map(|d| {
                let kind = if d.writable { "variable" } else { "constant" };
                let status = serde_json::to_value(d.status).ok();
                let status = status.as_ref().and_then(|s| s.as_str()).unwrap_or_default().to_owned();
                vec![status, paint(BOLD, &d.name), paint(DIM, kind), d.why.clone()]
            })
            .collect();
        text.push_str(&output::table(&rows));
    }
    text
}
