//! The program model: an image cut into atoms, with every function decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use rayon::prelude::*;

use crate::atoms::{self, Atom, AtomIndex, AtomKind};
use crate::auto_imports;
use crate::comdat_constants::ComdatConstants;
use crate::error::Error;
use crate::exact_fields::{ExactFields, FieldKind};
use crate::exceptions::{self, Failure};
use crate::image::{Image, ImportedSymbol, RuntimeFunction};
use crate::listing;
use crate::pdb;
use crate::rtti;
use crate::rva::{Rva, remove_within, span};
use crate::static_guards;
use crate::symbols::Symbols;
use crate::tables::{self, DataTable, JumpTable};
use crate::unwind::UnwindInfo;
use crate::whole_texts::Texts;
use crate::x64::{self, Code, Named, Reference, ReferenceKind, Unresolved};

/// One build, ready to be compared.
#[derive(Debug)]
pub struct Program {
    /// The image.
    pub image: Image,
    /// Its symbols.
    pub symbols: Symbols,
    /// Fields that are known exactly, from fixups of the PDB or from object files that are still on disk.
    pub exact: ExactFields,
    /// The import slots of fields that mingw's start-up code fills in.
    pub auto_imports: BTreeMap<Rva, Rva>,
    /// All atoms by rising RVA, without overlaps.
    pub atoms: Vec<Atom>,
    /// The functions among them, in the same order; [`AtomKind::Function`] holds the index.
    pub functions: Vec<Function>,
}

/// A decoded function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its atom.
    pub atom: AtomIndex,
    /// Decoded code and references.
    pub code: Code,
    /// Jump tables that it jumps through.
    pub tables: Vec<JumpTable>,
    /// Tables of distances to data that it reads.
    pub data_tables: Vec<DataTable>,
    /// Its part of the function table with the unwind records, by rising address.
    pub unwind: Vec<(RuntimeFunction, UnwindInfo)>,
}

impl Function {
    /// The function's table of distances to data at an address.
    pub fn data_table_at(&self, rva: Rva) -> Option<&DataTable> {
        self.data_tables.iter().find(|table| table.rva == rva)
    }

    /// The function's jump table at an address.
    pub fn table_at(&self, rva: Rva) -> Option<&JumpTable> {
        self.tables.iter().find(|table| table.rva == rva)
    }

    /// Whether all that stands in a range is a table that the function jumps by. Compilers make those for that alone: no code
    /// takes the end of one.
    pub fn jumps_by_all_of(&self, range: Range<Rva>) -> bool {
        let is_jumped_by = self.code.facts.tables.iter().any(|table| table.is_jump && table.rva == range.start);
        let bytes = |table: &JumpTable| i64::try_from(table.targets.len()).ok()?.checked_mul(4);
        is_jumped_by && self.table_at(range.start).and_then(bytes) == Some(range.end.distance_from(range.start))
    }
}

/// What stands at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// Inside the headers or a data directory, which belong to the linker.
    Headers(Rva),
    /// Inside an atom, `offset` bytes behind its start; beyond its end where padding follows.
    Atom {
        /// The atom.
        atom: AtomIndex,
        /// Bytes from its start.
        offset: u32,
    },
    /// In no section.
    Nowhere,
}

impl Program {
    /// Reads an image and its PDB and builds the model.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not of a supported kind.
    pub fn load(image_path: &Path, pdb_path: Option<&Path>) -> Result<Program, Error> {
        let image = Image::open(image_path)?;
        let pdb_path = pdb::locate(&image, pdb_path)?;
        let symbols = pdb::read(&pdb_path, &image)?;
        Ok(Program::build(image, symbols))
    }

