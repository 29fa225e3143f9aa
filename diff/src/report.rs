//! The comparison as other programs read it: stable JSON, described by `diff/schema/hpgen-diff-1.json`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::atoms::AtomIndex;
use crate::change_set::{ChangeSet, DataStatus, FunctionStatus, Reason, Verdict, extent};
use crate::explain::{Explanation, Place};
use crate::lines::Source;
use crate::pairing::How;
use crate::pdb::describe_identity;
use crate::program::Program;
use crate::rva::Rva;
use crate::x64::Evidence;

/// Name and version of the JSON form. Fields may be added within a version; none is removed or changes its meaning.
pub const SCHEMA: &str = "hpgen-diff/1";

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Can it go into a running process?
    pub verdict: Verdict,
    /// Why not; empty unless a restart is required.
    pub reasons: Vec<Reason>,
    /// Functions that are not simply unchanged.
    pub functions: Vec<FunctionReport>,
    /// Places in the source that made functions change, those with most effects first.
    pub causes: Vec<CauseReport>,
    /// Data that is not simply unchanged.
    pub data: Vec<DataReport>,
    /// Number of functions that mean the same in both builds.
    pub unchanged: usize,
    /// The old build.
    pub old: ImageReport,
    /// The new build.
    pub new: ImageReport,
}

/// One of the two builds.
#[derive(Debug, Serialize)]
pub struct ImageReport {
    /// Path of the image as it was given.
    pub path: String,
    /// GUID and age of its PDB.
    pub identity: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Number of functions that were found.
    pub functions: usize,
    /// What their references rest on, and of how many.
    pub evidence: BTreeMap<Evidence, usize>,
}

/// One function of the report.
#[derive(Debug, Serialize)]
pub struct FunctionReport {
    /// Linkage name where the PDB has one, else the procedure's name.
    pub name: String,
    /// Name in the source's terms.
    pub display: String,
    /// Object file that it was compiled to.
    pub module: Option<String>,
    /// Names of the functions that it is a funclet of; none for a function of its own, more than one for folded funclets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub funclet_of: Vec<String>,
    /// Class of the change.
    pub status: FunctionStatus,
    /// Address in the old image.
    pub old_rva: Option<Rva>,
    /// Address in the new image.
    pub new_rva: Option<Rva>,
    /// Size in the old image in bytes.
    pub old_size: Option<u32>,
    /// Size in the new image in bytes.
    pub new_size: Option<u32>,
    /// How the two were found to be the same function.
    pub paired_by: Option<How>,
    /// What the references of the old function rest on.
    pub old_evidence: Option<Evidence>,
    /// What those of the new function rest on.
    pub new_evidence: Option<Evidence>,
    /// The first difference, in words.
    pub why: String,
    /// The first instruction of a changed function that does something else.
    pub difference: Option<DifferenceReport>,
    /// The line of the old source that this instruction came from.
    pub old_source: Option<Source>,
    /// The line of the new source.
    pub new_source: Option<Source>,
    /// Where that line belongs to a function that was inlined: which, and into what, the innermost first.
    pub inlined_from: Vec<InlinedReport>,
}

/// The first difference of a function, one side of which can lack an instruction.
#[derive(Debug, Serialize)]
pub struct DifferenceReport {
    /// What the old function does.
    pub old: Option<InstructionReport>,
    /// What the new function does.
    pub new: Option<InstructionReport>,
}

/// One instruction.
#[derive(Debug, Serialize)]
pub struct InstructionReport {
    /// Its address.
    pub rva: Rva,
    /// Bytes from the function's start.
    pub offset: u32,
    /// Intel syntax with names in place of addresses.
    pub text: String,
}

/// A call that was inlined.
#[derive(Debug, Serialize)]
pub struct InlinedReport {
    /// The function that was inlined.
    pub function: String,
    /// The file that calls it.
    pub file: Option<String>,
    /// The line of the call.
    pub line: Option<u32>,
}

/// A place in the source that made functions change.
#[derive(Debug, Serialize)]
pub struct CauseReport {
    /// The source file, as the PDB has it.
    pub file: String,
    /// The first line that differs.
    pub line: u32,
    /// The function of the source that it belongs to.
    pub function: String,
    /// Whether that function was inlined into its effects, rather than being its only effect.
    pub inlined: bool,
    /// Names of the functions that changed with it.
    pub effects: Vec<String>,
}

