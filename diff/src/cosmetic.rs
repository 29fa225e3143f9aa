//! Traces that every build leaves behind and nobody means: line numbers, source paths, dates and times.
//!
//! A difference is cosmetic only where each build's own records prove the trace: a line number is the one that the line tables give for
//! the instruction; a path is that of a source file that the PDB lists; a date is that of the image's time stamp. A number or
//! text that merely looks like one is a change like any other.

mod build_dates;
mod panic_location;
mod source_paths;

use std::sync::OnceLock;

use crate::atoms::{Atom, AtomIndex};
use crate::lines::Lines;
use crate::program::Program;
use crate::rva::Rva;
use build_dates::BuildDates;
pub(crate) use panic_location::PanicLocation;
use source_paths::SourcePaths;

/// What proves the traces of two builds. Read when first asked for.
pub(crate) struct Traces<'a> {
    old: Build<'a>,
    new: Build<'a>,
    /// For the functions that [`Traces::read_lines`] was called with.
    lines: Option<(Lines, Lines)>,
}

/// One build.
struct Build<'a> {
    program: &'a Program,
    paths: OnceLock<SourcePaths>,
    dates: OnceLock<BuildDates>,
}

impl<'a> Traces<'a> {
    pub fn of(old: &'a Program, new: &'a Program) -> Traces<'a> {
        Traces { old: Build::of(old), new: Build::of(new), lines: None }
    }

    /// Reads the line tables of functions.
    pub fn read_lines(&mut self, pairs: &[(AtomIndex, AtomIndex)]) {
        self.lines = Some((
            Lines::of(self.old.program, pairs.iter().map(|pair| pair.0)),
            Lines::of(self.new.program, pairs.iter().map(|pair| pair.1)),
        ));
    }

    /// Those lines were needed for once.
    pub fn forget_lines(&mut self) {
        self.lines = None;
    }

    /// Whether two numbers in two instructions are the numbers of the source lines that the instructions came from, in the same
    /// one of the calls that they stand in; none where the line tables were not read.
    pub fn same_line(&self, old: (Rva, u64), new: (Rva, u64)) -> Option<bool> {
        let (old_lines, new_lines) = self.lines.as_ref()?;
        let numbers = |lines: &Lines, rva: Rva| -> Vec<Option<u64>> {
            lines.at(rva).iter().map(|frame| frame.source.as_ref().map(|source| u64::from(source.line))).collect()
        };
        let frames = numbers(old_lines, old.0).into_iter().zip(numbers(new_lines, new.0));
        Some(frames.into_iter().any(|(line, other)| line == Some(old.1) && other == Some(new.1)))
    }

    /// Whether two texts differ in source paths, line numbers behind these, dates and times only.
    pub fn same_text(&self, old: (&Atom, &str), new: (&Atom, &str)) -> bool {
        let normal = self.old.without_traces(old);
        normal.is_some() && normal == self.new.without_traces(new)
    }

    /// Whether two paths name the same source file, each in its own build's folders.
    pub fn same_path(&self, old: &str, new: &str) -> bool {
        let name = self.old.paths().file_name(old);
        name.is_some() && name == self.new.paths().file_name(new)
    }

    /// Bytes that hold a date or time of the build on both sides, as offsets.
    pub fn dates(&self, old: (&Atom, &[u8]), new: (&Atom, &[u8])) -> Vec<std::ops::Range<usize>> {
        let olds = self.old.dates().in_bytes(old.0.module, old.1);
        if olds.is_empty() {
            return Vec::new();
        }
        let news = self.new.dates().in_bytes(new.0.module, new.1);
        olds.into_iter().filter(|range| news.contains(range)).collect()
    }
}

impl<'a> Build<'a> {
    fn of(program: &'a Program) -> Build<'a> {
        Build { program, paths: OnceLock::new(), dates: OnceLock::new() }
    }

    fn paths(&self) -> &SourcePaths {
        self.paths.get_or_init(|| SourcePaths::of(self.program))
    }

    fn dates(&self) -> &BuildDates {
        self.dates.get_or_init(|| BuildDates::of(self.program))
    }

    /// A text with marks in place of its traces; none if it has none.
    fn without_traces(&self, (atom, text): (&Atom, &str)) -> Option<String> {
        let mut dated = text.as_bytes().to_vec();
        for range in self.dates().in_bytes(atom.module, text.as_bytes()) {
            // As long as before, so that the ranges stay right; a date is not to be taken for a time.
            let mark = if range.len() == build_dates::DATE { 1 } else { 2 };
            dated.get_mut(range)?.fill(mark);
        }
        let dated = String::from_utf8(dated).ok()?;
        let normal = self.paths().without_folders(&dated);
        (normal != text).then_some(normal)
    }
}

#[cfg(test)]
#[path = "cosmetic_tests.rs"]
mod tests;
