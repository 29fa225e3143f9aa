//! Writing code of the own process. While a page is writable it is not executable, and it may be the very page that the loader's
//! code, or a thunk that it calls through, stands on. So the writing is done by a routine of a few instructions, which is copied
//! to a page of its own and calls nothing but `VirtualProtect`, through its real address.

use windows_sys::Win32::System::Memory::{PAGE_EXECUTE_READ, PAGE_READWRITE};

use super::process::Process;
use super::{fault, system};
use crate::ProcessError;
use crate::target::memory::Memory;

/// One run of pages of the same protection.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Piece {
    pub address: u64,
    pub size: u64,
    /// What to write there, as many bytes.
    pub source: *const u8,
    /// Protection before and after.
    pub protection: u64,
}

/// How far writing came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interrupted {
    /// Pieces that may have changed.
    pub touched: usize,
    /// Pieces that are as they should be.
    pub done: usize,
}

/// What the routine is handed.
#[repr(C)]
struct Order {
    virtual_protect: usize,
    pieces: *const Piece,
    left: u64,
    /// Pieces that were made writable.
    touched: u64,
    /// Pieces that are written and have their protection again.
    done: u64,
}

// extern "system" fn(order: *mut Order) -> u32 (1: all done)
core::arch::global_asm!(
    ".text",
    ".globl hpgen_write_pieces",
    "hpgen_write_pieces:",
    "push rbx",
    "push rsi",
    "push rdi",
    "push r12",
    "sub rsp, 40", // 32 bytes for the callee, then the old protection
    "mov rbx, rcx",
    "mov r12, [rbx + 8]",
    "2:",
    "cmp qword ptr [rbx + 16], 0",
    "je 3f",
    "mov rcx, [r12]",
    "mov rdx, [r12 + 8]",
    "mov r8d, {read_write}",
    "lea r9, [rsp + 32]",
    "call qword ptr [rbx]",
    "test eax, eax",
    "je 4f",
    "inc qword ptr [rbx + 24]",
    "mov rdi, [r12]",
    "mov rcx, [r12 + 8]",
    "mov rsi, [r12 + 16]",
    "cld",
    "rep movsb",
    "mov rcx, [r12]",
    "mov rdx, [r12 + 8]",
    "mov r8d, [r12 + 24]",
    "lea r9, [rsp + 32]",
    "call qword ptr [rbx]",
    "test eax, eax",
    "je 4f",
    "inc qword ptr [rbx + 32]",
    "dec qword ptr [rbx + 16]",
    "add r12, 32",
    "jmp 2b",
    "3:",
    "mov eax, 1",
    "jmp 5f",
    "4:",
    "xor eax, eax",
    "5:",
    "add rsp, 40",
    "pop r12",
    "pop rdi",
    "pop rsi",
    "pop rbx",
    "ret",
    ".globl hpgen_write_pieces_end",
    "hpgen_write_pieces_end:",
    read_write = const PAGE_READWRITE,
);

unsafe extern "C" {
    static hpgen_write_pieces: u8;
    static hpgen_write_pieces_end: u8;
}

const PAGE: u64 = 0x1000;

/// The routine on its page.
pub(super) struct WriteRoutine {
    process: Process,
    page: u64,
    virtual_protect: usize,
}

impl WriteRoutine {
    pub fn new() -> Result<WriteRoutine, ProcessError> {
        let process = Process::own();
        let virtual_protect = system::address(c"kernel32.dll", c"VirtualProtect", "VirtualProtect")?;
        let page = process.allocate(0, PAGE).ok_or_else(|| process.failed("VirtualAllocEx"))?;
        let routine = WriteRoutine { process, page, virtual_protect };
        let start = &raw const hpgen_write_pieces as u64;
        let size = &raw const hpgen_write_pieces_end as u64 - start;
        let code = routine.process.bytes(start, size as usize);
        let code = code.ok_or_else(|| routine.process.bad_memory(start, "the loader's own code cannot be read"))?;
        routine.process.write(page, &code)?;
        routine.process.protect(page, PAGE, PAGE_EXECUTE_READ)?;
        routine.process.flush_code(page, PAGE);
        Ok(routine)
    }

    /// Writes the pieces in their order. Allocates nothing.
    ///
    /// # Safety
    /// All other threads stand still, every source holds as many bytes as its piece, every piece is code of an image other than
    /// kernel32, kernelbase and ntdll, and what is written there is sound code.
    pub unsafe fn write(&self, pieces: &[Piece]) -> Result<(), Interrupted> {
        // SAFETY: the caller's promise.
        unsafe {
            let Some((index, broken)) = broken_by_fault(pieces) else { return self.write_all(pieces) };
            self.write_all(pieces.get(..index).unwrap_or_default())?;
            let Err(Interrupted { touched, done }) = self.write_all(&[broken]) else { return Ok(()) };
            Err(Interrupted { touched: index + touched, done: index + done })
        }
    }

    /// # Safety
    /// As [`WriteRoutine::write`].
    unsafe fn write_all(&self, pieces: &[Piece]) -> Result<(), Interrupted> {
        let mut order = Order {
            virtual_protect: self.virtual_protect,
            pieces: pieces.as_ptr(),
            left: pieces.len() as u64,
            touched: 0,
            done: 0,
        };
        // SAFETY: the page holds the routine above, position-independent, with this signature.
        let done = unsafe {
            let routine: unsafe extern "system" fn(*mut Order) -> u32 = core::mem::transmute(self.page as *const u8);
            routine(&raw mut order)
        };
        if done != 0 { Ok(()) } else { Err(Interrupted { touched: order.touched as usize, done: order.done as usize }) }
    }
}

/// The piece whose protection cannot be changed, so that the system really refuses: before it is written, or behind it.
fn broken_by_fault(pieces: &[Piece]) -> Option<(usize, Piece)> {
    pieces.iter().enumerate().find_map(|(index, piece)| {
        if fault::point("VirtualProtect") {
            return Some((index, Piece { address: 0, ..*piece }));
        }
        fault::point("VirtualProtect").then_some((index, Piece { protection: u64::from(u32::MAX), ..*piece }))
    })
}

impl Drop for WriteRoutine {
    fn drop(&mut self) {
        // One page that stays behind does no harm.
        let _ = self.process.free(self.page);
    }
}
