//! `hpgen build`.

use std::path::Path;

use anyhow::{Result, bail};
use hpgen_diff::change_set::{Reason, Verdict};
use hpgen_emit::build::{self, Figures};
use hpgen_emit::symbol_file::SymbolFile;
use hpgen_runtime::format::{Payload, PublicKey};
use serde::Serialize;

use crate::Outcome;
use crate::args::{BuildArguments, Format};
use crate::commands::{diff, verify};
use crate::compared::{Compared, FullReport};
use crate::output::{self, BOLD, NOTE, count, paint};
use crate::{keys, payload_file};

/// The report of `diff`, and the payload where there is one.
#[derive(Serialize)]
struct BuildReport {
    #[serde(flatten)]
    report: FullReport,
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
    replaced: usize,
    new_functions: usize,
    code_bytes: u64,
    constant_bytes: u64,
    variable_bytes: u64,
    relocations: usize,
    imports: usize,
}

/// Compares, and writes the payload if the verdict allows it.
pub fn execute(arguments: &BuildArguments) -> Result<Outcome> {
    let compared = Compared::load(&arguments.images)?;
    let verdict = compared.verdict();
    for input in [&arguments.images.old, &arguments.images.new] {
        if same_file(input, &arguments.output) {
            bail!("{} is one of the images that are compared; name another file with -o", arguments.output.display());
        }
    }
    let payload = if verdict == Verdict::Hotpatchable { Some(write(&compared, arguments)?) } else { None };
    let report = BuildReport { report: compared.report(), payload, left_out: compared.plan.left_out.clone() };
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

fn write(compared: &Compared, arguments: &BuildArguments) -> Result<PayloadReport> {
    let key = arguments.key.as_deref().map(keys::read_private).transpose()?;
    let mut payload = build::payload(&compared.old, &compared.new, &compared.plan)?;
    payload.identity.series = arguments.series;
    let mut file = build::file(&payload)?;
    if let Some(key) = &key {
        file = keys::sign(&file, key)?;
    }
    let (decoded, seal) = Payload::decode(&file)?;
    // What is written is what was checked: the payload as it is read back.
    verify::require(&decoded, &compared.old, &compared.new, &compared.comparison)?;
    let symbols = SymbolFile::of(&compared.new, &compared.plan, &seal)?.encode()?;
    let symbols_path = payload_file::symbols_path(&arguments.output);
    payload_file::write(&arguments.output, &file)?;
    if let Err(error) = payload_file::write(&symbols_path, &symbols) {
        // Both or none: a payload without its symbols, or beside those of another, is found out when it is needed most.
        let _ = std::fs::remove_file(&arguments.output);
        return Err(error);
    }
    let figures = Figures::of(&payload);
    Ok(PayloadReport {
        path: arguments.output.display().to_string(),
        symbols: symbols_path.display().to_string(),
        patch_id: seal.patch_id(),
        series: payload.identity.series,
        signed_by: key.map(|key| key.verifying_key().to_bytes()).map(|key| PublicKey(key).to_string()),
        bytes: file.len(),
        replaced: figures.replaced,
        new_functions: figures.new_functions,
        code_bytes: figures.code,
        constant_bytes: figures.constants,
        variable_bytes: figures.variables,
        relocations: payload.relocations.len(),
        imports: payload.imports.len(),
    })
}

fn text(report: &BuildReport) -> String {
    let mut text = diff::verdict_text(&report.report);
    for reason in &report.left_out {
        text.push_str(&output::reason(&paint(NOTE, "left out"), reason));
    }
    if let Some(payload) = &report.payload {
        text.push_str(&format!(
            "wrote {}: patch {}, {} bytes ({} bytes of code, {} of constants, {} of variables) for an image of {} bytes\n",
            payload.path,
            paint(BOLD, &payload.patch_id),
            payload.bytes,
            payload.code_bytes,
            payload.constant_bytes,
            payload.variable_bytes,
            report.report.report.old.size,
        ));
        text.push_str(&format!(
            "  replaces {}, brings {} and {}\n",
            count(payload.replaced, "function"),
            count(payload.new_functions, "new function"),
            count(payload.imports, "new import"),
        ));
        match &payload.signed_by {
            Some(key) => text.push_str(&format!("  signed with key {}\n", key.get(..16).unwrap_or(key))),
            None => text.push_str("  not signed\n"),
        }
        text.push_str(&format!("  source lines for `hpgen symbolize` in {}\n", payload.symbols));
    }
    text
}
