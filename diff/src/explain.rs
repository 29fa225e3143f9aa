//! Why functions changed: the instruction and the source line where each first differs, and what several have in common.
//!
//! The first instruction that differs is often in the prologue, because something far below it needs another register. What a
//! developer wants to see is the first one that *does* something else. So the two versions are aligned, instructions are
//! reduced to what they do whatever registers they do it with, and the first difference counts whose kind of instruction
//! one version has more of than the other. Code that only moved, or that only uses other registers, is passed over.
//! An explanation never decides whether something changed: that is the comparison's business.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use crate::asm::{self, Line, Row};
use crate::atoms::AtomIndex;
use crate::change_set::{FunctionChange, FunctionStatus};
use crate::lines::{Frame, Lines, Source};
use crate::program::Program;
use crate::rva::Rva;

/// Where a changed function first differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// In the old program.
    pub old: Place,
    /// In the new program.
    pub new: Place,
}

/// A place in a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Offset from the function's start.
    pub offset: u32,
    /// Address.
    pub rva: Rva,
    /// The instruction there; none where the other side has one more, or where no instruction differs.
    pub instruction: Option<String>,
    /// The calls that it stands in, the innermost first.
    pub frames: Vec<Frame>,
}

impl Place {
    /// Where the function begins.
    fn function(&self) -> Rva {
        Rva(self.rva.0.saturating_sub(self.offset))
    }

    /// The line that the place came from; where its compiler hides that, the line of the call around it.
    pub fn source(&self) -> Option<&Source> {
        self.frames.iter().find_map(|frame| frame.source.as_ref())
    }
}

/// A place in the source that made one function or several change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The function of the source that differs.
    pub function: String,
    /// Whether it differs where it was inlined, rather than in its own code.
    pub is_inlined: bool,
    /// The first line of it that differs: in the new source where it has one there.
    pub source: Source,
    /// The functions that changed with it: indices into the change set's.
    pub effects: Vec<usize>,
}

/// Explains the changed functions of a change set, and returns the causes: those with most effects first.
pub fn explain(old: &Program, new: &Program, functions: &mut [FunctionChange]) -> Vec<Cause> {
    let pairs: Vec<(usize, AtomIndex, AtomIndex)> = functions
        .iter()
        .enumerate()
        .filter(|(_, change)| change.is_explained())
        .filter_map(|(index, change)| Some((index, change.old?, change.new?)))
        .collect();
    if pairs.is_empty() {
        return Vec::new();
    }
    let old_lines = Lines::of(old, pairs.iter().map(|(_, old, _)| *old));
    let new_lines = Lines::of(new, pairs.iter().map(|(_, _, new)| *new));
    let explanations: Vec<(usize, Option<Explanation>)> = pairs
        .par_iter()
        .map(|(index, a, b)| (*index, explain_pair((old, &old_lines, *a), (new, &new_lines, *b))))
        .collect();
    for (index, explanation) in explanations {
        if let Some(change) = functions.get_mut(index) {
            change.explanation = explanation;
        }
    }
    let changed = pairs.iter().filter_map(|(_, _, index)| Some(new.atom(*index)?.rva)).collect();
    causes(functions, &Inlining::of(&old_lines, &new_lines, &changed))
}

/// A function of one program, with the line information to explain it.
type Side<'a> = (&'a Program, &'a Lines, AtomIndex);

fn explain_pair((old, old_lines, a): Side<'_>, (new, new_lines, b): Side<'_>) -> Option<Explanation> {
    let (x, y) = (asm::lines(old, a), asm::lines(new, b));
    let rows = asm::align(&x, &y);
    let start = |program: &Program, index| program.atom(index).map(|atom| atom.rva);
    let (old_start, new_start) = (start(old, a)?, start(new, b)?);
    let hunk = Hunks { old: (&x, old_lines), new: (&y, new_lines) }.most_telling(&rows).unwrap_or_default();
    let place = |lines: &[Line], debug: &Lines, start: Rva, index: Option<usize>, near: usize| {
        let line = index.or(Some(near)).and_then(|index| lines.get(index).or(lines.last()));
        let (offset, rva) = line.map_or((0, start), |line| (line.offset, line.rva));
        let instruction = index.and_then(|index| lines.get(index)).map(|line| line.text.clone());
        Place { offset, rva, instruction, frames: debug.at(rva) }
    };
    Some(Explanation {
        old: place(&x, old_lines, old_start, hunk.old, hunk.near.0),
        new: place(&y, new_lines, new_start, hunk.new, hunk.near.1),
    })
}

