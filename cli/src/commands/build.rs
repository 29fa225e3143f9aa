//! `hpgen build`.

use std::path::Path;

use anyhow::{Result, bail};
use hpgen_diff::change_set::{Reason, Verdict};
use hpgen_emit::build::{self, Figures};
use hpgen_emit::symbol_file::{ImageSymbols, SymbolFile};
use hpgen_runtime::format::{Payload, PayloadFile, PublicKey};
use serde::Serialize;

use crate::Outcome;
use crate::args::{BuildArguments, Format};
use crate::commands::{diff, verify};
use crate::compared::{Compared, Release, Reports};
use crate::output::{self, BOLD, NOTE, count, paint};
use crate::{keys, payload_file};

/// The report of `diff`, and the payload where there is one.
#[derive(Serialize)]
struct BuildReport {
    #[serde(flatten)]
    reports: Reports,
    payload: Option<PayloadReport>,
    /// Unchanged functions that `--include` asked for and that stay as they are.
    left_out: Vec<Reason>,
}

#[derive(Serialize)]
struct PayloadReport {
    path: String,
    /// The file with the source lines of its code.
    symbols: String,
    patch_id: String,
    series: u32,
    /// The public key in hexadecimal.
    signed_by: Option<String>,
    bytes: usize,
    /// File names of the images that it changes.
    images: Vec<String>,
    replaced: usize,
    new_functions: usize,
    code_bytes: u64,
    constant_bytes: u64,
    variable_bytes: u64,
    relocations: usize,
    imports: usize,
    /// How long it is watched once it is in, in milliseconds.
    probation_ms: Option<u32>,
}

/// Compares, and writes the payload if the verdict allows it.
pub fn execute(arguments: &BuildArguments) -> Result<Outcome> {
    let release = Release::load(&arguments.images, &arguments.more, &arguments.probation)?;
    let verdict = release.verdict();
    for input in [&arguments.images.old, &arguments.images.new].into_iter().chain(&arguments.more.and) {
        if same_file(input, &arguments.output) {
            bail!("{} is one of the images that are compared; name another file with -o", arguments.output.display());
        }
    }
    let payload = if verdict == Verdict::Hotpatchable { Some(write(&release, arguments)?) } else { None };
    let left_out = release.images.iter().flat_map(|image| image.plan.left_out.iter().cloned()).collect();
    let report = BuildReport { reports: release.reports(), payload, left_out };
    match arguments.format {
        Format::Text => output::print(&text(&report)),
        Format::Json => output::json(&report)?,
    }
    Ok(diff::outcome(verdict))
}

/// Whether two paths lead to one file that is there.
fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn write(release: &Release, arguments: &BuildArguments) -> Result<PayloadReport> {
    let key = arguments.key.as_deref().map(keys::read_private).transpose()?;
    // An image of the release that did not change stays as it is.
    let images: Vec<&Compared> = release.images.iter().filter(|i| i.verdict() == Verdict::Hotpatchable).collect();
    let payloads = images.iter().map(|image| {
        let mut payload = build::payload(&image.old, &image.new, &image.plan)?;
        payload.identity.series = arguments.series;
        Ok(payload)
    });
    let payloads = payloads.collect::<Result<Vec<_>>>()?;
    require_check(&release.images, &payloads)?;
    let mut file = build::file(&PayloadFile { payloads })?;
    if let Some(key) = &key {
        file = keys::sign(&file, key)?;
    }
    let (decoded, seal) = PayloadFile::decode(&file)?;
    // What is written is what was checked: the payload as it is read back.
    for (payload, image) in decoded.payloads.iter().zip(&images) {
        verify::require(payload, &image.old, &image.new, &image.comparison)?;
    }
    let olds: Vec<_> = decoded.payloads.iter().zip(&images).map(|(payload, image)| (payload, &image.old)).collect();
    if let Some(finding) = hpgen_verify::missing_exports(&olds).first() {
        bail!("the payload's images do not satisfy each other, and it was not written: {finding}");
    }
    let symbols = images.iter().map(|image| ImageSymbols::of(&image.old, &image.new, &image.plan));
    let symbols = SymbolFile::of(symbols.collect::<Result<_, _>>()?, &seal).encode()?;
    let symbols_path = payload_file::symbols_path(&arguments.output);
    payload_file::write(&arguments.output, &file)?;
    if let Err(error) = payload_file::write(&symbols_path, &symbols) {
        // Both or none: a payload without its symbols, or beside those of another, is found out when it is needed most.
        let _ = std::fs::remove_file(&arguments.output);
        return Err(error);
    }
    let figures: Figures = decoded.payloads.iter().map(Figures::of).sum();
    Ok(PayloadReport {
        path: arguments.output.display().to_string(),
        symbols: symbols_path.display().to_string(),
        patch_id: seal.patch_id(),
        series: arguments.series,
        signed_by: key.map(|key| key.verifying_key().to_bytes()).map(|key| PublicKey(key).to_string()),
        bytes: file.len(),
        images: images.iter().map(|image| image.old.image.file_name()).collect(),
        replaced: figures.replaced,
        new_functions: figures.new_functions,
        code_bytes: figures.code,
        constant_bytes: figures.constants,
        variable_bytes: figures.variables,
        relocations: decoded.payloads.iter().map(|payload| payload.relocations.len()).sum(),
        imports: decoded.payloads.iter().map(|payload| payload.imports.len()).sum(),
        probation_ms: decoded.probations().map(|probation| probation.window_ms).max(),
    })
}

/// An image that did not change is no part of the payload, and neither is its health check.
fn require_check(images: &[Compared], payloads: &[Payload]) -> Result<()> {
    let is_wanted = images.iter().any(|image| image.plan.probation.as_ref().is_some_and(|p| p.check.is_some()));
    let is_there = payloads.iter().any(|payload| payload.probation.is_some_and(|probation| probation.check.is_some()));
    anyhow::ensure!(is_there || !is_wanted, "the health check is a function of an image that does not change");
    Ok(())
}

/// How large they are.
fn images(reports: &Reports) -> String {
    let bytes: u64 = reports.iter().map(|full| full.report.old.size).sum();
    match reports {
        Reports::One(_) => format!("an image of {bytes} bytes"),
        Reports::Set { images, .. } => format!("{} images of {bytes} bytes", images.len()),
    }
}

fn text(report: &BuildReport) -> String {
    let mut text = diff::verdicts_text(&report.reports);
    for reason in &report.left_out {
        text.push_str(&output::reason(&paint(NOTE, "left out"), reason));
    }
    if let Some(payload) = &report.payload {
        text.push_str(&format!(
            "wrote {}: patch {}, {} bytes ({} bytes of code, {} of constants, {} of variables) for {}\n",
            payload.path,
            paint(BOLD, &payload.patch_id),
            payload.bytes,
            payload.code_bytes,
            payload.constant_bytes,
            payload.variable_bytes,
            images(&report.reports),
        ));
        text.push_str(&format!(
            "  replaces {}, brings {} and {}\n",
            count(payload.replaced, "function"),
            count(payload.new_functions, "new function"),
            count(payload.imports, "new import"),
        ));
        if let Some(window) = payload.probation_ms {
            text.push_str(&format!("  on probation for {}\n", output::milliseconds(window)));
        }
        match &payload.signed_by {
            Some(key) => text.push_str(&format!("  signed with key {}\n", key.get(..16).unwrap_or(key))),
            None => text.push_str("  not signed\n"),
        }
        text.push_str(&format!("  source lines for `hpgen symbolize` in {}\n", payload.symbols));
    }
    text
}
