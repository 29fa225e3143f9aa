//! The unwind data of the payload: what Windows finds when an exception passes through new code.

use hpgen_diff::exceptions::{Field, Item};
use hpgen_diff::image::RuntimeFunction;
use hpgen_diff::rva::Rva;
use hpgen_diff::unwind::UnwindInfo;

use crate::claims::{Occupied, Part};
use crate::code::CodeWalk;
use crate::meaning::Use;
use crate::process::{Place, Process};
use crate::report::Finding;

/// Bytes of a `RUNTIME_FUNCTION`.
const ENTRY: u32 = 12;

/// The registered function table, with addresses in place of RVAs.
pub(crate) struct FunctionTable {
    /// By rising begin.
    pub entries: Vec<Entry>,
    /// What the RVAs count from.
    base: u64,
}

/// One `RUNTIME_FUNCTION` of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    begin: u64,
    end: u64,
    info: u64,
    number: u32,
}

impl FunctionTable {
    /// Reads the table as Windows does.
    pub fn read(process: &Process, findings: &mut Vec<Finding>) -> FunctionTable {
        let Some(table) = process.linked.function_table else {
            return FunctionTable { entries: Vec::new(), base: 0 };
        };
        let entry =
            |number: u32| entry_at(process, table.base, table.address.checked_add(u64::from(number) * 12)?, number);
        let mut entries: Vec<Entry> = (0..table.count).map_while(entry).collect();
        if entries.len() != table.count as usize {
            let found = format!("{} that are in memory", entries.len());
            findings.push(Finding::of_payload(
                "unwind",
                format!("{} entries of the function table", table.count),
                found,
            ));
        }
        for pair in entries.windows(2) {
            if let [first, second] = pair
                && second.begin < first.end
            {
                findings.push(Finding::of_payload(
                    "unwind",
                    "entries of the function table that rise and do not overlap",
                    format!("entry {} before the end of the one before it", second.number),
                ));
            }
        }
        for entry in entries.iter().filter(|entry| entry.end <= entry.begin) {
            findings.push(Finding::of_payload(
                "unwind",
                "an entry of the function table that ends behind its begin",
                format!("entry {}", entry.number),
            ));
        }
        entries.sort_by_key(|entry| (entry.begin, entry.number));
        FunctionTable { entries, base: table.base }
    }

    /// Where the table is.
    pub fn occupied(process: &Process) -> Option<Occupied> {
        let table = process.linked.function_table?;
        match process.place(table.address) {
            Place::Region(offset) => {
                Some(Occupied { offset, size: table.count.checked_mul(ENTRY)?, part: Part::FunctionTable })
            }
            _ => None,
        }
    }

    /// Whether an entry begins at an address.
    pub fn covers(&self, address: u64) -> bool {
        self.entries.iter().any(|entry| entry.begin == address)
    }

    /// What its RVAs count from.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The number of the entry that begins at an address.
    pub fn number_of(&self, begin: u64) -> Option<u32> {
        self.entries.iter().find(|entry| entry.begin == begin).map(|entry| entry.number)
    }

    /// Begin, end and record of each entry.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.entries.iter().map(|entry| (entry.begin, entry.end, entry.info))
    }

    /// Entries that begin inside a range of addresses.
    fn inside(&self, range: std::ops::Range<u64>) -> Vec<Entry> {
        let first = self.entries.partition_point(|entry| entry.begin < range.start);
        self.entries.iter().skip(first).take_while(|entry| entry.begin < range.end).copied().collect()
    }
}

fn entry_at(process: &Process, base: u64, place: u64, number: u32) -> Option<Entry> {
    let field = |index: u64| {
        let rva = process.u32_at(place.checked_add(4 * index)?)?;
        base.checked_add(rva.into())
    };
    Some(Entry { begin: field(0)?, end: field(1)?, info: field(2)?, number })
}

