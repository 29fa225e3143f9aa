//! What the walk learns on its way: which object of the new build stands where in the process.

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::rva::Rva;

use crate::report::{Finding, References};

/// A reference is right only if this holds besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// An atom of the new program stands in the region.
    Stands { atom: AtomIndex, offset: u32 },
    /// The old image holds what a constant of the new program holds, in its first bytes at least.
    Equal { atom: AtomIndex, rva: Rva, bytes: u32 },
    /// The function at a region offset, which an old function's entry leads to, does what a function of the new program does.
    ActsAs { old: AtomIndex, atom: AtomIndex, offset: u32 },
    /// The payload's throwing function at a region offset stands in the place of the new program's.
    Throws { atom: AtomIndex, offset: u32 },
}

/// A part of the region that is neither function nor object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A jump table or table of distances, by its function and its address in the new image.
    Table(AtomIndex, Rva),
    /// The function table.
    FunctionTable,
    /// An unwind record: the number of its entry in the function table.
    UnwindRecord(u32),
    /// A piece of exception tables, by its address in the new image.
    ExceptionTable(Rva),
    /// The value that a variable of the old image gets.
    Value(AtomIndex),
    /// A long jump that short branches of a function take.
    Island(AtomIndex),
    /// A throwing function of the payload's own.
    ThrowStub,
    /// The field that tells it what addresses count from.
    ThrowBase,
    /// The slot of an import, by number.
    ImportSlot(usize),
}

/// A part of the region with its extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Occupied {
    pub offset: u32,
    pub size: u32,
    pub part: Part,
}

/// Who makes a claim: for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub atom: AtomIndex,
    pub offset: u32,
}

/// What came of looking at one thing.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub claims: Vec<(Claim, Origin)>,
    pub occupied: Vec<Occupied>,
    pub findings: Vec<Finding>,
    pub references: References,
    /// Unwind records that were compared.
    pub unwind_records: usize,
    /// Slots of the region that something reads.
    pub used_slots: Vec<u32>,
}

impl Looked {
    /// Adds claims of one origin.
    pub fn claim(&mut self, claims: Vec<Claim>, origin: Origin) {
        self.claims.extend(claims.into_iter().map(|claim| (claim, origin)));
    }
}
