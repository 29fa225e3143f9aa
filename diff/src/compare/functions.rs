//! Compares two functions: instruction by instruction, with every reference, and their unwind records.

use iced_x86::{Decoder, DecoderOptions};

use super::instruction_order::Order;
use super::walk::{PairWalk, different};
use super::{Difference, Outcome};
use crate::atoms::{Atom, AtomKind};
use crate::image::Image;
use crate::listing;
use crate::matching::{Match, Use};
use crate::program::{Function, Location, Program};
use crate::rva::{Rva, span};
use crate::tables::JumpTable;
use crate::x64::{Code, Instruction, Reference, ReferenceKind, Role};

impl<'a> PairWalk<'a> {
    /// Instruction by instruction.
    pub fn functions(&mut self, a: &Function, b: &Function) -> Result<(), Outcome> {
        let (old_order, new_order) = (Order::of(&a.code), Order::of(&b.code));
        let (old_image, new_image) = (&self.sides.old.image, &self.sides.new.image);
        let (Some(old_atom), Some(new_atom)) = (self.sides.old.atom(self.old), self.sides.new.atom(self.new)) else {
            return different(0, 0, "not in the image");
        };
        for position in 0..old_order.indices.len().max(new_order.indices.len()) {
            let (i, j) = (old_order.indices.get(position), new_order.indices.get(position));
            let (Some(&i), Some(&j)) = (i, j) else {
                let offset = |index: Option<&usize>, code: &Code| {
                    index.and_then(|i| code.instructions.get(*i)).map_or(0, |i| i.offset)
                };
                let what = if i.is_none() {
                    "instructions were added at the end"
                } else {
                    "instructions were removed at the end"
                };
                return different(offset(i, &a.code), offset(j, &b.code), what);
            };
            let (Some(x), Some(y)) = (a.code.instructions.get(i), b.code.instructions.get(j)) else {
                continue;
            };
            let same = match (x.role, y.role) {
                (Role::Branch { mnemonic: m, target: t }, Role::Branch { mnemonic: n, target: u }) => {
                    m == n && old_order.position_of(&a.code, t) == new_order.position_of(&b.code, u)
                }
                (Role::Plain, Role::Plain) => {
                    let (refs, other_refs) = (a.code.references_of(i), b.code.references_of(j));
                    let bytes = masked_bytes(old_image, old_atom, x.offset, x.len, refs);
                    let other = masked_bytes(new_image, new_atom, y.offset, y.len, other_refs);
                    bytes.is_some() && bytes == other && same_forms(refs, x.offset, other_refs, y.offset)
                        || are_jumps_of_two_lengths(
                            (old_image, old_atom, x, refs),
                            (new_image, new_atom, y, other_refs),
                        )
                }
                _ => false,
            };
            if !same {
                let numbers = numbers((old_image, old_atom, x), (new_image, new_atom, y));
                match numbers.map(|(p, q)| self.traces.same_line(p, q)) {
                    Some(Some(true)) => {
                        self.cosmetic(x.offset, y.offset, self.show(x.offset, y.offset));
                        continue;
                    }
                    Some(None) => self.asks_lines = true,
                    _ => {}
                }
                return different(x.offset, y.offset, self.show(x.offset, y.offset));
            }
            for (r, s) in a.code.references_of(i).iter().zip(b.code.references_of(j)) {
                self.reference((a, &old_order, x.offset, r), (b, &new_order, y.offset, s))?;
            }
        }
        self.undecoded((a, old_atom), (b, new_atom))?;
        self.fall_through((a, old_atom), (b, new_atom))?;
        self.own_data((a, old_atom), (b, new_atom))?;
        self.unwind((a, &old_order, old_atom), (b, &new_order, new_atom))
    }

    /// Control that runs on behind a function's end goes where a jump to what stands there would go.
    fn fall_through(&mut self, (a, old): (&Function, &Atom), (b, new): (&Function, &Atom)) -> Result<(), Outcome> {
        if !(a.code.falls_through && b.code.falls_through) {
            return Ok(());
        }
        let same = match (run_on_to(self.sides.old, old), run_on_to(self.sides.new, new)) {
            (Some(x), Some(y)) => matches!(self.match_address(x, y, Use::Direct), Match::Same(_)),
            (None, None) => true,
            _ => false,
        };
        if same { Ok(()) } else { different(old.size, new.size, "control runs on into another function at its end") }
    }

