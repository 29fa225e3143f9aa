//! How far the corpus has come, against what was set out for.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::outcome::Outcome;

/// What was set out for.
const CVES: usize = 40;
const LIBRARIES: usize = 15;
const PERCENT: usize = 90;
const LINES: usize = 20;

/// The figures at the top of the table, for the usual flavour.
pub fn write(text: &mut String, outcomes: &[&Outcome], not_run: &[&str]) {
    let effective: Vec<_> = outcomes.iter().copied().filter(|outcome| outcome.verdict() != Some("unchanged")).collect();
    let unchanged = outcomes.len() - effective.len();
    let count = |wanted: &dyn Fn(&Outcome) -> bool| effective.iter().filter(|outcome| wanted(outcome)).count();
    let libraries: BTreeSet<_> = outcomes.iter().map(|outcome| &outcome.library).collect();
    let cves: usize = outcomes.iter().map(|outcome| 1 + outcome.case.also.len()).sum();
    let hotpatchable = count(&|outcome| outcome.is_hotpatchable());
    let live = count(&|outcome| outcome.is_hotpatchable() && outcome.is_proven_live());
    let refused = count(&|outcome| outcome.verdict() == Some("restart-required"));
    let answered = count(&|outcome| outcome.is_answered() && outcome.is_proven_live() && outcome.lines() < LINES);
    let failed = count(&|outcome| outcome.failure.is_some());
    let _ = writeln!(
        text,
        "| | set out for | reached |\n|---|---|---|\n\
         | security fixes | {CVES} CVEs of {LIBRARIES} libraries | {} fixes, {cves} CVEs, of {} libraries; {unchanged} of the fixes change \
         nothing that is compiled, which leaves {} |\n\
         | hotpatched with no code written | {PERCENT} % | {hotpatchable} of {} ({:.1} %) |\n\
         | of these, correct in a running process | all | {live} of {hotpatchable} |\n\
         | of those refused, made to go with fewer than {LINES} lines, and correct in a running process | half | {answered} of {refused} |\n",
        outcomes.len(),
        libraries.len(),
        effective.len(),
        effective.len(),
        percent(hotpatchable, effective.len()),
    );
    let shown = count(&Outcome::is_shown_live);
    let regression = count(&|outcome| outcome.is_proven_live() && !outcome.is_shown_live());
    let _ = writeln!(
        text,
        "In processes: {shown} by an input that shows the fix, {regression} by regression alone. {failed} failed, in the harness or in hpgen."
    );
    let hpgens: BTreeSet<_> = outcomes.iter().map(|outcome| &outcome.hpgen).collect();
    if hpgens.len() > 1 {
        let _ = writeln!(text, "Not one run: {} builds of hpgen were asked.", hpgens.len());
    }
    if !not_run.is_empty() {
        let _ = writeln!(text, "Not run: {}.", not_run.join(", "));
    }
    text.push('\n');
}

fn percent(part: usize, whole: usize) -> f64 {
    let number = |count| u32::try_from(count).map_or(f64::NAN, f64::from);
    100.0 * number(part) / number(whole)
}
