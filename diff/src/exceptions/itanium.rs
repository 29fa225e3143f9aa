//! The tables of `__gxx_personality_seh0` (and of Rust's `rust_eh_personality`), which stand behind the unwind record: the
//! "language-specific data area" of the Itanium C++ ABI.
//!
//! Sources: "Itanium C++ ABI: Exception Handling", level II; GCC's `unwind-pe.h`, `eh_personality.cc` and `unwind-seh.c`, which finds a
//! function's start in its function table entry; LLVM's `EHStreamer.cpp`.

use super::{CUT_OFF, Failure, Field, Item, MAX_ENTRIES, Read, Reader};
use crate::rva::Rva;
use crate::unwind::UnwindInfo;

/// `DW_EH_PE_omit`: there is none.
const OMITTED: u8 = 0xff;
/// `DW_EH_PE_absptr`: an address of eight bytes.
const ABSOLUTE: u8 = 0x00;
/// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: a distance from the field.
const DISTANCE: u8 = 0x1b;
/// The same to a place that holds the address.
const INDIRECT_DISTANCE: u8 = 0x9b;
/// `DW_EH_PE_uleb128`, in which compilers write the table of call sites.
const COMPRESSED: u8 = 0x01;

impl Reader<'_> {
    /// Call sites with their landing pads, actions, types that are caught, exception specifications.
    pub(super) fn itanium(&mut self) -> Read<()> {
        let end = self.covered_by_its_entry()?;
        if self.byte()? != OMITTED {
            return Err(Failure::Malformed("landing pads that do not count from the function's start"));
        }
        let encoding = self.byte()?;
        self.items.push(Item::Number(i64::from(encoding)));
        let width = match encoding {
            OMITTED | DISTANCE | INDIRECT_DISTANCE => 4,
            ABSOLUTE => 8,
            _ => return Err(Failure::Malformed("types in an encoding that is not known")),
        };
        let types_end = if encoding == OMITTED {
            None
        } else {
            let distance = self.leb128()?;
            Some(self.place.checked_add(distance).ok_or(CUT_OFF)?)
        };
        if self.byte()? != COMPRESSED {
            return Err(Failure::Malformed("call sites in an encoding that is not known"));
        }
        let size = self.leb128()?;
        let actions = self.place.checked_add(size).ok_or(CUT_OFF)?;
        let mut first_actions = Vec::new();
        while self.place < actions {
            first_actions.extend(self.call_site(end)?);
        }
        if self.place != actions {
            return Err(Failure::Malformed("a call site that is cut off"));
        }
        let filters = self.filters(actions, &first_actions)?;
        match types_end {
            Some(types_end) => self.types(actions, types_end, (encoding, width), &filters),
            None if filters.is_empty() => Ok(()),
            None => Err(Failure::Malformed("it has actions and no types")),
        }
    }

    /// The end of the function, if its function table entry begins at its start and says that these are its tables.
    fn covered_by_its_entry(&self) -> Read<Rva> {
        let entries = &self.image.runtime_functions;
        let first = entries.partition_point(|entry| entry.range.start < self.function);
        let own = entries.get(first).filter(|entry| {
            let info = UnwindInfo::read(self.image, entry.unwind_info).ok();
            let has_these = info.and_then(|info| info.handler).is_some_and(|(_, data)| data == self.place);
            entry.range.start == self.function && has_these
        });
        own.map(|entry| entry.range.end).ok_or(Failure::Malformed("tables of a part of a function"))
    }

    /// Start, length, landing pad and first action of a call site; the action counts from 1.
    fn call_site(&mut self, end: Rva) -> Read<Option<u32>> {
        const OUTSIDE: Failure = Failure::Malformed("a call site outside of the function");
        let start = self.function.checked_add(self.leb128()?).ok_or(OUTSIDE)?;
        let stop = start.checked_add(self.leb128()?).ok_or(OUTSIDE)?;
        let pad = self.leb128()?;
        let action = self.leb128()?;
        let landing = self.function.checked_add(pad).ok_or(OUTSIDE)?;
        if stop > end || landing >= end {
            return Err(OUTSIDE);
        }
        let landing = if pad == 0 { Item::Number(0) } else { Item::Code(landing) };
        self.items.extend([Item::Code(start), Item::Code(stop), landing, Item::Number(i64::from(action))]);
        if self.items.len() > MAX_ENTRIES as usize {
            return Err(Failure::Malformed("an absurd number of entries"));
        }
        Ok(action.checked_sub(1))
    }

    /// What all chains of actions say: a type's number, 0 for a clean-up, a negative number for an exception specification.
    fn filters(&mut self, actions: Rva, first: &[u32]) -> Read<Vec<i64>> {
        let (mut filters, mut seen, mut open) = (Vec::new(), std::collections::BTreeSet::new(), Vec::new());
        for offset in first {
            open.push(actions.checked_add(*offset).ok_or(CUT_OFF)?);
        }
        while let Some(place) = open.pop() {
            if !seen.insert(place) {
                continue;
            }
            if seen.len() > MAX_ENTRIES as usize {
                return Err(Failure::Malformed("an absurd number of actions"));
            }
            let back = std::mem::replace(&mut self.place, place);
            filters.push(self.signed_leb128()?);
            let field = self.place;
            let next = self.signed_leb128()?;
            self.place = back;
            if next != 0 {
                open.push(field.checked_offset(next).ok_or(CUT_OFF)?);
            }
        }
        Ok(filters)
    }

    /// The action table's bytes, the types, from the last to the first, and the exception specifications behind them.
    fn types(&mut self, actions: Rva, end: Rva, (encoding, width): (u8, u32), filters: &[i64]) -> Read<()> {
        const WRONG: Failure = Failure::Malformed("a type that is not in its table");
        let mut last = filters.iter().copied().max().unwrap_or(0).max(0);
        let mut stop = end;
        for filter in filters.iter().filter(|filter| **filter < 0) {
            // A specification is a list of types that ends with 0.
            self.place =
                end.checked_offset(filter.checked_add(1).and_then(i64::checked_neg).ok_or(WRONG)?).ok_or(WRONG)?;
            loop {
                let number = self.leb128()?;
                last = last.max(i64::from(number));
                if number == 0 {
                    break;
                }
            }
            stop = stop.max(self.place);
        }
        let count = u32::try_from(last).ok().filter(|count| *count <= MAX_ENTRIES).ok_or(WRONG)?;
        let start =
            end.checked_offset(-i64::from(count) * i64::from(width)).filter(|start| *start >= actions).ok_or(WRONG)?;
        self.place = actions;
        self.numbers_up_to(start)?;
        for _ in 0..count {
            self.type_entry(encoding)?;
        }
        self.numbers_up_to(stop)
    }

    /// A type descriptor; none stands for all types.
    fn type_entry(&mut self, encoding: u8) -> Read<()> {
        let place = self.place;
        let (target, width, field): (Option<Rva>, u32, fn(Item) -> Field) = if encoding == ABSOLUTE {
            let value = self.image.u64_at(place).ok_or(CUT_OFF)?;
            let end = place.checked_add(1).ok_or(CUT_OFF)?;
            let is_relocated = self.image.base_relocations_in(place..end) == [place];
            let target = self.image.relocated_target(place).filter(|_| is_relocated);
            if value != 0 && target.is_none() {
                return Err(Failure::Malformed("the address of a type that is not relocated"));
            }
            (target.filter(|_| value != 0), 8, Field::Address)
        } else {
            let distance = self.image.u32_at(place).ok_or(CUT_OFF)?.cast_signed();
            let target = place.checked_offset(distance.into()).ok_or(CUT_OFF)?;
            ((distance != 0).then_some(target), 4, Field::Distance)
        };
        match target {
            Some(target) => {
                self.items.push(Item::Data(target));
                self.tables.fields.push((place, field(Item::Data(target))));
            }
            None => self.items.push(Item::Number(0)),
        }
        self.place = place.checked_add(width).ok_or(CUT_OFF)?;
        Ok(())
    }

    fn numbers_up_to(&mut self, end: Rva) -> Read<()> {
        while self.place < end {
            let byte = self.byte()?;
            self.items.push(Item::Number(i64::from(byte)));
            if self.items.len() > MAX_ENTRIES as usize {
                return Err(Failure::Malformed("an absurd number of entries"));
            }
        }
        Ok(())
    }

    /// `uleb128`: seven bits a byte, the low ones first.
    fn leb128(&mut self) -> Read<u32> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Failure::Malformed("a number that is too large"));
            }
        }
        Err(Failure::Malformed("a number that is too long"))
    }

    /// `sleb128`: the same with a sign.
    fn signed_leb128(&mut self) -> Read<i64> {
        let mut value = 0_i64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let sign = if byte & 0x40 == 0 { 0 } else { -1_i64 << (shift + 7) };
                return Ok(value | sign);
            }
        }
        Err(Failure::Malformed("a number that is too long"))
    }
}
