//! The outcomes that are committed beside the table, a file for each flavour and a line for each case: what a run of some cases on one machine
//! says leaves what others said of the rest. Of flavours of which the table has no figures, no figures are kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::flavour::Flavour;
use super::outcome::Outcome;
use super::{manifest, places};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    name: String,
    outcome: Outcome,
}

fn file(flavour: Flavour) -> PathBuf {
    manifest::folder().join("outcomes").join(format!("{}.jsonl", flavour.name()))
}

/// The outcomes of a flavour by their cases' names.
pub fn read(flavour: Flavour) -> Result<BTreeMap<String, Outcome>> {
    let path = file(flavour);
    let context = || format!("cannot read {}", path.display());
    let text = if path.exists() { fs::read_to_string(&path).with_context(context)? } else { String::new() };
    let lines = text.lines().map(serde_json::from_str::<Line>);
    lines.map(|line| line.map(|line| (line.name, line.outcome)).with_context(context)).collect()
}

/// Writes those of all cases of a flavour.
pub fn write(flavour: Flavour, outcomes: Vec<(String, Outcome)>) -> Result<()> {
    let path = file(flavour);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    let mut text = String::new();
    for (name, outcome) in outcomes {
        text.push_str(&serde_json::to_string(&Line { name, outcome })?);
        text.push('\n');
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// An outcome as it is committed.
pub fn form_of(flavour: Flavour, mut outcome: Outcome) -> Outcome {
    outcome.failure = outcome.failure.map(|failure| places::without(&failure));
    if flavour == Flavour::O2 { outcome } else { outcome.in_brief() }
}
