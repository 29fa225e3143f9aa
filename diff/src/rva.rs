//! Addresses of different kinds are different types, so that one cannot be taken for another.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// Distance in bytes from an image's base once it is loaded (PE specification, "relative virtual address").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Rva(pub u32);

impl Rva {
    /// The address `offset` bytes further on, unless that leaves the 32-bit range.
    pub fn checked_add(self, offset: u32) -> Option<Rva> {
        self.0.checked_add(offset).map(Rva)
    }

    /// The address at a signed distance, unless that leaves the 32-bit range.
    pub fn checked_offset(self, distance: i64) -> Option<Rva> {
        i64::from(self.0).checked_add(distance).and_then(|rva| u32::try_from(rva).ok()).map(Rva)
    }

    /// Signed distance in bytes from `origin` to this address.
    pub fn distance_from(self, origin: Rva) -> i64 {
        i64::from(self.0) - i64::from(origin.0)
    }
}

impl fmt::Display for Rva {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Rva {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A half-open run of addresses; an end beyond 32 bits is cut off at the largest address.
pub fn span(start: Rva, size: u32) -> Range<Rva> {
    start..Rva(start.0.saturating_add(size))
}

/// Takes addresses out of a set; true where there were any.
pub(crate) fn remove_within(addresses: &mut BTreeSet<Rva>, range: Range<Rva>) -> bool {
    let found: Vec<Rva> = if range.is_empty() { Vec::new() } else { addresses.range(range).copied().collect() };
    for rva in &found {
        addresses.remove(rva);
    }
    !found.is_empty()
}
