//! Tables of 32-bit distances: to places in code (jump tables) and to data (clang's tables of strings).
//!
//! The dataflow says which addresses are read as such tables. A table whose address was lost on the way to the jump is found by what it
//! holds: distances from itself to instructions of the function that takes its address.

use crate::atoms::{Atom, AtomKind};
use crate::dataflow::OffsetTable;
use crate::program::{Location, Program};
use crate::rva::Rva;
use crate::x64::{Code, ReferenceKind};

/// One jump table of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpTable {
    /// Where it stands.
    pub rva: Rva,
    /// What its entries count from: the table (clang, gcc), or 0, the image's base (MSVC).
    pub base: Rva,
    /// Offsets in the function that its entries lead to.
    pub targets: Vec<u32>,
}

/// One table of distances to data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataTable {
    /// Where it stands.
    pub rva: Rva,
    /// What its entries count from.
    pub base: Rva,
    /// What its entries lead to.
    pub targets: Vec<Rva>,
}

/// Fewer entries than this are never made into a table by the compilers that are supported.
const MIN_ENTRIES: usize = 2;

/// The tables that a function reads.
pub(crate) fn find(program: &Program, function: &Atom, code: &Code) -> (Vec<JumpTable>, Vec<DataTable>) {
    let known = code.facts.tables.iter().copied();
    let guessed = code
        .references
        .iter()
        .filter(|r| r.kind == ReferenceKind::Address && !code.register_jumps.is_empty())
        .map(|r| OffsetTable { rva: r.target, base: r.target, is_jump: true });
    let mut jumps: Vec<JumpTable> =
        known.chain(guessed).filter_map(|table| read_jump_table(program, function, code, table)).collect();
    jumps.sort_by_key(|table| (table.rva, table.base));
    jumps.dedup();
    let is_jump = |rva: Rva| jumps.iter().any(|table| table.rva == rva);
    let mut data: Vec<DataTable> = code
        .facts
        .tables
        .iter()
        .filter(|table| !table.is_jump && !is_jump(table.rva))
        .map(|table| read_data_table(program, code, *table))
        .collect();
    data.dedup();
    (jumps, data)
}

/// The table's 32-bit entries up to the next thing that is known to begin, as addresses.
fn entries(program: &Program, code: &Code, table: OffsetTable) -> impl Iterator<Item = Option<Rva>> {
    let end = match program.locate(table.rva) {
        Location::Atom { atom, offset } => program.atom(atom).and_then(|atom| match atom.kind {
            AtomKind::ReadOnly => Some(atom.end()),
            // Behind the function's own code, up to its next table.
            AtomKind::Function(_) if code.data.contains(&offset) => {
                let others = code.facts.tables.iter().map(|other| other.rva).filter(|other| *other > table.rva);
                Some(others.fold(atom.end(), Rva::min))
            }
            _ => None,
        }),
        _ => None,
    };
    let bytes = program.image.bytes_up_to(table.rva..end.unwrap_or(table.rva));
    bytes.chunks_exact(4).map(move |entry| {
        let distance = i32::from_le_bytes(entry.try_into().ok()?);
        table.base.checked_offset(i64::from(distance))
    })
}

/// Reads entries as long as they lead to instructions of the function.
fn read_jump_table(program: &Program, function: &Atom, code: &Code, table: OffsetTable) -> Option<JumpTable> {
    let targets: Vec<u32> = entries(program, code, table)
        .map_while(|target| {
            let offset = u32::try_from(target?.distance_from(function.rva)).ok()?;
            code.instruction_at(offset).map(|_| offset)
        })
        .collect();
    (targets.len() >= MIN_ENTRIES).then_some(JumpTable { rva: table.rva, base: table.base, targets })
}

/// Reads entries as long as they lead into a section, and not to the table itself, which is what padding would do.
fn read_data_table(program: &Program, code: &Code, table: OffsetTable) -> DataTable {
    let targets = entries(program, code, table)
        .map_while(|target| target.filter(|t| *t != table.rva && program.image.section_at(*t).is_some()))
        .collect();
    DataTable { rva: table.rva, base: table.base, targets }
}