    /// Behind bytes that are no instruction nothing was decoded: what stands there is the same only where it is byte for byte.
    fn undecoded(&self, (a, old): (&Function, &Atom), (b, new): (&Function, &Atom)) -> Result<(), Outcome> {
        let start = |function: &Function| function.code.instructions.last().map_or(0, |i| i.offset + u32::from(i.len));
        let rest = |program: &'a Program, function: &Function, atom: &Atom| {
            let end = if function.code.data.is_empty() { atom.size } else { function.code.data.start };
            program.image.bytes_up_to(span(atom.rva, start(function)).end..span(atom.rva, end).end)
        };
        let (x, y) = (rest(self.sides.old, a, old), rest(self.sides.new, b, new));
        if x == y {
            return Ok(());
        }
        let what = format!("what stands behind +{:#x} could not be read as code, and it differs", start(a));
        Err(Outcome::Unresolved(Difference::at(start(a), start(b), what)))
    }

    /// Tables behind a function's own code: jump tables were compared by where they lead, the rest is compared as it stands.
    fn own_data(&self, (a, old): (&Function, &Atom), (b, new): (&Function, &Atom)) -> Result<(), Outcome> {
        let bytes = |program: &'a Program, function: &Function, atom: &Atom| {
            let data = &function.code.data;
            let start = Rva(atom.rva.0.saturating_add(data.start));
            let mut bytes = program.image.bytes_up_to(start..atom.end()).to_vec();
            if data.is_empty() {
                bytes.clear();
            }
            for table in &function.tables {
                let Ok(at) = usize::try_from(table.rva.distance_from(start)) else { continue };
                if let Some(entries) = bytes.get_mut(at..at + 4 * table.targets.len()) {
                    entries.fill(0);
                }
            }
            bytes
        };
        if bytes(self.sides.old, a, old) == bytes(self.sides.new, b, new) {
            return Ok(());
        }
        different(a.code.data.start, b.code.data.start, "a table behind its code changed")
    }

    pub fn show(&self, old_offset: u32, new_offset: u32) -> String {
        format!(
            "{} became {}",
            listing::instruction(self.sides.old, self.old, old_offset),
            listing::instruction(self.sides.new, self.new, new_offset)
        )
    }

    fn reference(
        &mut self,
        (a, old_order, x, r): (&Function, &Order, u32, &Reference),
        (b, new_order, y, s): (&Function, &Order, u32, &Reference),
    ) -> Result<(), Outcome> {
        if let (Some(t), Some(u)) = (a.table_at(r.target), b.table_at(s.target)) {
            let positions = |table: &JumpTable, code: &Code, order: &Order| -> Vec<Option<usize>> {
                table.targets.iter().map(|target| order.position_of(code, *target)).collect()
            };
            if positions(t, &a.code, old_order) == positions(u, &b.code, new_order) {
                return Ok(());
            }
            return different(x, y, "the jump table leads elsewhere");
        }
        if let (Some(t), Some(u)) = (a.data_table_at(r.target), b.data_table_at(s.target)) {
            if t.targets.len() != u.targets.len() {
                return different(x, y, "the table of distances has another length");
            }
            for (target, other) in t.targets.iter().zip(&u.targets) {
                self.address((x, (*target).into()), (y, (*other).into()), Use::Value)?;
            }
            return Ok(());
        }
        // The same place behind the code: what stands there is compared as a whole.
        let (old_place, new_place) =
            (own_data_place(a, self.sides.old.atom(self.old), r), own_data_place(b, self.sides.new.atom(self.new), s));
        if let (Some(old_place), Some(new_place)) = (old_place, new_place) {
            return if old_place == new_place { Ok(()) } else { different(x, y, self.show(x, y)) };
        }
        if self.same_constant(r, s) {
            return Ok(());
        }
        if r.kind == ReferenceKind::Access && s.kind == r.kind {
            return self.access((x, r), (y, s));
        }
        let usage = match r.kind {
            ReferenceKind::Address | ReferenceKind::Absolute => Use::Value,
            _ => Use::Direct,
        };
        self.address((x, r.named()), (y, s.named()), usage)
    }

    /// Both read as many bytes of constants without a name, and the same ones: how far those constants go on does not matter.
    fn same_constant(&self, r: &Reference, s: &Reference) -> bool {
        let read = |program: &'a Program, reference: &Reference| {
            let Location::Atom { atom, .. } = program.locate(reference.target) else { return None };
            let is_constant = program.atom(atom).is_some_and(|a| a.kind == AtomKind::ReadOnly && a.names.is_empty());
            let range = span(reference.target, u32::from(reference.accessed));
            let is_plain = program.image.base_relocations_in(range).is_empty();
            (is_constant && is_plain)
                .then(|| program.image.bytes(reference.target, u32::from(reference.accessed)))
                .flatten()
        };
        r.accessed > 0
            && r.accessed == s.accessed
            && read(self.sides.old, r).is_some_and(|bytes| Some(bytes) == read(self.sides.new, s))
    }

    fn unwind(
        &mut self,
        (a, old_order, old_atom): (&Function, &Order, &Atom),
        (b, new_order, new_atom): (&Function, &Order, &Atom),
    ) -> Result<(), Outcome> {
        if a.unwind.len() != b.unwind.len() {
            return different(0, 0, "the number of unwind records differs");
        }
        for ((entry, info), (other_entry, other_info)) in a.unwind.iter().zip(&b.unwind) {
            let place = |rva: Rva, atom: &Atom, code: &Code, order: &Order| {
                u32::try_from(rva.distance_from(atom.rva)).ok().map(|offset| order.end_position_of(code, offset))
            };
            let ends = |range: &std::ops::Range<Rva>, atom, code, order| {
                (place(range.start, atom, code, order), place(range.end, atom, code, order))
            };
            if ends(&entry.range, old_atom, &a.code, old_order)
                != ends(&other_entry.range, new_atom, &b.code, new_order)
                || info.codes != other_info.codes
                || info.flags != other_info.flags
            {
                return different(0, 0, "the unwind codes differ");
            }
            if let (Some((handler, data)), Some((other_handler, other_data))) = (info.handler, other_info.handler) {
                if !matches!(self.match_address(handler, other_handler, Use::Direct), Match::Same(_)) {
                    return different(0, 0, "the exception handler differs");
                }
                self.handler_data((handler, data, a, old_order, old_atom), (other_data, b, new_order, new_atom))?;
            }
        }
        Ok(())
    }
}

