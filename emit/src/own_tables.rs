//! Tables that stand behind a function's own code (Microsoft's compiler puts them there): they go with it, at the same distance.
//!
//! Every byte of them must be known: entries that lead to places, small numbers that index another table, or padding. An entry that was not
//! recognised would be copied as it stands, and lead into the wrong image.

use std::collections::BTreeSet;

use hpgen_diff::atoms::Atom;
use hpgen_diff::program::{Function, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::Reference;
use iced_x86::{Decoder, DecoderOptions};

/// Padding between tables and behind the last one is shorter than this.
const MAX_PADDING: usize = 16;

/// Bytes of the function with its tables; those of its code where it has none.
///
/// # Errors
/// Says what is not understood.
pub(crate) fn extent(new: &Program, atom: &Atom, function: &Function, code: u32) -> Result<u32, String> {
    let data = &function.code.data;
    if data.is_empty() {
        return Ok(code);
    }
    let offset_of = |rva: Rva| rva.0.checked_sub(atom.rva.0).filter(|offset| data.contains(offset));
    let entries = |start: u32| {
        let jumps = function.tables.iter().map(|table| (table.rva, table.targets.len()));
        let others = function.data_tables.iter().map(|table| (table.rva, table.targets.len()));
        let mut at = jumps.chain(others).filter(|(rva, _)| offset_of(*rva) == Some(start));
        (at.next().map(|(_, count)| count * 4), at.next().is_some())
    };
    let named = || function.code.references.iter().filter_map(|r| Some((offset_of(r.target)?, r)));
    let tables = function.tables.iter().map(|t| t.rva).chain(function.data_tables.iter().map(|t| t.rva));
    let starts: BTreeSet<u32> =
        named().map(|(offset, _)| offset).chain(tables.filter_map(offset_of)).chain([data.start]).collect();
    let mut ends = starts.iter().copied().skip(1).chain([data.end]);
    for start in &starts {
        let end = ends.next().unwrap_or(data.end);
        let bytes = new.image.bytes_up_to(span(atom, *start)..span(atom, end));
        let padding = match entries(*start) {
            (_, true) => return Err(format!("two kinds of table begin at +{start:#x}")),
            (Some(size), _) => bytes.get(size..).ok_or(format!("the tables behind +{start:#x} overlap"))?,
            (None, _) if named().any(|(offset, r)| offset == *start && reads_small_numbers(new, atom, function, r)) => {
                &[]
            }
            (None, _) => return Err(format!("the table at +{start:#x} behind its code is not understood")),
        };
        if padding.len() >= MAX_PADDING || padding.iter().any(|byte| !matches!(byte, 0 | 0x90 | 0xcc)) {
            return Err(format!("the table at +{start:#x} behind its code goes on with what is not understood"));
        }
    }
    Ok(data.end)
}

fn span(atom: &Atom, offset: u32) -> Rva {
    Rva(atom.rva.0.saturating_add(offset))
}

/// The instruction reads numbers of one or two bytes, which no address fits into.
fn reads_small_numbers(new: &Program, atom: &Atom, function: &Function, reference: &Reference) -> bool {
    let Some(known) = function.code.instructions.get(reference.instruction as usize) else { return false };
    let start = span(atom, known.offset);
    let Some(bytes) = new.image.bytes(start, known.len.into()) else { return false };
    let instruction = Decoder::with_ip(64, bytes, start.0.into(), DecoderOptions::NONE).decode();
    matches!(instruction.memory_size().size(), 1 | 2)
}
