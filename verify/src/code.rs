//! One function of the payload, instruction by instruction, as it would run.
//!
//! The code must be that of the new build, byte for byte outside of the fields of references. Each instruction is decoded at its
//! address in the process; where the new build's instruction has a reference, what it leads to there is looked at. Of a function that runs
//! before `main` and that both builds have, what the old build did is taken out.

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::listing;
use hpgen_diff::operand_alignment;
use hpgen_diff::program::{Function, Location};
use hpgen_diff::rva::{Rva, span};
use hpgen_diff::tables::{DataTable, JumpTable};
use hpgen_diff::x64::{Reference, ReferenceKind, Role};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind};

use crate::claims::{Claim, Looked, Occupied, Origin, Part};
use crate::meaning::{Meaning, Meant, Use};
use crate::process::Place;
use crate::report::Finding;

/// Largest number of findings of one function: the first tell what is wrong.
const MAX_FINDINGS: usize = 20;
/// Bytes of a long jump.
const ISLAND: u32 = 5;
/// Bytes between tables behind a function's code.
const LONGEST_PADDING: u32 = 15;

/// A function of the new program at its place in the region.
pub(crate) struct CodeWalk<'a> {
    pub meaning: Meaning<'a>,
    pub index: AtomIndex,
    pub atom: &'a Atom,
    pub function: &'a Function,
    /// Its first byte in the region.
    pub offset: u32,
    /// Bytes without the padding at the end.
    pub size: u32,
    /// The same with the tables behind the code.
    extent: u32,
    pub looked: Looked,
}

