//! From a frame to its caller, by the unwind data of x64 Windows: what `RtlVirtualUnwind` does, in another process's memory.
//! Allocates nothing.
//!
//! "x64 exception handling", <https://learn.microsoft.com/cpp/build/exception-handling-x64>. Version 2 is version 1 with codes (6)
//! that describe epilogues; those are recognised by their instructions here, as version 1 has it.

use crate::target::memory::Memory;

const RSP: usize = 4;
/// Codes of an unwind record are counted in a byte.
const MAX_CODES: usize = 255;
/// Records that are chained one behind the other; more are a circle.
const MAX_CHAIN: usize = 32;
/// Epilogues restore at most all registers.
const MAX_EPILOGUE: usize = 20;

const FLAG_CHAINED: u8 = 4;

/// What unwinding reads and changes of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Registers {
    pub rip: u64,
    /// As instructions number them: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub general: [u64; 16],
}

impl Registers {
    pub fn rsp(&self) -> u64 {
        self.general[RSP]
    }
}

/// An entry of a function table: RVAs from the base that the table is registered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionEntry {
    pub base: u64,
    pub begin: u32,
    pub end: u32,
    pub unwind: u32,
}

/// Turns the registers of a frame into those of its caller. `entry` is the function's, none for a leaf, which has only its
/// return address on the stack. The innermost frame may stand in a prologue or an epilogue.
pub(crate) fn unwind(
    memory: &impl Memory,
    entry: Option<FunctionEntry>,
    registers: &Registers,
    is_innermost: bool,
) -> Option<Registers> {
    let mut frame = Frame { memory, registers: *registers };
    let Some(mut entry) = entry else {
        return frame.leave();
    };
    let mut done = registers.rip.checked_sub(entry.base.checked_add(entry.begin.into())?)?;
    if is_innermost {
        let info = Info::read(memory, entry)?;
        if done >= info.prologue.into()
            && let Some(caller) = frame.epilogue(&info, entry)
        {
            return Some(caller);
        }
    }
    for _ in 0..MAX_CHAIN {
        let info = Info::read(memory, entry)?;
        if frame.undo(&info, done)? {
            return Some(frame.registers);
        }
        match info.chained {
            Some(chained) => entry = FunctionEntry { base: entry.base, ..chained },
            None => return frame.leave(),
        }
        // The whole prologue of the function that this one is a part of was run.
        done = u64::MAX;
    }
    None
}

/// A decoded `UNWIND_INFO`.
struct Info {
    prologue: u8,
    /// Number of the register that holds the frame, and its distance from RSP.
    frame: Option<(usize, u64)>,
    codes: [u8; MAX_CODES * 2],
    count: usize,
    chained: Option<FunctionEntry>,
}

impl Info {
    fn read(memory: &impl Memory, entry: FunctionEntry) -> Option<Info> {
        let address = entry.base.checked_add(entry.unwind.into())?;
        let [head, prologue, count, frame]: [u8; 4] = memory.record(address)?;
        if !matches!(head & 7, 1 | 2) {
            return None;
        }
        let count = usize::from(count);
        let mut codes = [0; MAX_CODES * 2];
        memory.read(address.checked_add(4)?, codes.get_mut(..count * 2)?)?;
        let chained = if head >> 3 & FLAG_CHAINED == 0 {
            None
        } else {
            // Behind the codes, whose number is rounded up to an even one.
            let place = address.checked_add(4 + (count as u64).next_multiple_of(2) * 2)?;
            let [begin, end, unwind]: [u32; 3] = memory.record(place)?;
            Some(FunctionEntry { base: entry.base, begin, end, unwind })
        };
        let frame = (frame & 15 != 0).then_some((usize::from(frame & 15), u64::from(frame >> 4) * 16));
        Some(Info { prologue, frame, codes, count, chained })
    }

