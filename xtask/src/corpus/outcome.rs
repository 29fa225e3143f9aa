//! What became of a case: kept as JSON below `target/corpus`, so that a run can be resumed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::flavour::Flavour;
use super::manifest::Case;
use super::touched::Touched;
use crate::binary_patches::OTHERS;
use crate::workspace;

/// Everything measured of one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Digest of what it rests on: manifest, driver, tools, hpgen.
    pub stamp: String,
    /// Digest of the hpgen that was asked.
    #[serde(default)]
    pub hpgen: String,
    /// The library.
    pub library: String,
    /// Its version.
    pub version: String,
    /// The fix.
    pub case: Case,
    /// How both builds are optimised.
    pub flavour: Flavour,
    /// What the fix touches in the sources.
    pub touched: Option<Touched>,
    /// What hpgen says of it.
    pub authoring: Option<Authoring>,
    /// What hpgen says of it where its author answers for what it refused.
    pub answered: Option<Answered>,
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
    /// The first reasons of a refusal: code, symbol, message.
    pub reasons: Vec<[String; 3]>,
    /// How many more there are.
    pub further_reasons: usize,
    /// How much and how long; none in a brief outcome.
    pub figures: Option<Figures>,
}

/// How much a fix changes, and what its payload costs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// Functions of the baseline.
    pub functions: u64,
    /// Those that changed.
    pub changed: usize,
    /// Those that are new.
    pub added: usize,
    /// The size of the baseline's file.
    pub image_bytes: u64,
    /// The size of the payload, where there is one.
    pub payload_bytes: Option<u64>,
    /// The sizes of binary patches of the two images, by the tools of `binary_patches`.
    pub others: Option<[u64; OTHERS.len()]>,
    /// How long `hpgen build` took.
    pub milliseconds: u64,
}

/// What rules and hooks made of a refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answered {
    /// What `hpgen build` gave with them.
    pub authoring: Authoring,
    /// Lines that were written for it.
    pub lines: usize,
}

/// What was seen in a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// The input shows the same in both builds when nobody patches them: compiled in this way, the baseline does not show its fault, and what is proven is
    /// regression alone.
    pub shows_nothing: bool,
    /// How long it stood still; none in a brief outcome.
    pub stops: Option<Stops>,
}

/// What `hpgen apply` and `rollback` said, and how far the driver came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stops {
    /// How long the process stood still.
    pub apply_us: u64,
    /// The same, for the way back.
    pub rollback_us: u64,
    /// Lines of the driver: before, patched, rolled back.
    pub lines: [usize; 3],
}

/// Where the outcome of a case is kept.
pub fn file(name: &str, flavour: Flavour) -> PathBuf {
    workspace::target().join("corpus").join("outcomes").join(flavour.name()).join(format!("{name}.json"))
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

    /// The verdict and whether it held, without figures.
    pub fn in_brief(mut self) -> Self {
        self.touched = None;
        let answered = self.answered.iter_mut().map(|answered| &mut answered.authoring);
        for authoring in self.authoring.iter_mut().chain(answered) {
            authoring.figures = None;
            authoring.reasons.truncate(1);
            authoring.further_reasons = 0;
        }
        if let Some(live) = &mut self.live {
            live.stops = None;
        }
        self
    }

    /// Whether nothing speaks against it: a refusal is a result, a failure is not.
    pub fn is_sound(&self) -> bool {
        self.failure.is_none() && self.authoring.is_some()
    }

    /// Whether all was done that can be; if `authoring_only`, in no process.
    pub fn is_whole(&self, authoring_only: bool) -> bool {
        let goes = self.is_hotpatchable() || self.is_answered();
        self.is_sound() && (authoring_only || !goes || self.live.is_some())
    }

    /// Whether rules or hooks made it go.
    pub fn is_answered(&self) -> bool {
        self.answered.as_ref().is_some_and(|answered| answered.authoring.verdict == "hotpatchable")
    }

    /// Whether hpgen made it go by itself.
    pub fn is_hotpatchable(&self) -> bool {
        self.authoring.as_ref().is_some_and(|authoring| authoring.verdict == "hotpatchable")
    }

    /// What hpgen says by itself.
    pub fn verdict(&self) -> Option<&str> {
        self.authoring.as_ref().map(|authoring| authoring.verdict.as_str())
    }

    /// Whether all that a running process was to show was seen.
    pub fn is_proven_live(&self) -> bool {
        self.failure.is_none() && self.live.is_some()
    }

    /// Whether an input showed the fix in a running process.
    pub fn is_shown_live(&self) -> bool {
        self.is_proven_live() && self.case.live.is_some() && self.live.as_ref().is_some_and(|live| !live.shows_nothing)
    }

    /// Lines of ours that made it go.
    pub fn lines(&self) -> usize {
        self.answered.as_ref().map_or(0, |answered| answered.lines)
    }

    /// In a few words.
    pub fn summary(&self) -> String {
        let authoring = self.authoring.as_ref();
        let verdict = authoring.map_or("not authored", |authoring| authoring.verdict.as_str());
        let answered = if self.is_answered() { ", hotpatchable with rules" } else { "" };
        let live = match (&self.live, &self.case.live) {
            (Some(live), Some(_)) if live.shows_nothing => {
                ", regression proven live (the input shows no fault in the unpatched baseline either)"
            }
            (Some(_), Some(_)) => ", fix proven live",
            (Some(_), None) => ", regression proven live",
            (None, _) => "",
        };
        let failure = self.failure.as_ref().map(|failure| format!(": FAILED: {failure}")).unwrap_or_default();
        let reason = authoring.and_then(|authoring| authoring.reasons.first());
        let reason = reason.map(|[code, symbol, message]| format!(": {code} {symbol}: {message}")).unwrap_or_default();
        format!("{verdict}{answered}{live}{reason}{failure}")
    }
}
