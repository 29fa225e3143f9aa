use super::*;
use crate::target::memory::Bytes;

const BASE: u64 = 0x1_4000_0000;
const CODE: u32 = 0x100;
const UNWIND: u32 = 0x400;
const STACK: u64 = BASE + 0x800;
const CALLER: u64 = 0x7777;

/// A function's code and unwind record, and a stack of words from [`STACK`] on.
fn memory(code: &[u8], unwind: &[u8], stack: &[u64]) -> Bytes {
    let mut bytes = vec![0xcc; 0x1000];
    bytes[CODE as usize..][..code.len()].copy_from_slice(code);
    bytes[UNWIND as usize..][..unwind.len()].copy_from_slice(unwind);
    for (index, word) in stack.iter().enumerate() {
        bytes[0x800 + index * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    Bytes { base: BASE, bytes }
}

fn entry(size: u32) -> Option<FunctionEntry> {
    Some(FunctionEntry { base: BASE, begin: CODE, end: CODE + size, unwind: UNWIND })
}

/// Standing `offset` bytes behind the function's start, with RSP so many words above [`STACK`].
fn at(offset: u64, words: u64) -> Registers {
    let mut general = [0; 16];
    general[RSP] = STACK + words * 8;
    Registers { rip: BASE + u64::from(CODE) + offset, general }
}

const RBX: usize = 3;
const RBP: usize = 5;
const RSI: usize = 6;

/// `push rbx; sub rsp, 32; nop; add rsp, 32; pop rbx; ret`
const PUSHES: [u8; 12] = [0x53, 0x48, 0x83, 0xec, 0x20, 0x90, 0x48, 0x83, 0xc4, 0x20, 0x5b, 0xc3];
const PUSHES_UNWIND: [u8; 8] = [1, 5, 2, 0, 5, 0x32, 1, 0x30];

#[test]
fn every_place_of_a_function_leads_to_its_caller() {
    // From the stack pointer within the body: 32 bytes, RBX, the return address.
    let memory = memory(&PUSHES, &PUSHES_UNWIND, &[0, 0, 0, 0, 0xb, CALLER]);
    for (offset, words, rbx) in [(0, 5, 0), (1, 4, 0xb), (5, 0, 0xb), (6, 0, 0xb), (10, 4, 0xb), (11, 5, 0)] {
        let caller = unwind(&memory, entry(12), &at(offset, words), true).unwrap();
        assert_eq!((caller.rip, caller.rsp(), caller.general[RBX]), (CALLER, STACK + 48, rbx), "at {offset}");
    }
}

#[test]
fn the_frame_of_a_return_address_is_whole() {
    // A call may be the last instruction of a body; what follows may look like an epilogue.
    let memory = memory(&PUSHES, &PUSHES_UNWIND, &[0, 0, 0, 0, 0xb, CALLER]);
    let caller = unwind(&memory, entry(12), &at(10, 0), false).unwrap();
    assert_eq!((caller.rip, caller.rsp(), caller.general[RBX]), (CALLER, STACK + 48, 0xb));
}

#[test]
fn a_leaf_has_its_return_address_on_top() {
    let caller = unwind(&memory(&[], &[], &[CALLER]), None, &at(0, 0), true).unwrap();
    assert_eq!((caller.rip, caller.rsp()), (CALLER, STACK + 8));
}

/// `push rbp; sub rsp, 0x80; lea rbp, [rsp + 0x80]; mov [rsp + 0x10], rsi; …; lea rsp, [rbp]; pop rbp; ret`
#[test]
fn a_frame_register_is_what_counts() {
    let code = [0x90; 24].into_iter().chain([0x48, 0x8d, 0xa5, 0, 0, 0, 0, 0x5d, 0xc3]).collect::<Vec<u8>>();
    // Save RSI, set the frame, allocate, push RBP. RSP has moved since, as `alloca` does it; the frame has not.
    let mut registers = at(22, 0);
    registers.general[RBP] = STACK + 0x80;
    registers.general[RSP] = STACK - 0x100;
    let record = [1, 20, 6, 0x85, 20, 0x64, 2, 0, 16, 3, 8, 0x01, 16, 0, 1, 0x50];
    let stack = [0, 0, 0x51, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb, CALLER];
    let memory = memory(&code, &record, &stack);
    let caller = unwind(&memory, entry(33), &registers, true).unwrap();
    assert_eq!(
        (caller.rip, caller.rsp(), caller.general[RBP], caller.general[RSI]),
        (CALLER, STACK + 18 * 8, 0xb, 0x51)
    );
    // So it is in the epilogue.
    registers.rip = BASE + u64::from(CODE) + 24;
    let caller = unwind(&memory, entry(33), &registers, true).unwrap();
    assert_eq!((caller.rip, caller.rsp(), caller.general[RBP]), (CALLER, STACK + 18 * 8, 0xb));
    // Before the frame register is set, RSP is what counts.
    let caller = unwind(&memory, entry(33), &at(15, 0), true).unwrap();
    assert_eq!((caller.rip, caller.general[RBP], caller.general[RSI]), (CALLER, 0xb, 0));
}

#[test]
fn parts_of_a_function_are_unwound_with_the_whole() {
    // A part that saves RSI behind a function that pushed RBX and took 32 bytes.
    let mut record = vec![0x21, 0, 2, 0, 0, 0x64, 1, 0];
    for field in [CODE + 0x40, CODE + 0x4c, UNWIND + 0x40] {
        record.extend_from_slice(&field.to_le_bytes());
    }
    record.resize(0x40, 0);
    record.extend_from_slice(&PUSHES_UNWIND);
    let memory = memory(&[0x90; 16], &record, &[0, 0x51, 0, 0, 0xb, CALLER]);
    let caller = unwind(&memory, entry(16), &at(3, 0), true).unwrap();
    assert_eq!((caller.rip, caller.general[RBX], caller.general[RSI]), (CALLER, 0xb, 0x51));
}

#[test]
fn an_interrupted_frame_is_where_the_processor_says() {
    let memory = memory(&[0x90; 4], &[1, 0, 1, 0, 0, 0x1a], &[0xe, CALLER, 0x33, 0x246, STACK + 0x80, 0x2b]);
    let caller = unwind(&memory, entry(4), &at(1, 0), true).unwrap();
    assert_eq!((caller.rip, caller.rsp()), (CALLER, STACK + 0x80));
}

#[test]
fn a_jump_out_of_the_function_ends_it_and_one_within_does_not() {
    for (distance, is_end) in [(0x40, true), (0xfc, false)] {
        let code = [0x53, 0x90, 0x5b, 0xeb, distance, 0x90];
        let memory = memory(&code, &[1, 1, 1, 0, 1, 0x30], &[0xb, CALLER, 0x99]);
        // Behind the pop; a jump within the function means that RBX is still on the stack.
        let caller = unwind(&memory, entry(6), &at(3, 0), true).unwrap();
        assert_eq!(caller.rip, if is_end { 0xb } else { CALLER }, "{distance:#x}");
    }
}

#[test]
fn nonsense_is_no_frame() {
    for record in [&[7u8, 0, 0, 0][..], &[1, 0, 1, 0, 0, 0x0b], &[1, 0, 1, 0, 0, 0x01]] {
        assert_eq!(unwind(&memory(&[0x90; 4], record, &[CALLER]), entry(4), &at(1, 0), true), None, "{record:?}");
    }
    // A record that is chained to itself.
    let mut record = vec![0x21, 0, 0, 0];
    for field in [CODE, CODE + 4, UNWIND] {
        record.extend_from_slice(&field.to_le_bytes());
    }
    assert_eq!(unwind(&memory(&[0x90; 4], &record, &[CALLER]), entry(4), &at(1, 0), true), None);
    // An entry that does not hold the place.
    assert_eq!(
        unwind(&memory(&[], &PUSHES_UNWIND, &[]), entry(4), &Registers { rip: 0, general: [0; 16] }, true),
        None
    );
}
