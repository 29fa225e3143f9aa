//! One image: compared with itself, and how much of it is understood.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::change_set::{ChangeSet, DataStatus, FunctionStatus};
use hpgen_diff::compare::Comparison;
use hpgen_diff::listing;
use hpgen_diff::program::Program;
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::Evidence;

use crate::suite::msvc::table::Row;

/// Share of functions that must be fully understood, in per cent.
const MIN_RESOLVED: f64 = 99.5;

/// Loads an image and compares it with itself: it must be the same, and nearly all of it understood.
pub fn identity(name: &str, path: &Path) -> Result<(Program, Row)> {
    let start = Instant::now();
    let program = Program::load(path, None).with_context(|| name.to_owned())?;
    let changes = ChangeSet::of(&program, &program, &Comparison::of(&program, &program));
    let mut row = Row::of(name.to_owned(), "identity", &program, &changes);
    row.time = start.elapsed();
    row.findings = differences(&changes);
    if row.resolved() < MIN_RESOLVED {
        row.findings.push(format!("only {:.2} % of its functions are understood", row.resolved()));
    }
    if row.same + row.unresolved != row.functions {
        row.findings.push("functions are neither the same nor unresolved".to_owned());
    }
    row.findings.extend(strays(&program));
    Ok((program, row))
}

/// Funclets by the names that Microsoft's compiler gives them whose functions were not found.
fn strays(program: &Program) -> Vec<String> {
    const KINDS: [&str; 4] = ["dtor$", "catch$", "fin$", "filt$"];
    let parents = program.funclet_parents();
    let is_stray = |index: &AtomIndex| parents.get(index).is_none_or(BTreeSet::is_empty);
    let functions = program.functions.iter().map(|function| function.atom).filter(is_stray);
    let names = functions.filter_map(|index| program.atom(index)).map(|atom| program.display(atom));
    let is_funclet = |name: &String| KINDS.iter().any(|kind| name.contains(kind));
    names.filter(is_funclet).map(|name| format!("{name} is a funclet of no function")).collect()
}

/// Everything that two builds of the same program may not have. A function that means the same as far as it is understood is no
/// difference, nor is one with another line number in it.
pub fn differences(changes: &ChangeSet) -> Vec<String> {
    let is_no_difference = |status| matches!(status, FunctionStatus::Unresolved | FunctionStatus::Cosmetic);
    let functions = changes.functions.iter().filter(|function| !is_no_difference(function.status));
    let functions = functions.map(|function| {
        let module = function.module.as_deref().unwrap_or("?");
        format!("{:?} {} [{module}]: {}", function.status, function.display, function.why)
    });
    let data = changes.data.iter().filter(|data| data.status != DataStatus::Cosmetic);
    let data = data.map(|data| format!("data {:?} {}: {}", data.status, data.name, data.why));
    let reasons = changes.reasons.iter().map(|r| format!("reason {} {}: {}", r.code, r.symbol, r.message));
    functions.chain(data).chain(reasons).collect()
}

/// What in an image is not understood, a line each: address, function, instruction, reason.
pub fn unresolved(program: &Program) -> Vec<String> {
    let of_function = |function: &hpgen_diff::program::Function| -> Vec<String> {
        let Some(atom) = program.atom(function.atom) else { return Vec::new() };
        let line = |place: &hpgen_diff::x64::Unresolved| {
            let rva = Rva(atom.rva.0.saturating_add(place.offset));
            let instruction = listing::instruction(program, function.atom, place.offset);
            format!("{rva} {}+{:#x}: {instruction}: {}", program.display(atom), place.offset, place.reason)
        };
        function.code.unresolved.iter().map(line).collect()
    };
    program.functions.iter().flat_map(of_function).collect()
}

/// How the functions of an image are known.
#[derive(Debug, Default)]
pub struct Known {
    /// The PDB describes them as procedures.
    pub procedures: usize,
    /// The PDB has only their linkage names.
    pub publics: usize,
    /// Only the image's function table has them.
    pub table: usize,
    /// Only code or pointers lead to them.
    pub references: usize,
    /// Their references are exact, from object files that are at hand. Of the others the instructions tell.
    pub exact: usize,
}

impl Known {
    /// Counts the functions of an image, each where it is known best.
    pub fn of(program: &Program) -> Self {
        let exact = program.functions.iter().filter(|function| function.code.evidence == Evidence::Objects).count();
        let mut known = Self { exact, ..Self::default() };
        let symbols = &program.symbols;
        for atom in program.functions.iter().filter_map(|function| program.atom(function.atom)) {
            let count = if symbols.procedures.iter().any(|procedure| procedure.rva == atom.rva) {
                &mut known.procedures
            } else if symbols.publics.iter().any(|public| public.rva == atom.rva) {
                &mut known.publics
            } else if program.image.runtime_functions.iter().any(|entry| entry.range.start == atom.rva) {
                &mut known.table
            } else {
                &mut known.references
            };
            *count += 1;
        }
        known
    }
}
