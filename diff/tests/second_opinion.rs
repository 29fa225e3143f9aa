//! A second disassembler's opinion: every instruction of every function of the committed fixtures, decoded by capstone as well.
//!
//! Both must agree where each instruction ends, and on its operands: registers, immediates, the parts of memory operands, and the
//! addresses that relative operands and branches lead to. Those addresses are compared with hpgen's own references, not only with what its
//! disassembler library says. Notations that differ without a difference in meaning are brought together by the rules of [`Operand`], each with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use capstone::arch::x86::{ArchMode, ArchSyntax, X86OperandType};
use capstone::arch::{BuildsCapstone, BuildsCapstoneSyntax, DetailsArchInsn};
use capstone::{Capstone, Insn};
use hpgen_diff::program::{Function, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::{Reference, Role};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

/// Instructions of all fixtures together are more than this; fewer would mean that they were not looked at.
const AT_LEAST: usize = 10_000;

#[test]
fn capstone_reads_the_same_instructions() {
    let capstone = Capstone::new().x86().mode(ArchMode::Mode64).syntax(ArchSyntax::Intel).detail(true).build().unwrap();
    let (mut instructions, mut disagreements) = (0, Vec::new());
    for image in images() {
        let program = Program::load(&image, None).unwrap();
        for function in &program.functions {
            let compared = Compared { capstone: &capstone, program: &program, function };
            let place = format!("{}", image.strip_prefix(fixtures()).unwrap().display());
            match compared.instructions(&mut |address, what| disagreements.push(format!("{place} {address}: {what}"))) {
                Ok(count) => instructions += count,
                Err(what) => disagreements.push(format!("{place}: {what}")),
            }
        }
    }
    assert!(disagreements.is_empty(), "{} disagreements:\n{}", disagreements.len(), disagreements.join("\n"));
    assert!(instructions > AT_LEAST, "{instructions} instructions");
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures")
}

fn images() -> Vec<PathBuf> {
    let folders = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let images = folders.flat_map(|folder| ["old.exe", "new.exe"].map(|name| folder.join(name)));
    let images: Vec<_> = images.filter(|image| image.is_file()).collect();
    assert!(images.len() >= 40, "{} images", images.len());
    images
}

/// One function, as both read it.
struct Compared<'a> {
    capstone: &'a Capstone,
    program: &'a Program,
    function: &'a Function,
}

impl Compared<'_> {
    /// Compares every instruction; gives their number.
    fn instructions(&self, disagree: &mut dyn FnMut(Rva, String)) -> Result<usize, String> {
        let atom = self.program.atom(self.function.atom).unwrap();
        let code = &self.function.code;
        let size = if code.data.is_empty() { atom.size } else { code.data.start };
        let bytes = self.program.image.bytes(atom.rva, size).ok_or("bytes that are not in the file")?;
        let theirs = self.capstone.disasm_all(bytes, u64::from(atom.rva.0)).unwrap();
        let extents = |(offset, len): (u32, u8)| format!("+{offset:#x}, {len} bytes");
        let our_extents: Vec<_> = code.instructions.iter().map(|i| extents((i.offset, i.len))).collect();
        let their_extents: Vec<_> =
            theirs.iter().map(|i| extents(((i.address() - u64::from(atom.rva.0)) as u32, i.len() as u8))).collect();
        if our_extents != their_extents {
            return Err(format!("{}: instructions end elsewhere: {our_extents:?}, {their_extents:?}", atom.rva));
        }
        for (index, (i, insn)) in code.instructions.iter().zip(theirs.iter()).enumerate() {
            let address = atom.rva.checked_add(i.offset).unwrap();
            let bytes = &bytes[i.offset as usize..i.offset as usize + usize::from(i.len)];
            let instruction = Decoder::with_ip(64, bytes, u64::from(address.0), DecoderOptions::NONE).decode();
            let (ours, operands) = (our_operands(&instruction), self.their_operands(insn));
            let text = format!("{} {}", insn.mnemonic().unwrap_or(""), insn.op_str().unwrap_or(""));
            if ours != operands {
                disagree(address, format!("`{instruction}` {ours:x?} and `{text}` {operands:x?}"));
            }
            let named = self.named_by_them(insn, &instruction);
            let target = |reference: &Reference| u64::from(reference.target.0);
            let references = code.references_of(index);
            let named_by_us = match i.role {
                Role::Branch { target, .. } => Some(u64::from(atom.rva.0 + target)),
                // Padding that has an operand names nothing.
                Role::Padding => named,
                Role::Plain => references.iter().find(|r| !is_relative_to_base(r)).map(target),
            };
            if named_by_us != named {
                disagree(address, format!("`{instruction}` names {named_by_us:x?}, `{text}` names {named:x?}"));
            }
            self.field(insn, references, i.offset, &mut |what| disagree(address, format!("`{text}`: {what}")));
        }
        Ok(code.instructions.len())
    }

    /// Where the field of a reference stands, how far from the instruction's end, and how many bytes are read or written there.
    fn field(&self, insn: &Insn<'_>, references: &[Reference], offset: u32, disagree: &mut dyn FnMut(String)) {
        let detail = self.capstone.insn_detail(insn).unwrap();
        let arch = detail.arch_detail();
        let x86 = arch.x86().unwrap();
        let encoding = x86.encoding();
        for reference in references {
            let at = reference.field - offset;
            let fields = [encoding.disp, encoding.imm].map(|span| span.map(|span| u32::from(span.offset)));
            if !fields.contains(&Some(at)) {
                disagree(format!("a field at +{at}, where the other has {fields:?}"));
            }
            if at + u32::from(reference.to_end) != insn.len() as u32 {
                disagree(format!("{} bytes from +{at} to the end", reference.to_end));
            }
            let sizes = x86.operands().filter(|operand| matches!(operand.op_type, X86OperandType::Mem(_)));
            let sizes: Vec<u8> = sizes.map(|operand| operand.size).collect();
            if reference.accessed != 0 && sizes != [reference.accessed] {
                disagree(format!("accesses {} bytes, and the other says {sizes:?}", reference.accessed));
            }
        }
    }

    /// The address that a relative operand or a near branch leads to.
    fn named_by_them(&self, insn: &Insn<'_>, instruction: &Instruction) -> Option<u64> {
        let operands = self.their_operands(insn);
        let is_branch = matches!(
            instruction.flow_control(),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call
        );
        operands.into_iter().find_map(|operand| match operand {
            Operand::Absolute { address, .. } => Some(address),
            Operand::Immediate(target) if is_branch => Some(target),
            _ => None,
        })
    }

    fn their_operands(&self, insn: &Insn<'_>) -> Vec<Operand> {
        let detail = self.capstone.insn_detail(insn).unwrap();
        let arch = detail.arch_detail();
        let x86 = arch.x86().unwrap();
        let name = |register| self.capstone.reg_name(register).unwrap_or_default();
        let operands: Vec<_> = x86.operands().collect();
        // An immediate is as wide as what it is used with; capstone extends some by their sign, and iced others.
        let width = match operands.first().map_or(8, |first| first.size) {
            size @ 1..=8 => size,
            _ => x86.encoding().imm.map_or(8, |span| span.size),
        };
        let convert = |operand: &capstone::arch::x86::X86Operand| match &operand.op_type {
            X86OperandType::Reg(register) => Operand::Register(name(*register)),
            X86OperandType::Imm(value) => Operand::Immediate(cut(*value as u64, width)),
            X86OperandType::Mem(memory) if name(memory.base()) == "rip" => Operand::Absolute {
                segment: name(memory.segment()),
                address: insn.address().wrapping_add(insn.len() as u64).wrapping_add(memory.disp() as u64),
            },
            X86OperandType::Mem(memory) => Operand::Memory {
                segment: name(memory.segment()),
                base: name(memory.base()),
                index: name(memory.index()),
                scale: memory.scale() as u32,
                displacement: memory.disp(),
            },
            X86OperandType::Invalid => Operand::Register("invalid".to_owned()),
        };
        operands.iter().map(convert).collect()
    }
}