/// A run of rows that differ, with the lines that tell most about it.
#[derive(Debug, Default, Clone, Copy)]
struct Hunk {
    old: Option<usize>,
    new: Option<usize>,
    /// The lines before which it stands.
    near: (usize, usize),
}

/// Two versions with their line information.
struct Hunks<'a> {
    old: (&'a [Line], &'a Lines),
    new: (&'a [Line], &'a Lines),
}

/// Where an instruction does something that the other version does less often.
struct Telling {
    hunk: usize,
    is_new: bool,
    index: usize,
    source: Option<Source>,
}

impl Hunks<'_> {
    /// Chooses the source line with most instructions that tell something; among equal ones the first.
    fn most_telling(&self, rows: &[Row]) -> Option<Hunk> {
        let mut surplus: HashMap<&str, i64> = HashMap::new();
        for (lines, one) in [(self.old.0, 1), (self.new.0, -1)] {
            for shape in lines.iter().filter_map(|line| line.shape.as_deref()) {
                *surplus.entry(shape).or_insert(0) += one;
            }
        }
        let mut hunks: Vec<Hunk> = Vec::new();
        let mut telling: Vec<Telling> = Vec::new();
        // The first row of instructions that do not look alike, though each has its like elsewhere.
        let mut other: Option<Hunk> = None;
        let (mut before, mut in_hunk) = ((0, 0), false);
        for row in rows {
            let (i, j) = match *row {
                Row::Same(i, j) => {
                    before = (i + 1, j + 1);
                    in_hunk = false;
                    continue;
                }
                Row::Different(Some(i), Some(j)) if self.is_line_number(i, j) => {
                    before = (i + 1, j + 1);
                    in_hunk = false;
                    continue;
                }
                Row::Different(i, j) => (i, j),
            };
            if !in_hunk {
                hunks.push(Hunk { old: i, new: j, near: before });
                in_hunk = true;
            }
            for (lines, index, is_new) in [(self.old, i, false), (self.new, j, true)] {
                let Some(line) = index.and_then(|index| lines.0.get(index)) else { continue };
                let Some(count) = line.shape.as_deref().and_then(|shape| surplus.get_mut(shape)) else { continue };
                // Each tells as often as there is one more of it.
                let is_more = if is_new { *count < 0 } else { *count > 0 };
                if is_more {
                    *count += if is_new { 1 } else { -1 };
                    let source = lines.1.at(line.rva).into_iter().next().and_then(|frame| frame.source);
                    telling.push(Telling { hunk: hunks.len() - 1, is_new, index: index.unwrap_or_default(), source });
                }
            }
            let shape =
                |lines: &'_ [Line], index: Option<usize>| index.and_then(|index| lines.get(index)?.shape.clone());
            if other.is_none() && shape(self.old.0, i) != shape(self.new.0, j) {
                other = Some(Hunk { old: i, new: j, near: before });
            }
            before = (i.map_or(before.0, |i| i + 1), j.map_or(before.1, |j| j + 1));
        }
        let mut scores: HashMap<(bool, Option<&Source>), usize> = HashMap::new();
        for t in &telling {
            *scores.entry((t.is_new, t.source.as_ref())).or_insert(0) += 1;
        }
        let score = |t: &Telling| scores.get(&(t.is_new, t.source.as_ref())).copied().unwrap_or(0);
        let best = telling.iter().map(score).max();
        let Some(chosen) = telling.iter().find(|t| Some(score(t)) == best) else {
            return other.or(hunks.first().copied());
        };
        let first = |is_new: bool| {
            // On its own side the chosen one, on the other the first of the same run.
            let mut all = telling.iter().filter(|t| t.hunk == chosen.hunk && t.is_new == is_new);
            if is_new == chosen.is_new { Some(chosen.index) } else { all.next().map(|t| t.index) }
        };
        Some(Hunk { old: first(false), new: first(true), near: hunks.get(chosen.hunk)?.near })
    }
}

