//! The side file of a payload (`fix.hpx.sym`): which function and source line each of its instructions came from, so that an
//! address inside a region reads as one inside an image. Nothing of it is needed to apply a payload.
//!
//! One JSON document, schema `hpgen-symbols/2`, tied to its payload by the payload's seal, with one entry for each of the payload's images.
//! In each, texts are listed once and named by their index. A *frame* is a line in a function or in one that was inlined into it, and names the frame that it was inlined
//! into: always an earlier one. A *row* is `[offset in the function, frame]` and holds up to the next row.

use std::collections::HashMap;
use std::hash::Hash;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::lines::{self, Lines};
use hpgen_diff::program::Program;
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::Role;
use hpgen_runtime::format::Seal;
use serde::{Deserialize, Serialize};

use crate::build::BuildError;
use crate::layout::Layout;
use crate::plan::Plan;

/// Name and version of the document.
pub const SCHEMA: &str = "hpgen-symbols/2";

/// Why a side file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SymbolFileError {
    /// No JSON, or not of this shape.
    #[error("is no symbol file of hpgen: {0}")]
    Json(#[from] serde_json::Error),
    /// Of another version, or something else altogether.
    #[error("is of schema {0:?}; this hpgen reads {SCHEMA:?}")]
    Schema(String),
    /// Its parts contradict each other.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    /// Made together with another payload.
    #[error("belongs to another payload (seal {found}, not {wanted}); `hpgen build` writes both together")]
    OtherPayload {
        /// Seal of the payload that it was made with.
        found: String,
        /// Seal of the payload that is asked about.
        wanted: String,
    },
}

/// A side file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SymbolFile {
    schema: String,
    /// Seal of the payload, in hexadecimal.
    seal: String,
    /// In the payload's order.
    images: Vec<ImageSymbols>,
}

/// The symbols of what a payload brings for one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSymbols {
    /// File name of the image that is patched.
    pub image: String,
    /// Source files, as the new build's PDB names them.
    files: Vec<String>,
    /// Names of functions that were inlined.
    inlined: Vec<String>,
    frames: Vec<Frame>,
    /// By rising offset.
    functions: Vec<FunctionSymbols>,
}

/// A line, and what it was inlined into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    /// The function that was inlined; none for the function that the code is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    inlined: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// The frame that this one was inlined into.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<u32>,
}

/// A function of the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionSymbols {
    /// Region offset of its first byte.
    pub offset: u32,
    /// Bytes of code.
    pub size: u32,
    /// Linkage name, or the procedure's name.
    pub name: String,
    /// Name in the source's terms.
    pub display: String,
    /// Offset in the function, and frame; by rising offset.
    rows: Vec<(u32, u32)>,
}

/// What is known of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// The function whose code it is.
    pub function: &'a FunctionSymbols,
    /// Bytes from the function's start.
    pub offset: u32,
    /// The calls that it stands in, the innermost first. The last is the function itself; empty where nothing is known.
    pub frames: Vec<SourceFrame<'a>>,
}

/// One of the calls that an address stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFrame<'a> {
    /// The function that was inlined; none for the function that the address is a part of.
    pub inlined: Option<&'a str>,
    /// File and line, where known.
    pub source: Option<(&'a str, u32)>,
}

impl SymbolFile {
    /// The symbols of a payload's images, in their order.
    pub fn of(images: Vec<ImageSymbols>, seal: &Seal) -> SymbolFile {
        SymbolFile { schema: SCHEMA.to_owned(), seal: seal.to_string(), images }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// Never with what [`SymbolFile::of`] gives.
    pub fn encode(&self) -> Result<Vec<u8>, SymbolFileError> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the side file of the payload with this seal.
    ///
    /// # Errors
    /// When it is damaged, of another version or of another payload.
    pub fn decode(bytes: &[u8], seal: &Seal) -> Result<SymbolFile, SymbolFileError> {
        /// What all versions have.
        #[derive(Deserialize)]
        struct Header {
            schema: String,
        }
        let header: Header = serde_json::from_slice(bytes)?;
        if header.schema != SCHEMA {
            return Err(SymbolFileError::Schema(header.schema));
        }
        let file: SymbolFile = serde_json::from_slice(bytes)?;
        let wanted = seal.to_string();
        if file.seal != wanted {
            return Err(SymbolFileError::OtherPayload { found: file.seal, wanted });
        }
        file.images.iter().try_for_each(ImageSymbols::check)?;
        Ok(file)
    }

    /// The symbols of an image's region, by the image's file name; without one, those of the only image that there is.
    pub fn image(&self, name: Option<&str>) -> Option<&ImageSymbols> {
        match (name, self.images.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), images) => images.iter().find(|image| image.image.eq_ignore_ascii_case(name)),
        }
    }
}

