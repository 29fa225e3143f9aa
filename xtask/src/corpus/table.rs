//! `corpus/README.md`: what was measured, and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use super::bars;
use super::flavour::Flavour;
use super::manifest;
use super::outcome::{Figures, Outcome};
use super::places;
use crate::binary_patches::OTHERS;

const HEAD: &str = "\
# Security fixes, live

Written by `cargo xtask corpus`; do not edit. Each case is a security fix of a Debian source package. The baseline is the
package with all patches before the fix, built with clang `-O2`, default sections, a PDB, and a driver program of ours; hpgen
sees the two images and their PDBs, no source and no object.

* **source**: functions in whose text lines of code changed, and lines of code that changed outside of functions (macros, types,
  tables). **image**: functions that hpgen found changed and new, inlining included, of all that the baseline has.
* **payload**, and patches of the same two images made by zstd (`--patch-from`), bsdiff and xdelta3, each asked for its smallest; bytes.
* **live**: the driver calls the library all the time. Where an input is named, it shows the vulnerable behaviour; the payload goes in, it
  shows the fixed one; it is taken out, and it shows the vulnerable one again. Everything else that the driver does with the library (its
  regression) gives what the fixed build gives, in every step. Where it says *regression*, no safe input is at hand that shows the fix:
  what is proven is that payload and rollback go, and that the regression stays what it is in the fixed build. Lines are the driver's steps
  before, with, and after the payload.
* **lines of ours**: where hpgen refuses, what an author can add: rules (`corpus/*/*.toml`), hooks, and `--include` of the functions outside of
  which no object of a changed layout lives; such a payload goes in and out by `--consistency quiescent`, in a moment when none of them runs.
* **stopped**: how long the process stood still, and again on the way back, measured under Wine. **authoring**: the time of
  `hpgen build`, loading of images and PDBs and the proof included. Both on a machine with other work.

";

