//! Compares two data objects: bytes, and what their pointers lead to.

use super::walk::{PairWalk, different};
use super::{Difference, Outcome};
use crate::atoms::{Atom, AtomKind};
use crate::cosmetic::PanicLocation;
use crate::listing;
use crate::matching::{Match, Use};
use crate::program::{DataField, DataFieldKind, Program};
use crate::rtti;
use crate::rva::Rva;

impl PairWalk<'_> {
    /// Byte by byte.
    pub fn data(&mut self) -> Result<(), Outcome> {
        let (Some(a), Some(b)) = (self.sides.old.atom(self.old), self.sides.new.atom(self.new)) else {
            return different(0, 0, "not in the image");
        };
        if a.kind == AtomKind::ImportSlot {
            return Ok(());
        }
        if let (Some(text), Some(other)) =
            (listing::text_constant(self.sides.old, a), listing::text_constant(self.sides.new, b))
        {
            // A string ends at its zero, whatever the gap behind it.
            if text == other {
                return Ok(());
            }
            let what = format!("{} became {}", listing::quote(text), listing::quote(other));
            if self.traces.same_text((a, text), (b, other)) {
                self.cosmetic(0, 0, what);
                return Ok(());
            }
            return different(0, 0, what);
        }
        if a.size != b.size && a.is_sized && b.is_sized {
            return different(0, 0, format!("its size changed from {} to {} bytes", a.size, b.size));
        }
        // Where no type gives the extent, it is a guess from what else is named: where the guesses differ, what follows must
        // agree, for a variable as far as both go.
        let size = if a.kind == AtomKind::Writable || self.differ_by_padding(a, b) {
            a.size.min(b.size)
        } else {
            a.size.max(b.size)
        };
        // The zero behind a text is a part of it, and no padding.
        let text_size = |program: &Program, atom: &Atom| {
            listing::text_constant(program, atom).map_or(0, |text| text.len().saturating_add(1))
        };
        let text = text_size(self.sides.old, a).max(text_size(self.sides.new, b));
        let size = u32::try_from(text).map_or(size, |text| size.max(text));
        let (old_bytes, new_bytes) =
            (continued_bytes(self.sides.old, a, size), continued_bytes(self.sides.new, b, size));
        let (old_fields, new_fields) = (self.sides.old.data_fields(a, size), self.sides.new.data_fields(b, size));
        let places = |fields: &[DataField]| fields.iter().map(|f| (f.offset, f.kind)).collect::<Vec<_>>();
        if places(&old_fields) != places(&new_fields) {
            return different(0, 0, "its pointers stand at other places");
        }
        let is_field = |offset: usize| {
            let next = old_fields.partition_point(|field| field.offset as usize <= offset);
            let field = next.checked_sub(1).and_then(|i| old_fields.get(i));
            field.is_some_and(|field| offset < (field.offset + field.kind.width()) as usize)
        };
        let hashes = [rtti::build_hashes(a, old_bytes), rtti::build_hashes(b, new_bytes)];
        let is_hash = |offset: usize| hashes.iter().all(|hashes| hashes.iter().any(|hash| hash.contains(&offset)));
        let mut dates = None;
        let mut locations: Option<Vec<u32>> = None;
        // What the file does not hold is zero in memory.
        let byte = |bytes: &[u8], offset: usize| bytes.get(offset).copied().unwrap_or(0);
        for offset in 0..old_bytes.len().max(new_bytes.len()) {
            if byte(old_bytes, offset) != byte(new_bytes, offset) && !is_field(offset) && !is_hash(offset) {
                let (x, y) = (byte(old_bytes, offset), byte(new_bytes, offset));
                let what = format!("byte {offset:#x} changed from {x:#04x} to {y:#04x}");
                let place = offset as u32;
                let dates = dates.get_or_insert_with(|| self.traces.dates((a, old_bytes), (b, new_bytes)));
                if dates.iter().any(|date| date.contains(&offset)) {
                    self.cosmetic(place, place, "the date or time of the build");
                    continue;
                }
                let locations =
                    locations.get_or_insert_with(|| self.panic_locations((a, &old_fields), (b, &new_fields)));
                if locations.iter().any(|start| (*start..start + PanicLocation::SIZE).contains(&place)) {
                    continue;
                }
                return different(place, place, what);
            }
        }
        let locations = locations.unwrap_or_else(|| self.panic_locations((a, &old_fields), (b, &new_fields)));
        for (x, y) in old_fields.iter().zip(&new_fields).filter(|(x, _)| !locations.contains(&x.offset)) {
            self.data_field(x, y)?;
        }
        Ok(())
    }

    fn data_field(&mut self, x: &DataField, y: &DataField) -> Result<(), Outcome> {
        let place = x.offset;
        let (old, new) = match (x.named, y.named) {
            (Some(old), Some(new)) => (old, new),
            (None, None) if x.kind == DataFieldKind::Rva => return Ok(()),
            _ => return different(place, place, format!("the address at {place:#x} leads nowhere")),
        };
        let usage = if x.kind == DataFieldKind::Pointer { Use::Value } else { Use::Direct };
        match self.match_named(old, new, usage) {
            Match::Same(_) => Ok(()),
            Match::Different => {
                let what = format!(
                    "the pointer at {place:#x} leads to {} instead of {}",
                    listing::describe(self.sides.new, new.target),
                    listing::describe(self.sides.old, old.target)
                );
                different(place, place, what)
            }
            Match::Ambiguous => Err(Outcome::Unresolved(Difference::at(
                place,
                place,
                format!("the pointer at {place:#x} has two readings"),
            ))),
        }
    }

    /// Offsets of panic locations that name the same source file, with another line, column or folder.
    fn panic_locations(
        &mut self,
        (a, old_fields): (&Atom, &[DataField]),
        (b, new_fields): (&Atom, &[DataField]),
    ) -> Vec<u32> {
        let mut found = Vec::new();
        for (x, y) in old_fields.iter().zip(new_fields) {
            let (Some(old), Some(new)) = (x.named, y.named) else { continue };
            let Some(old) = PanicLocation::at(self.sides.old, a, x.offset, old.target) else { continue };
            let Some(new) = PanicLocation::at(self.sides.new, b, y.offset, new.target) else { continue };
            if old != new && self.traces.same_path(&old.path, &new.path) {
                let what = format!("the panic location {old} became {new}");
                self.cosmetic(x.offset, y.offset, what);
                found.push(x.offset);
            }
        }
        found
    }

    /// Of two extents that are guesses, the longer one goes on with nothing but zeros: alignment, or an object's last zeros.
    fn differ_by_padding(&self, a: &Atom, b: &Atom) -> bool {
        let (program, longer, shorter) = if a.size > b.size { (self.sides.old, a, b) } else { (self.sides.new, b, a) };
        let tail = Rva(longer.rva.0.saturating_add(shorter.size))..longer.end();
        program.image.bytes_up_to(tail.clone()).iter().all(|byte| *byte == 0)
            && program.image.base_relocations_in(tail).is_empty()
    }
}

/// Initialised bytes of an atom; an anonymous one goes on up to `size`, but not beyond its contribution.
fn continued_bytes<'p>(program: &'p Program, atom: &Atom, size: u32) -> &'p [u8] {
    let limit = program.symbols.contribution_at(atom.rva).map_or(atom.end(), |c| c.range.end).max(atom.end());
    let end = Rva(atom.rva.0.saturating_add(size)).min(limit);
    program.image.bytes_up_to(atom.rva..end)
}
