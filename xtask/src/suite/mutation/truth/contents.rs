//! What an object's function or constant says, as a digest: its bytes, and for each relocation what is named, never where it is.
//!
//! Functions and variables are named by their linkage names; constants by what they hold, recursively.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use super::object_file::{Kind, ObjectFile, Relocation, Section};
use crate::digest::Inputs;

/// All objects of one build whose sources the suite may change.
#[derive(Debug, Default)]
pub struct Build {
    /// The objects in link order.
    pub objects: Vec<ObjectFile>,
    /// What each external name stands for: object, section, offset; the first definition, as for the linker.
    globals: HashMap<String, Piece>,
    /// The unwind records of each code section.
    unwind: HashMap<(usize, usize), Vec<UnwindRecord>>,
}

/// Functions that are called something else in the other build: name here, name there.
pub type Aliases = BTreeMap<String, String>;

/// Whether the lines and columns of Rust's `panic::Location` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// They do.
    Count,
    /// They do not.
    DoNotCount,
}

/// Digests of a build's pieces.
pub struct Contents<'a> {
    build: &'a Build,
    aliases: &'a Aliases,
    places: Places,
    /// Digests of constants that are known.
    known: RefCell<HashMap<Piece, String>>,
}

/// A piece of a build: object, section, offset in it.
type Piece = (usize, usize, u64);

/// Constants that lead to each other are followed this deep.
const MAX_DEPTH: usize = 40;

impl Build {
    /// Ties the objects together.
    pub fn new(objects: Vec<ObjectFile>) -> Build {
        let mut globals = HashMap::new();
        for (index, object) in objects.iter().enumerate() {
            for symbol in object.symbols.iter().filter(|symbol| symbol.is_external) {
                if let Some((section, value)) = symbol.place {
                    globals.entry(symbol.name.clone()).or_insert((index, section, value));
                }
            }
        }
        let mut unwind: HashMap<_, Vec<UnwindRecord>> = HashMap::new();
        for (index, object) in objects.iter().enumerate() {
            for (section, record) in unwind_records(object) {
                unwind.entry((index, section)).or_default().push(record);
            }
        }
        Build { objects, globals, unwind }
    }

    fn section(&self, object: usize, section: usize) -> Option<&Section> {
        self.objects.get(object)?.sections.get(section)
    }
}

