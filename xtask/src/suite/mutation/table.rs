//! What the suite prints: a row for each program and configuration, then every finding with its mutation.

use std::collections::BTreeMap;

use super::mutator::{EDITS, Edit};
use super::trial::{Accepted, Trial};
use crate::suite::variants::Source;

/// What the trials of one program in one configuration gave.
#[derive(Debug, Default)]
pub struct Row {
    /// Program and configuration.
    pub labels: [String; 2],
    /// Mutations that were wanted.
    pub wanted: usize,
    /// The trials.
    pub trials: Vec<Trial>,
}

/// Numbers of a row, or of all.
#[derive(Default)]
struct Sums {
    wanted: usize,
    not_compiled: usize,
    not_linked: usize,
    same: usize,
    edits: BTreeMap<Edit, usize>,
    changed: usize,
    found: [usize; 2],
    misses: [usize; 2],
    extras: [usize; 2],
    explained: [usize; 2],
    unresolved: [usize; 2],
}

impl Row {
    /// The mutations that made another program.
    pub fn accepted(&self) -> impl Iterator<Item = &Accepted> {
        self.trials.iter().filter_map(|trial| trial.accepted.as_ref())
    }

    fn add_to(&self, sums: &mut Sums) {
        sums.wanted += self.wanted;
        for trial in &self.trials {
            sums.not_compiled += trial.not_compiled;
            sums.not_linked += trial.not_linked;
            sums.same += trial.same;
        }
        for accepted in self.accepted() {
            *sums.edits.entry(accepted.edit).or_default() += 1;
            for (source, judgement) in &accepted.judgements {
                let is_analysis = *source == Source::Analysis;
                let add = |[objects, analysis]: &mut [usize; 2], count: usize| {
                    *(if is_analysis { analysis } else { objects }) += count;
                };
                if !is_analysis {
                    sums.changed += judgement.changed;
                }
                add(&mut sums.found, judgement.found);
                add(&mut sums.misses, judgement.misses.len());
                add(&mut sums.extras, judgement.extras.len());
                add(&mut sums.explained, judgement.explained);
                add(&mut sums.unresolved, judgement.unresolved);
            }
        }
    }
}

impl Sums {
    fn accepted(&self) -> usize {
        self.edits.values().sum()
    }

    fn print(&self, labels: [&str; 2]) {
        let [program, configuration] = labels;
        let tried = self.accepted() + self.not_compiled + self.not_linked + self.same;
        let both = |[objects, analysis]: [usize; 2]| format!("{objects}/{analysis}");
        print!("{program:<10} {configuration:<6} {:>6} {tried:>5}", self.wanted);
        print!(" {:>7} {:>6} {:>4} {:>8}", self.not_compiled, self.not_linked, self.same, self.accepted());
        for edit in EDITS {
            print!(" {:>9}", self.edits.get(&edit).copied().unwrap_or(0));
        }
        let [found, misses, extras] = [self.found, self.misses, self.extras].map(both);
        let [explained, unresolved] = [self.explained, self.unresolved].map(both);
        println!(" {:>7} {found:>9} {misses:>6} {extras:>6} {explained:>9} {unresolved:>10}", self.changed);
    }
}

/// Prints the table and the findings; returns how many there are.
pub fn print(rows: &[Row]) -> usize {
    print!(
        "{:<10} {:<6} {:>6} {:>5} {:>7} {:>6} {:>4}",
        "program", "flags", "wanted", "tried", "broken", "linker", "same"
    );
    print!(" {:>8}", "accepted");
    for edit in EDITS {
        print!(" {:>9}", edit.to_string());
    }
    println!(
        " {:>7} {:>9} {:>6} {:>6} {:>9} {:>10}",
        "changed", "found", "misses", "extras", "explained", "unresolved"
    );
    let mut total = Sums::default();
    for row in rows {
        let mut sums = Sums::default();
        row.add_to(&mut sums);
        row.add_to(&mut total);
        sums.print([&row.labels[0], &row.labels[1]]);
    }
    total.print(["total", ""]);
    println!("\nfrom `found` on: with object files / by analysis of the image alone");
    println!("explained: not understood without objects: may compute an address of a constant nearby that did change;");
    println!("           or variables of one name, which nothing but functions that changed uses");
    rows.iter().flat_map(|row| row.accepted().map(move |accepted| (row, accepted))).map(print_findings).sum()
}

/// Findings of one kind and mutation that are shown.
const MAX_FINDINGS: usize = 8;

fn print_findings((row, accepted): (&Row, &Accepted)) -> usize {
    let count = |(_, judgement): &(_, super::judge::Judgement)| judgement.misses.len() + judgement.extras.len();
    let findings = accepted.judgements.iter().map(count).sum();
    if findings > 0 {
        println!("\n{}, {}\n  images in {}", row.labels.join(" "), accepted.what, accepted.folder.display());
        for (source, judgement) in &accepted.judgements {
            for (name, found) in [("MISS", &judgement.misses), ("extra", &judgement.extras)] {
                for finding in found.iter().take(MAX_FINDINGS) {
                    println!("  {name} ({source}) {finding}");
                }
                if let Some(more) = found.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) {
                    println!("  and {more} more");
                }
            }
        }
    }
    findings
}
