//! What stands at the start of memory that somebody from outside allocated in a process, until a record tells of it: whose it is. If that somebody
//! is killed, the next hpgen gives it back.

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::memory::Memory;

/// The last byte is the version of this layout.
pub(crate) const MAGIC: [u8; 16] = *b"HPGEN-CLAIM----\x01";

/// The first bytes of an allocation. What only looks like it has another address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Claim {
    magic: [u8; 16],
    base: U64,
    size: U64,
}

impl Claim {
    /// Of all `size` bytes at `base`.
    pub fn new(base: u64, size: u64) -> Claim {
        Claim { magic: MAGIC, base: base.into(), size: size.into() }
    }

    /// Whether the allocation of `size` bytes at `base` begins with its claim.
    pub fn is_on(memory: &impl Memory, base: u64, size: u64) -> bool {
        memory.record::<Claim>(base).is_some_and(|found| found.magic == MAGIC && found == Claim::new(base, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::memory::Bytes;

    #[test]
    fn only_the_whole_allocation_is_claimed() {
        let is_on = |claim: Claim, base, size| {
            let memory = Bytes { base, bytes: [claim.as_bytes(), &[0; 16]].concat() };
            Claim::is_on(&memory, base, size)
        };
        assert!(is_on(Claim::new(0x5000, 0x2000), 0x5000, 0x2000));
        assert!(!is_on(Claim::new(0x5000, 0x2000), 0x6000, 0x2000), "a copy elsewhere");
        assert!(!is_on(Claim::new(0x5000, 0x2000), 0x5000, 0x3000), "an allocation that goes on");
        assert!(!is_on(Claim { magic: [0; 16], ..Claim::new(0x5000, 0x2000) }, 0x5000, 0x2000));
    }
}
