//! What a process holds of the system, so that it can be compared before and after.

use windows_sys::Wdk::System::SystemInformation::NtQuerySystemInformation;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Memory::*;

use crate::payloads::own_base;

/// Open handles of a process.
pub fn handles_of(pid: u32) -> usize {
    const SYSTEM_EXTENDED_HANDLE_INFORMATION: i32 = 64;
    // NumberOfHandles, Reserved, then records of 40 bytes whose second word is the process id.
    let mut words = vec![0u64; 1 << 17];
    let size = (words.len() * 8) as u32;
    let status = unsafe {
        let place = words.as_mut_ptr().cast();
        NtQuerySystemInformation(SYSTEM_EXTENDED_HANDLE_INFORMATION, place, size, std::ptr::null_mut())
    };
    assert!(status >= 0, "the system does not tell handles: {status:#x}");
    let count = words[0] as usize;
    words[2..].chunks(5).take(count).filter(|record| record[1] == u64::from(pid)).count()
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
