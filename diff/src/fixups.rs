//! Exact references from the fixups that Microsoft's linker writes into a PDB when it is asked to (`/DEBUGTYPE:CV,FIXUP`, `/PROFILE`).
//!
//! The DBI stream's optional debug header names a stream of records, one a relocation that the linker applied ("DBI optional debug header
//! stream", index 2; `XFIXUP_DATA` of `cvinfo.h`; `dbi_fixups.md` of pdb-rs):
//!
//! ```c
//! struct { uint16_t type, extra; uint32_t rva, rva_target; };
//! ```
//!
//! `type` is an `IMAGE_REL_*` constant of the image's machine, `rva` the field. `rva_target` is not where the field leads but the start of what the
//! relocation was tied to, a symbol or a section (`rva_base` of Syzygy, which told ends of objects from starts of others by it): the
//! distance between the two is in the image alone. Of `extra`, the two highest bits say that the field is data and that it leads to code.
//!
//! So the address is always the one that the image holds, and what a record says of it is proven: with all records of a contribution the
//! bytes that it had before relocation can be made again, and the linker recorded their checksum (`objects.rs` recognises sections by it).
//! Where the two differ, a record is missing, or lies about a field's place, its form or its object, and none of them is believed.

use std::collections::BTreeMap;

use crate::exact_fields::{ExactField, FieldKind, FieldSet};
use crate::image::Image;
use crate::objects::jam_crc;
use crate::rva::Rva;
use crate::symbols::{Contribution, Fixup, Symbols};

/// The fixups of the contributions for which they are proven.
pub(crate) fn check(image: &Image, symbols: &Symbols) -> FieldSet {
    if symbols.fixups.is_empty() {
        return FieldSet::default();
    }
    // Fields of what the linker made itself stand outside contributions.
    let mut by_contribution: BTreeMap<Rva, Vec<&Fixup>> = BTreeMap::new();
    for fixup in &symbols.fixups {
        if let Some(contribution) = symbols.contribution_at(fixup.place) {
            by_contribution.entry(contribution.range.start).or_default().push(fixup);
        }
    }
    let checker = Checker { image, symbols, sizes: sizes_by_address(symbols) };
    let mut end = Rva(0);
    let proven: Vec<_> = symbols
        .contributions
        .iter()
        .filter_map(|contribution| {
            // What overlaps is damaged, and could have every byte be read many times.
            if contribution.range.start < end {
                return None;
            }
            end = contribution.range.end;
            let fixups = by_contribution.get(&contribution.range.start).map_or(&[][..], Vec::as_slice);
            checker.contribution(contribution, fixups).map(|fields| (contribution.range.clone(), fields))
        })
        .collect();
    let (covered, fields): (Vec<_>, Vec<_>) = proven.into_iter().unzip();
    FieldSet::new(fields.into_iter().flatten(), covered)
}

struct Checker<'a> {
    image: &'a Image,
    symbols: &'a Symbols,
    /// Sizes of what has a name, where known.
    sizes: BTreeMap<Rva, Option<u32>>,
}

impl Checker<'_> {
    /// The fields of a contribution, if these are all its fixups and true.
    fn contribution(&self, contribution: &Contribution, fixups: &[&Fixup]) -> Option<Vec<(Rva, ExactField)>> {
        let start = contribution.range.start;
        let size = contribution.range.end.0.checked_sub(start.0)?;
        let mut original = self.image.bytes(start, size)?.to_vec();
        let mut fields = Vec::new();
        for fixup in fixups {
            let (kind, width) = match form_of(fixup.kind)? {
                Form::Nothing => continue,
                Form::Field(kind) => (kind, if kind == FieldKind::Address { 8 } else { 4 }),
            };
            let target = self.target(fixup, kind)?;
            let offset = usize::try_from(fixup.place.0.checked_sub(start.0)?).ok()?;
            let addend = target.distance_from(fixup.base).to_le_bytes();
            original.get_mut(offset..)?.get_mut(..width)?.copy_from_slice(addend.get(..width)?);
            fields.push((fixup.place, ExactField { kind, target, symbol: self.symbol(fixup.base, target) }));
        }
        (jam_crc(&original) == contribution.checksum).then_some(fields)
    }

    /// Where the image's field leads, read in the form that the record gives.
    fn target(&self, fixup: &Fixup, kind: FieldKind) -> Option<Rva> {
        let stored = || self.image.u32_at(fixup.place);
        match kind {
            FieldKind::Address => {
                self.image.base_relocations.binary_search(&fixup.place).ok()?;
                self.image.relocated_target(fixup.place)
            }
            FieldKind::Rva => stored().map(Rva),
            FieldKind::Relative => {
                let behind = u32::from(fixup.kind.checked_sub(IMAGE_REL_AMD64_REL32)?);
                let end = fixup.place.checked_add(4)?.checked_add(behind)?;
                end.checked_offset(i64::from(stored()?.cast_signed()))
            }
            FieldKind::SectionOffset => self.image.section_at(fixup.base)?.range.start.checked_add(stored()?),
        }
    }

    /// The object that is meant. Where a contribution starts, a record may mean the whole section that was contributed.
    fn symbol(&self, base: Rva, target: Rva) -> Option<Rva> {
        let size = *self.sizes.get(&base)?;
        let starts_section = |c: &&Contribution| c.range.start == base;
        let Some(section) = self.symbols.contribution_at(base).filter(starts_section) else { return Some(base) };
        let end = size.and_then(|size| base.checked_add(size));
        let is_inside =
            target == base || end.is_some_and(|end| end == section.range.end || (base..end).contains(&target));
        is_inside.then_some(base)
    }
}

const IMAGE_REL_AMD64_REL32: u16 = 4;

/// What a relocation puts into a field.
enum Form {
    /// An address.
    Field(FieldKind),
    /// `IMAGE_REL_AMD64_ABSOLUTE`: the relocation is ignored.
    Nothing,
}

/// The form of a relocation's field, by `IMAGE_REL_AMD64_*`; none for those that name no address in this image.
fn form_of(relocation: u16) -> Option<Form> {
    match relocation {
        0 => Some(Form::Nothing),
        1 => Some(Form::Field(FieldKind::Address)),
        3 => Some(Form::Field(FieldKind::Rva)),
        IMAGE_REL_AMD64_REL32..=9 => Some(Form::Field(FieldKind::Relative)),
        11 => Some(Form::Field(FieldKind::SectionOffset)),
        _ => None,
    }
}

fn sizes_by_address(symbols: &Symbols) -> BTreeMap<Rva, Option<u32>> {
    let publics = symbols.publics.iter().map(|p| (p.rva, None));
    let procedures = symbols.procedures.iter().map(|p| (p.rva, Some(p.size)));
    let variables = symbols.variables.iter().map(|v| (v.rva, v.size));
    let mut sizes = BTreeMap::new();
    for (rva, size) in publics.chain(procedures).chain(variables) {
        let known = sizes.entry(rva).or_insert(size);
        *known = (*known).max(size);
    }
    sizes
}