    fn slot(&self, index: usize) -> Option<u16> {
        let bytes = self.codes.get(..self.count * 2)?.get(index * 2..)?;
        Some(u16::from_le_bytes(*bytes.first_chunk()?))
    }

    /// One or two slots, as a number.
    fn operand(&self, index: usize, slots: usize) -> Option<u64> {
        let low = u64::from(self.slot(index)?);
        if slots == 1 { Some(low) } else { Some(low | u64::from(self.slot(index + 1)?) << 16) }
    }
}

struct Frame<'m, M> {
    memory: &'m M,
    registers: Registers,
}

impl<M: Memory> Frame<'_, M> {
    fn word(&self, address: u64) -> Option<u64> {
        self.memory.record(address)
    }

    fn pop(&mut self) -> Option<u64> {
        let value = self.word(self.registers.rsp())?;
        self.release(8)?;
        Some(value)
    }

    fn release(&mut self, bytes: u64) -> Option<()> {
        self.registers.general[RSP] = self.registers.rsp().checked_add(bytes)?;
        Some(())
    }

    fn set(&mut self, register: usize, value: u64) -> Option<()> {
        *self.registers.general.get_mut(register)? = value;
        Some(())
    }

    /// Returns.
    fn leave(mut self) -> Option<Registers> {
        self.registers.rip = self.pop()?;
        Some(self.registers)
    }

    /// Undoes what a prologue did in its first `done` bytes. True where that has set RIP already, as for interrupts.
    fn undo(&mut self, info: &Info, done: u64) -> Option<bool> {
        let base = self.frame_base(info, done)?;
        let mut index = 0;
        while index < info.count {
            let [offset, operation] = info.slot(index)?.to_le_bytes();
            let (code, detail) = (operation & 15, usize::from(operation >> 4));
            let operands = match (code, detail) {
                (1, 0) | (4 | 8, _) => 1,
                (1, 1) | (5 | 7 | 9, _) => 2,
                (0 | 2 | 3 | 6 | 10, _) => 0,
                _ => return None,
            };
            // For 7, which is reserved, the operands are skipped.
            let operand = || info.operand(index + 1, operands);
            if u64::from(offset) <= done {
                match code {
                    0 => {
                        let value = self.pop()?;
                        self.set(detail, value)?;
                    }
                    1 if detail == 0 => self.release(operand()? * 8)?,
                    1 => self.release(operand()?)?,
                    2 => self.release(detail as u64 * 8 + 8)?,
                    3 => self.registers.general[RSP] = base,
                    4 | 5 => {
                        let distance = if code == 4 { operand()? * 8 } else { operand()? };
                        let value = self.word(base.checked_add(distance)?)?;
                        self.set(detail, value)?;
                    }
                    10 => {
                        // What the processor pushed: an error code where `detail` is 1, RIP, CS, RFLAGS, RSP, SS.
                        let rsp = self.registers.rsp().checked_add(detail as u64 * 8)?;
                        self.registers.rip = self.word(rsp)?;
                        self.registers.general[RSP] = self.word(rsp.checked_add(24)?)?;
                        return Some(true);
                    }
                    _ => {}
                }
            }
            index += 1 + operands;
        }
        Some(false)
    }

    /// Where saved registers are counted from: the frame register, once it is set, else RSP.
    fn frame_base(&self, info: &Info, done: u64) -> Option<u64> {
        let Some((register, distance)) = info.frame else {
            return Some(self.registers.rsp());
        };
        let is_set = done >= info.prologue.into() || self.sets_frame_before(info, done)?;
        if !is_set {
            return Some(self.registers.rsp());
        }
        self.registers.general.get(register)?.checked_sub(distance)
    }

    fn sets_frame_before(&self, info: &Info, done: u64) -> Option<bool> {
        let mut index = 0;
        while index < info.count {
            let [offset, operation] = info.slot(index)?.to_le_bytes();
            match (operation & 15, operation >> 4) {
                (3, _) => return Some(u64::from(offset) <= done),
                (1, 0) | (4 | 8, _) => index += 2,
                (1, 1) | (5 | 7 | 9, _) => index += 3,
                _ => index += 1,
            }
        }
        Some(false)
    }

    /// Where RIP stands in an epilogue, runs its rest: `add rsp, n` or `lea rsp, [frame + n]`, pops, and a return or a jump out of
    /// the function. None where the instructions are others.
    fn epilogue(&self, info: &Info, entry: FunctionEntry) -> Option<Registers> {
        let mut after = Frame { memory: self.memory, registers: self.registers };
        let mut code = [0u8; 8];
        for step in 0..MAX_EPILOGUE {
            let at = after.registers.rip;
            self.memory.read(at, &mut code)?;
            let length = match (step, code) {
                (0, [0x48, 0x83, 0xc4, n, ..]) => {
                    after.release(n.cast_signed() as u64)?;
                    4
                }
                (0, [0x48, 0x81, 0xc4, a, b, c, d, _]) => {
                    after.release(u32::from_le_bytes([a, b, c, d]).into())?;
                    7
                }
                (0, [rex @ (0x48 | 0x49), 0x8d, modrm, rest @ ..]) => {
                    let (length, distance) = lea_rsp(modrm, rest)?;
                    let register = usize::from(modrm & 7) + if rex == 0x49 { 8 } else { 0 };
                    info.frame.filter(|(frame, _)| *frame == register)?;
                    let frame = *after.registers.general.get(register)?;
                    after.registers.general[RSP] = frame.checked_add_signed(distance)?;
                    length
                }
                (_, [pop @ 0x58..=0x5f, ..]) => {
                    let value = after.pop()?;
                    after.set(usize::from(pop - 0x58), value)?;
                    1
                }
                (_, [0x41, pop @ 0x58..=0x5f, ..]) => {
                    let value = after.pop()?;
                    after.set(usize::from(pop - 0x58) + 8, value)?;
                    2
                }
                (_, [0xc3 | 0xc2, ..] | [0xf3, 0xc3, ..]) => return after.leave(),
                (_, [0xeb, n, ..]) => return after.jump(entry, 2, n.cast_signed().into()),
                (_, [0xe9, a, b, c, d, ..]) => return after.jump(entry, 5, i32::from_le_bytes([a, b, c, d]).into()),
                // Through a pointer: `jmp [rip + n]`, or `jmp register` as a tail call, which compilers mark with a prefix.
                (_, [0xff, 0x25, ..] | [0x48, 0xff, 0x25 | 0xe0..=0xe7, ..] | [0x49, 0xff, 0xe0..=0xe7, ..]) => {
                    return after.leave();
                }
                _ => return None,
            };
            after.registers.rip = at.checked_add(length)?;
        }
        None
    }

    /// A jump is the end of an epilogue where it leads out of the function.
    fn jump(self, entry: FunctionEntry, length: u64, distance: i64) -> Option<Registers> {
        let target = self.registers.rip.checked_add(length)?.checked_add_signed(distance)?;
        let begin = entry.base.checked_add(entry.begin.into())?;
        let end = entry.base.checked_add(entry.end.into())?;
        if (begin..end).contains(&target) { None } else { self.leave() }
    }
}

/// Length and displacement of `lea rsp, [register + n]`.
fn lea_rsp(modrm: u8, rest: [u8; 5]) -> Option<(u64, i64)> {
    // The register that is written is RSP (4), without an index.
    if modrm >> 3 & 7 != 4 || modrm & 7 == 4 {
        return None;
    }
    let [a, b, c, d, _] = rest;
    match modrm >> 6 {
        1 => Some((4, a.cast_signed().into())),
        2 => Some((7, i32::from_le_bytes([a, b, c, d]).into())),
        _ => None,
    }
}

#[cfg(test)]
#[path = "unwind_tests.rs"]
mod tests;