/// Whether the same kind of jump leaves both functions, in one as a short jump and in the other as a long one: which one it is depends on
/// how far away the linker put the other function.
fn are_jumps_of_two_lengths(
    (old_image, old, x, refs): (&Image, &Atom, &Instruction, &[Reference]),
    (new_image, new, y, other_refs): (&Image, &Atom, &Instruction, &[Reference]),
) -> bool {
    let ([r], [s]) = (refs, other_refs) else { return false };
    let is_two_lengths = matches!(
        (r.kind, s.kind),
        (ReferenceKind::Jump, ReferenceKind::ShortJump) | (ReferenceKind::ShortJump, ReferenceKind::Jump)
    );
    let mnemonic = |image: &Image, atom: &Atom, instruction: &Instruction| {
        let bytes = image.bytes(atom.rva.checked_add(instruction.offset)?, u32::from(instruction.len))?;
        Some(Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode().mnemonic())
    };
    is_two_lengths && mnemonic(old_image, old, x).is_some_and(|m| mnemonic(new_image, new, y) == Some(m))
}

/// An instruction's address with its immediate operand.
type Immediate = (Rva, u64);

/// The immediates of two instructions that differ in nothing else.
fn numbers(
    (old_image, old, x): (&Image, &Atom, &Instruction),
    (new_image, new, y): (&Image, &Atom, &Instruction),
) -> Option<(Immediate, Immediate)> {
    let read = |image: &Image, atom: &Atom, instruction: &Instruction| {
        let rva = atom.rva.checked_add(instruction.offset)?;
        let mut bytes = image.bytes(rva, u32::from(instruction.len))?.to_vec();
        let mut decoder = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE);
        let decoded = decoder.decode();
        let places = decoder.get_constant_offsets(&decoded);
        let operand = (0..decoded.op_count()).find(|operand| decoded.try_immediate(*operand).is_ok())?;
        let number = decoded.try_immediate(operand).ok()?;
        let field = places.immediate_offset()..places.immediate_offset() + places.immediate_size();
        bytes.get_mut(field).filter(|field| !field.is_empty())?.fill(0);
        Some(((rva, number), bytes))
    };
    let ((number, rest), (other, other_rest)) = (read(old_image, old, x)?, read(new_image, new, y)?);
    (rest == other_rest).then_some((number, other))
}

/// An instruction's bytes with its reference fields set to zero.
pub(crate) fn masked_bytes(
    image: &Image,
    atom: &Atom,
    offset: u32,
    len: u8,
    references: &[Reference],
) -> Option<([u8; 15], u8)> {
    let mut bytes = [0; 15];
    let source = image.bytes(atom.rva.checked_add(offset)?, u32::from(len))?;
    bytes.get_mut(..source.len())?.copy_from_slice(source);
    for reference in references {
        let start = reference.field.checked_sub(offset)? as usize;
        bytes.get_mut(start..start + reference.kind.width() as usize)?.fill(0);
    }
    Some((bytes, len))
}

/// The function behind another one, where nothing between them would stop control.
fn run_on_to(program: &Program, function: &Atom) -> Option<Rva> {
    const BREAKPOINT: u8 = 0xcc;
    let next = program.atoms.get(program.atoms.partition_point(|atom| atom.rva < function.end()))?;
    let gap = program.image.bytes_up_to(function.end()..next.rva);
    (next.is_function() && !gap.contains(&BREAKPOINT)).then_some(next.rva)
}

/// Where a reference leads among the tables behind its own function's code.
fn own_data_place(function: &Function, atom: Option<&Atom>, reference: &Reference) -> Option<u32> {
    let offset = reference.target.0.checked_sub(atom?.rva.0)?;
    let data = &function.code.data;
    data.contains(&offset).then(|| offset - data.start)
}

/// References at the same places of the instruction, of the same kinds.
fn same_forms(a: &[Reference], a_start: u32, b: &[Reference], b_start: u32) -> bool {
    let form = |r: &Reference, start: u32| (r.field.wrapping_sub(start), r.kind, r.to_end);
    a.len() == b.len() && a.iter().zip(b).all(|(r, s)| form(r, a_start) == form(s, b_start))
}
