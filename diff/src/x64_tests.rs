//! What is found in small functions.

use iced_x86::Mnemonic;
use iced_x86::code_asm::*;

use super::*;
use crate::testing::{DATA, decode, decode_bytes};

fn roles(code: &Code) -> Vec<Role> {
    code.instructions.iter().map(|i| i.role).collect()
}

/// Field, distance from it to the instruction's end, kind and target of each reference.
fn references(code: &Code) -> Vec<(u32, u8, ReferenceKind, u32)> {
    code.references.iter().map(|r| (r.field, r.to_end, r.kind, r.target.0)).collect()
}

#[test]
fn a_distance_counts_from_the_end_of_the_instruction_immediates_included() {
    let code = decode(|a| {
        a.mov(ecx, dword_ptr(DATA)).unwrap();
        a.cmp(byte_ptr(DATA + 1), 5).unwrap();
        a.mov(word_ptr(DATA + 2), 0x1234).unwrap();
        a.mov(dword_ptr(DATA + 4), 0x1234_5678).unwrap();
        a.lea(rcx, qword_ptr(DATA + 8)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(
        references(&code),
        [
            (2, 4, ReferenceKind::Access, 0x2000),
            (8, 5, ReferenceKind::Access, 0x2001),
            (16, 6, ReferenceKind::Access, 0x2002),
            (24, 8, ReferenceKind::Access, 0x2004),
            (35, 4, ReferenceKind::Address, 0x2008),
        ]
    );
    assert_eq!(code.unresolved, []);
}

#[test]
fn branches_inside_are_roles_and_those_that_leave_are_references() {
    let code = decode(|a| {
        let mut top = a.create_label();
        a.set_label(&mut top).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.call(0x1100).unwrap();
        a.jmp(0x1180).unwrap();
    });
    let back = Role::Branch { mnemonic: Mnemonic::Jne as u16, target: 0 };
    assert_eq!(roles(&code), [Role::Plain, back, Role::Plain, Role::Plain]);
    assert_eq!(references(&code), [(5, 4, ReferenceKind::Call, 0x1100), (10, 4, ReferenceKind::Jump, 0x1180)]);
    assert!(!code.falls_through);
}

#[test]
fn a_short_branch_out_of_the_function_is_told_apart() {
    // jmp short +0x20; the function has two bytes.
    let code = decode_bytes(&[0xeb, 0x20]);
    assert_eq!(references(&code), [(1, 1, ReferenceKind::ShortJump, 0x1022)]);
}

#[test]
fn a_call_of_itself_is_a_reference() {
    let code = decode(|a| {
        a.call(0x1000).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(references(&code), [(1, 4, ReferenceKind::Call, 0x1000)]);
}

#[test]
fn breakpoints_are_padding_only_where_nothing_runs_into_them() {
    // int3 in the path of control, then one behind the return.
    let code = decode_bytes(&[0xcc, 0xc3, 0xcc]);
    assert_eq!(roles(&code), [Role::Plain, Role::Plain, Role::Padding]);
    // nop dword [rax]; xchg ax, ax; ret
    let code = decode_bytes(&[0x0f, 0x1f, 0x00, 0x66, 0x90, 0xc3]);
    assert_eq!(roles(&code), [Role::Padding, Role::Padding, Role::Plain]);
}

#[test]
fn control_runs_on_unless_something_ends_it() {
    let falls_through = |bytes: &[u8]| decode_bytes(bytes).falls_through;
    assert!(falls_through(&[0xff, 0xc0]), "inc eax");
    assert!(falls_through(&[0x75, 0xfe, 0x90]), "jne to itself, then padding");
    assert!(!falls_through(&[0xff, 0xc0, 0xc3, 0xcc]), "inc eax; ret; int3");
    assert!(!falls_through(&[0xeb, 0xfe]), "jmp to itself");
    assert!(!falls_through(&[0x0f, 0x0b]), "ud2");
    // A call at the end does not return, or the compiler would have put something behind it.
    assert!(!falls_through(&[0xe8, 0x00, 0x01, 0x00, 0x00]));
}

#[test]
fn what_is_not_code_is_unresolved() {
    let problem = |bytes: &[u8]| {
        let code = decode_bytes(bytes);
        code.unresolved.iter().map(|u| (u.offset, u.reason.clone())).next().unwrap()
    };
    // push es does not exist in 64-bit code.
    let (offset, reason) = problem(&[0x90, 0x06, 0xc3]);
    assert_eq!(offset, 1);
    assert!(reason.contains("no instruction"), "{reason}");
    // jmp to +3, inside `mov eax, 1`.
    let (offset, reason) = problem(&[0xeb, 0x01, 0xb8, 0x01, 0x00, 0x00, 0x00, 0xc3]);
    assert_eq!(offset, 0);
    assert!(reason.contains("middle of an instruction"), "{reason}");
    // An instruction that the function's end cuts off.
    assert_eq!(problem(&[0xc3, 0xe8, 0x00]).0, 1);
}

#[test]
fn calls_through_registers_and_memory_say_where_they_return_to() {
    let code = decode(|a| {
        a.call(rax).unwrap();
        a.call(qword_ptr(DATA)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(code.calls, [2, 8]);
    assert_eq!(references(&code), [(4, 4, ReferenceKind::Access, 0x2000)]);
}

#[test]
fn a_tail_call_through_a_register_is_no_jump_inside() {
    // movsxd rax, [rcx]; jmp rax, without and with REX.W
    assert_eq!(decode_bytes(&[0x48, 0x63, 0x01, 0xff, 0xe0]).register_jumps, [3]);
    assert_eq!(decode_bytes(&[0x48, 0x63, 0x01, 0x48, 0xff, 0xe0]).register_jumps, Vec::<u32>::new());
}