/// One data object of the report.
#[derive(Debug, Serialize)]
pub struct DataReport {
    /// Linkage name, or the variable's name.
    pub name: String,
    /// Class of the change.
    pub status: DataStatus,
    /// Whether the program can write to it.
    pub writable: bool,
    /// What differs, in words.
    pub why: String,
}

impl Report {
    /// Makes the report; `refusals` are what the payload's plan adds to the comparison's own reasons.
    pub fn of(old: &Program, new: &Program, changes: &ChangeSet, refusals: &[Reason]) -> Report {
        let functions = changes
            .functions
            .iter()
            .map(|f| {
                let ((old_rva, old_size), (new_rva, new_size)) = (extent(old, f.old), extent(new, f.new));
                FunctionReport {
                    name: f.name.clone(),
                    display: f.display.clone(),
                    module: f.module.clone(),
                    funclet_of: f.funclet_of.clone(),
                    status: f.status,
                    old_rva,
                    new_rva,
                    old_size,
                    new_size,
                    paired_by: f.paired_by,
                    old_evidence: evidence(old, f.old),
                    new_evidence: evidence(new, f.new),
                    why: f.why.clone(),
                    difference: f.explanation.as_ref().and_then(difference),
                    old_source: f.explanation.as_ref().and_then(|e| e.old.source().cloned()),
                    new_source: f.explanation.as_ref().and_then(|e| e.new.source().cloned()),
                    inlined_from: f.explanation.as_ref().map(inlined_from).unwrap_or_default(),
                }
            })
            .collect();
        let causes = changes.causes.iter().map(|cause| CauseReport {
            file: cause.source.file.clone(),
            line: cause.source.line,
            function: cause.function.clone(),
            inlined: cause.is_inlined,
            effects: cause
                .effects
                .iter()
                .filter_map(|index| Some(changes.functions.get(*index)?.name.clone()))
                .collect(),
        });
        let data = changes.data.iter().map(|d| DataReport {
            name: d.name.clone(),
            status: d.status,
            writable: d.writable,
            why: d.why.clone(),
        });
        let mut reasons: Vec<Reason> = changes.reasons.iter().chain(refusals).cloned().collect();
        reasons.sort();
        reasons.dedup();
        Report {
            schema: SCHEMA,
            verdict: changes.verdict(refusals),
            reasons,
            functions,
            causes: causes.collect(),
            data: data.collect(),
            unchanged: changes.unchanged,
            old: image_report(old),
            new: image_report(new),
        }
    }
}

fn difference(explanation: &Explanation) -> Option<DifferenceReport> {
    let instruction = |place: &Place| {
        let text = place.instruction.clone()?;
        Some(InstructionReport { rva: place.rva, offset: place.offset, text })
    };
    let (old, new) = (instruction(&explanation.old), instruction(&explanation.new));
    (old.is_some() || new.is_some()).then_some(DifferenceReport { old, new })
}

/// The chain on the new side, or on the old where the new side has no such instruction.
fn inlined_from(explanation: &Explanation) -> Vec<InlinedReport> {
    let frames = match &explanation.new {
        Place { instruction: None, .. } if explanation.old.instruction.is_some() => &explanation.old.frames,
        place => &place.frames,
    };
    let calls = frames.iter().zip(frames.iter().skip(1));
    calls
        .filter_map(|(inlined, caller)| {
            Some(InlinedReport {
                function: inlined.inlined.clone()?,
                file: caller.source.as_ref().map(|source| source.file.clone()),
                line: caller.source.as_ref().map(|source| source.line),
            })
        })
        .collect()
}

fn evidence(program: &Program, function: Option<AtomIndex>) -> Option<Evidence> {
    Some(program.function(function?)?.code.evidence)
}

fn image_report(program: &Program) -> ImageReport {
    let image = &program.image;
    let mut evidence = BTreeMap::new();
    for function in &program.functions {
        *evidence.entry(function.code.evidence).or_insert(0) += 1;
    }
    ImageReport {
        path: image.path().display().to_string(),
        identity: describe_identity(&image.identity.guid, image.identity.age),
        size: image.file_size(),
        functions: program.functions.len(),
        evidence,
    }
}
