//! The payload's own throwing functions (`FORMAT.md` 2.5), and what they are given.
//!
//! Each is read instruction by instruction, as it would run: what the region describes is raised with the base that its addresses
//! count from, everything else goes on to the function that the new build calls. Whoever takes the address of such a description
//! passes it there, and nowhere else.

use std::ops::Range;

use hpgen_diff::image::{Import, ImportedSymbol};
use hpgen_diff::listing;
use hpgen_runtime::format::{Function, Protection, THROW_STUB};
use iced_x86::{
    Decoder, DecoderOptions, Encoder, FlowControl, Formatter, Instruction, InstructionInfoFactory, Mnemonic, Register,
    SymbolResolver, SymbolResult,
};

use crate::claims::{Occupied, Part};
use crate::code::CodeWalk;
use crate::process::{Place, Process};
use crate::report::Finding;
use crate::unwind::FunctionTable;

/// What such a function does. The names in capitals are addresses and a length that are looked at.
const LISTING: [&str; 19] = [
    "lea r8, [ADDRESS]",
    "mov rax, rdx",
    "sub rax, r8",
    "cmp rax, offset LENGTH",
    // Unsigned: an address below wraps around to one far above.
    "jb ADDRESS",
    "jmp ADDRESS",
    // Four arguments of the callee's, four parameters of the exception, and eight bytes that align the stack.
    "sub rsp, 0x48",
    // EH_MAGIC_NUMBER1, the object, its ThrowInfo, and what the ThrowInfo's addresses count from.
    "mov qword ptr [rsp+0x20], 0x19930520",
    "mov [rsp+0x28], rcx",
    "mov [rsp+0x30], rdx",
    "lea rax, [ADDRESS]",
    "mov ecx, [rax]",
    "sub rax, rcx",
    "mov [rsp+0x38], rax",
    "lea r9, [rsp+0x20]",
    // EH_EXCEPTION_PARAMETERS, EXCEPTION_NONCONTINUABLE, EH_EXCEPTION_NUMBER.
    "mov r8d, 4",
    "mov edx, 1",
    "mov ecx, 0xE06D7363",
    "call qword ptr [ADDRESS]",
];

/// Where in [`LISTING`] the frame is allocated.
const ALLOCATION: usize = 6;
/// Instructions between the address of a description and the call that it is passed to.
const LONGEST_WAY: usize = 64;

/// Whether a record of the payload is a throwing function of its own.
pub(crate) fn is_stub(function: &Function) -> bool {
    function.name == THROW_STUB
}

/// A throwing function of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stub {
    /// Addresses of descriptions that it raises itself.
    pub raises: Range<u64>,
    /// Where it goes on to with every other.
    pub original: u64,
    /// Address of the import slot of `RaiseException`.
    pub slot: u64,
    /// What it consists of.
    pub occupied: Vec<Occupied>,
}

fn finding(expected: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { function: Some(THROW_STUB.to_owned()), ..Finding::of_payload("throw", expected, found) }
}

/// Reads one.
pub(crate) fn read(process: &Process, table: &FunctionTable, record: &Function) -> Result<Stub, Finding> {
    let start = process.in_region(record.offset);
    let bytes = process.read(start, record.size).ok_or_else(|| finding("code in one segment", "none"))?;
    let code: Vec<Instruction> = Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE).iter().collect();
    let (last, body) = code.split_last().ok_or_else(|| finding("code", "none"))?;
    let found: Vec<String> = body.iter().map(text).collect();
    if found != LISTING || last.mnemonic() != Mnemonic::Int3 {
        let at = found.iter().zip(LISTING).find(|(found, expected)| *found != expected);
        let (expected, found) = at.map_or(("int3 behind the call", "something else"), |(f, e)| (e, f.as_str()));
        return Err(finding(expected, found));
    }
    if code.iter().any(|instruction| !is_plain(&bytes, start, instruction)) {
        return Err(finding("instructions in their usual encoding", "another"));
    }
    let at = |index: usize| body.get(index).copied().unwrap_or_default();
    let (first, length) = (at(0).ip_rel_memory_address(), at(3).immediate(1));
    if at(4).near_branch_target() != at(ALLOCATION).ip() {
        return Err(finding("a branch to the allocation of its frame", "another"));
    }
    let raises = first..first.checked_add(length).ok_or_else(|| finding("a range of constants", "none"))?;
    let is_own = match (process.place(raises.start), u32::try_from(length)) {
        (Place::Region(offset), Ok(length)) => {
            let end = offset.checked_add(length);
            end.and_then(|end| process.protection(offset..end)) == Some(Protection::Read)
        }
        _ => false,
    };
    if !is_own {
        return Err(finding("a range of the region's constants", format!("{length:#x} bytes")));
    }
    let field = base_field(process, table, at(10).ip_rel_memory_address())?;
    let slot = at(18).ip_rel_memory_address();
    let raise = Import { dll: "kernel32.dll".to_owned(), symbol: ImportedSymbol::Name("RaiseException".to_owned()) };
    if process.import(&raise).is_none() || process.u64_at(slot) != process.import(&raise) {
        return Err(finding("a call of RaiseException", "another"));
    }
    let own = Occupied { offset: record.offset, size: record.size, part: Part::ThrowStub };
    let unwind = unwind_record(process, table, start, at(ALLOCATION).next_ip(), record.size)?;
    Ok(Stub { raises, original: at(5).near_branch_target(), slot, occupied: vec![own, field, unwind] })
}

