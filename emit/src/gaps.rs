//! Padding between the functions of an image that nothing needs: room for a long jump.

use std::collections::BTreeSet;
use std::ops::Range;

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::image::Section;
use hpgen_diff::program::Program;
use hpgen_diff::rva::{Rva, span};
use hpgen_runtime::format::{Gap, JUMP8_LEN, JUMP32_LEN};

use crate::trampoline::return_places;

/// Room for one jump each, by rising address. Where they begin depends on the image alone: payloads of one series that use the same
/// padding use the same bytes of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gaps {
    slots: Vec<(Rva, [u8; JUMP32_LEN])>,
}

impl Gaps {
    /// Finds all gaps of an image.
    pub fn of(program: &Program) -> Gaps {
        let named = named_places(program);
        let mut slots = Vec::new();
        for (number, pair) in program.atoms.windows(2).enumerate() {
            let [before, behind] = pair else { continue };
            let gap = before.end()..behind.rva;
            if gap.start >= gap.end || !is_free(program, AtomIndex(number as u32), before, &gap, &named) {
                continue;
            }
            let bytes = program.image.bytes_up_to(gap.clone());
            let (rooms, _) = bytes.as_chunks::<JUMP32_LEN>();
            slots.extend(
                rooms
                    .iter()
                    .zip(0u32..)
                    .filter_map(|(room, number)| Some((gap.start.checked_add(number * JUMP32_LEN as u32)?, *room))),
            );
        }
        Gaps { slots }
    }

    /// Takes the nearest free one within reach of a short jump at `entry`.
    pub fn take(&mut self, entry: Rva, reserved: &[Range<Rva>]) -> Option<Gap> {
        let index = self.nearest(entry, reserved)?;
        let (rva, expected) = self.slots.remove(index);
        Some(Gap { rva: rva.0, expected })
    }

    /// The same, and leaves it there.
    pub fn look(&self, entry: Rva, reserved: &[Range<Rva>]) -> Option<Gap> {
        let (rva, expected) = *self.slots.get(self.nearest(entry, reserved)?)?;
        Some(Gap { rva: rva.0, expected })
    }

    fn nearest(&self, entry: Rva, reserved: &[Range<Rva>]) -> Option<usize> {
        let from = i64::from(entry.0) + JUMP8_LEN as i64;
        let distance = |rva: Rva| i64::from(rva.0) - from;
        let is_reserved = |rva: Rva| {
            let room = span(rva, JUMP32_LEN as u32);
            reserved.iter().any(|range| range.start < room.end && room.start < range.end)
        };
        let first = self.slots.partition_point(|(rva, _)| distance(*rva) < i8::MIN.into());
        let slots = self.slots.iter().enumerate().skip(first);
        let reachable = slots.take_while(|(_, (rva, _))| distance(*rva) <= i8::MAX.into());
        let free = reachable.filter(|(_, (rva, _))| !is_reserved(*rva));
        free.min_by_key(|(_, (rva, _))| (distance(*rva).abs(), *rva)).map(|(index, _)| index)
    }
}

/// Every address of the program that something names: no such byte is padding, whatever it looks like.
fn named_places(program: &Program) -> BTreeSet<Rva> {
    let image = &program.image;
    let code = program.functions.iter().flat_map(|f| &f.code.references).flat_map(|r| [Some(r.target), r.symbol]);
    let pointers = image.base_relocations.iter().map(|place| image.relocated_target(*place));
    let symbols = program.symbols.publics.iter().map(|public| Some(public.rva));
    let exports = image.exports.iter().map(|export| Some(export.rva));
    let tables = program.functions.iter().flat_map(|f| &f.data_tables).flat_map(|t| &t.targets).map(|t| Some(*t));
    let relocated = image.base_relocations.iter().map(|place| Some(*place));
    code.chain(pointers).chain(symbols).chain(exports).chain(tables).chain(relocated).flatten().collect()
}

fn is_free(program: &Program, index: AtomIndex, before: &Atom, gap: &Range<Rva>, named: &BTreeSet<Rva>) -> bool {
    let section = program.image.section_at(before.rva).filter(|section| Section::is_executable(section));
    let Some(function) = program.function(index).filter(|_| section.is_some_and(|s| gap.end <= s.range.end)) else {
        return false;
    };
    let bytes = program.image.bytes_up_to(gap.clone());
    let is_padding =
        bytes.len() == (gap.end.0 - gap.start.0) as usize && bytes.iter().all(|b| matches!(b, 0xcc | 0x90));
    // Control of what was not understood could run on into it; a call at its end has its return address there.
    let is_left = function.code.unresolved.is_empty()
        && !function.code.falls_through
        && return_places(function).all(|end| end < before.size);
    let table = &program.image.runtime_functions;
    let next = table.get(table.partition_point(|f| f.range.end <= gap.start));
    let has_unwind_data = next.is_some_and(|f| f.range.start < gap.end);
    before.is_sized && is_padding && is_left && !has_unwind_data && named.range(gap.clone()).next().is_none()
}
