//! Finds jump tables by what they hold: 32-bit distances from the table's own start to instructions of the function that takes
//! the table's address and jumps through a register. clang and gcc emit this form (`lea`, `movsxd`, `add`, `jmp`).

use crate::atoms::{Atom, AtomKind};
use crate::program::{Location, Program};
use crate::rva::Rva;
use crate::x64::{Code, ReferenceKind};

/// One jump table of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpTable {
    /// Where it stands; entries are distances from here.
    pub rva: Rva,
    /// Offsets in the function that its entries lead to.
    pub targets: Vec<u32>,
}

/// Fewer entries than this are never made into a table by the compilers that are supported.
const MIN_ENTRIES: usize = 2;

/// The tables that a function jumps through.
pub(crate) fn find(program: &Program, function: &Atom, code: &Code) -> Vec<JumpTable> {
    if code.register_jumps.is_empty() {
        return Vec::new();
    }
    let mut tables: Vec<JumpTable> = code
        .references
        .iter()
        .filter(|r| r.kind == ReferenceKind::Address)
        .filter_map(|r| read_table(program, function, code, r.target))
        .collect();
    tables.sort_by_key(|table| table.rva);
    tables.dedup();
    tables
}

/// Reads entries as long as they lead to instructions of the function and nothing else is known to begin.
fn read_table(program: &Program, function: &Atom, code: &Code, rva: Rva) -> Option<JumpTable> {
    let Location::Atom { atom, offset: 0 } = program.locate(rva) else { return None };
    let atom = program.atom(atom)?;
    if atom.kind != AtomKind::ReadOnly {
        return None;
    }
    let bytes = program.image.bytes_up_to(rva..atom.end());
    let targets: Vec<u32> = bytes
        .chunks_exact(4)
        .map_while(|entry| {
            let distance = i32::from_le_bytes(entry.try_into().ok()?);
            let target = rva.checked_offset(i64::from(distance))?;
            let offset = u32::try_from(target.distance_from(function.rva)).ok()?;
            code.instruction_at(offset).map(|_| offset)
        })
        .collect();
    (targets.len() >= MIN_ENTRIES).then_some(JumpTable { rva, targets })
}
