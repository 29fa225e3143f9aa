//! What a process holds of the system, so that it can be compared before and after.

use windows_sys::Win32::Foundation::{GetHandleInformation, HANDLE};
use windows_sys::Win32::System::Memory::*;

use crate::payloads::own_base;

/// Open handles of this process, asked one by one. The list of all handles of the system ends Wine's server where a process has none yet.
pub fn open_handles() -> usize {
    // Values are multiples of four, and the lowest free one is taken first: a gap this long is the end.
    const LARGEST_GAP: usize = 128;
    let (mut open, mut gap, mut value) = (0, 0, 4);
    while gap < LARGEST_GAP {
        let mut flags = 0;
        if unsafe { GetHandleInformation(value as HANDLE, &raw mut flags) } != 0 {
            open += 1;
            gap = 0;
        } else {
            gap += 1;
        }
        value += 4;
    }
    open
}

/// All runs of pages of a process.
pub fn pages_of(process: HANDLE) -> Vec<MEMORY_BASIC_INFORMATION> {
    let mut all = Vec::with_capacity(4096);
    let mut at = 0usize;
    loop {
        let mut info: MEMORY_BASIC_INFORMATION = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        if unsafe { VirtualQueryEx(process, at as *const _, &raw mut info, size) } != size {
            return all;
        }
        all.push(info);
        at = info.BaseAddress as usize + info.RegionSize;
    }
}

/// Allocations that the loader may have made: near the image, executable, or of few pages. Heaps come and go in larger ones.
pub fn allocations(pages: &[MEMORY_BASIC_INFORMATION]) -> usize {
    const FEW_PAGES: usize = 0x4000;
    let private = pages.iter().filter(|info| info.State == MEM_COMMIT && info.Type == MEM_PRIVATE);
    let is_ours = |first: &MEMORY_BASIC_INFORMATION| {
        let parts = || pages.iter().filter(|part| part.AllocationBase == first.AllocationBase);
        let is_near = (first.BaseAddress as u64).abs_diff(own_base()) < 1 << 31;
        let is_code = parts().any(|part| part.Protect & (PAGE_EXECUTE | PAGE_EXECUTE_READ) != 0);
        is_near || is_code || parts().map(|part| part.RegionSize).sum::<usize>() <= FEW_PAGES
    };
    private.filter(|info| info.BaseAddress == info.AllocationBase && is_ours(info)).count()
}

/// Bytes of committed private memory.
pub fn private_bytes(pages: &[MEMORY_BASIC_INFORMATION]) -> usize {
    let private = pages.iter().filter(|info| info.State == MEM_COMMIT && info.Type == MEM_PRIVATE);
    private.map(|info| info.RegionSize).sum()
}