/// An RVA or an offset in a thread's block: a number to a disassembler.
fn is_relative_to_base(reference: &Reference) -> bool {
    use hpgen_diff::x64::ReferenceKind;
    matches!(reference.kind, ReferenceKind::ImageRelative | ReferenceKind::ThreadLocal)
}

/// An operand in words that both disassemblers have.
#[derive(Debug, PartialEq, Eq)]
enum Operand {
    Register(String),
    Immediate(u64),
    Absolute { segment: String, address: u64 },
    Memory { segment: String, base: String, index: String, scale: u32, displacement: i64 },
}

fn our_operands(instruction: &Instruction) -> Vec<Operand> {
    (0..instruction.op_count()).map(|index| our_operand(instruction, index)).collect()
}

fn our_operand(i: &Instruction, index: u32) -> Operand {
    match i.op_kind(index) {
        OpKind::Register => Operand::Register(name(i.op_register(index))),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            Operand::Immediate(i.near_branch_target())
        }
        OpKind::Memory if i.is_ip_rel_memory_operand() => {
            Operand::Absolute { segment: name(i.segment_prefix()), address: i.ip_rel_memory_address() }
        }
        OpKind::Memory => Operand::Memory {
            segment: name(i.segment_prefix()),
            base: name(i.memory_base()),
            index: name(i.memory_index()),
            scale: i.memory_index_scale(),
            displacement: i.memory_displacement64() as i64,
        },
        OpKind::MemoryESRDI => implied("rdi"),
        OpKind::MemorySegRSI => implied("rsi"),
        _ => Operand::Immediate(cut(i.immediate(index), immediate_width(i))),
    }
}

/// Memory that a string instruction uses without an operand that says so. Its segment is the instruction's own, and capstone leaves it out.
fn implied(base: &str) -> Operand {
    Operand::Memory { segment: String::new(), base: base.to_owned(), index: String::new(), scale: 1, displacement: 0 }
}

/// Bytes of an immediate that count: those of the first operand, or of the field where that is a vector.
fn immediate_width(i: &Instruction) -> u8 {
    let size = match i.op0_kind() {
        OpKind::Register => i.op0_register().size(),
        OpKind::Memory => i.memory_size().size(),
        _ => 8,
    };
    if (1..=8).contains(&size) { size as u8 } else { 1 }
}

fn cut(value: u64, bytes: u8) -> u64 {
    match bytes {
        1..=7 => value & ((1 << (8 * bytes)) - 1),
        _ => value,
    }
}

/// The name of a register as capstone writes it; nothing where there is none.
fn name(register: Register) -> String {
    let text = format!("{register:?}").to_lowercase();
    match register {
        Register::None => String::new(),
        // r8l and r8b are two names of one register.
        Register::R8L | Register::R9L | Register::R10L | Register::R11L => text.replace('l', "b"),
        Register::R12L | Register::R13L | Register::R14L | Register::R15L => text.replace('l', "b"),
        _ => text,
    }
}
