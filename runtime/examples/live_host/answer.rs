//! The function that most checks patch, in assembly so that its first bytes are known.

core::arch::global_asm!(
    ".text",
    ".globl live_answer",
    "live_answer:", // fn(u32) -> u32: x + 1
    "lea eax, [rcx + 1]",
    "nop",
    "nop",
    "nop",
    "nop",
    "nop",
    "ret",
);

unsafe extern "C-unwind" {
    pub fn live_answer(x: u32) -> u32;
}

/// What it gives: `x` + 1 as long as it is not patched.
pub fn answer(x: u32) -> u32 {
    let call: unsafe extern "C-unwind" fn(u32) -> u32 = std::hint::black_box(live_answer);
    unsafe { call(x) }
}