impl<'a> CodeWalk<'a> {
    /// Starts at a function; none when there is no such function.
    pub fn of(meaning: Meaning<'a>, index: AtomIndex, offset: u32) -> Option<CodeWalk<'a>> {
        let new = meaning.facts.new;
        let (atom, function) = (new.atom(index)?, new.function(index)?);
        let size = code_size(function);
        Some(CodeWalk {
            meaning,
            index,
            atom,
            function,
            offset,
            size,
            extent: extent(function),
            looked: Looked::default(),
        })
    }

    /// The address of an offset of the function in the process.
    pub fn address(&self, offset: u32) -> u64 {
        self.meaning.process.in_region(self.offset).wrapping_add(offset.into())
    }

    /// Notes a finding at an offset of the function.
    pub fn finding(&mut self, code: &'static str, offset: u32, expected: impl Into<String>, found: impl Into<String>) {
        if self.looked.findings.len() >= MAX_FINDINGS {
            return;
        }
        let is_instruction = self.function.code.instruction_at(offset).is_some();
        let instruction = is_instruction.then(|| listing::instruction(self.meaning.facts.new, self.index, offset));
        self.looked.findings.push(Finding {
            code,
            function: Some(self.meaning.facts.name(self.index)),
            offset: Some(offset),
            instruction,
            expected: expected.into(),
            found: found.into(),
        });
    }

    /// Notes what came of a reference.
    pub fn meant(&mut self, offset: u32, meant: Meant, found: u64) {
        match meant {
            Ok(claims) => {
                if let Place::Region(slot) = self.meaning.process.place(found) {
                    self.looked.used_slots.push(slot);
                }
                self.looked.claim(claims, Origin { atom: self.index, offset });
            }
            Err(expected) => {
                let found = self.meaning.describe(found);
                self.finding("reference", offset, expected, found);
            }
        }
    }

    /// Looks at the code and everything that it names.
    pub fn code(&mut self) {
        let record = self.meaning.facts.functions_at.get(&self.offset);
        if let Some(record) = record.filter(|record| record.size != self.size) {
            let (expected, found) = (format!("{} bytes of code", self.size), format!("{} bytes", record.size));
            self.finding("code", 0, expected, found);
        }
        if let Some(unresolved) = self.function.code.unresolved.first() {
            let found = format!("what was not understood: {}", unresolved.reason);
            self.finding("code", unresolved.offset, "code that is understood", found);
        }
        let Some(bytes) = self.same_bytes() else { return };
        self.instructions(&bytes);
        self.own_tables(&bytes);
        self.base_relocations();
    }

    /// The code's bytes in the process, if they are those of the new build.
    fn same_bytes(&mut self) -> Option<Vec<u8>> {
        let image = &self.meaning.facts.new.image;
        let mut expected = image.bytes_up_to(span(self.atom.rva, self.extent)).to_vec();
        let found = self.meaning.process.read(self.address(0), self.extent);
        let Some(found) = found.filter(|_| expected.len() == self.extent as usize && self.size > 0) else {
            self.finding("code", 0, "the new build's code", "code that is not all in one segment");
            return None;
        };
        let part = self.meaning.facts.part(self.index);
        for (offset, removed) in part.iter().flat_map(|part| &part.removed) {
            let bytes = removed.bytes();
            let start = *offset as usize;
            if let Some(place) = expected.get_mut(start..start.saturating_add(bytes.len())) {
                place.copy_from_slice(&bytes);
            }
        }
        let mut masked = found.to_vec();
        let is_there = |r: &&Reference| part.is_none_or(|part| !part.is_removed(r.field));
        let operands = self.function.code.references.iter().filter(is_there);
        let operands = operands.map(|r| r.field as usize..(r.field + r.kind.width()) as usize);
        for field in operands.chain(self.own_entries()) {
            for bytes in [&mut expected, &mut masked] {
                if let Some(field) = bytes.get_mut(field.clone()) {
                    field.fill(0);
                }
            }
        }
        if let Some(at) = expected.iter().zip(&masked).position(|(new, found)| new != found) {
            let instructions = &self.function.code.instructions;
            let before = instructions.partition_point(|i| i.offset as usize <= at).checked_sub(1);
            let start = before.and_then(|index| instructions.get(index)).map_or(0, |i| i.offset);
            let byte = |bytes: &[u8]| bytes.get(at).map_or(String::new(), |byte| format!("{byte:#04x} at +{at:#x}"));
            let (expected, found) = (byte(&expected), byte(&masked));
            self.finding("code", start, expected, found);
            return None;
        }
        Some(found.into_owned())
    }

    /// Entries of tables behind the code, which are looked at by where they lead.
    fn own_entries(&self) -> Vec<std::ops::Range<usize>> {
        let jumps = self.function.tables.iter().map(|table| (table.rva, table.targets.len()));
        let tables = jumps.chain(self.function.data_tables.iter().map(|table| (table.rva, table.targets.len())));
        let own = tables.filter_map(|(rva, entries)| {
            let start = self.own_offset(rva)? as usize;
            Some(start..start.checked_add(entries.checked_mul(4)?)?)
        });
        own.collect()
    }

    /// Where among the function's bytes a table is that stands behind its code.
    fn own_offset(&self, rva: Rva) -> Option<u32> {
        rva.0.checked_sub(self.atom.rva.0).filter(|offset| self.function.code.data.contains(offset))
    }

    /// Bytes behind the code that no instruction reads as small numbers are entries of tables, or padding: what else would be an address
    /// that nobody looked at.
    fn own_tables(&mut self, bytes: &[u8]) {
        let entries = self.own_entries();
        let numbers: Vec<u32> = self.small_numbers(bytes);
        let mut starts: Vec<u32> = entries.iter().filter_map(|range| u32::try_from(range.start).ok()).collect();
        starts.extend(self.function.code.references.iter().filter_map(|r| self.own_offset(r.target)));
        starts.sort_unstable();
        let mut in_numbers = false;
        let mut padding = 0;
        for at in self.function.code.data.clone() {
            if starts.binary_search(&at).is_ok() {
                (in_numbers, padding) = (numbers.contains(&at), 0);
            }
            let place = at as usize;
            if in_numbers || entries.iter().any(|range| range.contains(&place)) {
                padding = 0;
                continue;
            }
            padding += 1;
            let byte = bytes.get(place).copied().unwrap_or_default();
            if padding > LONGEST_PADDING || !matches!(byte, 0x00 | 0x90 | 0xcc) {
                return self.finding("table", at, "tables behind the code that are understood", format!("{byte:#04x}"));
            }
        }
    }

    /// Offsets behind the code from which instructions read one or two bytes.
    fn small_numbers(&self, bytes: &[u8]) -> Vec<u32> {
        let code = &self.function.code;
        let read = code.references.iter().filter_map(|r| {
            let offset = self.own_offset(r.target)?;
            let known = code.instructions.get(r.instruction as usize)?;
            let start = known.offset as usize;
            let instruction = bytes.get(start..start.checked_add(known.len.into())?)?;
            let decoded = Decoder::with_ip(64, instruction, self.address(known.offset), DecoderOptions::NONE).decode();
            matches!(decoded.memory_size().size(), 1 | 2).then_some(offset)
        });
        read.collect()
    }

    fn instructions(&mut self, bytes: &[u8]) {
        let function = self.function;
        let mut decoder = Decoder::with_ip(64, bytes, self.address(0), DecoderOptions::NONE);
        let size = self.size;
        let real = function.code.instructions.iter().enumerate().take_while(|(_, i)| i.offset < size);
        let part = self.meaning.facts.part(self.index);
        for (number, expected) in real {
            if part.is_some_and(|part| part.removed.contains_key(&expected.offset)) {
                let next = usize::try_from(expected.offset).unwrap_or(usize::MAX).saturating_add(expected.len.into());
                decoder.set_ip(self.address(expected.offset.saturating_add(expected.len.into())));
                if decoder.set_position(next).is_err() {
                    return;
                }
                continue;
            }
            let decoded = decoder.decode();
            if decoded.is_invalid()
                || decoded.ip() != self.address(expected.offset)
                || decoded.len() != usize::from(expected.len)
            {
                self.finding("code", expected.offset, "the same instruction", format!("{:?}", decoded.code()));
                return;
            }
            let references = function.code.references_of(number);
            for reference in references {
                self.reference(expected.offset, reference, &decoded, bytes);
            }
            if references.is_empty() && expected.role != Role::Padding {
                self.stays_inside(expected.offset, &decoded);
            }
        }
    }

    /// An instruction without a reference names no address but the function's own.
    fn stays_inside(&mut self, offset: u32, decoded: &Instruction) {
        let named = match decoded.op0_kind() {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => Some(decoded.near_branch_target()),
            _ => decoded.is_ip_rel_memory_operand().then(|| decoded.ip_rel_memory_address()),
        };
        let own = self.address(0)..self.address(self.size);
        if let Some(address) = named.filter(|address| !own.contains(address)) {
            let found = self.meaning.describe(address);
            self.finding("reference", offset, "a place in the function", found);
        }
    }

    /// Every field that the linker of the new build made an absolute address is one of the references.
    fn base_relocations(&mut self) {
        for place in self.meaning.facts.new.image.base_relocations_in(span(self.atom.rva, self.size)) {
            let field = place.0 - self.atom.rva.0;
            if self.meaning.facts.part(self.index).is_some_and(|part| part.is_removed(field)) {
                continue;
            }
            let is_known = |r: &Reference| r.kind == ReferenceKind::Absolute && r.field == field;
            if !self.function.code.references.iter().any(is_known) {
                self.finding("reference", field, "a reference for the base relocation", "none");
            }
        }
    }

    fn reference(&mut self, at: u32, reference: &Reference, decoded: &Instruction, bytes: &[u8]) {
        let Some(found) = self.operand(reference, decoded, bytes) else {
            self.finding("reference", at, "an operand that names an address", format!("{:?}", decoded.code()));
            return;
        };
        self.looked.references.add(class(reference.kind));
        let found = if reference.kind == ReferenceKind::ShortJump { self.behind_island(found) } else { found };
        if let Some(table) = self.function.table_at(reference.target) {
            return self.jump_table(at, table, found);
        }
        if let Some(table) = self.function.data_table_at(reference.target) {
            return self.data_table(at, table, found);
        }
        self.alignment(at, reference, decoded, found);
        let meant = self.own_place(reference, found);
        let meant = meant.unwrap_or_else(|| self.meaning.is_referenced(self.function, reference, found));
        let is_description =
            |claim: &Claim| matches!(claim, Claim::Stands { atom, .. } if self.meaning.facts.is_throw_record(*atom));
        let is_thrown = meant.as_ref().is_ok_and(|claims| claims.iter().any(is_description));
        self.meant(at, meant, found);
        if is_thrown {
            self.thrown(at, decoded, bytes);
        }
    }

    /// What is accessed stands as far from an aligned address as where the new linker put it.
    fn alignment(&mut self, at: u32, reference: &Reference, decoded: &Instruction, found: u64) {
        let needed = match reference.kind {
            ReferenceKind::Access => operand_alignment::of_instruction(decoded).into(),
            _ => self.meaning.facts.new.alignment_of(self.function, reference),
        };
        let needed = u64::from(needed.max(1));
        if found % needed != u64::from(reference.target.0) % needed {
            let place = self.meaning.describe(found);
            self.finding("reference", at, format!("a place aligned to {needed} bytes"), place);
        }
    }

    /// A short branch leads to a long jump in the region: where that one leads.
    fn behind_island(&mut self, at: u64) -> u64 {
        let process = self.meaning.process;
        let Place::Region(offset) = process.place(at) else { return at };
        let is_function = self.meaning.facts.functions_at.contains_key(&offset);
        let Some(bytes) = process.read(at, ISLAND).filter(|_| !is_function) else { return at };
        let jump = Decoder::with_ip(64, &bytes, at, DecoderOptions::NONE).decode();
        if jump.code() != Code::Jmp_rel32_64 {
            return at;
        }
        self.looked.occupied.push(Occupied { offset, size: ISLAND, part: Part::Island(self.index) });
        jump.near_branch_target()
    }

    /// Where an instruction leads, or what it names, where it runs.
    fn operand(&self, reference: &Reference, decoded: &Instruction, bytes: &[u8]) -> Option<u64> {
        let field = |width: usize| bytes.get(reference.field as usize..)?.get(..width);
        let number = || Some(u32::from_le_bytes(field(4)?.try_into().ok()?));
        let process = self.meaning.process;
        match reference.kind {
            ReferenceKind::Call | ReferenceKind::Jump | ReferenceKind::ShortJump => {
                let is_near = matches!(decoded.op0_kind(), OpKind::NearBranch64);
                is_near.then(|| decoded.near_branch_target())
            }
            ReferenceKind::Access | ReferenceKind::Address => {
                decoded.is_ip_rel_memory_operand().then(|| decoded.ip_rel_memory_address())
            }
            ReferenceKind::Absolute => Some(u64::from_le_bytes(field(8)?.try_into().ok()?)),
            ReferenceKind::ImageRelative => Some(process.in_image(Rva(number()?))),
            ReferenceKind::ThreadLocal => {
                let start = self.meaning.facts.old.image.thread_local_data.as_ref()?.start;
                start.checked_add(number()?).map(|rva| process.in_image(rva))
            }
        }
    }

    /// A place in the function itself; its own address as a value is that of a function like any other.
    fn own_place(&self, reference: &Reference, found: u64) -> Option<Meant> {
        let Location::Atom { atom, offset } = self.meaning.facts.new.locate(reference.target) else { return None };
        let is_own = atom == self.index
            && offset <= self.atom.size
            && (offset != 0 || reference.kind.is_branch())
            && reference.symbol.is_none_or(|symbol| self.atom.rva == symbol);
        if !is_own {
            return None;
        }
        let is_same = found == self.address(offset);
        Some(if is_same { Ok(Vec::new()) } else { Err(format!("+{offset:#x} of the function")) })
    }

    /// The region offset of a table, if so many entries are there.
    fn table_place(&mut self, at: u32, rva: Rva, entries: usize, found: u64) -> Option<u32> {
        if let Some(offset) = self.own_offset(rva) {
            // It goes with the code, whose extent holds it.
            if found == self.address(offset) {
                return Some(self.offset.saturating_add(offset));
            }
            let found = self.meaning.describe(found);
            self.finding("table", at, format!("the table at +{offset:#x} of the function"), found);
            return None;
        }
        let size = u32::try_from(entries).ok().and_then(|entries| entries.checked_mul(4));
        if let (Place::Region(offset), Some(size)) = (self.meaning.process.place(found), size)
            && self.meaning.process.read(found, size).is_some()
        {
            self.looked.occupied.push(Occupied { offset, size, part: Part::Table(self.index, rva) });
            return Some(offset);
        }
        let found = self.meaning.describe(found);
        self.finding("table", at, format!("a table of {entries} entries in the region"), found);
        None
    }

    /// The address that an entry of a table leads to. Code adds what the table counts from: its own address, or the image's base, which
    /// is added to the unsigned entry by some compilers and to the signed one by others.
    fn entry(&self, table: u64, is_from_image: bool, number: usize) -> Option<u64> {
        let place = table.checked_add(4 * number as u64)?;
        let distance = self.meaning.process.u32_at(place)?.cast_signed();
        if is_from_image {
            let rva = u32::try_from(distance).ok()?;
            return Some(self.meaning.process.in_image(Rva(rva)));
        }
        table.checked_add_signed(distance.into())
    }

    fn jump_table(&mut self, at: u32, table: &JumpTable, found: u64) {
        let is_from_image = table.base == Rva(0);
        if table.base != table.rva && !is_from_image {
            let found = format!("one that counts from {}", table.base);
            return self.finding("table", at, "a jump table that counts from itself or the image", found);
        }
        if self.table_place(at, table.rva, table.targets.len(), found).is_none() {
            return;
        }
        for (number, target) in table.targets.iter().enumerate() {
            self.looked.references.add("table-entry");
            let entry = self.entry(found, is_from_image, number);
            if entry != Some(self.address(*target)) {
                let leads = entry.map_or_else(|| "nothing".to_owned(), |entry| self.meaning.describe(entry));
                let expected = format!("+{target:#x} of the function in entry {number} of its jump table");
                self.finding("table", at, expected, leads);
            }
        }
    }

    fn data_table(&mut self, at: u32, table: &DataTable, found: u64) {
        let is_from_image = table.base == Rva(0);
        if table.base != table.rva && !is_from_image {
            let found = format!("one that counts from {}", table.base);
            return self.finding("table", at, "a table that counts from itself or the image", found);
        }
        if self.table_place(at, table.rva, table.targets.len(), found).is_none() {
            return;
        }
        for (number, target) in table.targets.iter().enumerate() {
            self.looked.references.add("table-entry");
            match self.entry(found, is_from_image, number) {
                Some(entry) => {
                    let meant = self.meaning.is_pointer((*target).into(), entry);
                    self.meant(at, meant, entry);
                }
                None => self.finding("table", at, format!("entry {number} of a table"), "nothing"),
            }
        }
    }

    /// A pointer in exception tables to code: a place in the function, in a funclet, or a function.
    pub fn exception_code(&self, target: Rva, found: u64) -> Meant {
        let distance = target.distance_from(self.atom.rva);
        if (0..=i64::from(self.atom.size)).contains(&distance) {
            // The end of the last scope is the function's end, padding left out or not.
            let is_same = self.address(0).checked_add_signed(distance) == Some(found);
            return if is_same { Ok(Vec::new()) } else { Err(format!("+{distance:#x} of the function")) };
        }
        match self.meaning.facts.new.locate(target) {
            // A destructor; or a place in the function that a funclet belongs to: they share their tables, and the function's own walk
            // asks for its copy.
            Location::Atom { atom, offset } if self.meaning.facts.new.function(atom).is_some() => {
                self.meaning.is_place_of(atom, offset.into(), found, Use::Branch)
            }
            _ => self.meaning.is_pointer(target.into(), found),
        }
    }
}

/// Code up to the end of the last instruction that is not padding.
pub(crate) fn code_size(function: &Function) -> u32 {
    let last = function.code.instructions.iter().rev().find(|i| i.role != Role::Padding);
    last.map_or(0, |i| i.offset.saturating_add(u32::from(i.len)))
}

/// The same with the tables behind the code.
pub(crate) fn extent(function: &Function) -> u32 {
    code_size(function).max(function.code.data.end)
}

fn class(kind: ReferenceKind) -> &'static str {
    match kind {
        ReferenceKind::Call | ReferenceKind::Jump | ReferenceKind::ShortJump => "branch",
        ReferenceKind::Access => "access",
        ReferenceKind::Address => "address",
        ReferenceKind::Absolute => "absolute",
        ReferenceKind::ImageRelative => "image-relative",
        ReferenceKind::ThreadLocal => "thread-local",
    }
}
