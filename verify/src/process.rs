//! A process as it is once the payload's region is filled, before the first entry is redirected.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use hpgen_diff::image::{Image, Import, ImportedSymbol};
use hpgen_diff::rva::Rva;
use hpgen_runtime::format::{self, ImportSymbol, Protection};
use hpgen_runtime::link::{Linked, TakenOver};

use crate::facts::Facts;
use crate::placement::Placement;

/// Addresses of imported functions: in the kernel's half, where no image or region can be.
const IMPORTS: u64 = 0xffff_a000_0000_0000;
/// Bytes between two of them.
const IMPORT_STEP: u64 = 16;

/// Memory of one process.
pub(crate) struct Process {
    pub placement: Placement,
    pub linked: Linked,
    image_size: u32,
    region_size: u32,
    /// Variables that an earlier payload has brought; those of the region are then not used.
    taken_over: Vec<TakenOver>,
    /// Mapped sections of the old image.
    sections: Vec<MappedSection>,
    /// Where each imported function is.
    imports: BTreeMap<Import, u64>,
}

struct MappedSection {
    range: Range<Rva>,
    /// Shorter than the range where the file holds less: the rest is zero.
    bytes: Vec<u8>,
}

/// What an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The old image.
    Image(Rva),
    /// The payload's region, at an offset; or where an earlier payload has the variable that the region has there.
    Region(u32),
    /// Neither.
    Elsewhere,
}

impl Process {
    /// Maps the old image and fills the region.
    pub fn load(facts: &Facts<'_>, placement: Placement) -> Result<Process, String> {
        let Facts { payload, old, new, .. } = facts;
        let added: Vec<Import> = payload.imports.iter().map(import_of).collect();
        let slots = old.image.imports.iter().chain(&new.image.imports).map(|slot| &slot.import);
        let all: BTreeSet<&Import> = slots.chain(&added).collect();
        let imports: BTreeMap<Import, u64> =
            (0..).zip(all).map(|(number, import)| (import.clone(), IMPORTS + IMPORT_STEP * number)).collect();
        let addresses: Vec<u64> = added.iter().map(|import| imports.get(import).copied().unwrap_or(0)).collect();
        let linked = placement.link(payload, &addresses);
        Ok(Process {
            placement,
            linked: linked.map_err(|problem| problem.to_string())?,
            image_size: old.image.identity.size_of_image,
            region_size: payload.region_size(),
            taken_over: placement.taken_over(payload),
            sections: map_sections(&old.image, placement.image_base, &imports),
            imports,
        })
    }

    /// What stands at an address.
    pub fn place(&self, address: u64) -> Place {
        let inside = |base: u64, size: u32| {
            address.checked_sub(base).and_then(|offset| u32::try_from(offset).ok()).filter(|offset| *offset < size)
        };
        if let Some(offset) = inside(self.placement.image_base, self.image_size) {
            return Place::Image(Rva(offset));
        }
        let earlier = self.taken_over.iter().find_map(|variable| {
            inside(variable.address, variable.size).and_then(|at| variable.offset.checked_add(at))
        });
        let in_region = || {
            let offset = inside(self.placement.region_base, self.region_size)?;
            self.taken_over_at(offset).is_none().then_some(offset)
        };
        earlier.or_else(in_region).map_or(Place::Elsewhere, Place::Region)
    }

    /// The address of an RVA of the old image.
    pub fn in_image(&self, rva: Rva) -> u64 {
        self.placement.image_base.wrapping_add(rva.0.into())
    }

    /// The address of a region offset, or of the variable there that an earlier payload has brought.
    pub fn in_region(&self, offset: u32) -> u64 {
        match self.taken_over_at(offset) {
            Some(variable) => variable.address.wrapping_add(u64::from(offset - variable.offset)),
            None => self.placement.region_base.wrapping_add(offset.into()),
        }
    }

    /// The variable at a region offset that an earlier payload has brought.
    fn taken_over_at(&self, offset: u32) -> Option<&TakenOver> {
        let is_inside =
            |variable: &&TakenOver| offset.checked_sub(variable.offset).is_some_and(|inside| inside < variable.size);
        self.taken_over.iter().find(is_inside)
    }

