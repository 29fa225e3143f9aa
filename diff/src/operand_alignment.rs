//! Which alignment instructions need of their memory operands: they fault where an address has less.

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};

/// Bytes of an SSE register.
const SSE: usize = 16;

/// The alignment that an instruction needs of its memory operand; 1 where any will do (Intel SDM volume 1, 10.4.1, 11.4.1 and 14.9).
pub fn of_instruction(i: &Instruction) -> u8 {
    if !(0..i.op_count()).any(|operand| i.op_kind(operand) == OpKind::Memory) {
        return 1;
    }
    let size = i.memory_size().size();
    match i.mnemonic() {
        Mnemonic::Cmpxchg16b | Mnemonic::Fxsave | Mnemonic::Fxsave64 | Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => 16,
        Mnemonic::Xsave
        | Mnemonic::Xsave64
        | Mnemonic::Xsavec
        | Mnemonic::Xsavec64
        | Mnemonic::Xsaveopt
        | Mnemonic::Xsaveopt64
        | Mnemonic::Xsaves
        | Mnemonic::Xsaves64
        | Mnemonic::Xrstor
        | Mnemonic::Xrstor64
        | Mnemonic::Xrstors
        | Mnemonic::Xrstors64
        | Mnemonic::Movdir64b => 64,
        _ if i.encoding() == EncodingKind::Legacy => {
            let is_vector = size == SSE && (0..i.op_count()).any(|operand| i.op_register(operand).is_xmm());
            if is_vector && !is_unaligned(i.mnemonic()) { 16 } else { 1 }
        }
        mnemonic if is_aligned_move(mnemonic) => u8::try_from(size).unwrap_or(u8::MAX).max(1),
        _ => 1,
    }
}

/// Instructions of SSE that read or write a whole register wherever it stands.
fn is_unaligned(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Movups
            | Mnemonic::Movupd
            | Mnemonic::Movdqu
            | Mnemonic::Lddqu
            | Mnemonic::Pcmpestri
            | Mnemonic::Pcmpestri64
            | Mnemonic::Pcmpestrm
            | Mnemonic::Pcmpestrm64
            | Mnemonic::Pcmpistri
            | Mnemonic::Pcmpistrm
    )
}

/// Of AVX and AVX-512 only these need what they move to be aligned, to its own size.
fn is_aligned_move(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Vmovaps
            | Mnemonic::Vmovapd
            | Mnemonic::Vmovdqa
            | Mnemonic::Vmovdqa32
            | Mnemonic::Vmovdqa64
            | Mnemonic::Vmovntps
            | Mnemonic::Vmovntpd
            | Mnemonic::Vmovntdq
            | Mnemonic::Vmovntdqa
    )
}

#[cfg(test)]
mod tests {
    use iced_x86::code_asm::*;

    use super::*;

    fn needed(write: impl FnOnce(&mut CodeAssembler)) -> u8 {
        let mut assembler = CodeAssembler::new(64).unwrap();
        write(&mut assembler);
        of_instruction(&assembler.instructions()[0])
    }

    #[test]
    fn whole_registers_of_sse_are_aligned() {
        assert_eq!(needed(|a| a.movaps(xmm0, xmmword_ptr(rax)).unwrap()), 16);
        assert_eq!(needed(|a| a.movdqa(xmmword_ptr(rax + rcx), xmm1).unwrap()), 16);
        assert_eq!(needed(|a| a.paddd(xmm0, xmmword_ptr(rax)).unwrap()), 16);
        assert_eq!(needed(|a| a.mulps(xmm0, xmmword_ptr(rax)).unwrap()), 16);
        assert_eq!(needed(|a| a.cmpxchg16b(xmmword_ptr(rax)).unwrap()), 16);
        assert_eq!(needed(|a| a.vmovaps(ymm0, ymmword_ptr(rax)).unwrap()), 32);
        assert_eq!(needed(|a| a.vmovdqa64(zmm0, zmmword_ptr(rax)).unwrap()), 64);
    }

    #[test]
    fn the_rest_is_not() {
        assert_eq!(needed(|a| a.movups(xmm0, xmmword_ptr(rax)).unwrap()), 1);
        assert_eq!(needed(|a| a.movdqu(xmm0, xmmword_ptr(rax)).unwrap()), 1);
        assert_eq!(needed(|a| a.addss(xmm0, dword_ptr(rax)).unwrap()), 1);
        assert_eq!(needed(|a| a.pmovzxbw(xmm0, qword_ptr(rax)).unwrap()), 1);
        assert_eq!(needed(|a| a.vpaddd(xmm0, xmm1, xmmword_ptr(rax)).unwrap()), 1);
        assert_eq!(needed(|a| a.vmovups(ymm0, ymmword_ptr(rax)).unwrap()), 1);
        assert_eq!(needed(|a| a.movaps(xmm0, xmm1).unwrap()), 1);
        assert_eq!(needed(|a| a.mov(eax, dword_ptr(rax)).unwrap()), 1);
    }
}
