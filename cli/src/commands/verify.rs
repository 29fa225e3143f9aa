//! `hpgen verify`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_runtime::format::{Payload, Seal};
use hpgen_verify::{Finding, Report};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Format, VerifyArguments};
use crate::output::{self, BAD, BOLD, DIM, GOOD, NOTE, count, paint};
use crate::{identity, payload_file};

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-verify/1";
/// Of that for a payload of several images.
const SET_SCHEMA: &str = "hpgen-verify-set/1";
/// Findings that are printed one by one.
const SHOWN: usize = 50;

/// What was found of one image.
struct Verified {
    image: String,
    report: Report,
}

/// Reads a payload and both builds of its images, and checks that it makes the one of the other.
pub fn execute(arguments: &VerifyArguments) -> Result<Outcome> {
    let (file, seal) = payload_file::decode(&arguments.file, &payload_file::read_bytes(&arguments.file)?)?;
    let pairs = pairs(arguments)?;
    let mut open: Vec<&Payload> = file.payloads.iter().collect();
    let mut images = Vec::new();
    let mut looked_at = Vec::new();
    for (old, new) in &pairs {
        let comparison = new.as_ref().map(|new| (new, Comparison::of(old, new)));
        if let Some((new, comparison)) = &comparison {
            comparison.check_related(old, new)?;
        }
        let place = open.iter().position(|payload| identity::fits(old, payload));
        // The only payload is looked at even if it is for another image: what differs is a finding then.
        let place = place.or_else(|| (file.payloads.len() == 1 && !open.is_empty()).then_some(0));
        let Some(place) = place else {
            bail!("the payload has nothing for {}, or it was named twice", old.image.path().display());
        };
        let payload = open.remove(place);
        let report = match &comparison {
            Some((new, comparison)) => hpgen_verify::verify(payload, old, new, comparison),
            None => hpgen_verify::verify_without_new(payload, old),
        };
        images.push(Verified { image: payload.identity.image_name.clone(), report });
        looked_at.push((payload, old));
    }
    if let Some(first) = images.first_mut() {
        first.report.findings.extend(hpgen_verify::missing_exports(&looked_at));
    }
    if let Some(payload) = open.first() {
        bail!("the payload is for {} as well: name its builds with --old and --new", payload.identity.image_name);
    }
    let verified = images.iter().all(|image| image.report.is_verified());
    match arguments.format {
        Format::Text => output::print(&images.iter().map(|image| image.text(images.len())).collect::<String>()),
        Format::Json => output::json(&value(&images, &seal, verified)?)?,
    }
    Ok(if verified { Outcome::Done } else { Outcome::NotVerified })
}

/// The builds that were named; new ones for all images or for none.
fn pairs(arguments: &VerifyArguments) -> Result<Vec<(Program, Option<Program>)>> {
    let (olds, news) = (&arguments.old, &arguments.new);
    if !news.is_empty() && olds.len() != news.len() {
        bail!("--old was given {} times and --new {} times: name both builds of every image", olds.len(), news.len());
    }
    let load = |image: &Path, pdb: Option<&PathBuf>| Program::load(image, pdb.map(PathBuf::as_path));
    let pair = |(index, old): (usize, &PathBuf)| {
        let new = news.get(index).map(|new| load(new, arguments.new_pdb.get(index))).transpose()?;
        Ok((load(old, arguments.old_pdb.get(index))?, new))
    };
    olds.iter().enumerate().map(pair).collect()
}

/// For programs: flat for a payload of one image, with a list for one of several.
fn value(images: &[Verified], seal: &Seal, verified: bool) -> Result<Value> {
    let head = |schema| json!({ "schema": schema, "patch_id": seal.patch_id(), "verified": verified });
    if let [only] = images {
        return Ok(joined(head(SCHEMA), serde_json::to_value(&only.report)?));
    }
    let image = |image: &Verified| {
        let own = json!({ "image": image.image, "verified": image.report.is_verified() });
        Ok(joined(own, serde_json::to_value(&image.report)?))
    };
    let images = images.iter().map(image).collect::<Result<Vec<_>>>()?;
    Ok(joined(head(SET_SCHEMA), json!({ "images": images })))
}

/// The members of both.
fn joined(mut value: Value, other: Value) -> Value {
    if let (Some(to), Value::Object(from)) = (value.as_object_mut(), other) {
        to.extend(from);
    }
    value
}

impl Verified {
    /// With the image's name where it is one of several.
    fn text(&self, images: usize) -> String {
        let heading = if images > 1 { format!("{}\n", paint(BOLD, &self.image)) } else { String::new() };
        heading + &text(&self.report)
    }
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
    text.push_str(&summary(report));
    if !report.unchecked.is_empty() {
        text.push_str(&paint(NOTE, "without the new build these were not checked:\n"));
        text.extend(report.unchecked.iter().map(|what| format!("  {what}\n")));
    }
    text
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
