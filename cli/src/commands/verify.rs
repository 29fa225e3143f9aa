//! `hpgen verify`.

use anyhow::{Result, bail};
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_runtime::format::Payload;
use hpgen_verify::{Finding, Report};
use serde::Serialize;

use crate::Outcome;
use crate::args::{Format, VerifyArguments};
use crate::output::{self, BAD, DIM, GOOD, count, paint};
use crate::payload_file;

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-verify/1";
/// Findings that are printed one by one.
const SHOWN: usize = 50;

#[derive(Serialize)]
struct VerifyReport {
    schema: &'static str,
    patch_id: String,
    verified: bool,
    #[serde(flatten)]
    report: Report,
}

/// Reads a payload and both builds, and checks that the one makes the other of the first.
pub fn execute(arguments: &VerifyArguments) -> Result<Outcome> {
    let (payload, seal) = payload_file::decode(&arguments.file, &payload_file::read_bytes(&arguments.file)?)?;
    let old = Program::load(&arguments.old, arguments.old_pdb.as_deref())?;
    let new = Program::load(&arguments.new, arguments.new_pdb.as_deref())?;
    let comparison = Comparison::of(&old, &new);
    comparison.check_related(&old, &new)?;
    let report = hpgen_verify::verify(&payload, &old, &new, &comparison);
    let verified = report.is_verified();
    match arguments.format {
        Format::Text => output::print(&text(&report)),
        Format::Json => {
            output::json(&VerifyReport { schema: SCHEMA, patch_id: seal.patch_id(), verified, report })?;
        }
    }
    Ok(if verified { Outcome::Done } else { Outcome::NotVerified })
}

/// Refuses a payload that was just made and does not mean what the new build means.
pub fn require(payload: &Payload, old: &Program, new: &Program, comparison: &Comparison) -> Result<Report> {
    let report = hpgen_verify::verify(payload, old, new, comparison);
    if !report.is_verified() {
        bail!(
            "the payload does not do what the new build does, and was not written; this is a defect of hpgen\n{}",
            text(&report)
        );
    }
    Ok(report)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in report.findings.iter().take(SHOWN) {
        text.push_str(&finding_text(finding));
    }
    if let Some(more) = report.findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("  and {more} more\n"));
    }
    text + &summary(report)
}

fn finding_text(finding: &Finding) -> String {
    format!("  {} {finding}\n", paint(BAD, "wrong"))
}

/// What was looked at, in a line.
pub fn summary(report: &Report) -> String {
    let counts = &report.counts;
    let word = if report.is_verified() { paint(GOOD, "verified:") } else { paint(BAD, "not verified:") };
    format!(
        "{word} {}, {} at {}, {}, {}, {} {}\n",
        count(counts.functions, "function"),
        count(counts.references.total(), "reference"),
        count(report.placements.len(), "placement"),
        count(counts.unwind_records, "unwind record"),
        count(counts.trampolines, "trampoline"),
        count(counts.objects, "new object"),
        paint(DIM, format!("({} compared)", count(counts.old_constants, "old constant"))),
    )
}
