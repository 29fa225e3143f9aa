//! The fixed-size records of the file, as they stand on disk.

use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::JUMP32_LEN;

pub(super) const MAGIC: [u8; 8] = *b"HPGENHPX";
pub(super) const VERSION: u16 = 3;
pub(super) const SIGNATURE_MAGIC: [u8; 8] = *b"HPGENSIG";
pub(super) const BY_NAME: u32 = u32::MAX;
pub(super) const NOT_REBASED: u8 = 255;
pub(super) const MAX_EXPECTED: usize = 20;
/// Flags of an initialiser: it returns a number, and it registers a function for the end of the process.
pub(super) const CHECKED: u32 = 1;
pub(super) const AT_EXIT: u32 = 2;

/// Section kinds in the order in which they stand.
pub(super) const KINDS: [(u32, &str); 14] = [
    (1, "identity"),
    (2, "segments"),
    (3, "contents"),
    (4, "relocations"),
    (5, "trampolines"),
    (6, "functions"),
    (7, "imports"),
    (8, "unwind"),
    (9, "strings"),
    (10, "variables"),
    (11, "hooks"),
    (12, "assignments"),
    (13, "bodies"),
    (14, "initialisers"),
];

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(super) struct $name { $(pub $field: $type),* }
    )*};
}

records! {
    /// Section 1.
    FileHeader {
        magic: [u8; 8],
        version: U16,
        machine: U16,
        flags: U32,
        body_size: U64,
        stored_size: U64,
        seal: [u8; 32],
    }
    /// Section 2.
    SectionEntry { kind: U32, offset: U32, size: U32 }
    StringRef { offset: U32, length: U32 }
    /// Section 2.1.
    IdentityRecord {
        guid: [u8; 16],
        age: U32,
        timestamp: U32,
        size_of_image: U32,
        entry_point: U32,
        image_base: U64,
        name: StringRef,
        series: U32,
        flags: U32,
    }
    /// Section 2.2.
    SegmentRecord { offset: U32, memory_size: U32, content_size: U32, protection: U32 }
    /// Section 2.3.
    RelocationRecord { place: U32, kind: U16, space: U16, target: U32, addend: I32 }
    /// Section 2.4.
    TrampolineRecord {
        entry_rva: U32,
        target: U32,
        form: u8,
        expected_len: u8,
        rebased_at: u8,
        demand: u8,
        expected: [u8; MAX_EXPECTED],
        gap: U32,
        gap_expected: [u8; JUMP32_LEN],
        reserved: [u8; 3],
    }
    /// Section 2.5.
    FunctionRecord { offset: U32, size: U32, old_rva: U32, reserved: U32, name: StringRef }
    /// Section 2.6.
    ImportRecord { slot: U32, ordinal: U32, dll: StringRef, symbol: StringRef }
    /// Section 2.7.
    UnwindRecord { table: U32, count: U32 }
    /// Section 2.8.
    VariableRecord { offset: U32, size: U32, name: StringRef }
    /// Section 2.9.
    HookRecord { kind: U32, function: U32 }
    /// Section 2.10.
    AssignmentRecord { rva: U32, value: U32, size: U32 }
    /// Section 2.11.
    BodyRecord { entry: U32, start: U32, size: U32, checked: U32, digest: [u8; 8] }
    /// Section 2.12.
    InitialiserRecord { function: U32, variable: U32, flags: U32 }
    /// Section 3.
    SignatureBlock { magic: [u8; 8], key: [u8; 32], signature: [u8; 64] }
}