impl Hunks<'_> {
    /// Whether two instructions differ in the number of their own source line, which every edit above it changes.
    fn is_line_number(&self, i: usize, j: usize) -> bool {
        let number = |(lines, debug): (&[Line], &Lines), index: usize| {
            let line = lines.get(index)?;
            let (rest, number) = line.text.rsplit_once(", 0x")?;
            let number = u32::from_str_radix(number, 16).ok()?;
            let frames = debug.at(line.rva);
            let depth = frames.iter().position(|f| f.source.as_ref().is_some_and(|source| source.line == number))?;
            Some((rest.to_owned(), depth))
        };
        let old = number(self.old, i);
        old.is_some() && old == number(self.new, j)
    }
}

/// Which functions were inlined where.
struct Inlining {
    /// By procedure.
    old: HashMap<Rva, BTreeSet<String>>,
    new: HashMap<Rva, BTreeSet<String>>,
    /// For each, into how many procedures that changed, and into how many others.
    counts: HashMap<String, (usize, usize)>,
}

impl Inlining {
    fn of(old: &Lines, new: &Lines, changed: &BTreeSet<Rva>) -> Inlining {
        let by_procedure = |lines: &Lines| -> HashMap<Rva, BTreeSet<String>> {
            let all = lines.inlined_functions();
            all.map(|(rva, names)| (rva, names.into_iter().map(str::to_owned).collect())).collect()
        };
        let (old, new) = (by_procedure(old), by_procedure(new));
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for (procedure, functions) in &new {
            for function in functions {
                let (into_changed, into_others) = counts.entry(function.clone()).or_default();
                *if changed.contains(procedure) { into_changed } else { into_others } += 1;
            }
        }
        Inlining { old, new, counts }
    }

    /// What was inlined into one version only did not change: the call is new, or gone. Nor did what was inlined mostly
    /// where nothing changed.
    fn is_suspect(&self, function: &str, old: Rva, new: Rva) -> bool {
        let is_in = |all: &HashMap<Rva, BTreeSet<String>>, procedure| {
            all.get(&procedure).is_some_and(|names| names.contains(function))
        };
        is_in(&self.old, old)
            && is_in(&self.new, new)
            && self.counts.get(function).is_none_or(|(into_changed, into_others)| into_changed >= into_others)
    }
}

fn causes(functions: &mut [FunctionChange], inlining: &Inlining) -> Vec<Cause> {
    let mut causes: BTreeMap<(String, bool, String), Cause> = BTreeMap::new();
    for (index, change) in functions.iter().enumerate() {
        let Some(explanation) = change.explanation.as_ref().filter(|_| change.status != FunctionStatus::Cosmetic)
        else {
            continue;
        };
        let (old, new) = (&explanation.old, &explanation.new);
        // Where no instruction differs, what the function uses does: no line of its own is to blame.
        if old.instruction.is_none() && new.instruction.is_none() {
            continue;
        }
        let frames = if new.instruction.is_none() && old.instruction.is_some() { &old.frames } else { &new.frames };
        let (a, b) = (old.function(), new.function());
        let is_suspect = |frame: &&Frame| frame.inlined.as_deref().is_none_or(|name| inlining.is_suspect(name, a, b));
        let suspect = frames.iter().find(is_suspect);
        let Some(Frame { inlined, source: Some(source), .. }) = suspect else { continue };
        let function = inlined.clone().unwrap_or_else(|| change.display.clone());
        let cause = causes.entry((function.clone(), inlined.is_some(), source.file.clone())).or_insert_with(|| Cause {
            function,
            is_inlined: inlined.is_some(),
            source: source.clone(),
            effects: Vec::new(),
        });
        cause.source.line = cause.source.line.min(source.line);
        cause.effects.push(index);
    }
    let mut causes: Vec<Cause> = causes.into_values().collect();
    causes.sort_by(|a, b| b.effects.len().cmp(&a.effects.len()).then_with(|| a.source.cmp(&b.source)));
    causes
}
