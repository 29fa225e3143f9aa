//! What writer and reader of the body agree on: numbers of kinds, and where a place is expected.

use super::*;

/// Flags of an initialiser: it returns a number, and it registers a function for the end of the process.
pub(super) const CHECKED: u32 = 1;
pub(super) const AT_EXIT: u32 = 2;
/// Most bytes that are expected at an entry.
pub(super) const MAX_EXPECTED: usize = 20;
/// A relocation's kind, the bit of its space, and where its addend begins.
const KIND: u8 = 7;
const REGION: u8 = 8;
const ADDEND: u32 = 4;

impl Protection {
    const ALL: [Protection; 3] = [Protection::ReadExecute, Protection::Read, Protection::ReadWrite];

    pub(super) fn code(self) -> u32 {
        match self {
            Protection::ReadExecute => 1,
            Protection::Read => 2,
            Protection::ReadWrite => 3,
        }
    }

    pub(super) fn from_code(code: u32) -> Option<Protection> {
        Protection::ALL.into_iter().find(|protection| protection.code() == code)
    }
}

impl RelocationKind {
    const ALL: [RelocationKind; 4] =
        [RelocationKind::Rel32, RelocationKind::Addr64, RelocationKind::Rva32, RelocationKind::Image32];

    fn code(self) -> u8 {
        match self {
            RelocationKind::Rel32 => 1,
            RelocationKind::Addr64 => 2,
            RelocationKind::Rva32 => 3,
            RelocationKind::Image32 => 4,
        }
    }
}

impl Space {
    /// With where the first target is counted from.
    pub(super) const STARTS: [(Space, u32); 2] = [(Space::Image, 0), (Space::Region, PAGE)];
}

impl Relocation {
    /// Kind, space and addend in a byte.
    pub(super) fn code(&self) -> u8 {
        let region = if self.space == Space::Region { REGION } else { 0 };
        self.kind.code() | region | self.short_addend().unwrap_or(0) << ADDEND
    }

    /// How a small addend is written.
    pub(super) fn short_addend(&self) -> Option<u8> {
        (-14..=0).contains(&self.addend).then(|| (1 - self.addend) as u8)
    }

    /// Kind, space and addend of a byte; none for the addend if it is not in it.
    pub(super) fn parts(code: u8) -> Option<(RelocationKind, Space, Option<i32>)> {
        let kind = RelocationKind::ALL.into_iter().find(|kind| kind.code() == code & KIND)?;
        let space = if code & REGION == 0 { Space::Image } else { Space::Region };
        let addend = code >> ADDEND;
        Some((kind, space, (addend > 0).then_some(1 - i32::from(addend))))
    }
}

/// Where the segment behind `size` bytes at `offset` is expected: a page that nobody may touch stands between them.
pub(super) fn behind_guard(offset: u32, size: u32) -> u32 {
    let end = offset.saturating_add(size).checked_next_multiple_of(PAGE);
    end.map_or(u32::MAX, |end| end.saturating_add(PAGE))
}

/// Where the next body of a function is expected: behind the one before it, the first at the entry.
pub(super) fn body_after(before: &Body, entry: u32) -> u32 {
    if before.entry_rva == entry { before.start.saturating_add(before.size) } else { entry }
}

/// What the bytes at an old entry are told by: the first bytes of the new body, and zeros behind its segment's content.
pub(super) fn start_of_body(segments: &[Segment], target: u32) -> impl Iterator<Item = u8> {
    let segment = segments.iter().rev().find(|segment| segment.offset <= target);
    let content = segment.and_then(|segment| segment.content.get((target - segment.offset) as usize..));
    content.unwrap_or_default().iter().copied().chain(core::iter::repeat(0))
}
