//! What stands in a process while somebody from outside changes it: how to take everything back. If that somebody is killed in the
//! middle, the next hpgen finds the journal and finishes.
//!
//! It is a private allocation that begins with a magic, holds its own address, and is complete before the first thread is stopped. A
//! digest covers all that does not change afterwards. It is read from memory that the process may have overwritten: everything is checked.

use sha2::{Digest, Sha256};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::memory::Memory;

/// At the start of every journal. The last byte is the version of this layout.
pub(crate) const MAGIC: [u8; 16] = *b"HPGEN-JOURNAL--\x01";
/// A larger one is not believed.
const MAX_SIZE: u64 = 64 << 20;

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// All threads run as the program wants; nothing is half done.
    Idle,
    /// Threads are being stopped, or stand still; nothing was written.
    Stopping,
    /// Some bytes may be written.
    Writing,
    /// All bytes are written, or all are as they were; threads are let go.
    Resuming,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Idle, Phase::Stopping, Phase::Writing, Phase::Resuming];

    /// As it stands in memory.
    pub fn code(self) -> u32 {
        match self {
            Phase::Idle => 0,
            Phase::Stopping => 1,
            Phase::Writing => 2,
            Phase::Resuming => 3,
        }
    }

    fn from_code(code: u32) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.code() == code)
    }
}

/// A run of pages whose protection changes while they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pages {
    pub address: u64,
    pub size: u64,
    /// What they have otherwise.
    pub protection: u32,
}

/// Bytes that are written, and what was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub address: u64,
    pub before: Vec<u8>,
}

