//! What the verification found. Its JSON form is described by `verify/schema/hpgen-verify-1.json`.

use std::collections::BTreeMap;
use std::fmt;

use hpgen_diff::image::Image;
use hpgen_runtime::format::Payload;
use serde::Serialize;

use crate::placement::Placement;

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The old image's file name.
    pub image: String,
    /// What was looked at.
    pub counts: Counts,
    /// Where image and region were put.
    pub placements: Vec<Placement>,
    /// What is wrong; empty for a payload that is sound.
    pub findings: Vec<Finding>,
    /// What could not be looked at, since the new build was not at hand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
}

/// Numbers of one placement; they are the same at each.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Functions of the payload that were found in the new build.
    pub functions: usize,
    /// References that were followed, by class.
    pub references: References,
    /// Objects of the new build that stand in the region.
    pub objects: usize,
    /// Constants of the old image that were compared with those that the new code names.
    pub old_constants: usize,
    /// Unwind records.
    pub unwind_records: usize,
    /// Redirected entries.
    pub trampolines: usize,
    /// Imports that the payload brings.
    pub imports: usize,
    /// Variables that the next payload takes over.
    pub variables: usize,
    /// Functions that the loader calls.
    pub hooks: usize,
    /// Variables of the old image that get a new value.
    pub assignments: usize,
}

/// Number of references by class.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct References(pub BTreeMap<&'static str, usize>);

impl References {
    /// Counts one.
    pub(crate) fn add(&mut self, class: &'static str) {
        *self.0.entry(class).or_default() += 1;
    }

    /// Adds those of another.
    pub(crate) fn extend(&mut self, other: References) {
        for (class, number) in other.0 {
            *self.0.entry(class).or_default() += number;
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl Counts {
    /// Takes the larger numbers: a placement that failed early has smaller ones.
    pub(crate) fn merge(&mut self, other: Counts) {
        let references = std::mem::take(&mut self.references);
        let larger = if other.references.total() > references.total() { other.references } else { references };
        *self = Counts {
            functions: self.functions.max(other.functions),
            references: larger,
            objects: self.objects.max(other.objects),
            old_constants: self.old_constants.max(other.old_constants),
            unwind_records: self.unwind_records.max(other.unwind_records),
            ..self.clone()
        };
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Stable identifier of the kind of finding.
    pub code: &'static str,
    /// Function or object of the new build.
    pub function: Option<String>,
    /// Bytes from its start.
    pub offset: Option<u32>,
    /// The instruction there, as the new build has it.
    pub instruction: Option<String>,
    /// What should be, in words.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl Finding {
    /// About the payload as a whole, or a part that belongs to no function.
    pub(crate) fn of_payload(code: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Finding {
        let (expected, found) = (expected.into(), found.into());
        Finding { code, function: None, offset: None, instruction: None, expected, found }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.function, self.offset) {
            (Some(function), Some(offset)) => write!(f, "{function}+{offset:#x}: ")?,
            (Some(function), None) => write!(f, "{function}: ")?,
            _ => {}
        }
        if let Some(instruction) = &self.instruction {
            write!(f, "{instruction}: ")?;
        }
        write!(f, "expected {}, found {} [{}]", self.expected, self.found, self.code)
    }
}

impl Report {
    /// An empty report.
    pub(crate) fn new(payload: &Payload, old: &Image) -> Report {
        let counts = Counts {
            trampolines: payload.trampolines.len(),
            imports: payload.imports.len(),
            variables: payload.variables.len(),
            hooks: payload.hooks.len(),
            assignments: payload.assignments.len(),
            ..Counts::default()
        };
        Report { image: old.file_name(), counts, placements: Vec::new(), findings: Vec::new(), unchecked: Vec::new() }
    }

    /// Findings in order, each once: most are found at every placement.
    pub(crate) fn tidy(&mut self) {
        self.findings.sort();
        self.findings.dedup();
    }

    /// Nothing was found wrong, and there was a process to look at.
    pub fn is_verified(&self) -> bool {
        self.findings.is_empty() && !self.placements.is_empty()
    }
}
