//! Texts without a name, each of which is one object from where it begins to its zero, whatever else is named inside it.
//!
//! An object without a name is taken to end where the next address stands that something names. Inside a text that need not be another
//! object: `text + 3` is named for itself, and a search that a compiler unrolls names every letter. Who is given the
//! address of a text reads on behind such a cut: the same first letter says nothing of the rest.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::exact_fields::ExactFields;
use crate::image::Image;
use crate::mangling::is_numbered_constant;
use crate::rva::{Rva, remove_within};
use crate::symbols::Symbols;
use crate::x64::{Code, ReferenceKind};

/// How Microsoft's C++ ABI names literals, each of which is a section of its own.
pub(crate) const LITERAL: &str = "??_C@";

/// What tells where texts begin, and what is no part of one.
pub(crate) struct Texts {
    /// Addresses that are taken or stored: whoever has one may read on from there.
    taken: BTreeSet<Rva>,
    /// Where things with names and tables begin, which are no texts without a name.
    named: BTreeSet<Rva>,
    /// Where objects begin for certain, which no text goes on into.
    objects: BTreeSet<Rva>,
}

impl Texts {
    pub fn of(image: &Image, symbols: &Symbols, exact: &ExactFields, codes: &[Code]) -> Texts {
        let references = || codes.iter().flat_map(|code| &code.references);
        let is_taken = |kind, accessed| kind != ReferenceKind::Access || accessed == 0;
        let from_code = references().filter(|r| !r.kind.is_branch() && is_taken(r.kind, r.accessed));
        let pointers = image.base_relocations.iter().filter_map(|place| image.relocated_target(*place));
        let publics = symbols.publics.iter().filter(|public| !is_numbered_constant(&public.name));
        let tables = codes.iter().flat_map(|code| &code.facts.tables);
        let named: BTreeSet<Rva> = publics
            .map(|public| public.rva)
            .chain(symbols.variables.iter().map(|variable| variable.rva))
            .chain(tables.map(|table| table.rva))
            .chain(image.imports.iter().map(|slot| slot.rva))
            .chain(image.directories.iter().map(|taken| taken.start))
            .collect();
        let exact_symbols = references().filter_map(|r| r.symbol).chain(exact.symbols());
        Texts {
            taken: from_code.map(|r| r.place()).chain(pointers).chain(exact.named_addresses()).collect(),
            objects: named.iter().copied().chain(exact_symbols).collect(),
            named,
        }
    }

    /// Takes in addresses that tables of distances name.
    pub fn take(&mut self, named: impl IntoIterator<Item = Rva>) {
        self.taken.extend(named);
    }

    /// The addresses without those that stand inside a text.
    pub fn without_insides(&self, image: &Image, symbols: &Symbols, mut targets: BTreeSet<Rva>) -> BTreeSet<Rva> {
        let mut behind = Rva(0);
        for start in self.taken.intersection(&targets.clone()) {
            if *start < behind || self.named.contains(start) {
                continue;
            }
            let text = self.text_at(image, symbols, *start);
            remove_within(&mut targets, Rva(start.0.saturating_add(1))..text.end);
            behind = text.end;
        }
        targets
    }

    /// A text with its zero, or as far as it is one.
    fn text_at(&self, image: &Image, symbols: &Symbols, start: Rva) -> Range<Rva> {
        let Some(section) = image.section_at(start).filter(|section| !section.is_writable()) else {
            return start..start;
        };
        let known = symbols.contribution_at(start).map_or(section.range.end, |c| c.range.end);
        let next = self.objects.range(Rva(start.0.saturating_add(1))..).next().copied().unwrap_or(known);
        let bytes = image.bytes_up_to(start..known.min(next));
        start..Rva(start.0.saturating_add(u32::try_from(length(start, bytes)).unwrap_or(u32::MAX)))
    }
}

/// How many of the bytes at an address are a text, its zero included.
pub(crate) fn length(start: Rva, bytes: &[u8]) -> usize {
    narrow(bytes).max(if start.0.is_multiple_of(2) { wide(bytes) } else { 0 })
}

/// Bytes of a text in UTF-8 up to its zero, which is one of them, or to what is no text.
fn narrow(bytes: &[u8]) -> usize {
    let zero = bytes.iter().position(|byte| *byte == 0);
    let text = bytes.get(..zero.unwrap_or(bytes.len())).unwrap_or(bytes);
    match std::str::from_utf8(text) {
        Ok("") => 0,
        Ok(text) => text.len() + usize::from(zero.is_some()),
        Err(error) => error.valid_up_to(),
    }
}

/// The same of a text in UTF-16 with nothing but letters of Latin-1 up to its zero: texts of one letter that stand side by side seldom look like that.
fn wide(bytes: &[u8]) -> usize {
    let units = || bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let is_letter = |unit: u16| (0x20..0x100).contains(&unit) || matches!(unit, 9 | 10 | 13);
    let size = units().take_while(|unit| is_letter(*unit)).count();
    if size > 1 && units().nth(size) == Some(0) { (size + 1) * 2 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_to_its_zero() {
        assert_eq!(narrow(b"abc\0def"), 4);
        assert_eq!(narrow("gr\u{fc}n\0".as_bytes()), 6);
        assert_eq!(narrow(b"abc"), 3, "Rust's have no zero");
        assert_eq!(narrow(b"ab\xff\xfe\0"), 2);
        assert_eq!(narrow(b"\0abc"), 0);
        assert_eq!(narrow(b""), 0);
    }

    #[test]
    fn a_wide_text_goes_on_to_its_wide_zero() {
        assert_eq!(wide(b"a\0b\0c\0\0\0d\0"), 8);
        assert_eq!(wide(b"a\0b\0"), 0, "texts of one letter");
        assert_eq!(wide(b"(\0)\0 EV\0\0\0"), 0, "two of one letter before another one");
        assert_eq!(wide(b"a\0\0\0b\0"), 0);
        assert_eq!(wide(b"\x01\0\x02\0\x03\0\0\0"), 0);
        assert_eq!(wide(b"a"), 0);
    }
}
