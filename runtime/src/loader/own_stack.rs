//! The part of the calling thread's stack that is the loader's: where it ends, and that it is left clean. An address of a region that stayed there would later
//! lie in the frame of another function, as if it were a use of the region, and keep that in the process.

use std::arch::asm;

/// The loader's calls reach less far down.
const DEPTH: u64 = 256 << 10;

/// Does the loader's work; gives it an address above all of its frames and below those of its callers. What it leaves on the stack is wiped out.
#[inline(never)]
pub(super) fn above<T>(work: impl FnOnce(u64) -> T) -> T {
    let here = 0u8;
    let result = apart(work, std::ptr::from_ref(&here) as u64);
    wipe();
    result
}

/// Has its frames below those of its caller, and nothing of them in those.
#[inline(never)]
fn apart<T>(work: impl FnOnce(u64) -> T, above: u64) -> T {
    work(above)
}

/// Writes zeros over the committed stack below the own frame. Nothing where the thread is on a stack that the system does not know.
#[inline(never)]
fn wipe() {
    // SAFETY: x64 Windows keeps nothing below the stack pointer; all written bytes are below it and not below `StackLimit`, so they are
    // committed stack of this thread. NT_TIB: `StackBase` is at 8, `StackLimit` at 16.
    unsafe {
        asm!(
            "mov rdi, gs:[16]",
            "mov rcx, rsp",
            "cmp rcx, gs:[8]",
            "ja 2f",
            "cmp rcx, rdi",
            "jbe 2f",
            "lea rax, [rcx - {depth}]",
            "cmp rdi, rax",
            "cmovb rdi, rax",
            "sub rcx, rdi",
            "shr rcx, 3",
            "xor eax, eax",
            "rep stosq",
            "2:",
            depth = const DEPTH,
            out("rdi") _,
            out("rcx") _,
            out("rax") _,
        );
    }
}