    fn build(image: Image, symbols: Symbols) -> Program {
        let exact = ExactFields::load(&image, &symbols);
        let (extents, mut codes) = decode_all(&image, &symbols, &exact);
        let mut texts = Texts::of(&image, &symbols, &exact, &codes);
        let constants = ComdatConstants::of(&image, &symbols, &codes);
        let targets = constants.without_insides(data_targets(&image, &exact, &extents, &codes));
        let mut targets = texts.without_insides(&image, &symbols, targets);
        let atoms = atoms::partition(&image, &symbols, &extents, &targets);
        let function_atoms = atoms.iter().enumerate().filter(|(_, a)| a.is_function());
        let functions = function_atoms
            .zip(codes.drain(..))
            .map(|((index, _), code)| Function {
                atom: AtomIndex(index as u32),
                code,
                tables: Vec::new(),
                data_tables: Vec::new(),
                unwind: Vec::new(),
            })
            .collect();
        let auto_imports = auto_imports::read(&image, &symbols);
        let mut program = Program { image, symbols, exact, auto_imports, atoms, functions };
        program.find_tables();
        // What only tables of distances name was not known to begin an object: cut once more with it.
        let named_by_tables: Vec<Rva> =
            program.functions.iter().flat_map(|f| &f.data_tables).flat_map(|t| t.targets.iter().copied()).collect();
        if !named_by_tables.is_empty() {
            targets.extend(named_by_tables.iter().copied());
            texts.take(named_by_tables);
            targets = constants.without_insides(targets);
            targets = texts.without_insides(&program.image, &program.symbols, targets);
            program.atoms = atoms::partition(&program.image, &program.symbols, &extents, &targets);
            program.renumber_functions();
            program.find_tables();
        }
        program.read_unwind();
        for (guard, names) in static_guards::names_of_guards(&program) {
            if let Some(atom) = program.atoms.get_mut(guard.0 as usize) {
                atom.names = names;
            }
        }
        program
    }

    /// After another partition: the functions are the same, their atoms' indices are not.
    fn renumber_functions(&mut self) {
        for (index, atom) in self.atoms.iter().enumerate() {
            if let AtomKind::Function(function) = atom.kind
                && let Some(function) = self.functions.get_mut(function as usize)
            {
                function.atom = AtomIndex(index as u32);
            }
        }
    }

    fn find_tables(&mut self) {
        let mut functions = std::mem::take(&mut self.functions);
        functions.par_iter_mut().for_each(|function| {
            if let Some(atom) = self.atom(function.atom) {
                (function.tables, function.data_tables) = tables::find(self, atom, &function.code);
            }
        });
        self.functions = functions;
    }

    fn read_unwind(&mut self) {
        let mut functions = std::mem::take(&mut self.functions);
        functions.par_iter_mut().for_each(|function| self.complete(function));
        self.functions = functions;
    }

    /// Adds a function's unwind records, and checks that its jumps are understood.
    fn complete(&self, function: &mut Function) {
        let Some(atom) = self.atom(function.atom) else {
            return;
        };
        if function.tables.is_empty()
            && !points_into_itself(self, atom, &function.code)
            && let Some(offset) = function.code.register_jumps.first()
        {
            function.code.unresolved.push(Unresolved {
                offset: *offset,
                reason: "a jump through a register whose table was not found".into(),
            });
        }
        if let Some((place, _)) = self.auto_imports.range(atom.rva..atom.end()).next() {
            function.code.unresolved.push(Unresolved {
                offset: place.0.saturating_sub(atom.rva.0),
                reason: "the address of a DLL's variable, which the start-up code puts there".into(),
            });
        }
        let first = self.image.runtime_functions.partition_point(|f| f.range.end <= atom.rva);
        let own = self.image.runtime_functions.iter().skip(first).take_while(|f| f.range.start < atom.end());
        for entry in own {
            match UnwindInfo::read(&self.image, entry.unwind_info) {
                Ok(info) => function.unwind.push((entry.clone(), info)),
                Err(reason) => function
                    .code
                    .unresolved
                    .push(Unresolved { offset: entry.range.start.0.saturating_sub(atom.rva.0), reason: reason.into() }),
            }
        }
    }

    /// The atom of an index.
    pub fn atom(&self, index: AtomIndex) -> Option<&Atom> {
        self.atoms.get(index.0 as usize)
    }

    /// The function of an atom, where it is one.
    pub fn function(&self, index: AtomIndex) -> Option<&Function> {
        match self.atom(index)?.kind {
            AtomKind::Function(function) => self.functions.get(function as usize),
            _ => None,
        }
    }

    /// The last atom that starts at or before an address.
    pub fn atom_before(&self, rva: Rva) -> Option<AtomIndex> {
        self.atoms.partition_point(|a| a.rva <= rva).checked_sub(1).map(|index| AtomIndex(index as u32))
    }

