//! `hpgen diff --asm`: old and new instructions of changed functions side by side.

use anstyle::Style;
use anyhow::{Result, bail};
use hpgen_diff::asm::{self, Line, Row};
use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::change_set::{FunctionChange, extent};
use hpgen_diff::lines::{Frame, Lines};
use hpgen_diff::program::Program;

use crate::commands::diff::file_name;
use crate::compared::Compared;
use crate::output::{self, BAD, BOLD, DIM, GOOD, NOTE, count, paint};

/// Unchanged instructions that are shown around a change.
const CONTEXT: usize = 3;

/// The listings of the functions named, or of all that changed.
pub fn text(compared: &Compared, names: &[String]) -> Result<String> {
    let functions = choose(&compared.changes.functions, names)?;
    let (old, new) = (&compared.old, &compared.new);
    let lines = [
        Lines::of(old, functions.iter().filter_map(|f| f.old)),
        Lines::of(new, functions.iter().filter_map(|f| f.new)),
    ];
    let width = output::columns();
    let mut text = String::new();
    for function in functions {
        text.push('\n');
        text.push_str(&heading(compared, function));
        let [old_lines, new_lines] = &lines;
        let listing = Listing {
            old: Side::of(old, function.old, old_lines),
            new: Side::of(new, function.new, new_lines),
            // Marker, two columns, and what stands between them.
            column: width.saturating_sub(MARGIN + SEPARATOR.len()) / 2,
        };
        text.push_str(&listing.text());
    }
    Ok(text)
}

/// Functions whose name is one of those given, or else contains it.
fn choose<'a>(functions: &'a [FunctionChange], names: &[String]) -> Result<Vec<&'a FunctionChange>> {
    let differs = |f: &&FunctionChange| f.is_explained();
    if names.is_empty() {
        return Ok(functions.iter().filter(differs).collect());
    }
    let mut chosen: Vec<&FunctionChange> = Vec::new();
    for name in names {
        let exact: Vec<_> = functions.iter().filter(|f| f.name == *name || f.display == *name).collect();
        let found: Vec<_> = if exact.is_empty() {
            functions.iter().filter(|f| f.display.contains(name.as_str())).collect()
        } else {
            exact
        };
        if found.is_empty() {
            bail!(
                "no function that changed has a name with {name:?} in it; without a name, --asm shows all that changed"
            );
        }
        chosen.extend(found.into_iter().filter(|f| !chosen.iter().any(|known| known == f)).collect::<Vec<_>>());
    }
    Ok(chosen)
}

fn heading(compared: &Compared, function: &FunctionChange) -> String {
    let side = |program: &Program, index: Option<AtomIndex>| match extent(program, index) {
        (Some(rva), Some(size)) => format!("{rva}, {}", count(size as usize, "byte")),
        _ => "not there".to_owned(),
    };
    format!(
        "{}  {}\n  old {}; new {}\n",
        paint(BOLD, &function.display),
        paint(DIM, function.module.as_deref().unwrap_or("-")),
        side(&compared.old, function.old),
        side(&compared.new, function.new)
    )
}

/// One version of a function.
struct Side<'a> {
    lines: Vec<Line>,
    debug: &'a Lines,
}

impl<'a> Side<'a> {
    fn of(program: &Program, function: Option<AtomIndex>, debug: &'a Lines) -> Side<'a> {
        Side { lines: function.map(|function| asm::lines(program, function)).unwrap_or_default(), debug }
    }

    fn source(&self, index: Option<usize>) -> Option<String> {
        let line = index.and_then(|index| self.lines.get(index))?;
        let frames = self.debug.at(line.rva);
        let Frame { inlined, source, .. } = frames.first()?;
        let source = source.as_ref()?;
        let place = format!("{}:{}", file_name(&source.file), source.line);
        Some(match inlined {
            Some(function) => format!("{place} in {function}"),
            None => place,
        })
    }
}

/// Columns before the old side: the marker.
const MARGIN: usize = 2;

/// Between the sides.
const SEPARATOR: &str = " | ";

/// Columns of an offset with the blanks behind it.
const OFFSET: usize = 8;

struct Listing<'a> {
    old: Side<'a>,
    new: Side<'a>,
    column: usize,
}