/// Writes it.
pub fn write(text: &str) -> Result<()> {
    let path = manifest::folder().join("README.md");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What it says of some outcomes, and of cases that have none.
pub fn text(outcomes: &[Outcome], not_run: &[&str]) -> String {
    let mut text = HEAD.to_owned();
    let usual: Vec<_> = outcomes.iter().filter(|outcome| outcome.flavour == Flavour::O2).collect();
    bars::write(&mut text, &usual, not_run);
    let others = OTHERS.map(|tool| format!(" {} |", tool.name)).concat();
    let _ = writeln!(
        text,
        "| library | fix | touches | source | image | verdict | size of the image | payload |{others} authoring | stopped | live |\n\
         |---|---|---|---|---|---|---:|---:|{} ---:|---:|---|",
        "---:|".repeat(OTHERS.len()),
    );
    for outcome in &usual {
        row(&mut text, outcome);
    }
    not_hotpatched(&mut text, &usual);
    flavours(&mut text, outcomes);
    text
}

fn verdict(outcome: &Outcome) -> &str {
    outcome.verdict().unwrap_or("failed")
}

fn row(text: &mut String, outcome: &Outcome) {
    let case = &outcome.case;
    let fixes: Vec<_> = [&case.cve].into_iter().chain(&case.also).map(String::as_str).collect();
    let _ = write!(text, "| {} {} | {} | {} |", outcome.library, outcome.version, fixes.join(" "), case.touches);
    match &outcome.touched {
        Some(touched) => {
            let outside =
                if touched.outside > 0 { format!(", {} lines outside", touched.outside) } else { String::new() };
            let _ = write!(text, " {}{outside} |", touched.functions);
        }
        None => text.push_str(" |"),
    }
    let payload = match &outcome.answered {
        Some(answered) if outcome.is_answered() => Some(&answered.authoring),
        _ => outcome.authoring.as_ref(),
    };
    match outcome.authoring.as_ref().and_then(|authoring| authoring.figures.as_ref()) {
        Some(Figures { functions, changed, added, .. }) => {
            let _ = write!(text, " {changed} + {added} new of {functions} |");
        }
        None => text.push_str(" |"),
    }
    let with = match outcome.lines() {
        lines if outcome.is_answered() => format!(", hotpatchable with {lines} lines of ours"),
        _ => String::new(),
    };
    let _ = write!(text, " {}{with} |", if outcome.failure.is_some() { "failed" } else { verdict(outcome) });
    sizes(text, payload.and_then(|authoring| authoring.figures.as_ref()));
    live(text, outcome);
}

fn sizes(text: &mut String, figures: Option<&Figures>) {
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
    let _ = write!(text, " {} |", bytes(figures.map(|figures| figures.image_bytes)));
    let _ = write!(text, " {} |", bytes(figures.and_then(|figures| figures.payload_bytes)));
    for tool in 0..OTHERS.len() {
        let others = figures.and_then(|figures| figures.others);
        let _ = write!(text, " {} |", bytes(others.and_then(|others| others.get(tool).copied())));
    }
    let _ = write!(text, " {} |", figures.map(|figures| format!("{} ms", figures.milliseconds)).unwrap_or_default());
}

fn live(text: &mut String, outcome: &Outcome) {
    let Some((live, stops)) = outcome.live.as_ref().and_then(|live| Some((live, live.stops.as_ref()?))) else {
        return text.push_str(" | |\n");
    };
    let [before, patched, after] = stops.lines;
    let shown = match &outcome.case.live {
        Some(probe) if live.shows_nothing => {
            format!("*regression*; {} shows {} in both builds", probe.probe, probe.fixed)
        }
        Some(probe) => format!("{}: {} → {} → {}", probe.probe, probe.vulnerable, probe.fixed, probe.vulnerable),
        None => "*regression*".to_owned(),
    };
    let (apply, back) = (stops.apply_us, stops.rollback_us);
    let _ = writeln!(text, " {apply} us, {back} us | {shown} ({before}, {patched}, {after} lines) |");
}

fn not_hotpatched(text: &mut String, outcomes: &[&Outcome]) {
    text.push_str("\n## Not hotpatched by itself\n\nWhat hpgen says, word for word; of many reasons, the first.\n");
    for outcome in outcomes.iter().filter(|outcome| !outcome.is_hotpatchable()) {
        let _ = writeln!(
            text,
            "\n{} {} ({}): {}",
            outcome.library,
            outcome.case.cve,
            outcome.case.touches,
            verdict(outcome)
        );
        let (reasons, further) = outcome
            .authoring
            .as_ref()
            .map(|authoring| (authoring.reasons.as_slice(), authoring.further_reasons))
            .unwrap_or_default();
        for [code, symbol, message] in reasons {
            let _ = writeln!(text, "* `{code}` `{symbol}`: {message}");
        }
        if further > 0 {
            let _ = writeln!(text, "* and {further} more");
        }
        if let (Some(answered), Some(answer)) = (&outcome.answered, &outcome.case.answer) {
            let proven = if outcome.is_proven_live() { ", and correct in a running process" } else { "" };
            let verdict = &answered.authoring.verdict;
            let _ = writeln!(text, "\nWith {} lines of ours: {verdict}{proven}. {}", answered.lines, answer.why);
        }
        if let Some(failure) = &outcome.failure {
            let _ = writeln!(text, "\nFailed: {}", first_line(failure));
        }
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.is_hotpatchable()) {
        if let Some(failure) = &outcome.failure {
            let line = first_line(failure);
            let _ = writeln!(text, "\n{} {}: hotpatchable, but failed: {line}", outcome.library, outcome.case.cve);
        }
    }
}

/// The first line, without places of this machine.
fn first_line(text: &str) -> String {
    places::without(text.lines().next().unwrap_or_default())
}

/// The same fixes compiled in other ways: a row a library.
fn flavours(text: &mut String, outcomes: &[Outcome]) {
    text.push_str(
        "\n## Compiled in other ways\n\nFixes hotpatchable without a line of code, of those that change something; and of these, proven live.\n\n",
    );
    let mut libraries: Vec<_> = outcomes.iter().map(|outcome| &outcome.library).collect();
    libraries.sort();
    libraries.dedup();
    let names = Flavour::ALL.map(|flavour| format!(" {} |", flavour.name())).concat();
    let _ = writeln!(text, "| library |{names}\n|---|{}", "---|".repeat(Flavour::ALL.len()));
    for library in libraries {
        let of_library: Vec<_> = outcomes.iter().filter(|outcome| outcome.library == *library).collect();
        let cells = Flavour::ALL.map(|flavour| cell(&of_library, flavour)).concat();
        let _ = writeln!(text, "| {library} |{cells}");
    }
    let all: Vec<_> = outcomes.iter().collect();
    let _ = writeln!(text, "| all |{}", Flavour::ALL.map(|flavour| cell(&all, flavour)).concat());
    builds(text, outcomes);
    text.push_str("\nRefused with other flags and not with `-O2`, or failed:\n\n");
    for outcome in outcomes.iter().filter(|outcome| outcome.flavour != Flavour::O2 && verdict(outcome) != "unchanged") {
        let same = |usual: &&Outcome| {
            usual.flavour == Flavour::O2 && usual.library == outcome.library && usual.case.cve == outcome.case.cve
        };
        let usually = outcomes.iter().find(same).is_some_and(Outcome::is_hotpatchable);
        if outcome.failure.is_some() || (usually && !outcome.is_hotpatchable()) {
            let summary = outcome.summary();
            let line = first_line(&summary);
            let _ = writeln!(text, "* {} {} {}: {line}", outcome.library, outcome.case.cve, outcome.flavour.name());
        }
    }
    shown_by_nothing(text, outcomes);
}

/// Where not all of a flavour were asked of one build of hpgen, how many builds there were.
fn builds(text: &mut String, outcomes: &[Outcome]) {
    for flavour in Flavour::ALL {
        let of_flavour = outcomes.iter().filter(|outcome| outcome.flavour == flavour);
        let builds: BTreeSet<_> = of_flavour.map(|outcome| &outcome.hpgen).collect();
        if builds.len() > 1 {
            let _ =
                writeln!(text, "\n{} was not one run: {} builds of hpgen were asked.", flavour.name(), builds.len());
        }
    }
}

/// Fixes whose input shows no fault in the baseline as it is compiled.
fn shown_by_nothing(text: &mut String, outcomes: &[Outcome]) {
    let shows_nothing = |outcome: &&Outcome| outcome.live.as_ref().is_some_and(|live| live.shows_nothing);
    let mut list = outcomes.iter().filter(shows_nothing).peekable();
    if list.peek().is_none() {
        return;
    }
    text.push_str(
        "\nLive by regression alone: compiled so, the baseline does not show its fault when nobody patches it, so that the input tells nothing.\n\n",
    );
    for outcome in list {
        let probe = outcome.case.live.as_ref().map_or("", |live| live.probe.as_str());
        let _ = writeln!(text, "* {} {} {}: {probe}", outcome.library, outcome.case.cve, outcome.flavour.name());
    }
}

fn cell(outcomes: &[&Outcome], flavour: Flavour) -> String {
    let changed = outcomes.iter().filter(|outcome| outcome.flavour == flavour && verdict(outcome) != "unchanged");
    let (mut all, mut hotpatchable, mut live) = (0, 0, 0);
    for outcome in changed {
        all += 1;
        hotpatchable += usize::from(outcome.is_hotpatchable());
        live += usize::from(outcome.is_hotpatchable() && outcome.live.is_some());
    }
    if all == 0 { " |".to_owned() } else { format!(" {hotpatchable} of {all}, {live} live |") }
}
