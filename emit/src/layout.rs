//! Where each atom of a plan stands in the region: code, then constants, then variables, each in pages of their own with a page between that nobody
//! may touch.

use std::collections::BTreeMap;
use std::ops::Range;

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::image::Import;
use hpgen_diff::program::Program;
use hpgen_diff::rva::Rva;
use hpgen_runtime::format::{MAX_REGION, PAGE};

use crate::plan::Plan;
use crate::throw_stub;

/// Region offsets of everything in a plan.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Functions and data by their atom in the new program.
    pub atoms: BTreeMap<AtomIndex, u32>,
    /// Jump tables and tables of distances by function and address in the new image.
    pub tables: BTreeMap<(AtomIndex, Rva), u32>,
    /// Unwind records by function and number.
    pub unwind_infos: BTreeMap<(AtomIndex, usize), u32>,
    /// Pieces of exception tables by address in the new image; a function shares them with its funclets.
    pub handler_pieces: BTreeMap<Rva, u32>,
    /// The `RUNTIME_FUNCTION` array.
    pub function_table: u32,
    /// Slots of new imports.
    pub slots: BTreeMap<Import, u32>,
    /// Stubs that throw, with their unwind records, by the throwing function.
    pub throws: BTreeMap<AtomIndex, ThrowPlaces>,
    /// The field that tells the stubs what addresses count from.
    pub throw_base: u32,
    /// Start and end of code, constants and variables; empty ones are left out of the payload.
    pub code: (u32, u32),
    pub constants: (u32, u32),
    pub variables: (u32, u32),
}

/// Where a stub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThrowPlaces {
    pub code: u32,
    pub unwind_info: u32,
}

/// Gap filler between functions: a stray jump stops at once.
pub(crate) const FILLER: u8 = 0xcc;
const FUNCTION_ALIGNMENT: u32 = 16;
/// The largest alignment that compilers ask for in practice (AVX-512 and cache lines).
const MAX_ALIGNMENT: u32 = 64;
const RUNTIME_FUNCTION: u32 = 12;

/// Bytes of a range.
pub(crate) fn length(range: &Range<Rva>) -> u32 {
    range.end.0.saturating_sub(range.start.0)
}

/// Running end of a segment.
struct Cursor(u64);

impl Cursor {
    fn place(&mut self, size: u64, alignment: u32) -> u32 {
        let start = self.0.next_multiple_of(u64::from(alignment));
        self.0 = start + size;
        // A region beyond the limit is refused as a whole, below.
        u32::try_from(start).unwrap_or(u32::MAX)
    }

    /// Places an object whose address the linker of the new image aligned as it stands there.
    fn place_as(&mut self, atom: &Atom, alignment: u32) -> u32 {
        let alignment = u64::from(alignment);
        let residue = u64::from(atom.rva.0) % alignment;
        self.0 = self.0.saturating_sub(residue).next_multiple_of(alignment) + residue;
        self.place(u64::from(atom.size), 1)
    }