impl Listing<'_> {
    fn text(&self) -> String {
        let rows = asm::align(&self.old.lines, &self.new.lines);
        let is_near: Vec<bool> = (0..rows.len())
            .map(|at| {
                let around = at.saturating_sub(CONTEXT)..rows.len().min(at + CONTEXT + 1);
                rows.get(around).unwrap_or_default().iter().any(|row| matches!(row, Row::Different(..)))
            })
            .collect();
        let mut text = String::new();
        let mut shown: (Option<String>, Option<String>) = (None, None);
        let mut rest = rows.iter().zip(is_near).peekable();
        while let Some((row, near)) = rest.next() {
            if !near {
                let mut hidden = 1;
                while rest.next_if(|(_, near)| !near).is_some() {
                    hidden += 1;
                }
                text.push_str(&format!("  {}\n", paint(DIM, format!("... {}", count(hidden, "equal instruction")))));
                // What is next stands elsewhere.
                shown = (None, None);
                continue;
            }
            let (i, j) = match *row {
                Row::Same(i, j) => (Some(i), Some(j)),
                Row::Different(i, j) => (i, j),
            };
            let here = (self.old.source(i), self.new.source(j));
            let is_new_place = |now: &Option<String>, before: &Option<String>| now.is_some() && now != before;
            let (left, right) = (is_new_place(&here.0, &shown.0), is_new_place(&here.1, &shown.1));
            if left || right {
                let cell = |wanted: bool, source: &Option<String>| {
                    if wanted { source.clone().unwrap_or_default() } else { String::new() }
                };
                text.push_str(&self.row(' ', DIM, DIM, &cell(left, &here.0), &cell(right, &here.1), 0));
                shown = (here.0.or(shown.0), here.1.or(shown.1));
            }
            let (marker, old_style, new_style) = match *row {
                Row::Same(..) => (' ', Style::new(), Style::new()),
                Row::Different(Some(_), Some(_)) => ('~', NOTE, NOTE),
                Row::Different(Some(_), None) => ('-', BAD, BAD),
                Row::Different(..) => ('+', GOOD, GOOD),
            };
            let cell = |side: &Side<'_>, index: Option<usize>| {
                let line = index.and_then(|index| side.lines.get(index));
                line.map(|line| format!("{:<OFFSET$}{}", format!("+{:#x}", line.offset), line.text)).unwrap_or_default()
            };
            let (left, right) = (cell(&self.old, i), cell(&self.new, j));
            text.push_str(&self.row(marker, old_style, new_style, &left, &right, OFFSET));
        }
        text
    }

    /// A row, in as many lines as its longer cell needs.
    fn row(&self, marker: char, old_style: Style, new_style: Style, old: &str, new: &str, indent: usize) -> String {
        let (left, right) = (wrap(old, self.column, indent), wrap(new, self.column, indent));
        let mut text = String::new();
        for index in 0..left.len().max(right.len()) {
            let (left, right) =
                (left.get(index).map_or("", String::as_str), right.get(index).map_or("", String::as_str));
            let fill = " ".repeat(self.column.saturating_sub(left.chars().count()));
            let marker = if index == 0 { marker } else { ' ' };
            let line = format!(
                "{} {}{fill}{SEPARATOR}{}",
                paint(old_style, marker),
                paint(old_style, left),
                paint(new_style, right)
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Cuts a text into pieces of a width; those behind the first are indented.
fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for character in text.chars() {
        if piece.chars().count() >= width.max(indent + 1) {
            pieces.push(std::mem::take(&mut piece));
            piece.push_str(&" ".repeat(indent));
        }
        piece.push(character);
    }
    pieces.push(piece);
    pieces
}