    /// The address that the loader finds for an import.
    pub fn import(&self, import: &Import) -> Option<u64> {
        self.imports.get(import).copied()
    }

    /// Protection of the segment that holds a part of the region.
    pub fn protection(&self, range: Range<u32>) -> Option<Protection> {
        let index = self.linked.segments.partition_point(|segment| segment.offset <= range.start).checked_sub(1)?;
        let segment = self.linked.segments.get(index)?;
        let end = segment.offset.checked_add(segment.size)?;
        (range.end <= end).then_some(segment.protection)
    }

    /// Memory; none where it is not all in one section or segment.
    pub fn read(&self, address: u64, size: u32) -> Option<Cow<'_, [u8]>> {
        match self.place(address) {
            Place::Image(rva) => {
                let index = self.sections.partition_point(|section| section.range.start <= rva).checked_sub(1)?;
                let section = self.sections.get(index)?;
                let length = section.range.end.0.checked_sub(section.range.start.0)?;
                zero_extended(&section.bytes, length, rva.0 - section.range.start.0, size)
            }
            Place::Region(offset) => {
                let index = self.linked.segments.partition_point(|segment| segment.offset <= offset).checked_sub(1)?;
                let segment = self.linked.segments.get(index)?;
                zero_extended(&segment.bytes, segment.size, offset - segment.offset, size)
            }
            Place::Elsewhere => None,
        }
    }

    /// The 32-bit value at an address.
    pub fn u32_at(&self, address: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.read(address, 4)?.as_ref().try_into().ok()?))
    }

    /// The 64-bit value at an address.
    pub fn u64_at(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.read(address, 8)?.as_ref().try_into().ok()?))
    }
}

/// A part of `length` bytes of memory, of which `bytes` are the first and the others zero.
fn zero_extended(bytes: &[u8], length: u32, start: u32, size: u32) -> Option<Cow<'_, [u8]>> {
    let end = start.checked_add(size).filter(|end| *end <= length)?;
    if let Some(found) = bytes.get(start as usize..end as usize) {
        return Some(Cow::Borrowed(found));
    }
    let mut copy = bytes.get(start as usize..).unwrap_or(&[]).to_vec();
    copy.resize(size as usize, 0);
    Some(Cow::Owned(copy))
}

/// The import that a record of the payload asks for; the loader compares DLL names without case.
pub(crate) fn import_of(import: &format::Import) -> Import {
    let symbol = match &import.symbol {
        ImportSymbol::Name(name) => ImportedSymbol::Name(name.clone()),
        ImportSymbol::Ordinal(ordinal) => ImportedSymbol::Ordinal(*ordinal),
    };
    Import { dll: import.dll.to_lowercase(), symbol }
}

/// The sections at a base: base relocations applied, import slots filled.
fn map_sections(image: &Image, base: u64, imports: &BTreeMap<Import, u64>) -> Vec<MappedSection> {
    let mut sections: Vec<MappedSection> = image
        .sections
        .iter()
        .map(|section| MappedSection {
            range: section.range.clone(),
            bytes: image.bytes_up_to(section.range.clone()).to_vec(),
        })
        .collect();
    let delta = base.wrapping_sub(image.identity.image_base);
    let mut edit = |place: Rva, new_value: &dyn Fn(u64) -> u64| {
        let index = sections.partition_point(|section| section.range.start <= place).checked_sub(1);
        let Some(section) = index.and_then(|index| sections.get_mut(index)) else { return };
        let start = (place.0 - section.range.start.0) as usize;
        let field = section.bytes.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<8>());
        if let Some(field) = field {
            *field = new_value(u64::from_le_bytes(*field)).to_le_bytes();
        }
    };
    for place in &image.base_relocations {
        edit(*place, &|value| value.wrapping_add(delta));
    }
    for slot in &image.imports {
        let address = imports.get(&slot.import).copied().unwrap_or(0);
        edit(slot.rva, &|_| address);
    }
    sections
}