/// A journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Journal {
    pub phase: Phase,
    pub pages: Vec<Pages>,
    /// Written in any order.
    pub writes: Vec<Write>,
    /// Variables whose value is only known when all threads stand still: address and size.
    pub variables: Vec<(u64, u32)>,
    /// The variables' values, of as many as were written so far.
    pub kept: Vec<Vec<u8>>,
    /// Threads that the program itself had suspended: id and how often.
    pub suspended: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    magic: [u8; 16],
    base: U64,
    size: U64,
    pages: U32,
    writes: U32,
    variables: U32,
    suspended: U32,
    before: U32,
    reserved: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    fixed: Fixed,
    digest: [u8; 32],
    phase: U32,
    kept: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PagesEntry {
    address: U64,
    size: U64,
    protection: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PlaceEntry {
    address: U64,
    size: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ThreadEntry {
    id: U32,
    count: U32,
}

/// Offset of the phase in the journal.
pub(crate) const PHASE: u64 = core::mem::offset_of!(Header, phase) as u64;
/// Offset of the number of variables whose value is kept.
pub(crate) const KEPT: u64 = core::mem::offset_of!(Header, kept) as u64;

impl Journal {
    /// Bytes that it takes in memory.
    pub fn size(&self) -> u64 {
        (self.fixed_size() + self.variables.iter().map(|(_, size)| *size as usize).sum::<usize>()) as u64
    }

    /// Bytes of all but the variables' values, which come last.
    fn fixed_size(&self) -> usize {
        size_of::<Header>()
            + self.pages.len() * size_of::<PagesEntry>()
            + (self.writes.len() + self.variables.len()) * size_of::<PlaceEntry>()
            + self.suspended.len() * size_of::<ThreadEntry>()
            + self.writes.iter().map(|write| write.before.len()).sum::<usize>()
    }

    /// Where in the journal the value of a variable is kept.
    pub fn value_offset(&self, variable: usize) -> u64 {
        let before = self.variables.iter().take(variable).map(|(_, size)| *size as usize).sum::<usize>();
        (self.fixed_size() + before) as u64
    }

    /// All but the variables' values, for an allocation of `size` bytes at `base`.
    pub fn encode(&self, base: u64, size: u64) -> Vec<u8> {
        let count = |count: usize| U32::new(u32::try_from(count).unwrap_or(u32::MAX));
        let before: Vec<u8> = self.writes.iter().flat_map(|write| write.before.iter().copied()).collect();
        let fixed = Fixed {
            magic: MAGIC,
            base: base.into(),
            size: size.into(),
            pages: count(self.pages.len()),
            writes: count(self.writes.len()),
            variables: count(self.variables.len()),
            suspended: count(self.suspended.len()),
            before: count(before.len()),
            reserved: 0.into(),
        };
        let mut tables = Vec::new();
        for pages in &self.pages {
            let entry = PagesEntry {
                address: pages.address.into(),
                size: pages.size.into(),
                protection: pages.protection.into(),
            };
            tables.extend_from_slice(entry.as_bytes());
        }
        let writes = self.writes.iter().map(|write| (write.address, count(write.before.len())));
        let variables = self.variables.iter().map(|(address, size)| (*address, U32::new(*size)));
        for (address, size) in writes.chain(variables) {
            tables.extend_from_slice(PlaceEntry { address: address.into(), size }.as_bytes());
        }
        for (id, times) in &self.suspended {
            tables.extend_from_slice(ThreadEntry { id: (*id).into(), count: (*times).into() }.as_bytes());
        }
        tables.extend_from_slice(&before);
        let digest = digest(&fixed, &tables);
        let header = Header { fixed, digest, phase: self.phase.code().into(), kept: 0.into() };
        [header.as_bytes(), &tables].concat()
    }

    /// The journal that an allocation of `size` bytes at `base` holds, if it is one and is whole.
    pub fn read(memory: &impl Memory, base: u64, size: u64) -> Option<Journal> {
        let header: Header = memory.record(base)?;
        let fixed = &header.fixed;
        if fixed.magic != MAGIC || fixed.base.get() != base || fixed.size.get() != size || size > MAX_SIZE {
            return None;
        }
        let bytes = memory.bytes(base, usize::try_from(size).ok()?)?;
        let rest = bytes.get(size_of::<Header>()..)?;
        let number = |count: U32| count.get() as usize;
        let (pages, rest) = <[PagesEntry]>::ref_from_prefix_with_elems(rest, number(fixed.pages)).ok()?;
        let (writes, rest) = <[PlaceEntry]>::ref_from_prefix_with_elems(rest, number(fixed.writes)).ok()?;
        let (variables, rest) = <[PlaceEntry]>::ref_from_prefix_with_elems(rest, number(fixed.variables)).ok()?;
        let (suspended, rest) = <[ThreadEntry]>::ref_from_prefix_with_elems(rest, number(fixed.suspended)).ok()?;
        let (mut before, mut values) = rest.split_at_checked(number(fixed.before))?;
        let tables = bytes.get(size_of::<Header>()..bytes.len() - values.len())?;
        if digest(fixed, tables) != header.digest {
            return None;
        }
        let take = |from: &mut &[u8], size: U32| {
            let (value, rest) = from.split_at_checked(size.get() as usize)?;
            *from = rest;
            Some(value.to_vec())
        };
        let writes = writes
            .iter()
            .map(|entry| Some(Write { address: entry.address.get(), before: take(&mut before, entry.size)? }))
            .collect::<Option<Vec<_>>>()?;
        let kept = variables
            .iter()
            .take(number(header.kept))
            .map(|entry| take(&mut values, entry.size))
            .collect::<Option<Vec<_>>>()?;
        let page = |entry: &PagesEntry| Pages {
            address: entry.address.get(),
            size: entry.size.get(),
            protection: entry.protection.get(),
        };
        Some(Journal {
            phase: Phase::from_code(header.phase.get())?,
            pages: pages.iter().map(page).collect(),
            writes,
            variables: variables.iter().map(|entry| (entry.address.get(), entry.size.get())).collect(),
            kept,
            suspended: suspended.iter().map(|entry| (entry.id.get(), entry.count.get())).collect(),
        })
    }

    /// Everything that has to be written to take the change back.
    pub fn undo(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let writes = self.writes.iter().map(|write| (write.address, write.before.as_slice()));
        let values = self.variables.iter().zip(&self.kept).map(|((address, _), value)| (*address, value.as_slice()));
        writes.chain(values)
    }
}

fn digest(fixed: &Fixed, tables: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(fixed.as_bytes()).chain_update(tables).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::memory::Bytes;

    const BASE: u64 = 0x7000_0000;

    fn sample() -> Journal {
        Journal {
            phase: Phase::Stopping,
            pages: vec![Pages { address: 0x1_4000_1000, size: 0x2000, protection: 0x20 }],
            writes: vec![
                Write { address: 0x1_4000_1010, before: vec![1, 2, 3, 4, 5] },
                Write { address: 0x2_0000, before: vec![1, 0, 0, 0] },
            ],
            variables: vec![(0x1_4000_5000, 4), (0x1_4000_5008, 8)],
            kept: vec![],
            suspended: vec![(44, 1)],
        }
    }

    fn memory(journal: &Journal) -> Bytes {
        let size = 0x1000;
        let mut bytes = journal.encode(BASE, size);
        bytes.resize(size as usize, 0);
        Bytes { base: BASE, bytes }
    }

    #[test]
    fn round_trip() {
        let journal = sample();
        assert!(journal.size() < 0x1000);
        assert_eq!(Journal::read(&memory(&journal), BASE, 0x1000), Some(journal));
    }

    #[test]
    fn phases_and_values_come_later() {
        let journal = sample();
        let mut memory = memory(&journal);
        let mut put = |offset: u64, bytes: &[u8]| {
            memory.bytes[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        };
        put(PHASE, &Phase::Writing.code().to_le_bytes());
        put(journal.value_offset(0), &[9; 4]);
        put(journal.value_offset(1), &[8; 8]);
        put(KEPT, &1u32.to_le_bytes());
        let read = Journal::read(&memory, BASE, 0x1000).unwrap();
        assert_eq!((read.phase, &read.kept), (Phase::Writing, &vec![vec![9; 4]]));
        let undone: Vec<_> = read.undo().map(|(address, bytes)| (address, bytes.len())).collect();
        assert_eq!(undone, [(0x1_4000_1010, 5), (0x2_0000, 4), (0x1_4000_5000, 4)]);
        assert_eq!(journal.value_offset(2), journal.size());
    }

    #[test]
    fn damage_is_noticed() {
        let journal = sample();
        let whole = memory(&journal);
        let end = journal.fixed_size();
        for place in (0..PHASE as usize).chain(size_of::<Header>()..end) {
            let mut damaged = Bytes { base: BASE, bytes: whole.bytes.clone() };
            damaged.bytes[place] ^= 0x10;
            assert_eq!(Journal::read(&damaged, BASE, 0x1000), None, "byte {place:#x}");
        }
        assert_eq!(Journal::read(&whole, BASE, 0x800), None, "cut short");
    }
}