/// The field whose distance from the base is what it holds.
fn base_field(process: &Process, table: &FunctionTable, field: u64) -> Result<Occupied, Finding> {
    let expected = "the base of the function table";
    let base = process.u32_at(field).and_then(|distance| field.checked_sub(distance.into()));
    match process.place(field) {
        Place::Region(offset) if base == Some(table.base()) => Ok(Occupied { offset, size: 4, part: Part::ThrowBase }),
        _ => Err(finding(expected, "another address")),
    }
}

/// One record: 48h bytes are allocated by the instruction that ends at `allocated`, nothing before.
fn unwind_record(
    process: &Process,
    table: &FunctionTable,
    start: u64,
    allocated: u64,
    size: u32,
) -> Result<Occupied, Finding> {
    let end = start.wrapping_add(size.into());
    let own: Vec<(u64, u64, u64)> = table.ranges().filter(|(begin, stop, _)| *begin < end && start < *stop).collect();
    let &[(begin, stop, info)] = own.as_slice() else {
        return Err(finding("one unwind record", own.len().to_string()));
    };
    let prologue = u8::try_from(allocated.wrapping_sub(start)).unwrap_or(0);
    // Version 1, no flags; one code: UWOP_ALLOC_SMALL (2) of (8 + 1) * 8 bytes.
    let expected = [1, prologue, 1, 0, prologue, 8 << 4 | 2, 0, 0];
    let is_own = (begin, stop) == (start, end) && process.read(info, 8).as_deref() == Some(&expected[..]);
    match (process.place(info), table.number_of(begin)) {
        (Place::Region(offset), Some(number)) if is_own && info.is_multiple_of(4) => {
            Ok(Occupied { offset, size: 8, part: Part::UnwindRecord(number) })
        }
        _ => Err(finding("an unwind record for its frame of 0x48 bytes", "another")),
    }
}

/// Without bits that have no meaning: what they may come to mean one day is not looked at.
fn is_plain(code: &[u8], start: u64, instruction: &Instruction) -> bool {
    let mut encoder = Encoder::new(64);
    let at = instruction.ip().checked_sub(start).and_then(|at| usize::try_from(at).ok());
    let bytes = at.and_then(|at| code.get(at..at.checked_add(instruction.len())?));
    let is_unscaled = instruction.memory_index() != Register::None || instruction.memory_index_scale() == 1;
    is_unscaled
        && encoder.encode(instruction, instruction.ip()).is_ok()
        && bytes == Some(encoder.take_buffer().as_slice())
}

/// An instruction with names in place of addresses and of the length that is compared with.
fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    listing::formatter(Box::new(Anonymous)).format(instruction, &mut text);
    text
}

struct Anonymous;

impl SymbolResolver for Anonymous {
    fn symbol(&mut self, i: &Instruction, _: u32, _: Option<u32>, value: u64, _: u32) -> Option<SymbolResult<'_>> {
        let is_address = i.is_ip_rel_memory_operand() || i.near_branch_target() == value && value != 0;
        let name = if is_address { Some("ADDRESS") } else { (i.mnemonic() == Mnemonic::Cmp).then_some("LENGTH") };
        name.map(|name| SymbolResult::with_str(value, name))
    }
}

impl CodeWalk<'_> {
    /// The address of a description in the region goes to a throwing function of the payload, and nowhere else.
    pub fn thrown(&mut self, at: u32, taken: &Instruction, bytes: &[u8]) {
        let expected = "the description of a new type passed to the payload's throwing function";
        if taken.mnemonic() != Mnemonic::Lea || taken.op0_register() != Register::RDX {
            return self.finding("throw", at, expected, "another use");
        }
        let mut info = InstructionInfoFactory::new();
        let mut ip = taken.next_ip();
        for _ in 0..LONGEST_WAY {
            let start = ip.checked_sub(self.address(0)).and_then(|start| usize::try_from(start).ok());
            let Some(rest) = start.and_then(|start| bytes.get(start..)) else { break };
            let next = Decoder::with_ip(64, rest, ip, DecoderOptions::NONE).decode();
            let mut used = info.info(&next).used_registers().iter();
            let touches = used.any(|used| used.register().full_register() == Register::RDX);
            let own = self.address(0)..self.address(self.size);
            match next.flow_control() {
                FlowControl::Next if !next.is_invalid() && !touches => ip = next.next_ip(),
                FlowControl::UnconditionalBranch if own.contains(&next.near_branch_target()) => {
                    ip = next.near_branch_target();
                }
                FlowControl::Call | FlowControl::UnconditionalBranch if self.is_stub(next.near_branch_target()) => {
                    return;
                }
                _ => break,
            }
        }
        self.finding("throw", at, expected, "another use");
    }

    fn is_stub(&self, address: u64) -> bool {
        match self.meaning.process.place(address) {
            Place::Region(offset) => self.meaning.facts.functions_at.get(&offset).is_some_and(|f| is_stub(f)),
            _ => false,
        }
    }
}