    /// An instruction of a function, decoded at its address.
    pub fn instruction(&self, atom: &Atom, function: &Function, number: usize) -> Option<Instruction> {
        let known = function.code.instructions.get(number)?;
        let start = atom.rva.checked_add(known.offset)?;
        let bytes = self.image.bytes(start, known.len.into())?;
        let instruction = Decoder::with_ip(64, bytes, start.0.into(), DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// Whether a reference names the start of something with one of these linkage names, or the import slot of such a one.
    pub fn names_one_of(&self, reference: &Reference, wanted: &[&str]) -> bool {
        if let Some(slot) = self.image.import_at(reference.target) {
            return matches!(&slot.import.symbol, ImportedSymbol::Name(name) if wanted.contains(&name.as_str()));
        }
        let Location::Atom { atom, offset: 0 } = self.locate(reference.target) else { return false };
        self.atom(atom).is_some_and(|atom| atom.names.iter().any(|name| wanted.contains(&name.key.as_str())))
    }

    /// The variables that a function's code names.
    pub(crate) fn variables_of(&self, function: &Function) -> BTreeSet<AtomIndex> {
        let places = function.code.references.iter().map(|reference| reference.place());
        let atoms = places.filter_map(|place| self.atom_before(place));
        atoms.filter(|index| self.atom(*index).is_some_and(|atom| atom.kind == AtomKind::Writable)).collect()
    }

    /// What stands at an address.
    pub fn locate(&self, rva: Rva) -> Location {
        if self.image.sections.first().is_none_or(|s| rva < s.range.start)
            || self.image.directories.iter().any(|d| d.contains(&rva))
        {
            return Location::Headers(rva);
        }
        let Some(index) = self.atom_before(rva) else {
            return Location::Nowhere;
        };
        let Some(atom) = self.atom(index) else {
            return Location::Nowhere;
        };
        let same_section =
            |section: &crate::image::Section| section.range.contains(&atom.rva) && rva <= section.range.end;
        if !self.image.sections.iter().any(same_section) {
            return Location::Nowhere;
        }
        Location::Atom { atom: index, offset: rva.0 - atom.rva.0 }
    }

    /// The name that reports use for an atom.
    pub fn display(&self, atom: &Atom) -> String {
        match (&atom.kind, atom.names.first()) {
            (_, Some(name)) if name.key.starts_with("??_C@") => {
                listing::text_constant(self, atom).map_or_else(|| name.display.clone(), listing::quote)
            }
            (_, Some(name)) => name.display.clone(),
            (AtomKind::ImportSlot, None) => self
                .image
                .import_at(atom.rva)
                .map_or_else(|| format!("slot_{}", atom.rva), |slot| slot.import.to_string()),
            (AtomKind::Function(_), None) => format!("sub_{:x}", atom.rva.0),
            (_, None) => format!("data_{:x}", atom.rva.0),
        }
    }

    /// The name by which a language handler is known: its own, or that of the import that it jumps to.
    pub fn handler_name(&self, handler: Rva) -> String {
        let Location::Atom { atom: index, offset: 0 } = self.locate(handler) else { return handler.to_string() };
        let Some(atom) = self.atom(index) else { return handler.to_string() };
        if atom.names.is_empty()
            && let Some([Reference { kind: ReferenceKind::Access, target, .. }]) =
                self.function(index).map(|f| f.code.references.as_slice())
            && let Some(slot) = self.image.import_at(*target)
            && let ImportedSymbol::Name(name) = &slot.import.symbol
        {
            return name.clone();
        }
        atom.names.first().map_or_else(|| handler.to_string(), |name| name.key.clone())
    }

    /// The exception tables of a function's handler.
    ///
    /// # Errors
    /// Says in words why they are not understood.
    pub fn exception_tables(&self, handler: &str, function: &Atom, data: Rva) -> Result<exceptions::Tables, String> {
        exceptions::read(&self.image, handler, function.rva, data).map_err(|failure| match failure {
            Failure::UnknownHandler => format!("exception tables of {handler} are not known"),
            Failure::Malformed(problem) => format!("exception tables of {handler}: {problem}"),
        })
    }

    /// The linkage name of an atom where it has one, else its name in the source, else one made of its address.
    pub fn linkage_name(&self, atom: &Atom) -> String {
        atom.names.first().map_or_else(|| self.display(atom), |name| name.key.clone())
    }

    /// Short name of the module that an atom came from.
    pub fn module_name(&self, atom: &Atom) -> Option<&str> {
        self.symbols.modules.get(atom.module?).map(|m| m.short_name())
    }

    /// Where an access goes on behind what is known to be one object: bytes from its start to that end, if it goes that far.
    pub fn end_of_access(&self, target: Rva, accessed: u8) -> Option<u32> {
        let Location::Atom { atom, offset } = self.locate(target) else { return None };
        let atom = self.atom(atom).filter(|atom| atom.is_data() && !atom.is_sized)?;
        let inside = atom.size.checked_sub(offset).filter(|inside| *inside > 0)?;
        (inside < u32::from(accessed)).then_some(inside)
    }

    /// The alignment that a function needs of what a reference of it names.
    pub fn alignment_of(&self, function: &Function, reference: &Reference) -> u32 {
        let object = match self.locate(reference.place()) {
            Location::Atom { atom, .. } => self.atom(atom).map_or(reference.target, |atom| atom.rva),
            Location::Headers(_) | Location::Nowhere => reference.target,
        };
        u32::from(function.code.alignment_of(reference, object))
    }

    /// Whether an access begins outside the object that it is said to mean: before it, or behind what is known of its extent.
    pub fn is_outside(&self, named: Named) -> bool {
        let Some(symbol) = named.symbol else { return false };
        let Location::Atom { atom, offset } = self.locate(symbol) else { return false };
        let Some(offset) = i64::from(offset).checked_add(named.target.distance_from(symbol)) else { return true };
        self.atom(atom).is_some_and(|atom| atom.is_data() && !(0..i64::from(atom.size)).contains(&offset))
    }
}

/// A function that reads data with relocated pointers into its own middle jumps through a table of addresses (computed `goto`).
fn points_into_itself(program: &Program, function: &Atom, code: &Code) -> bool {
    code.references.iter().filter(|r| !r.kind.is_branch()).any(|r| {
        let Location::Atom { atom, .. } = program.locate(r.target) else {
            return false;
        };
        let Some(atom) = program.atom(atom).filter(|a| !a.is_function()) else {
            return false;
        };
        pointers_in(&program.image, atom.rva..atom.end())
            .filter_map(|(_, target)| target)
            .any(|target| target > function.rva && target < function.end())
    })
}

/// Starts and sizes of functions, and their decoded code in the same order.
type Extents = BTreeMap<Rva, u32>;

/// Decodes all functions that symbols and unwind data name, then those that they call and nobody names, until none is new.
fn decode_all(image: &Image, symbols: &Symbols, exact: &ExactFields) -> (Extents, Vec<Code>) {
    let mut starts = atoms::function_starts(image, symbols);
    let mut decoded: BTreeMap<(Rva, u32), Code> = BTreeMap::new();
    loop {
        let extents = atoms::function_extents(image, symbols, &starts);
        let missing: Vec<(Rva, u32)> =
            extents.iter().map(|(rva, size)| (*rva, *size)).filter(|key| !decoded.contains_key(key)).collect();
        let codes: Vec<Code> = missing.par_iter().map(|(rva, size)| x64::decode(image, exact, *rva, *size)).collect();
        // What an instruction reads or writes directly is data, wherever it stands (constants of assembler sources).
        let leads_to_code = |r: &&Reference| r.kind.is_branch() || r.kind == ReferenceKind::Address;
        let named = codes.iter().flat_map(|code| &code.references).filter(leads_to_code).map(|r| r.target);
        // Functions that only pointers lead to; looked at once, with the first round.
        let pointed_to = decoded.is_empty().then(|| relocated_targets(image));
        let found: BTreeSet<Rva> = named
            .chain(pointed_to.into_iter().flatten())
            .filter(|rva| image.section_at(*rva).is_some_and(|s| s.is_executable()))
            .filter(|rva| !is_inside(&extents, *rva))
            .collect();
        decoded.extend(missing.into_iter().zip(codes));
        if found.is_empty() {
            let codes = extents.iter().filter_map(|(rva, size)| decoded.remove(&(*rva, *size))).collect();
            return (extents, codes);
        }
        for rva in found {
            starts.entry(rva).or_insert(None);
        }
    }
}

fn is_inside(extents: &Extents, rva: Rva) -> bool {
    extents.range(..=rva).next_back().is_some_and(|(start, size)| span(*start, *size).contains(&rva))
}

/// Where the image's relocated pointers lead.
fn relocated_targets(image: &Image) -> impl Iterator<Item = Rva> {
    image.base_relocations.iter().filter_map(|place| image.relocated_target(*place))
}

/// Addresses outside functions that code or relocated pointers name: where anonymous objects begin. Where it is known which object
/// is meant, it begins there, and what is named inside it cuts nothing off.
fn data_targets(image: &Image, exact: &ExactFields, functions: &Extents, codes: &[Code]) -> BTreeSet<Rva> {
    let from_code = codes.iter().flat_map(|code| &code.references).filter(|r| !r.kind.is_branch());
    let from_code = from_code.map(|r| r.place());
    let has_object = |place: &Rva| exact.at(*place).is_some_and(|field| field.symbol.is_some());
    let places = image.base_relocations.iter().filter(|place| !has_object(place));
    let targets = from_code
        .chain(places.filter_map(|place| image.relocated_target(*place)))
        .chain(exact.named_addresses())
        .filter(|rva| image.section_at(*rva).is_some() && !is_inside(functions, *rva));
    without_insides(image, targets.collect(), codes)
}

/// What one instruction reads of a constant is of one object: nothing begins inside it, though the same code may name a place there (copies of
/// texts whose last piece overlaps the one before).
fn without_insides(image: &Image, mut targets: BTreeSet<Rva>, codes: &[Code]) -> BTreeSet<Rva> {
    let reads = codes.iter().flat_map(|code| &code.references).filter(|r| r.symbol.is_none() && r.accessed > 1);
    for read in reads.filter(|r| image.section_at(r.target).is_some_and(|section| !section.is_writable())) {
        let inside = Rva(read.target.0.saturating_add(1))..span(read.target, read.accessed.into()).end;
        remove_within(&mut targets, inside);
    }
    targets
}

/// A field of a data object that names an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataField {
    /// Bytes from the object's start.
    pub offset: u32,
    /// Form of the field.
    pub kind: DataFieldKind,
    /// What it leads to; none for an RVA of 0, or where an address leads outside the image.
    pub named: Option<Named>,
}

/// Forms of fields in data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFieldKind {
    /// A 64-bit address with a base relocation.
    Pointer,
    /// An RVA, recognised by the object's name or by its object file.
    Rva,
    /// A distance from the field itself or a place near it, known from the object file.
    Distance,
}

