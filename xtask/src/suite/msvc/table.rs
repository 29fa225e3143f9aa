//! What the suite prints: a row for each image and each pair.

use std::time::Duration;

use hpgen_diff::change_set::{ChangeSet, FunctionStatus};
use hpgen_diff::program::Program;

/// One row.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// What was compared.
    pub name: String,
    /// What is expected of it.
    pub expected: &'static str,
    /// Functions of the old image.
    pub functions: usize,
    /// Functions that mean the same.
    pub same: usize,
    /// Functions that differ.
    pub changed: usize,
    /// Functions in which only traces of the build differ.
    pub cosmetic: usize,
    /// Functions that only the new image has.
    pub added: usize,
    /// Functions that only the old image has.
    pub removed: usize,
    /// Functions with something that was not understood.
    pub unresolved: usize,
    /// How long loading and comparing took.
    pub time: Duration,
    /// What should not be, a line each.
    pub findings: Vec<String>,
}

impl Row {
    /// The numbers of a comparison.
    pub fn of(name: String, expected: &'static str, old: &Program, changes: &ChangeSet) -> Self {
        let with = |status| changes.functions.iter().filter(|function| function.status == status).count();
        Self {
            name,
            expected,
            functions: old.functions.len(),
            same: changes.unchanged,
            changed: with(FunctionStatus::Changed),
            cosmetic: with(FunctionStatus::Cosmetic),
            added: with(FunctionStatus::Added),
            removed: with(FunctionStatus::Removed),
            unresolved: with(FunctionStatus::Unresolved),
            ..Self::default()
        }
    }

    /// The share of functions that are understood, in per cent; of none in a file that was refused.
    pub fn resolved(&self) -> f64 {
        100.0 * self.functions.saturating_sub(self.unresolved) as f64 / self.functions.max(1) as f64
    }

    fn print(&self, width: usize) {
        println!(
            "{:width$} {:<8} {:>9} {:>6} {:>7} {:>8} {:>5} {:>7} {:>10} {:>8.2}% {:>7.2}",
            self.name,
            self.expected,
            self.functions,
            self.same,
            self.changed,
            self.cosmetic,
            self.added,
            self.removed,
            self.unresolved,
            self.resolved(),
            self.time.as_secs_f64()
        );
    }
}

/// Prints all rows.
pub fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    println!(
        "{:width$} {:<8} {:>9} {:>6} {:>7} {:>8} {:>5} {:>7} {:>10} {:>9} {:>7}",
        "image or pair",
        "expected",
        "functions",
        "same",
        "changed",
        "cosmetic",
        "added",
        "removed",
        "unresolved",
        "resolved",
        "seconds"
    );
    for row in rows {
        row.print(width);
    }
}
