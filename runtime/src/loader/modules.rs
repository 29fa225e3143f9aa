//! The modules of a process, read from its loader's list (`PEB.Ldr.InMemoryOrderModuleList`) in its memory: what is in there
//! counts, not what the tool's own process would load.

use windows_sys::Wdk::System::Threading::{NtQueryInformationProcess, ProcessBasicInformation};
use windows_sys::Win32::System::Threading::PROCESS_BASIC_INFORMATION;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::fault;
use super::process::Process;
use crate::ProcessError;
use crate::format::same_name;
use crate::target::memory::Memory;

/// A loaded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    pub base: u64,
    /// File name without folders, as the process's loader has it.
    pub name: String,
}

/// All modules of one moment, the EXE first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Modules(pub Vec<Module>);

/// `LDR_DATA_TABLE_ENTRY` from `InMemoryOrderLinks` on.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LoaderEntry {
    next: U64,
    previous: U64,
    initialization_links: [U64; 2],
    base: U64,
    entry_point: U64,
    size_of_image: U64,
    full_name: UnicodeString,
    name: UnicodeString,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct UnicodeString {
    length: U16,
    capacity: U16,
    padding: [u8; 4],
    buffer: U64,
}

/// Offsets in `PEB` and `PEB_LDR_DATA` on x64.
const PEB_IMAGE_BASE: u64 = 0x10;
const PEB_LDR: u64 = 0x18;
const LDR_IN_MEMORY_ORDER: u64 = 0x20;
/// A longer list is taken for one that changes while it is read.
const MAX_MODULES: usize = 8192;
/// The list may change while it is read; it is then read again.
const ATTEMPTS: u32 = 20;

impl Modules {
    pub fn read(process: &Process) -> Result<Modules, ProcessError> {
        let peb = peb_address(process)?;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            if let Some(modules) = read_list(process, peb) {
                return Ok(Modules(modules));
            }
        }
        Err(process.bad_memory(peb, "the list of loaded modules cannot be read (has the process begun to run?)"))
    }

    /// Modules of this file name, letters compared without case.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Module> {
        self.0.iter().filter(move |module| same_name(&module.name, name))
    }
}

/// Where the process's EXE is loaded.
pub(super) fn exe_base(process: &Process) -> Result<u64, ProcessError> {
    let peb = peb_address(process)?;
    let base = peb.checked_add(PEB_IMAGE_BASE).and_then(|at| process.record::<U64>(at));
    base.map(U64::get).ok_or_else(|| process.bad_memory(peb, "the process environment block cannot be read"))
}

fn peb_address(process: &Process) -> Result<u64, ProcessError> {
    if fault::point("NtQueryInformationProcess") {
        return Err(process.failed("NtQueryInformationProcess"));
    }
    // SAFETY: a record of numbers and null pointers.
    let mut info: PROCESS_BASIC_INFORMATION = unsafe { std::mem::zeroed() };
    let (place, size) = ((&raw mut info).cast(), size_of_val(&info) as u32);
    // SAFETY: the result's place is valid and of the given size.
    let status =
        unsafe { NtQueryInformationProcess(process.raw(), ProcessBasicInformation, place, size, std::ptr::null_mut()) };
    if status < 0 || info.PebBaseAddress.is_null() {
        return Err(process.failed("NtQueryInformationProcess"));
    }
    Ok(info.PebBaseAddress as u64)
}

/// One walk along the list; `None` when it does not come back to its head.
fn read_list(process: &Process, peb: u64) -> Option<Vec<Module>> {
    let loader: U64 = process.record(peb.checked_add(PEB_LDR)?)?;
    let head = loader.get().checked_add(LDR_IN_MEMORY_ORDER)?;
    let mut link = process.record::<U64>(head)?.get();
    let mut modules = Vec::new();
    while link != head {
        if modules.len() == MAX_MODULES {
            return None;
        }
        let entry: LoaderEntry = process.record(link)?;
        let name = process.bytes(entry.name.buffer.get(), entry.name.length.get().into())?;
        let units: Vec<u16> = name.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        modules.push(Module { base: entry.base.get(), name: String::from_utf16_lossy(&units) });
        link = entry.next.get();
    }
    modules.retain(|module| module.base != 0);
    (!modules.is_empty()).then_some(modules)
}
