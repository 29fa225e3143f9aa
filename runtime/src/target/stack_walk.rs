//! The frames of a thread that was stopped for a moment: its registers and a copy of its stack, walked while it runs again.

use std::ops::Range;

use zerocopy::IntoBytes;

use crate::target::image::LoadedImage;
use crate::target::memory::Memory;
use crate::target::unwind::{FunctionEntry, Registers, unwind};

/// Frames that are walked; a deeper stack counts as not wholly walked.
const MAX_FRAMES: usize = 4096;
/// Larger function tables are not believed.
const MAX_ENTRIES: u32 = 1 << 20;
/// `RUNTIME_FUNCTION_INDIRECT`: the unwind field leads to another entry.
const INDIRECT: u32 = 1;

/// Registers and the used part of the stack at one moment, over memory that goes on changing.
pub(crate) struct Snapshot<'m, M> {
    pub memory: &'m M,
    pub registers: Registers,
    /// Where the copied stack begins.
    pub stack_base: u64,
    pub stack: &'m [u64],
}

impl<M: Memory> Memory for Snapshot<'_, M> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let copied = || {
            let start = usize::try_from(address.checked_sub(self.stack_base)?).ok()?;
            self.stack.as_bytes().get(start..start.checked_add(buffer.len())?)
        };
        match copied() {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Some(())
            }
            None => self.memory.read(address, buffer),
        }
    }
}

/// A function table, and the addresses that it speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionTable {
    pub range: Range<u64>,
    /// Where it stands.
    address: u64,
    /// What its RVAs count from.
    base: u64,
    /// Begin, end and unwind data of each function, by rising begin.
    entries: Vec<[u32; 3]>,
}

impl FunctionTable {
    /// The table of `count` entries at `address`.
    pub fn read(memory: &impl Memory, range: Range<u64>, base: u64, (address, count): (u64, u32)) -> Option<Self> {
        let mut entries = vec![[0u32; 3]; usize::try_from(count).ok().filter(|_| count <= MAX_ENTRIES)?];
        memory.read(address, entries.as_mut_bytes())?;
        Some(FunctionTable { range, address, base, entries })
    }

    /// That of a loaded image; an empty one where it has none.
    pub fn of_image(memory: &impl Memory, image: &LoadedImage) -> Option<Self> {
        let range = image.base..image.base.checked_add(image.size.into())?;
        let count = image.functions.size / size_of::<[u32; 3]>() as u32;
        if count == 0 {
            return Some(FunctionTable { range, address: 0, base: image.base, entries: Vec::new() });
        }
        let address = image.address(image.functions.rva, image.functions.size)?;
        Self::read(memory, range, image.base, (address, count))
    }

    /// The entry of the function at an address, if there is one. Fails where the table is no longer what was read.
    fn find(&self, memory: &impl Memory, address: u64) -> Result<Option<FunctionEntry>, Changed> {
        let Some(rva) = address.checked_sub(self.base).and_then(|rva| u32::try_from(rva).ok()) else {
            return Ok(None);
        };
        let Some(index) = self.entries.partition_point(|[begin, ..]| *begin <= rva).checked_sub(1) else {
            return Ok(None);
        };
        let &[begin, end, unwind] = self.entries.get(index).ok_or(Changed)?;
        let place = self.address.checked_add(index as u64 * size_of::<[u32; 3]>() as u64).ok_or(Changed)?;
        // Another image may have been loaded there since.
        if memory.record::<[u32; 3]>(place) != Some([begin, end, unwind]) {
            return Err(Changed);
        }
        if rva >= end {
            return Ok(None);
        }
        if unwind & INDIRECT == 0 {
            return Ok(Some(FunctionEntry { base: self.base, begin, end, unwind }));
        }
        let other = self.base.checked_add(u64::from(unwind & !INDIRECT)).ok_or(Changed)?;
        let [.., unwind]: [u32; 3] = memory.record(other).ok_or(Changed)?;
        Ok(Some(FunctionEntry { base: self.base, begin, end, unwind }))
    }
}

/// A function table in memory is not the one that was read.
struct Changed;

/// A place where a thread executes, or goes on when a call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub address: u64,
    /// Whether it is a return address: the call stands before it.
    pub is_return: bool,
    /// False for a word on the stack that looks like a return address, where the stack could not be unwound.
    pub is_certain: bool,
}

/// What a walk found, from the innermost frame on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Walk {
    pub places: Vec<FramePlace>,
    /// Whether every frame was unwound, up to the thread's first.
    pub is_whole: bool,
}

/// Walks a stopped thread's frames. From where no table knows the code on, each word of the stack counts that `might_return` takes
/// for a return address.
pub(crate) fn walk(
    snapshot: &Snapshot<'_, impl Memory>,
    tables: &[FunctionTable],
    might_return: impl Fn(u64) -> bool,
) -> Walk {
    let mut found = Walk::default();
    let mut registers = snapshot.registers;
    while found.places.len() < MAX_FRAMES {
        let is_innermost = found.places.is_empty();
        found.places.push(FramePlace { address: registers.rip, is_return: !is_innermost, is_certain: true });
        let Some(caller) = caller(snapshot, tables, &registers, is_innermost) else { break };
        if caller.rip == 0 {
            found.is_whole = true;
            return found;
        }
        if caller.rsp() <= registers.rsp() {
            break;
        }
        registers = caller;
    }
    let rest = registers.rsp().saturating_sub(snapshot.stack_base) / 8;
    let rest = snapshot.stack.get(usize::try_from(rest).unwrap_or(usize::MAX)..).unwrap_or_default();
    let guessed = rest.iter().filter(|word| might_return(**word));
    found.places.extend(guessed.map(|word| FramePlace { address: *word, is_return: true, is_certain: false }));
    found
}

/// Whether a stopped thread returns to an address that `hit` recognises, by its frames alone. `None` where some frame between it and
/// the thread's first cannot be unwound, or is not on `stack`: then nothing is known. Allocates nothing.
pub(crate) fn returns_to(
    memory: &impl Memory,
    tables: &[FunctionTable],
    mut registers: Registers,
    stack: Range<u64>,
    hit: impl Fn(u64) -> bool,
) -> Option<bool> {
    for number in 0..MAX_FRAMES {
        let next = caller(memory, tables, &registers, number == 0)?;
        if next.rsp() <= registers.rsp() || !stack.contains(&registers.rsp()) || next.rsp() > stack.end {
            return None;
        }
        if next.rip == 0 {
            return Some(false);
        }
        if hit(next.rip) {
            return Some(true);
        }
        registers = next;
    }
    None
}

fn caller(
    memory: &impl Memory,
    tables: &[FunctionTable],
    registers: &Registers,
    is_innermost: bool,
) -> Option<Registers> {
    // A call may be a function's last instruction: what it returns to is then another function's, or nobody's.
    let inside = if is_innermost { registers.rip } else { registers.rip.checked_sub(1)? };
    // Regions of patches lie outside of images, so that one table at most speaks for an address.
    let table = tables.iter().find(|table| table.range.contains(&inside))?;
    let entry = table.find(memory, inside).ok()?;
    if entry.is_none() && !is_innermost {
        // A leaf calls nothing. Whatever this is, the next frame would be a guess.
        return None;
    }
    unwind(memory, entry, registers, is_innermost)
}

#[cfg(test)]
#[path = "stack_walk_tests.rs"]
mod tests;
