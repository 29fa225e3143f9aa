//! One object file as the truth sees it: sections with their relocations, and symbols.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use object::pe;
use object::read::{
    File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind, SymbolSection,
};
use object::{RelocationFlags, SectionFlags};

/// An object file.
#[derive(Debug, Default)]
pub struct ObjectFile {
    /// File name, which is what the linker's map has.
    pub name: String,
    /// Sections in file order.
    pub sections: Vec<Section>,
    /// Symbols, those that stand for sections included.
    pub symbols: Vec<Symbol>,
    /// The first symbol of each place: section and offset.
    by_place: BTreeMap<(usize, u64), usize>,
}

/// What a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Functions.
    Code,
    /// Variables.
    Writable,
    /// Constants; exception tables among them.
    ReadOnly,
    /// `.pdata`: which unwind record each function has.
    FunctionTable,
    /// Debug information, linker directives.
    Other,
}

/// A section.
#[derive(Debug)]
pub struct Section {
    /// What it is for.
    pub kind: Kind,
    /// Whether the linker takes or leaves it as a whole.
    pub is_comdat: bool,
    /// Contents; zeros where the file has none.
    pub bytes: Vec<u8>,
    /// Relocations by offset.
    pub relocations: Vec<Relocation>,
    /// Where the pieces of a section start that is no COMDAT: at its symbols and wherever a relocation leads.
    pub cuts: BTreeSet<u64>,
}

/// A relocation.
#[derive(Debug, Clone, Copy)]
pub struct Relocation {
    /// Where in the section.
    pub offset: usize,
    /// `IMAGE_REL_AMD64_*`.
    pub kind: u16,
    /// Index into [`ObjectFile::symbols`].
    pub symbol: usize,
    /// What the field holds.
    pub addend: i64,
}

impl Relocation {
    /// Bytes of the field.
    pub fn width(&self) -> usize {
        match self.kind {
            ADDR64 => 8,
            SECTION => 2,
            _ => 4,
        }
    }
}

/// A symbol.
#[derive(Debug)]
pub struct Symbol {
    /// Linkage name.
    pub name: String,
    /// Section and offset; none if another object defines it.
    pub place: Option<(usize, u64)>,
    /// Whether other objects can see it.
    pub is_external: bool,
    /// Whether it only stands for its section.
    pub is_section: bool,
}

const ADDR64: u16 = 1;
const SECTION: u16 = 10;

impl ObjectFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<ObjectFile> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(name, &bytes).with_context(|| format!("in {}", path.display()))
    }

    /// Reads the contents of a file.
    pub fn parse(name: String, bytes: &[u8]) -> Result<ObjectFile> {
        let file = File::parse(bytes)?;
        let mut object = ObjectFile { name, ..ObjectFile::default() };
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        for symbol in file.symbols() {
            let place = match symbol.section() {
                SymbolSection::Section(section) => section.0.checked_sub(1).map(|section| (section, symbol.address())),
                _ => None,
            };
            let is_section = symbol.kind() == SymbolKind::Section;
            if let Some(place) = place.filter(|_| !is_section) {
                object.by_place.entry(place).or_insert(object.symbols.len());
            }
            places.insert(symbol.index().0, object.symbols.len());
            object.symbols.push(Symbol {
                name: symbol.name()?.to_owned(),
                place,
                is_external: symbol.is_global(),
                is_section,
            });
        }
        for section in file.sections() {
            let SectionFlags::Coff { characteristics } = section.flags() else { continue };
            let kind = match section.name()? {
                name if name.starts_with(".debug") => Kind::Other,
                name if name.starts_with(".pdata") => Kind::FunctionTable,
                _ if characteristics.contains(pe::IMAGE_SCN_MEM_EXECUTE) => Kind::Code,
                _ if characteristics.contains(pe::IMAGE_SCN_MEM_WRITE) => Kind::Writable,
                _ if characteristics.contains(pe::IMAGE_SCN_LNK_REMOVE) => Kind::Other,
                _ if characteristics.contains(pe::IMAGE_SCN_CNT_INITIALIZED_DATA) => Kind::ReadOnly,
                _ => Kind::Other,
            };
            let mut bytes = section.data()?.to_vec();
            bytes.resize(usize::try_from(section.size())?, 0);
            let mut relocations = Vec::new();
            if kind != Kind::Other {
                for (offset, relocation) in section.relocations() {
                    let (RelocationTarget::Symbol(symbol), RelocationFlags::Coff { typ }) =
                        (relocation.target(), relocation.flags())
                    else {
                        continue;
                    };
                    let symbol = *places.get(&symbol.0).context("a relocation without a symbol")?;
                    let mut relocation =
                        Relocation { offset: usize::try_from(offset)?, kind: typ.0, symbol, addend: 0 };
                    relocation.addend = take_field(&mut bytes, &relocation).context("a relocation outside")?;
                    relocations.push(relocation);
                }
            }
            relocations.sort_by_key(|relocation| relocation.offset);
            let is_comdat = characteristics.contains(pe::IMAGE_SCN_LNK_COMDAT);
            object.sections.push(Section { kind, is_comdat, bytes, relocations, cuts: BTreeSet::new() });
        }
        object.cut();
        Ok(object)
    }

    /// Where a relocation leads in this object, if it does.
    pub fn target(&self, relocation: &Relocation) -> Option<(usize, u64)> {
        let symbol = self.symbols.get(relocation.symbol)?;
        let (section, value) = symbol.place?;
        // A named thing stays the same thing whatever the distance from it.
        let addend = if symbol.is_section { relocation.addend } else { 0 };
        Some((section, value.checked_add_signed(addend)?))
    }

    /// The symbol of a section that stands at an offset or next before it, and where it stands; the first of several.
    pub fn symbol_before(&self, section: usize, offset: u64) -> Option<(&Symbol, u64)> {
        let ((_, value), index) = self.by_place.range((section, 0)..=(section, offset)).next_back()?;
        Some((self.symbols.get(*index)?, *value))
    }

    fn cut(&mut self) {
        let symbols = self.symbols.iter().filter(|symbol| !symbol.is_section).filter_map(|symbol| symbol.place);
        let relocations = self.sections.iter().flat_map(|section| &section.relocations);
        let all: Vec<_> = symbols.chain(relocations.filter_map(|relocation| self.target(relocation))).collect();
        for (section, offset) in all {
            if let Some(section) = self.sections.get_mut(section) {
                section.cuts.insert(offset);
            }
        }
    }
}

/// Reads the field of a relocation and puts zeros there.
fn take_field(bytes: &mut [u8], relocation: &Relocation) -> Option<i64> {
    let end = relocation.offset.checked_add(relocation.width())?;
    let field = bytes.get_mut(relocation.offset..end)?;
    let addend = match *field {
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => return None,
    };
    field.fill(0);
    Some(addend)
}
