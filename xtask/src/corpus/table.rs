//! `corpus/README.md`: what was measured, and nothing else.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use super::manifest;
use super::outcome::Outcome;

const HEAD: &str = "\
# Security fixes, live

Written by `cargo xtask corpus`; do not edit. Each case is a security fix of a Debian source package. The baseline is the
package with all patches before the fix, built with clang `-O2`, default sections, a PDB, and a driver program of ours; hpgen
sees the two images and their PDBs, no source and no object. Live: the driver calls the library all the time and shows the
vulnerable behaviour; the payload goes in, it shows the fixed one; it is taken out, and it shows the vulnerable one again.
Everything else that the driver does with the library (its regression) gives what the fixed build gives, in every step.
Measured under Wine. Authoring is the time of `hpgen build`, loading of images and PDBs included, on a machine with other work.

";

/// Writes it.
pub fn write(outcomes: &[Outcome]) -> Result<()> {
    let path = manifest::folder().join("README.md");
    fs::write(&path, text(outcomes)).with_context(|| format!("cannot write {}", path.display()))
}

fn text(outcomes: &[Outcome]) -> String {
    let sound: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_sound()).collect();
    let hotpatched = sound.iter().filter(|outcome| verdict(outcome) == "hotpatchable").count();
    let live = sound.iter().filter(|outcome| outcome.live.is_some()).count();
    let mut libraries: Vec<_> = sound.iter().map(|outcome| &outcome.library).collect();
    libraries.dedup();
    let mut text = HEAD.to_owned();
    let _ = writeln!(
        text,
        "{} fixes of {} libraries: {hotpatched} hotpatchable without a line of code, {live} of them proven live, {} refused or \
         without effect. {} failed in the harness and are not counted.\n",
        sound.len(),
        libraries.len(),
        sound.len() - hotpatched,
        outcomes.len() - sound.len(),
    );
    text.push_str(
        "| library | fix | touches | verdict | functions | payload | image | authoring | stopped | live |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        row(&mut text, outcome);
    }
    refusals(&mut text, &sound);
    text
}

fn verdict(outcome: &Outcome) -> &str {
    outcome.authoring.as_ref().map_or("failed", |authoring| authoring.verdict.as_str())
}

fn row(text: &mut String, outcome: &Outcome) {
    let mut fixes = vec![outcome.case.cve.as_str()];
    fixes.extend(outcome.case.also.iter().map(String::as_str));
    let _ = write!(
        text,
        "| {} {} | {} | {} | {} |",
        outcome.library,
        outcome.version,
        fixes.join(" "),
        outcome.case.touches,
        if outcome.failure.is_some() { "failed" } else { verdict(outcome) },
    );
    match &outcome.authoring {
        Some(authoring) => {
            let payload = authoring.payload_bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
            let _ = write!(
                text,
                " {} changed, {} new of {} | {payload} | {} | {} ms |",
                authoring.changed.len(),
                authoring.added.len(),
                authoring.functions,
                authoring.image_bytes,
                authoring.milliseconds
            );
        }
        None => text.push_str(" | | | |"),
    }
    match (&outcome.live, &outcome.case.live) {
        (Some(live), Some(probe)) => {
            let [before, patched, after] = live.lines;
            let _ = writeln!(
                text,
                " {} us, back {} us | {}: {} → {} → {} ({before}, {patched}, {after} lines) |",
                live.apply_us, live.rollback_us, probe.probe, probe.vulnerable, probe.fixed, probe.vulnerable
            );
        }
        _ => text.push_str(" | |\n"),
    }
}

fn refusals(text: &mut String, sound: &[&Outcome]) {
    let refused: Vec<_> = sound.iter().filter(|outcome| verdict(outcome) != "hotpatchable").collect();
    if refused.is_empty() {
        return;
    }
    text.push_str("\n## Not hotpatched\n\nWhat hpgen says, word for word.\n");
    for outcome in refused {
        let _ = writeln!(text, "\n{} {}: {}", outcome.library, outcome.case.cve, verdict(outcome));
        for [code, symbol, message] in outcome.authoring.iter().flat_map(|authoring| &authoring.reasons) {
            let _ = writeln!(text, "* `{code}` `{symbol}`: {message}");
        }
    }
}