    /// A page that nobody may touch stands between segments.
    fn next_segment(&mut self, start: u32) {
        if self.0 > u64::from(start) {
            self.0 = self.0.next_multiple_of(u64::from(PAGE)) + u64::from(PAGE);
        }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Layout {
    /// Lays out a plan; none when it exceeds the largest region.
    pub fn of(new: &Program, plan: &Plan) -> Option<Layout> {
        let mut layout = Layout::default();
        let mut cursor = Cursor(u64::from(PAGE));
        let start = cursor.end();
        for (index, function) in &plan.functions {
            // In front of the function there may be jumps that belong to it; its own alignment stays.
            let front = function.islands.bytes_before().next_multiple_of(u64::from(FUNCTION_ALIGNMENT));
            let size = front + u64::from(function.extent) + function.islands.bytes_behind();
            let start = u64::from(cursor.place(size, FUNCTION_ALIGNMENT)) + front;
            layout.atoms.insert(*index, u32::try_from(start).unwrap_or(u32::MAX));
        }
        let stubs: Vec<(AtomIndex, u32)> = plan
            .throws
            .keys()
            .map(|index| (*index, cursor.place(throw_stub::SIZE.into(), FUNCTION_ALIGNMENT)))
            .collect();
        layout.code = (start, cursor.end());

        cursor.next_segment(start);
        let start = cursor.end();
        let entries =
            plan.functions.keys().filter_map(|index| new.function(*index)).map(|f| f.unwind.len() as u64).sum::<u64>();
        let entries = entries + stubs.len() as u64;
        layout.function_table = cursor.place(entries * u64::from(RUNTIME_FUNCTION), 4);
        for (index, function) in &plan.functions {
            for (number, (_, info)) in new.function(*index).map(|f| f.unwind.iter()).into_iter().flatten().enumerate() {
                let handler = function.handlers.get(number).and_then(Option::as_ref);
                let inline = handler.and_then(|handler| handler.pieces.first()).map(|piece| u64::from(length(piece)));
                let tail = match inline {
                    Some(data) => 4 + data,
                    None if info.chained.is_some() => u64::from(RUNTIME_FUNCTION),
                    None => 0,
                };
                let size = (info.codes.len() as u64).next_multiple_of(4) + tail;
                layout.unwind_infos.insert((*index, number), cursor.place(size, 4));
            }
            for piece in function.handlers.iter().flatten().flat_map(|handler| handler.pieces.iter().skip(1)) {
                let place = || cursor.place(u64::from(length(piece)), 4);
                layout.handler_pieces.entry(piece.start).or_insert_with(place);
            }
            let jumps = function.tables.iter().map(|table| (table.rva, table.targets.len()));
            let data = function.data_tables.iter().map(|(table, targets)| (table.rva, targets.len()));
            for (rva, entries) in jumps.chain(data) {
                let place = match layout.behind_code(new, *index, rva) {
                    Some(place) => place,
                    None => cursor.place(4 * entries as u64, 4),
                };
                layout.tables.insert((*index, rva), place);
            }
        }
        for (index, code) in stubs {
            let unwind_info = cursor.place(throw_stub::UNWIND_INFO.len() as u64, 4);
            layout.throws.insert(index, ThrowPlaces { code, unwind_info });
        }
        if !layout.throws.is_empty() {
            layout.throw_base = cursor.place(4, 4);
        }
        for import in &plan.imports {
            layout.slots.insert(import.clone(), cursor.place(8, 8));
        }
        layout.data(new, plan, false, &mut cursor);
        layout.constants = (start, cursor.end());

        cursor.next_segment(start);
        let start = cursor.end();
        layout.data(new, plan, true, &mut cursor);
        layout.variables = (start, cursor.end());
        (cursor.0 <= MAX_REGION).then_some(layout)
    }

    /// The place of a table that stands behind its function's code.
    fn behind_code(&self, new: &Program, index: AtomIndex, rva: Rva) -> Option<u32> {
        let offset = rva.0.checked_sub(new.atom(index)?.rva.0)?;
        let is_behind = new.function(index)?.code.data.contains(&offset);
        self.atoms.get(&index)?.checked_add(offset).filter(|_| is_behind)
    }

    fn data(&mut self, new: &Program, plan: &Plan, writable: bool, cursor: &mut Cursor) {
        for (index, _) in plan.data.iter().filter(|(_, data)| data.writable == writable) {
            let Some(atom) = new.atom(*index) else {
                continue;
            };
            // The address that the linker chose satisfies whatever alignment was asked for.
            let alignment = 1u32.checked_shl(atom.rva.0.trailing_zeros()).unwrap_or(MAX_ALIGNMENT).min(MAX_ALIGNMENT);
            let needed = plan.alignments.get(index).copied().unwrap_or(1);
            let place = match needed > alignment {
                // A place inside it is to be aligned: it stands as far from such an address as in the new image.
                true => cursor.place_as(atom, needed),
                false => cursor.place(u64::from(atom.size), alignment),
            };
            self.atoms.insert(*index, place);
        }
    }
}