impl CodeWalk<'_> {
    /// The function's records must be those of the new build.
    pub fn unwind(&mut self, table: &FunctionTable) {
        let entries = table.inside(self.address(0)..self.address(self.size));
        let function = self.function;
        if entries.len() != function.unwind.len() {
            let expected = format!("{} unwind records", function.unwind.len());
            return self.finding("unwind", 0, expected, entries.len().to_string());
        }
        for (entry, (runtime_function, info)) in entries.iter().zip(&function.unwind) {
            self.range(entry, runtime_function);
            self.record(entry, info, table);
            self.looked.unwind_records += 1;
        }
    }

    /// The part of the function that a record covers; padding at the end is left out.
    fn range(&mut self, entry: &Entry, expected: &RuntimeFunction) {
        let inside = |walk: &Self, rva: Rva| {
            let distance = u32::try_from(rva.distance_from(walk.atom.rva)).ok()?;
            Some(walk.address(distance.min(walk.size)))
        };
        let expected_range = (inside(self, expected.range.start), inside(self, expected.range.end));
        if expected_range != (Some(entry.begin), Some(entry.end)) {
            let offset = expected.range.start.0.saturating_sub(self.atom.rva.0);
            let start = self.address(0);
            let found = format!("{:#x} to {:#x} of it", entry.begin.wrapping_sub(start), entry.end.wrapping_sub(start));
            let length = expected.range.end.0.saturating_sub(expected.range.start.0);
            self.finding("unwind", offset, format!("a record for {length:#x} bytes of the function"), found);
        }
    }

    fn record(&mut self, entry: &Entry, expected: &UnwindInfo, table: &FunctionTable) {
        let offset = u32::try_from(entry.begin.wrapping_sub(self.address(0))).unwrap_or(0);
        let process = self.meaning.process;
        let Ok(length) = u32::try_from(expected.codes.len()) else { return };
        let codes = process.read(entry.info, length);
        if codes.as_deref() != Some(expected.codes.as_slice()) || !entry.info.is_multiple_of(4) {
            let found = self.meaning.describe(entry.info);
            return self.finding("unwind", offset, "the new build's unwind codes", format!("others at {found}"));
        }
        let tail = length.next_multiple_of(4);
        let filler = process.read(entry.info.wrapping_add(length.into()), tail - length);
        if filler.is_none_or(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            self.finding("unwind", offset, "zeros behind the unwind codes", "something else");
        }
        let mut size = tail;
        let behind = entry.info.wrapping_add(tail.into());
        if let Some(primary) = &expected.chained {
            self.chain(offset, behind, primary, table);
            size = tail.saturating_add(ENTRY);
        }
        if let Some((handler, data)) = expected.handler {
            size = tail.saturating_add(4).saturating_add(self.handler(offset, behind, (handler, data), table.base));
        }
        if let Place::Region(start) = process.place(entry.info) {
            let part = Part::UnwindRecord(entry.number);
            self.looked.occupied.push(Occupied { offset: start, size, part });
        } else {
            let found = self.meaning.describe(entry.info);
            self.finding("unwind", offset, "a record in the region", found);
        }
    }

    /// A chained record repeats the entry of the function that it continues.
    fn chain(&mut self, offset: u32, place: u64, primary: &RuntimeFunction, table: &FunctionTable) {
        let found = entry_at(self.meaning.process, table.base, place, 0);
        let number = self.function.unwind.iter().position(|(entry, _)| entry.range == primary.range);
        let own = table.inside(self.address(0)..self.address(self.size));
        let expected = number.and_then(|number| own.get(number)).map(|entry| Entry { number: 0, ..*entry });
        if expected.is_none() || expected != found {
            self.finding("unwind", offset, "the entry of the record that it continues", "another");
        }
    }

    /// The handler at `place`, its data behind it, and the tables that the data leads to. Gives the data's size.
    fn handler(&mut self, offset: u32, place: u64, (handler, data): (Rva, Rva), base: u64) -> u32 {
        let new = self.meaning.facts.new;
        let found = self.meaning.process.u32_at(place).and_then(|rva| base.checked_add(rva.into()));
        let Some(found) = found else {
            self.finding("unwind", offset, "the address of the handler", "none");
            return 0;
        };
        self.looked.references.add("exception-table");
        let meant = self.meaning.is_pointer(handler.into(), found);
        self.meant(offset, meant, found);
        let tables = match new.exception_tables(&new.handler_name(handler), self.atom, data) {
            Ok(tables) => tables,
            Err(problem) => {
                self.finding("unwind", offset, "exception tables that are understood", problem);
                return 0;
            }
        };
        // Where each piece is in the process is learned from the field that leads to it.
        let mut pieces = vec![(data, place.wrapping_add(4))];
        let mut next = 0;
        while let Some(&(start, at)) = pieces.get(next) {
            let is_known = pieces.iter().take(next).any(|piece| *piece == (start, at));
            let piece = tables.pieces.iter().find(|piece| piece.start == start).filter(|_| !is_known);
            next += 1;
            let Some(piece) = piece.cloned() else { continue };
            let fields: Vec<(Rva, Field)> =
                tables.fields.iter().filter(|(rva, _)| piece.contains(rva)).copied().collect();
            self.piece(offset, &piece, at, &fields);
            for (rva, field) in fields {
                let place = at.wrapping_add(u64::from(rva.0 - piece.start.0));
                let Some(found) = self.led_to(place, field, base) else { continue };
                match field {
                    Field::Piece(target) => pieces.push((target, found)),
                    Field::Item(item) | Field::Address(item) | Field::Distance(item) => self.item(offset, item, found),
                }
            }
            if next > 1
                && let Place::Region(offset) = self.meaning.process.place(at)
            {
                let size = piece.end.0.saturating_sub(piece.start.0);
                self.looked.occupied.push(Occupied { offset, size, part: Part::ExceptionTable(piece.start) });
            }
        }
        tables.pieces.first().map_or(0, |piece| piece.end.0.saturating_sub(piece.start.0))
    }

    /// The address that a field at `place` stands for.
    fn led_to(&self, place: u64, field: Field, base: u64) -> Option<u64> {
        let process = self.meaning.process;
        match field {
            Field::Item(_) | Field::Piece(_) => base.checked_add(process.u32_at(place)?.into()),
            Field::Distance(_) => place.checked_add_signed(process.u32_at(place)?.cast_signed().into()),
            Field::Address(_) => {
                let (low, high) = (process.u32_at(place)?, process.u32_at(place.checked_add(4)?)?);
                Some(u64::from(high) << 32 | u64::from(low))
            }
        }
    }

    /// The bytes of a piece outside of its addresses.
    fn piece(&mut self, offset: u32, piece: &std::ops::Range<Rva>, at: u64, fields: &[(Rva, Field)]) {
        let size = piece.end.0.saturating_sub(piece.start.0);
        let image = &self.meaning.facts.new.image;
        let mut expected = image.bytes_up_to(piece.clone()).to_vec();
        let is_in_region = size == 0 || matches!(self.meaning.process.place(at), Place::Region(_));
        let found = if size == 0 { Some(Vec::new()) } else { self.meaning.process.read(at, size).map(|b| b.to_vec()) };
        let Some(mut found) = found.filter(|_| is_in_region) else {
            let found = self.meaning.describe(at);
            return self.finding("unwind", offset, "exception tables in the region", found);
        };
        for (rva, field) in fields {
            let start = (rva.0 - piece.start.0) as usize;
            for bytes in [&mut expected, &mut found] {
                let width = field.width() as usize;
                if let Some(field) = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..width)) {
                    field.fill(0);
                }
            }
        }
        if expected != found {
            let at = self.meaning.describe(at);
            self.finding("unwind", offset, "the new build's exception tables", format!("others at {at}"));
        }
    }

    fn item(&mut self, offset: u32, item: Item, found: u64) {
        self.looked.references.add("exception-table");
        let meant = match item {
            Item::Data(rva) => self.meaning.is_pointer(rva.into(), found),
            Item::Code(rva) => self.exception_code(rva, found),
            Item::Funclet(rva) => match self.meaning.facts.new.locate(rva) {
                hpgen_diff::program::Location::Atom { atom, offset: 0 } => {
                    self.meaning.is_place_of(atom, 0, found, Use::Branch)
                }
                _ => self.exception_code(rva, found),
            },
            Item::Number(_) => Err("no address here".to_owned()),
        };
        self.meant(offset, meant, found);
    }
}
