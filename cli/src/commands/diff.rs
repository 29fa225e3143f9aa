//! `hpgen diff` and `hpgen check`.

use anyhow::Result;
use clap::CommandFactory;
use hpgen_diff::change_set::{FunctionStatus, Verdict};
use hpgen_diff::lines::Source;
use hpgen_diff::report::{DifferenceReport, FunctionReport, Report};
use hpgen_diff::x64::Evidence;
use hpgen_emit::rules::Accepted;

use crate::Outcome;
use crate::args::{Arguments, CheckArguments, DiffArguments, Format};
use crate::commands::asm;
use crate::commands::funclets::Funclets;
use crate::compared::{Compared, FullReport, Release, Reports};
use crate::output::{self, BAD, BOLD, DIM, GOOD, NOTE, count, paint};
use crate::rules::ProbationArguments;

/// Shows all differences. Succeeds whenever it could compare.
pub fn diff(arguments: &DiffArguments) -> Result<Outcome> {
    if arguments.asm.is_some() && arguments.format != Format::Text {
        let conflict = clap::error::ErrorKind::ArgumentConflict;
        Arguments::command().error(conflict, "--asm prints text: it goes with --format text only").exit();
    }
    let compared = Compared::load(&arguments.images)?;
    let report = compared.report();
    match (arguments.format, &arguments.asm) {
        (Format::Text, None) => output::print(&text(&report)),
        (Format::Text, Some(names)) => {
            let listing = asm::text(&compared, names)?;
            output::print(&(verdict_text(&report) + &listing));
        }
        (Format::Json, _) => output::json(&report)?,
    }
    Ok(Outcome::Done)
}

/// Says whether the changes can go into a running process.
pub fn check(arguments: &CheckArguments) -> Result<Outcome> {
    let release = Release::load(&arguments.images, &arguments.more, &ProbationArguments::default())?;
    let reports = release.reports();
    match arguments.format {
        Format::Text => output::print(&verdicts_text(&reports)),
        Format::Json => output::json(&reports)?,
    }
    Ok(outcome(release.verdict()))
}

/// The exit of `check` and `build` for a verdict.
pub fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Hotpatchable => Outcome::Done,
        Verdict::RestartRequired => Outcome::RestartRequired,
        Verdict::Unchanged => Outcome::NothingToPatch,
    }
}

/// Of each image, with its name where there are several.
pub fn verdicts_text(reports: &Reports) -> String {
    let text = |full: &FullReport| {
        let heading = match reports {
            Reports::One(_) => String::new(),
            Reports::Set { .. } => format!("{} ", paint(BOLD, format!("{}:", full.report.old.path))),
        };
        heading + &verdict_text(full)
    };
    reports.iter().map(text).collect()
}

/// Verdict, counts and reasons.
pub fn verdict_text(FullReport { report, accepted }: &FullReport) -> String {
    let verdict = match report.verdict {
        Verdict::Unchanged => paint(BOLD, "unchanged"),
        Verdict::Hotpatchable => paint(GOOD, "hotpatchable"),
        Verdict::RestartRequired => paint(BAD, "restart required"),
    };
    let funclets = Funclets::among(&report.functions);
    let listed = || report.functions.iter().enumerate().filter(|(index, _)| funclets.is_listed(*index));
    let with = |status| listed().filter(|(_, f)| f.status == status).count();
    let cosmetic = match with(FunctionStatus::Cosmetic) {
        0 => String::new(),
        some => format!("{some} cosmetic, "),
    };
    let mut text = format!(
        "{verdict}: {} changed, {} added, {} removed, {} unresolved, {}{} unchanged",
        count(with(FunctionStatus::Changed), "function"),
        with(FunctionStatus::Added),
        with(FunctionStatus::Removed),
        with(FunctionStatus::Unresolved),
        cosmetic,
        report.unchanged,
    );
    if funclets.count() > 0 {
        text.push_str(&format!("; {} with their functions", count(funclets.count(), "funclet")));
    }
    text.push('\n');
    for reason in &report.reasons {
        text.push_str(&output::reason(&paint(BAD, "because"), reason));
    }
    for Accepted { reason, action, why } in accepted {
        let why = why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
        text.push_str(&output::reason(&paint(NOTE, format!("rule: {action}{why},")), reason));
    }
    text
}

fn text(full: &FullReport) -> String {
    let mut text = verdict_text(full);
    let report = &full.report;
    text.push_str(&causes(report));
    text.push_str(&functions(report));
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
    text.push_str(&evidence(report));
    text
}

