//! The comparison as other programs read it: stable JSON, described by `diff/schema/hpgen-diff-1.json`.

use serde::Serialize;

use crate::change_set::{ChangeSet, DataStatus, FunctionStatus, Reason, Verdict, extent};
use crate::pdb::describe_identity;
use crate::program::Program;
use crate::rva::Rva;

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
    /// The first difference, in words.
    pub why: String,
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
                    status: f.status,
                    old_rva,
                    new_rva,
                    old_size,
                    new_size,
                    why: f.why.clone(),
                }
            })
            .collect();
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
            data: data.collect(),
            unchanged: changes.unchanged,
            old: image_report(old),
            new: image_report(new),
        }
    }
}

fn image_report(program: &Program) -> ImageReport {
    let image = &program.image;
    ImageReport {
        path: image.path().display().to_string(),
        identity: describe_identity(&image.identity.guid, image.identity.age),
        size: image.file_size(),
        functions: program.functions.len(),
    }
}
