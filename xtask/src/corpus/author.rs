//! Asks hpgen for the payload of a case, and for the proof that the payload does what the fixed build does.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::outcome::{Authoring, Figures};
use crate::binary_patches;
use crate::live::Hpgen;

/// So many reasons are told of each refusal.
const REASONS: usize = 5;

/// Calls `hpgen check` and `hpgen build`, which must agree, and `hpgen verify`, which must hold where there is a payload.
/// `options` are those of an author who answers for a refusal.
pub fn author(hpgen: &Hpgen, old: &Path, new: &Path, options: &[PathBuf], payload: &Path) -> Result<Authoring> {
    let options: Vec<_> = options.iter().map(PathBuf::as_path).collect();
    let checked = hpgen.run([&[Path::new("check"), old, new], options.as_slice()].concat())?;
    let start = Instant::now();
    let build = [Path::new("build"), old, new, "-o".as_ref(), payload, "--format".as_ref(), "json".as_ref()];
    let built = hpgen.run([&build, options.as_slice()].concat())?;
    let milliseconds = u64::try_from(start.elapsed().as_millis())?;
    ensure!(checked.code == built.code, "`check` and `build` do not agree:\n{checked}\n{built}");
    if !matches!(built.code, Some(0 | 3 | 4)) {
        bail!("hpgen build: {built}");
    }
    let report = built.json()?;
    let mut authoring = read(&report, milliseconds)?;
    let expected = match built.code {
        Some(0) => "hotpatchable",
        Some(3) => "restart-required",
        _ => "unchanged",
    };
    ensure!(authoring.verdict == expected, "exit code {:?}, but the verdict is {}", built.code, authoring.verdict);
    if built.code == Some(0) {
        verify(hpgen, old, new, payload)?;
        let others = binary_patches::sizes(old, new, &payload.with_file_name("patch"))?;
        authoring.figures.iter_mut().for_each(|figures| figures.others = Some(others));
    }
    Ok(authoring)
}

fn verify(hpgen: &Hpgen, old: &Path, new: &Path, payload: &Path) -> Result<()> {
    let verified = hpgen.run([Path::new("verify"), payload, "--old".as_ref(), old, "--new".as_ref(), new])?;
    ensure!(verified.code == Some(0), "hpgen verify: {verified}");
    Ok(())
}

fn read(report: &Value, milliseconds: u64) -> Result<Authoring> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let functions = |status: &str| list("functions").iter().filter(|function| function["status"] == status).count();
    let reasons = list("reasons");
    let number = |value: &Value| value.as_u64().with_context(|| format!("{value} where a number should be"));
    Ok(Authoring {
        verdict: text(&report["verdict"]),
        reasons: reasons
            .iter()
            .take(REASONS)
            .map(|reason| ["code", "symbol", "message"].map(|name| text(&reason[name])))
            .collect(),
        further_reasons: reasons.len().saturating_sub(REASONS),
        figures: Some(Figures {
            functions: number(&report["old"]["functions"])?,
            changed: functions("changed"),
            added: functions("added"),
            image_bytes: number(&report["old"]["size"])?,
            payload_bytes: report["payload"]["bytes"].as_u64(),
            others: None,
            milliseconds,
        }),
    })
}