/// What the comparison rests on.
fn evidence(report: &Report) -> String {
    let mut text = format!("\n{}\n", paint(BOLD, "references known from"));
    for (which, image) in [("old", &report.old), ("new", &report.new)] {
        let sources = image.evidence.iter().map(|(evidence, functions)| match evidence {
            Evidence::Fixups => format!("fixups of the PDB in {}", count(*functions, "function")),
            Evidence::Objects => format!("relocations of the object files in {}", count(*functions, "function")),
            Evidence::Analysis => format!("analysis in {}", count(*functions, "function")),
        });
        text.push_str(&format!("  {which}  {}\n", sources.collect::<Vec<_>>().join(", ")));
    }
    text
}

/// Places in the source that made several functions change, or functions that inlined them.
fn causes(report: &Report) -> String {
    let mut text = String::new();
    for cause in report.causes.iter().filter(|cause| cause.inlined || cause.effects.len() > 1) {
        let names = cause.effects.iter().filter_map(|name| report.functions.iter().find(|f| f.name == *name));
        let names: Vec<&str> = names.map(|f| f.display.as_str()).collect();
        let how = if cause.inlined { "inlined into" } else { "changed in" };
        let place = format!("{}:{}", cause.file, cause.line);
        text.push_str(&format!(
            "  {}  {}  {how} {}: {}\n",
            paint(BOLD, &cause.function),
            paint(DIM, place),
            count(names.len(), "changed function"),
            some_of(&names)
        ));
    }
    if text.is_empty() { text } else { format!("\n{}\n{text}", paint(BOLD, "causes")) }
}

/// Names, but not so many that nobody reads them.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(rest) => format!("{shown} and {rest} more"),
    }
}

fn functions(report: &Report) -> String {
    if report.functions.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", paint(BOLD, "functions"));
    let funclets = Funclets::among(&report.functions);
    for (index, f) in report.functions.iter().enumerate().filter(|(index, _)| funclets.is_listed(*index)) {
        let (style, status) = match f.status {
            FunctionStatus::Changed => (NOTE, "changed"),
            FunctionStatus::Added => (GOOD, "added"),
            FunctionStatus::Removed => (BAD, "removed"),
            FunctionStatus::Unresolved => (BAD, "unresolved"),
            FunctionStatus::Cosmetic => (DIM, "cosmetic"),
        };
        let module = f.module.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "  {}  {}  {}\n",
            paint(style, format!("{status:<7}")),
            paint(BOLD, &f.display),
            paint(DIM, module)
        ));
        // Where a line number stands is as little news as the number.
        let place = if f.status == FunctionStatus::Cosmetic { None } else { place(f) };
        let more = Some(funclets.count_of(index)).filter(|number| *number > 0);
        let more = more.map(|number| paint(DIM, format!("and {} of it", count(number, "funclet"))));
        for line in [place.map(|place| paint(DIM, place)), what(f), more].into_iter().flatten() {
            text.push_str(&format!("           {line}\n"));
        }
    }
    text
}

/// Where in the source a changed function differs.
fn place(function: &FunctionReport) -> Option<String> {
    let source = |source: &Source| format!("{}:{}", file_name(&source.file), source.line);
    let (old, new) = (function.old_source.as_ref().map(source), function.new_source.as_ref().map(source));
    let mut text = match (old, new, &function.difference) {
        // What only one side does has its place on that side.
        (Some(place), _, Some(DifferenceReport { new: None, .. })) => place,
        (_, Some(place), Some(DifferenceReport { old: None, .. })) => place,
        (Some(old), Some(new), _) if old != new => format!("{old}, now {new}"),
        (_, Some(place), _) | (Some(place), None, _) => place,
        (None, None, _) => return None,
    };
    if let (Some(inner), Some(outer)) = (function.inlined_from.first(), function.inlined_from.last()) {
        text.push_str(&format!(" in {}", inner.function));
        if let (Some(file), Some(line)) = (&outer.file, outer.line) {
            text.push_str(&format!(", inlined at {}:{line}", file_name(file)));
        }
        match function.inlined_from.len() {
            0 | 1 => {}
            2 => text.push_str(&format!(" through {}", outer.function)),
            more => text.push_str(&format!(" through {} and {} more", outer.function, more - 2)),
        }
    }
    Some(text)
}

/// What a function does differently. Those of one build only say so by their status.
fn what(function: &FunctionReport) -> Option<String> {
    let difference = match &function.difference {
        Some(DifferenceReport { old: Some(old), new: Some(new) }) => format!("{} became {}", old.text, new.text),
        Some(DifferenceReport { old: Some(old), new: None }) => format!("no longer {}", old.text),
        Some(DifferenceReport { old: None, new: Some(new) }) => format!("now also {}", new.text),
        _ => function.why.clone(),
    };
    match function.status {
        FunctionStatus::Changed => Some(difference),
        FunctionStatus::Unresolved | FunctionStatus::Cosmetic => Some(function.why.clone()),
        FunctionStatus::Added | FunctionStatus::Removed => None,
    }
}

/// A path without its folders.
pub fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}
