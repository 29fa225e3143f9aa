//! How old functions are redirected (sections 2.4 and 2.11).

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

/// Bytes of `E9` and a 32-bit distance.
pub const JUMP32_LEN: usize = 5;
/// Bytes of `EB` and an 8-bit distance.
pub const JUMP8_LEN: usize = 2;
/// Bytes of a caller's distance.
pub const CALLER_LEN: usize = 4;
/// What a processor reads and writes as one: so many bytes, aligned to their number.
const WINDOW: u32 = 8;

/// The bytes that lead from an old entry to its new body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrampolineForm {
    /// `E9` and a 32-bit distance, five bytes.
    Jump32,
    /// `EB` and an 8-bit distance, two bytes, to a gap between functions that holds `E9` and a 32-bit distance.
    Jump8,
    /// Nothing at the entry: all that leads there, direct calls and jumps with 32-bit distances, leads to the new body.
    Callers,
}

impl TrampolineForm {
    /// All that there are.
    pub const ALL: [TrampolineForm; 3] = [TrampolineForm::Jump32, TrampolineForm::Jump8, TrampolineForm::Callers];

    /// Bytes written over the entry.
    pub fn written(self) -> usize {
        match self {
            TrampolineForm::Jump32 => JUMP32_LEN,
            TrampolineForm::Jump8 => JUMP8_LEN,
            TrampolineForm::Callers => 0,
        }
    }

    /// As messages and `inspect` write it.
    pub fn name(self) -> &'static str {
        match self {
            TrampolineForm::Jump32 => "jump32",
            TrampolineForm::Jump8 => "jump8",
            TrampolineForm::Callers => "callers",
        }
    }

    /// The number in the file.
    pub fn code(self) -> u8 {
        match self {
            TrampolineForm::Jump32 => 1,
            TrampolineForm::Jump8 => 2,
            TrampolineForm::Callers => 3,
        }
    }

    /// The form with this number.
    pub fn from_code(code: u8) -> Option<TrampolineForm> {
        TrampolineForm::ALL.into_iter().find(|form| form.code() == code)
    }
}

/// Where no thread may be, nor have a return address, when an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// Threads may be anywhere: no instruction ends inside the written bytes, and nothing leads there.
    Nothing,
    /// Not behind the first of the written bytes.
    Entry,
    /// Not in the old function at all: it comes back to its first bytes.
    Body,
}

impl Demand {
    /// As messages and `inspect` write it.
    pub fn name(self) -> &'static str {
        match self {
            Demand::Nothing => "nothing",
            Demand::Entry => "entry",
            Demand::Body => "body",
        }
    }

    /// The number in the file.
    pub fn code(self) -> u8 {
        match self {
            Demand::Nothing => 0,
            Demand::Entry => 1,
            Demand::Body => 2,
        }
    }

    /// The demand with this number.
    pub fn from_code(code: u8) -> Option<Demand> {
        [Demand::Nothing, Demand::Entry, Demand::Body].into_iter().find(|demand| demand.code() == code)
    }
}

/// Padding between functions that takes a long jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// RVA of its first byte.
    pub rva: u32,
    /// What stands there beforehand: `CC` and `90`.
    pub expected: [u8; JUMP32_LEN],
}

/// One redirected function (section 2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trampoline {
    /// RVA of the old entry.
    pub entry_rva: u32,
    /// Region offset of the new body.
    pub target: u32,
    /// What is written.
    pub form: TrampolineForm,
    /// Where no thread may be when it is written.
    pub demand: Demand,
    /// What must stand at the entry beforehand, at the preferred base: at most 20 bytes, and what the form writes at least.
    pub expected: Vec<u8>,
    /// Where in `expected` a 64-bit absolute address begins that the loader rebases.
    pub rebased_at: Option<u8>,
    /// Where the long jump goes; for [`TrampolineForm::Jump8`] only.
    pub gap: Option<Gap>,
    /// RVAs of the 32-bit distances that lead to the entry, rising; for [`TrampolineForm::Callers`] only.
    pub callers: Vec<u32>,
}

impl Trampoline {
    /// Whether the written bytes lie in one window that a processor writes as one.
    pub fn is_one_store(&self) -> bool {
        self.entry_rva % WINDOW + self.form.written() as u32 <= WINDOW
    }

    /// Whether the entry can be written while threads run: one store, wherever they are.
    pub fn is_no_stop(&self) -> bool {
        self.demand == Demand::Nothing && self.form != TrampolineForm::Callers && self.is_one_store()
    }

    /// What a caller's distance is beforehand, at every base: it leads to the entry.
    pub fn distance_from(&self, field: u32) -> [u8; CALLER_LEN] {
        self.entry_rva.wrapping_sub(field.wrapping_add(CALLER_LEN as u32)).to_le_bytes()
    }

    /// RVA and size of what is looked at or written: the expected bytes, the gap, the callers' distances.
    pub fn places(&self) -> impl Iterator<Item = (u32, u32)> {
        let entry = (self.entry_rva, self.expected.len() as u32);
        let gap = self.gap.map(|gap| (gap.rva, JUMP32_LEN as u32));
        let callers = self.callers.iter().map(|field| (*field, CALLER_LEN as u32));
        core::iter::once(entry).filter(|(_, size)| *size > 0).chain(gap).chain(callers)
    }
}

/// A run of the old image's code that belongs to a redirected function: the function itself, a funclet, a part elsewhere
/// (section 2.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Body {
    /// RVA of the function's entry.
    pub entry_rva: u32,
    /// RVA of the run's first byte.
    pub start: u32,
    /// Bytes.
    pub size: u32,
    /// So many of its first bytes are what the digest is of: those before the first absolute address, which is another one in
    /// every place that the image is loaded at. 0: nothing is checked.
    pub checked: u32,
    /// First eight bytes of the SHA-256 of the checked bytes.
    pub digest: [u8; 8],
}

impl Body {
    /// A run of code of which no byte is checked.
    pub fn unchecked(entry_rva: u32, start: u32, size: u32) -> Body {
        Body { entry_rva, start, size, checked: 0, digest: [0; 8] }
    }

    /// The digest of a body's checked bytes.
    pub fn digest_of(bytes: &[u8]) -> [u8; 8] {
        let mut digest = [0; 8];
        digest.iter_mut().zip(Sha256::digest(bytes)).for_each(|(to, from)| *to = from);
        digest
    }
}
