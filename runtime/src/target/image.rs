//! The headers of a loaded PE image, read from memory: what it is, and where its tables are.
//!
//! Layout: "PE Format", <https://learn.microsoft.com/windows/win32/debug/pe-format>.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::{Identity, MACHINE_X64};
use crate::target::memory::Memory;

/// What the headers of a loaded image say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedImage {
    pub base: u64,
    pub machine: u16,
    pub timestamp: u32,
    pub size: u32,
    pub entry_point: u32,
    pub exports: Directory,
    /// The function table (`.pdata`).
    pub functions: Directory,
    /// GUID and age of the first `RSDS` record of the debug directory.
    pub debug_id: Option<([u8; 16], u32)>,
}

/// A data directory: RVA and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Directory {
    pub rva: u32,
    pub size: u32,
}

impl Directory {
    pub fn contains(self, rva: u32) -> bool {
        rva >= self.rva && rva - self.rva < self.size
    }
}

/// `IMAGE_NT_HEADERS64` up to the data directories.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NtHeaders {
    signature: [u8; 4],
    machine: U16,
    sections: U16,
    timestamp: U32,
    symbols: [U32; 2],
    optional_size: U16,
    characteristics: U16,
    magic: U16,
    linker: [u8; 2],
    sizes: [U32; 3],
    entry_point: U32,
    base_of_code: U32,
    image_base: U64,
    alignments: [U32; 2],
    versions: [U32; 3],
    win32_version: U32,
    size_of_image: U32,
    size_of_headers: U32,
    checksum: U32,
    subsystem: U16,
    dll_characteristics: U16,
    stack_and_heap: [U64; 4],
    loader_flags: U32,
    directory_count: U32,
    directories: [[U32; 2]; 16],
}

/// `IMAGE_DEBUG_DIRECTORY`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct DebugEntry {
    characteristics: U32,
    timestamp: U32,
    version: U32,
    kind: U32,
    size: U32,
    rva: U32,
    file_offset: U32,
}

/// CodeView 7 record, without the PDB's path.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Rsds {
    signature: [u8; 4],
    guid: [u8; 16],
    age: U32,
}

const EXPORT_DIRECTORY: usize = 0;
const EXCEPTION_DIRECTORY: usize = 3;
const DEBUG_DIRECTORY: usize = 6;
const DEBUG_CODEVIEW: u32 = 2;
/// Real images have fewer than ten.
const MAX_DEBUG_ENTRIES: u32 = 64;

impl LoadedImage {
    /// Reads the headers at `base`; the error says what is not as it should be.
    pub fn read(memory: &impl Memory, base: u64) -> Result<LoadedImage, &'static str> {
        let dos: [u8; 64] = memory.record(base).ok_or("the image's first bytes cannot be read")?;
        if !dos.starts_with(b"MZ") {
            return Err("the image does not begin with MZ");
        }
        let [.., a, b, c, d] = dos;
        let headers = base.checked_add(u32::from_le_bytes([a, b, c, d]).into());
        let nt: NtHeaders =
            headers.and_then(|address| memory.record(address)).ok_or("the image's PE header cannot be read")?;
        if nt.signature != *b"PE\0\0" {
            return Err("the image has no PE signature");
        }
        let machine = nt.machine.get();
        if machine != MACHINE_X64 || nt.magic.get() != 0x20b {
            return Err("the image is not one for x64");
        }
        let size = nt.size_of_image.get();
        if base.checked_add(size.into()).is_none() {
            return Err("the image reaches beyond the address space");
        }
        let directory = |index: usize| {
            let entry = nt.directories.get(index).filter(|_| index < nt.directory_count.get() as usize);
            entry.map_or(Directory::default(), |[rva, size]| Directory { rva: rva.get(), size: size.get() })
        };
        let mut image = LoadedImage {
            base,
            machine,
            timestamp: nt.timestamp.get(),
            size,
            entry_point: nt.entry_point.get(),
            exports: directory(EXPORT_DIRECTORY),
            functions: directory(EXCEPTION_DIRECTORY),
            debug_id: None,
        };
        image.debug_id = image.read_debug_id(memory, directory(DEBUG_DIRECTORY));
        Ok(image)
    }

    /// The address of `size` bytes at `rva`, if the image holds them.
    pub fn address(&self, rva: u32, size: u32) -> Option<u64> {
        let end = rva.checked_add(size)?;
        (end <= self.size).then(|| self.base.checked_add(rva.into()))?
    }

    fn read_debug_id(&self, memory: &impl Memory, directory: Directory) -> Option<([u8; 16], u32)> {
        const ENTRY: u32 = size_of::<DebugEntry>() as u32;
        for index in 0..(directory.size / ENTRY).min(MAX_DEBUG_ENTRIES) {
            let rva = directory.rva.checked_add(index * ENTRY)?;
            let entry: DebugEntry = memory.record(self.address(rva, ENTRY)?)?;
            if entry.kind.get() != DEBUG_CODEVIEW || (entry.size.get() as usize) < size_of::<Rsds>() {
                continue;
            }
            let record =
                self.address(entry.rva.get(), size_of::<Rsds>() as u32).and_then(|at| memory.record::<Rsds>(at));
            if let Some(rsds) = record.filter(|rsds| rsds.signature == *b"RSDS") {
                return Some((rsds.guid, rsds.age.get()));
            }
        }
        None
    }

    /// The first property in which the image is not the payload's, with what was expected and what is there.
    /// A GUID and an age of zero mean that the baseline has no debug record.
    pub fn mismatch(&self, identity: &Identity) -> Option<(&'static str, String, String)> {
        let number = |field, expected: u32, found: u32| {
            (expected != found).then(|| (field, format!("{expected:#x}"), format!("{found:#x}")))
        };
        let debug_id = || {
            let expected = Some((identity.guid, identity.age)).filter(|id| *id != ([0; 16], 0));
            let text = |id: Option<([u8; 16], u32)>| {
                id.map_or_else(|| "absent".to_owned(), |(guid, age)| format!("{} age {age}", guid_text(&guid)))
            };
            (expected != self.debug_id).then(|| ("the PDB's GUID and age", text(expected), text(self.debug_id)))
        };
        number("TimeDateStamp", identity.timestamp, self.timestamp)
            .or_else(|| number("SizeOfImage", identity.size_of_image, self.size))
            .or_else(|| number("AddressOfEntryPoint", identity.entry_point, self.entry_point))
            .or_else(debug_id)
    }
}

/// A GUID the way Microsoft's tools print it: the first three fields are little-endian numbers.
fn guid_text(guid: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let (first, second, third) =
        (u32::from_le_bytes([*a, *b, *c, *d]), u16::from_le_bytes([*e, *f]), u16::from_le_bytes([*g, *h]));
    let [i, j, node @ ..] = rest;
    let node: String = node.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{first:08X}-{second:04X}-{third:04X}-{i:02X}{j:02X}-{node}")
}