impl DataFieldKind {
    /// Bytes of the field.
    pub fn width(self) -> u32 {
        match self {
            DataFieldKind::Pointer => 8,
            DataFieldKind::Rva | DataFieldKind::Distance => 4,
        }
    }
}

impl Program {
    /// The fields of `size` bytes of data from an atom's start that name addresses, by rising offset.
    pub fn data_fields(&self, atom: &Atom, size: u32) -> Vec<DataField> {
        let range = span(atom.rva, size);
        let pointers = self.image.base_relocations_in(range.clone()).iter().map(|place| {
            let slot = self.auto_imports.get(place).copied();
            let symbol = slot.or_else(|| self.exact.at(*place).and_then(|field| field.symbol));
            let named = self.image.relocated_target(*place).map(|target| Named { target, symbol });
            DataField { offset: place.0 - atom.rva.0, kind: DataFieldKind::Pointer, named }
        });
        let mut fields: Vec<DataField> = pointers.collect();
        for (place, field) in self.exact.inside(range) {
            let kind = match field.kind {
                FieldKind::Rva => DataFieldKind::Rva,
                // Entries of a table count from the table, not from themselves: only the symbol says where one leads.
                FieldKind::Relative if field.symbol.is_some() => DataFieldKind::Distance,
                FieldKind::Relative | FieldKind::Address | FieldKind::SectionOffset => continue,
            };
            let named = Some(Named { target: field.target, symbol: field.symbol });
            fields.push(DataField { offset: place.0 - atom.rva.0, kind, named });
        }
        for offset in rtti::rva_fields(atom) {
            if fields.iter().any(|field| field.offset == offset) {
                continue;
            }
            let rva = atom.rva.checked_add(offset).and_then(|place| self.image.u32_at(place));
            let named = rva.filter(|rva| *rva != 0).map(|rva| Named::from(Rva(rva)));
            fields.push(DataField { offset, kind: DataFieldKind::Rva, named });
        }
        fields.sort_by_key(|field| field.offset);
        fields
    }
}

/// The addresses of an atom's own bytes that hold relocated pointers, with their targets.
pub fn pointers_in(image: &Image, range: Range<Rva>) -> impl Iterator<Item = (Rva, Option<Rva>)> {
    image.base_relocations_in(range).iter().map(|place| (*place, image.relocated_target(*place)))
}