impl<'a> Contents<'a> {
    /// Nothing is known yet.
    pub fn new(build: &'a Build, aliases: &'a Aliases, places: Places) -> Contents<'a> {
        Contents { build, aliases, places, known: RefCell::default() }
    }

    /// A digest of a whole section of code: its bytes, what they name, and its unwind records.
    pub fn code(&self, object: usize, section: usize) -> String {
        let mut inputs = Inputs::default();
        self.add_section(&mut inputs, (object, section), 0, &mut Vec::new());
        for (begin, end, record) in self.build.unwind.get(&(object, section)).into_iter().flatten() {
            inputs.add("begin", &begin.to_le_bytes()).add("end", &end.to_le_bytes());
            if let Some((of, offset)) = record {
                inputs.add("unwind", self.piece((object, *of, *offset), &mut Vec::new()).as_bytes());
            }
        }
        inputs.hex()
    }

    /// A digest of the variable or constant that starts at an offset.
    pub fn data(&self, piece: Piece) -> String {
        self.piece(piece, &mut Vec::new())
    }

    fn section(&self, object: usize, section: usize) -> Option<&'a Section> {
        self.build.section(object, section)
    }

    /// The extent of the piece that an offset lies in.
    fn extent(&self, (object, section, offset): Piece) -> (u64, u64) {
        let Some(section) = self.section(object, section) else { return (offset, offset) };
        let size = section.bytes.len() as u64;
        if section.is_comdat {
            return (0, size);
        }
        let start = section.cuts.range(..=offset).next_back().copied().unwrap_or(0);
        let end = section.cuts.range(offset.saturating_add(1)..).next().copied().unwrap_or(size);
        (start, end.min(size))
    }

    fn piece(&self, (object, section, offset): Piece, path: &mut Vec<Piece>) -> String {
        let (start, end) = self.extent((object, section, offset));
        let piece = (object, section, start);
        if let Some(digest) = self.known.borrow().get(&piece) {
            return format!("{digest}+{}", offset - start);
        }
        if let Some(above) = path.iter().rev().position(|open| *open == piece) {
            return format!("cycle {above}+{}", offset - start);
        }
        if path.len() >= MAX_DEPTH {
            return "too deep".to_owned();
        }
        path.push(piece);
        let mut inputs = Inputs::default();
        if let Some(found) = self.section(object, section) {
            if found.is_comdat {
                self.add_section(&mut inputs, (object, section), start, path);
            } else {
                self.add_range(&mut inputs, (object, section), start..end, path);
            }
        }
        path.pop();
        let digest = inputs.hex();
        // Inside a cycle, a digest depends on where the walk came in.
        if path.is_empty() {
            self.known.borrow_mut().insert(piece, digest.clone());
        }
        format!("{digest}+{}", offset - start)
    }

    fn add_section(&self, inputs: &mut Inputs, (object, section): (usize, usize), start: u64, path: &mut Vec<Piece>) {
        let Some(found) = self.section(object, section) else { return };
        let is_place = self.places == Places::DoNotCount && self.is_source_place((object, section));
        inputs.add("bytes", if is_place { &[] } else { &found.bytes });
        for relocation in &found.relocations {
            self.add_relocation(inputs, (object, section), relocation, start, path);
        }
    }

    /// Whether a constant has the form of `panic::Location`: the file's name, its length, line and column, and no other pointer.
    fn is_source_place(&self, (object, section): (usize, usize)) -> bool {
        let Some(found) = self.section(object, section) else { return false };
        let [relocation] = found.relocations.as_slice() else { return false };
        let name = self.build.objects.get(object).and_then(|file| self.place(file, object, relocation));
        let name = name.and_then(|(object, section, _)| self.section(object, section));
        let length = found.bytes.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let is_file = name.is_some_and(|name| {
            name.kind == Kind::ReadOnly
                && name.bytes.strip_suffix(&[0]).unwrap_or(&name.bytes).ends_with(b".rs")
                && length.is_some_and(|length| name.bytes.len().abs_diff(length as usize) <= 1)
        });
        found.kind == Kind::ReadOnly && found.bytes.len() == 24 && relocation.offset == 0 && is_file
    }

    /// The piece that a relocation leads to, if one of these objects has it.
    fn place(&self, file: &ObjectFile, object: usize, relocation: &Relocation) -> Option<Piece> {
        match file.target(relocation) {
            Some((section, offset)) => Some((object, section, offset)),
            None => self.build.globals.get(&file.symbols.get(relocation.symbol)?.name).copied(),
        }
    }

    /// A piece of a section that holds several. The zeros behind it may be padding.
    fn add_range(
        &self,
        inputs: &mut Inputs,
        (object, section): (usize, usize),
        range: std::ops::Range<u64>,
        path: &mut Vec<Piece>,
    ) {
        let Some(found) = self.section(object, section) else { return };
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else { return };
        let bytes = found.bytes.get(start..end).unwrap_or_default();
        let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        inputs.add("bytes", bytes.get(..length).unwrap_or_default());
        for relocation in found.relocations.iter().filter(|relocation| (start..end).contains(&relocation.offset)) {
            self.add_relocation(inputs, (object, section), relocation, range.start, path);
        }
    }

    fn add_relocation(
        &self,
        inputs: &mut Inputs,
        (object, section): (usize, usize),
        relocation: &Relocation,
        start: u64,
        path: &mut Vec<Piece>,
    ) {
        let offset = (relocation.offset as u64).saturating_sub(start);
        inputs.add("at", &offset.to_le_bytes()).add("kind", &relocation.kind.to_le_bytes());
        inputs.add("target", self.identity(object, section, relocation, path).as_bytes());
    }

    /// What a relocation names.
    fn identity(&self, object: usize, section: usize, relocation: &Relocation, path: &mut Vec<Piece>) -> String {
        let Some(file) = self.build.objects.get(object) else { return String::new() };
        let Some(symbol) = file.symbols.get(relocation.symbol) else { return String::new() };
        let addend = if symbol.is_section { 0 } else { relocation.addend };
        let place = self.place(file, object, relocation);
        let Some((of, to, offset)) = place else { return format!("{}+{addend}", self.stable(&symbol.name)) };
        if (of, to) == (object, section) {
            return format!("itself+{}", offset.wrapping_add_signed(addend));
        }
        let Some(target) = self.section(of, to) else { return String::new() };
        match target.kind {
            Kind::ReadOnly => format!("{}+{addend}", self.piece((of, to, offset), path)),
            _ => format!("{}+{addend}", self.name((of, to, offset))),
        }
    }

    fn stable<'n>(&'n self, name: &'n str) -> &'n str {
        let name = stable(name);
        self.aliases.get(name).map_or(name, String::as_str)
    }

    /// The digests of the functions whose inside a piece leads to: a table of labels changes with its function.
    pub fn code_behind_labels(&self, (object, section, offset): Piece) -> Vec<String> {
        let (start, end) = self.extent((object, section, offset));
        let (Some(file), Some(found)) = (self.build.objects.get(object), self.section(object, section)) else {
            return Vec::new();
        };
        let relocations = found.relocations.iter().filter(|r| (start..end).contains(&(r.offset as u64)));
        let places = relocations.filter_map(|relocation| {
            let (section, value) = file.target(relocation)?;
            let is_inside = relocation.addend != 0 || value != 0;
            (is_inside && self.section(object, section)?.kind == Kind::Code).then_some(section)
        });
        let sections: std::collections::BTreeSet<usize> = places.collect();
        sections.into_iter().map(|section| self.code(object, section)).collect()
    }

    /// The name of a function or variable, and how far behind it a place is.
    fn name(&self, (object, section, offset): Piece) -> String {
        let Some(file) = self.build.objects.get(object) else { return String::new() };
        match file.symbol_before(section, offset) {
            // A local label behind the start of a function belongs to the function.
            Some((symbol, value)) if file.sections.get(section).is_some_and(|s| s.kind != Kind::Code) => {
                format!("{}+{}", self.stable(&symbol.name), offset - value)
            }
            // Several functions can share a section: where in it they are does not count.
            Some((symbol, value)) if value == offset && symbol.is_external => {
                format!("{}+0", self.stable(&symbol.name))
            }
            _ => match file.symbol_before(section, 0) {
                Some((symbol, _)) => format!("{}+{offset}", self.stable(&symbol.name)),
                None => format!("{section}+{offset}"),
            },
        }
    }
}

/// A name without what LLVM adds to make a local name of one unit visible to the others: a digest of the unit.
pub fn stable(name: &str) -> &str {
    match name.split_once(".llvm.") {
        Some((before, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => name,
    }
}

/// Begin, end, and where the record itself is.
type UnwindRecord = (u64, u64, Option<(usize, u64)>);

/// All unwind records of an object, each with its code section.
fn unwind_records(file: &ObjectFile) -> Vec<(usize, UnwindRecord)> {
    let mut records = Vec::new();
    for table in file.sections.iter().filter(|section| section.kind == Kind::FunctionTable) {
        for entry in table.relocations.chunks_exact(3) {
            let [begin, end, record] = entry else { continue };
            // Here the distance from a named function counts.
            let place = |relocation: &Relocation| {
                let (section, value) = file.symbols.get(relocation.symbol)?.place?;
                Some((section, value.checked_add_signed(relocation.addend)?))
            };
            if let (Some((section, begin)), Some((_, end))) = (place(begin), place(end)) {
                records.push((section, (begin, end, place(record))));
            }
        }
    }
    records.sort_unstable();
    records
}
