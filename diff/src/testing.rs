//! Images with code assembled for a test: a fixture's image, its code replaced.

use std::fs;
use std::path::Path;

use iced_x86::code_asm::CodeAssembler;
use iced_x86::{BlockEncoder, BlockEncoderOptions, InstructionBlock, OpKind, Register};

use crate::exact_fields::ExactFields;
use crate::image::Image;
use crate::rva::Rva;
use crate::x64::{self, Code};

/// Where the code section of the fixture begins in memory and in the file, and its size in both.
const TEXT: u32 = 0x1000;
const TEXT_IN_FILE: usize = 0x400;
const TEXT_SIZE: usize = 0x1f4;

/// Addresses of data: the read-only section's first bytes, which no table of the image uses.
pub(crate) const DATA: u64 = 0x2000;

/// Assembles a function at the start of the code section and decodes it.
pub(crate) fn decode(write: impl FnOnce(&mut CodeAssembler)) -> Code {
    decode_with(&[], write)
}

/// The same with other bytes at [`DATA`].
pub(crate) fn decode_with(data: &[u8], write: impl FnOnce(&mut CodeAssembler)) -> Code {
    let code = assemble(write);
    let size = code.len() as u32;
    x64::decode(&image(&code, data), &ExactFields::default(), Rva(TEXT), size)
}

/// The bytes of a function at the start of the code section. Operands without a register are relative to RIP, for which the
/// assembler's own language has no word.
fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).unwrap();
    write(&mut assembler);
    let mut instructions = assembler.take_instructions();
    for i in &mut instructions {
        let has_memory = (0..i.op_count()).any(|operand| i.op_kind(operand) == OpKind::Memory);
        if has_memory && i.memory_base() == Register::None && i.memory_index() == Register::None {
            i.set_memory_base(Register::RIP);
            i.set_memory_displ_size(8);
        }
    }
    let block = InstructionBlock::new(&instructions, u64::from(TEXT));
    BlockEncoder::encode(64, block, BlockEncoderOptions::NONE).unwrap().code_buffer
}

/// Decodes bytes as a function.
pub(crate) fn decode_bytes(code: &[u8]) -> Code {
    x64::decode(&image(code, &[]), &ExactFields::default(), Rva(TEXT), code.len() as u32)
}

fn image(code: &[u8], data: &[u8]) -> Image {
    assert!(code.len() <= TEXT_SIZE, "the fixture's section is smaller than the code");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/constant/old.exe");
    let mut content = fs::read(fixture).unwrap();
    content[TEXT_IN_FILE..TEXT_IN_FILE + TEXT_SIZE].fill(0xcc);
    content[TEXT_IN_FILE..TEXT_IN_FILE + code.len()].copy_from_slice(code);
    let data_in_file = TEXT_IN_FILE + 0x200;
    content[data_in_file..data_in_file + data.len()].copy_from_slice(data);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    Image::open(file.path()).unwrap()
}
