//! What became of a case: kept as JSON below `target/corpus`, so that a run can be resumed and the table made again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::manifest::Case;
use crate::workspace;

/// Everything measured of one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Digest of what it rests on: manifest, driver, tools, hpgen.
    pub stamp: String,
    /// The library.
    pub library: String,
    /// Its version.
    pub version: String,
    /// The fix.
    pub case: Case,
    /// What hpgen says of it.
    pub authoring: Option<Authoring>,
    /// What was seen of it in a process.
    pub live: Option<Measured>,
    /// What went wrong, in the harness or in hpgen.
    pub failure: Option<String>,
}

/// What `hpgen build` gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Authoring {
    /// `hotpatchable`, `restart-required` or `unchanged`.
    pub verdict: String,
    /// The reasons of a refusal: code, symbol, message.
    pub reasons: Vec<[String; 3]>,
    /// Functions of the baseline.
    pub functions: u64,
    /// Those that changed, and those that are new.
    pub changed: Vec<String>,
    /// Those that are new.
    pub added: Vec<String>,
    /// Those that were not understood.
    pub unresolved: Vec<String>,
    /// The size of the baseline's file.
    pub image_bytes: u64,
    /// The size of the payload, where there is one.
    pub payload_bytes: Option<u64>,
    /// How long `hpgen build` took.
    pub milliseconds: u64,
}

/// What `hpgen apply` and `rollback` said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// How long the process stood still.
    pub apply_us: u64,
    /// The same, for the way back.
    pub rollback_us: u64,
    /// Lines of the driver: before, patched, rolled back.
    pub lines: [usize; 3],
}

/// Where the outcome of a case is kept.
pub fn file(name: &str) -> PathBuf {
    workspace::target().join("corpus").join("outcomes").join(format!("{name}.json"))
}

impl Outcome {
    /// Reads one, if it is there and whole.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        let fresh = path.with_extension("tmp");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether nothing speaks against it: a refusal is a result, a failure is not.
    pub fn is_sound(&self) -> bool {
        self.failure.is_none() && self.authoring.is_some()
    }

    /// In a few words.
    pub fn summary(&self) -> String {
        let authoring = self.authoring.as_ref();
        let verdict = authoring.map_or("not authored", |authoring| authoring.verdict.as_str());
        let live = if self.live.is_some() { ", proven live" } else { "" };
        let failure = self.failure.as_ref().map(|failure| format!(": FAILED: {failure}")).unwrap_or_default();
        let reason = authoring.and_then(|authoring| authoring.reasons.first());
        let reason = reason.map(|[code, symbol, message]| format!(": {code} {symbol}: {message}")).unwrap_or_default();
        format!("{verdict}{live}{reason}{failure}")
    }
}