impl ImageSymbols {
    /// The symbols of a payload that was built from a plan. Emitting keeps every instruction at its offset in its function, so the
    /// new build's lines are the payload's.
    ///
    /// # Errors
    /// When the plan does not fit the format, which building the payload says as well.
    pub fn of(old: &Program, new: &Program, plan: &Plan) -> Result<ImageSymbols, BuildError> {
        let layout = Layout::of(new, plan).ok_or(BuildError::TooLarge)?;
        let lines = Lines::of(new, plan.functions.keys().copied());
        let mut writer = Writer::default();
        let mut functions = Vec::new();
        for (index, planned) in &plan.functions {
            let (Some(atom), Some(&offset)) = (new.atom(*index), layout.atoms.get(index)) else { continue };
            functions.push(FunctionSymbols {
                offset,
                size: planned.size,
                name: new.linkage_name(atom),
                display: new.display(atom),
                rows: writer.rows(&lines, &instructions(new, *index, planned.size)),
            });
        }
        functions.sort_by_key(|function| function.offset);
        Ok(ImageSymbols {
            image: old.image.file_name(),
            files: writer.files.list,
            inlined: writer.inlined.list,
            frames: writer.frames.list,
            functions,
        })
    }

    /// What stands at a region offset; nothing where no function's code does.
    pub fn at(&self, offset: u32) -> Option<Place<'_>> {
        let index = self.functions.partition_point(|function| function.offset <= offset).checked_sub(1)?;
        let function = self.functions.get(index)?;
        let inside = offset.checked_sub(function.offset).filter(|inside| *inside < function.size)?;
        let row = function.rows.partition_point(|(start, _)| *start <= inside).checked_sub(1);
        let innermost = row.and_then(|row| function.rows.get(row)).map(|(_, frame)| *frame);
        let frames = std::iter::successors(innermost, |frame| self.frames.get(*frame as usize)?.caller);
        let frames = frames.filter_map(|frame| self.frames.get(frame as usize)).map(|frame| self.source_frame(frame));
        Some(Place { function, offset: inside, frames: frames.collect() })
    }

    fn source_frame(&self, frame: &Frame) -> SourceFrame<'_> {
        SourceFrame {
            inlined: text_of(&self.inlined, frame.inlined),
            source: text_of(&self.files, frame.file).zip(frame.line),
        }
    }

    fn check(&self) -> Result<(), SymbolFileError> {
        let damaged = |what| Err(SymbolFileError::Damaged(what));
        let is_in = |index: Option<u32>, length: usize| index.is_none_or(|index| (index as usize) < length);
        for (number, frame) in self.frames.iter().enumerate() {
            if !is_in(frame.file, self.files.len()) || !is_in(frame.inlined, self.inlined.len()) {
                return damaged("a frame names a text that is not there");
            }
            // Earlier ones only: no chain of callers is endless.
            if !is_in(frame.caller, number) {
                return damaged("a frame names a caller that does not come before it");
            }
        }
        let mut end = 0;
        for function in &self.functions {
            if function.offset < end {
                return damaged("two functions overlap");
            }
            end = match function.offset.checked_add(function.size) {
                Some(end) => end,
                None => return damaged("a function ends outside any region"),
            };
            let ends_inside = function.rows.last().is_none_or(|(last, _)| *last < function.size);
            if !function.rows.is_sorted_by(|(a, _), (b, _)| a < b) || !ends_inside {
                return damaged("the rows of a function do not rise inside it");
            }
            if !function.rows.iter().all(|(_, frame)| is_in(Some(*frame), self.frames.len())) {
                return damaged("a row names a frame that is not there");
            }
        }
        Ok(())
    }
}

fn text_of(list: &[String], index: Option<u32>) -> Option<&str> {
    list.get(index? as usize).map(String::as_str)
}

/// Offsets and addresses of a function's instructions, in order.
fn instructions(new: &Program, function: AtomIndex, size: u32) -> Vec<(u32, Rva)> {
    let (Some(atom), Some(function)) = (new.atom(function), new.function(function)) else { return Vec::new() };
    let code = function.code.instructions.iter().filter(|i| i.role != Role::Padding && i.offset < size);
    code.filter_map(|i| Some((i.offset, atom.rva.checked_add(i.offset)?))).collect()
}

/// Things that are listed once, in the order in which they came up.
#[derive(Debug)]
struct Listed<T> {
    list: Vec<T>,
    known: HashMap<T, u32>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Listed { list: Vec::new(), known: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Listed<T> {
    fn index(&mut self, item: T) -> u32 {
        if let Some(known) = self.known.get(&item) {
            return *known;
        }
        // A region of 1 GiB has no four thousand million instructions.
        let index = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(item.clone());
        self.known.insert(item, index);
        index
    }
}

#[derive(Debug, Default)]
struct Writer {
    files: Listed<String>,
    inlined: Listed<String>,
    frames: Listed<Frame>,
}

impl Writer {
    fn rows(&mut self, lines: &Lines, instructions: &[(u32, Rva)]) -> Vec<(u32, u32)> {
        let mut rows: Vec<(u32, u32)> = Vec::new();
        for (offset, rva) in instructions {
            let Some(frame) = self.chain(lines.at(*rva)) else { continue };
            if rows.last().is_none_or(|(_, last)| *last != frame) {
                rows.push((*offset, frame));
            }
        }
        rows
    }

    /// The innermost frame of a chain, listed behind those that it was inlined into.
    fn chain(&mut self, innermost_first: Vec<lines::Frame>) -> Option<u32> {
        innermost_first.into_iter().rev().fold(None, |caller, frame| {
            let (file, line) = frame.source.map(|source| (self.files.index(source.file), source.line)).unzip();
            let inlined = frame.inlined.map(|name| self.inlined.index(name));
            Some(self.frames.index(Frame { inlined, file, line, caller }))
        })
    }
}

#[cfg(test)]
#[path = "symbol_file_tests.rs"]
mod tests;
