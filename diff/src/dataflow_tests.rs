//! What following addresses through small functions shows.

use iced_x86::code_asm::*;

use super::*;
use crate::testing::{DATA, decode, decode_with};

const TABLE: Rva = Rva(DATA as u32);

fn uses(write: impl FnOnce(&mut CodeAssembler)) -> Uses {
    decode(write).facts.uses.get(&TABLE).copied().unwrap_or_default()
}

const NONE: Uses = Uses {
    direct: false,
    indexed: false,
    unbounded: false,
    reach: 0,
    compared: false,
    escapes: false,
    computed: false,
    alignment: 0,
    kept: false,
    recognised: false,
};

/// clang: distances from the table itself.
#[test]
fn a_table_that_counts_from_itself() {
    // Both entries lead to the return at +0x10.
    let distance = (0x1010i32 - 0x2000).to_le_bytes();
    let code = decode_with(&[distance, distance].concat(), |a| {
        a.lea(rcx, qword_ptr(DATA)).unwrap();
        a.movsxd(rax, dword_ptr(rcx + rax * 4)).unwrap();
        a.add(rax, rcx).unwrap();
        a.jmp(rax).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(
        code.instruction_at(0x10).map(|i| code.instructions[i].len),
        Some(1),
        "the return is where it should be"
    );
    assert!(code.facts.tables.contains(&OffsetTable { rva: TABLE, base: TABLE, is_jump: true }), "{:?}", code.facts);
}

/// The same distances, added and then read at: the table leads to data.
#[test]
fn a_table_of_data_is_not_one_of_code() {
    let code = decode(|a| {
        a.lea(rcx, qword_ptr(DATA)).unwrap();
        a.movsxd(rax, dword_ptr(rcx + rax * 4)).unwrap();
        a.add(rax, rcx).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(code.facts.tables, BTreeSet::from([OffsetTable { rva: TABLE, base: TABLE, is_jump: false }]));
}

/// The address is never made: a member of what the table leads to is read at once.
#[test]
fn a_table_of_data_that_is_read_through_at_once() {
    let read = |base, index| {
        decode(|a| {
            a.lea(rcx, qword_ptr(DATA)).unwrap();
            a.movsxd(rax, dword_ptr(rcx + rax * 4)).unwrap();
            a.mov(edx, dword_ptr(base + index + 4)).unwrap();
            a.ret().unwrap();
        })
    };
    for code in [read(rax, rcx), read(rcx, rax)] {
        assert_eq!(code.facts.tables, BTreeSet::from([OffsetTable { rva: TABLE, base: TABLE, is_jump: false }]));
    }
    let doubled = decode(|a| {
        a.lea(rcx, qword_ptr(DATA)).unwrap();
        a.movsxd(rax, dword_ptr(rcx + rax * 4)).unwrap();
        a.mov(edx, dword_ptr(rcx + rax * 2)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(doubled.facts.tables, BTreeSet::new());
}

/// The first index is 1: the table begins where the entries count from, if what stands before it is no entry.
#[test]
fn a_table_that_is_read_from_before_its_start() {
    let at = |before: i32| {
        // Behind the entries, two texts.
        let data = [before.to_le_bytes(), 8i32.to_le_bytes(), 11i32.to_le_bytes(), *b"ab\0c"].concat();
        let code = decode_with(&data, |a| {
            a.lea(rcx, qword_ptr(DATA + 4)).unwrap();
            a.movsxd(rax, dword_ptr(rcx + rax * 4 - 4)).unwrap();
            a.add(rax, rcx).unwrap();
            a.ret().unwrap();
        });
        code.facts.tables.into_iter().collect::<Vec<_>>()
    };
    let table = Rva(TABLE.0 + 4);
    let found = [OffsetTable { rva: table, base: table, is_jump: false }];
    assert_eq!(at(0x7000_0000), found, "leads out of the image");
    assert_eq!(at(9), found, "leads into a text");
    assert_eq!(at(8), [], "leads to a text as well: it may be the first entry");
    assert_eq!(at(0x1003 - 0x2004), [], "leads to code");
}

/// MSVC: RVAs, read through a register that holds the image base.
#[test]
fn a_table_of_rvas() {
    let entry = 0x1010u32.to_le_bytes();
    let code = decode_with(&[entry, entry].concat(), |a| {
        // The base of the image is 1000h bytes before the code.
        a.lea(rdx, qword_ptr(0u64)).unwrap();
        a.mov(ecx, dword_ptr(rdx + rax * 4 + 0x2000)).unwrap();
        a.add(rcx, rdx).unwrap();
        a.jmp(rcx).unwrap();
        a.ret().unwrap();
    });
    assert!(code.facts.tables.contains(&OffsetTable { rva: TABLE, base: Rva(0), is_jump: true }), "{:?}", code.facts);
    assert!(code.facts.image_relative.contains(&(7, TABLE)), "{:?}", code.facts);
    let field = code.references.iter().find(|r| r.kind == crate::x64::ReferenceKind::ImageRelative).unwrap();
    assert_eq!((field.field, field.target), (10, TABLE));
    assert_eq!(code.unresolved, []);
}

#[test]
fn what_is_done_with_an_address_is_noted() {
    let direct = uses(|a| {
        a.lea(rax, qword_ptr(DATA)).unwrap();
        a.mov(ecx, dword_ptr(rax + 8)).unwrap();
        a.xor(eax, eax).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(direct, Uses { direct: true, ..NONE });
    let indexed = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.mov(eax, dword_ptr(rdx + rcx * 4)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(indexed, Uses { indexed: true, unbounded: true, ..NONE });
    let before = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.mov(eax, dword_ptr(rdx - 4)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(
        before,
        Uses { indexed: true, unbounded: true, ..NONE },
        "what lies before an address is another object's"
    );
    let compared = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.cmp(rcx, rdx).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(compared, Uses { compared: true, recognised: true, ..NONE });
    let passed = uses(|a| {
        a.lea(rcx, qword_ptr(DATA)).unwrap();
        a.call(0x1100).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(passed, Uses { escapes: true, kept: true, ..NONE });
    let returned = uses(|a| {
        a.lea(rax, qword_ptr(DATA)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(returned, Uses { escapes: true, kept: true, ..NONE });
    let scaled = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.shl(rdx, 2).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(scaled, Uses { computed: true, kept: true, ..NONE });
}

/// `object->kind = &kinds[n]`: the address that is stored is not the one that was taken.
#[test]
fn what_is_computed_from_an_address_can_be_kept() {
    let stored = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.shl(r8, 4).unwrap();
        a.add(rdx, r8).unwrap();
        a.mov(qword_ptr(rcx), rdx).unwrap();
        a.ret().unwrap();
    });
    assert!(stored.kept && !stored.escapes, "{stored:?}");
    let read = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.mov(eax, dword_ptr(rdx + rcx * 4)).unwrap();
        a.mov(dword_ptr(rcx), eax).unwrap();
        a.ret().unwrap();
    });
    assert!(!read.kept, "{read:?}");
}

/// What was stored before is recognised by its address; the end of a loop over an array is nothing of the kind.
#[test]
fn an_address_is_compared_with_what_lives_or_with_its_own() {
    let from_memory = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.cmp(qword_ptr(rcx + 8), rdx).unwrap();
        a.ret().unwrap();
    });
    assert!(from_memory.recognised, "{from_memory:?}");
    let as_the_end = uses(|a| {
        let mut again = a.create_label();
        a.lea(rcx, qword_ptr(DATA - 32)).unwrap();
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(eax, dword_ptr(rcx)).unwrap();
        a.add(rcx, 4).unwrap();
        a.cmp(rcx, rdx).unwrap();
        a.jne(again).unwrap();
        a.ret().unwrap();
    });
    assert!(as_the_end.compared && !as_the_end.recognised, "{as_the_end:?}");
}

/// A register that may hold either of two addresses is used as both.
#[test]
fn paths_that_meet_bring_both_addresses() {
    let code = decode(|a| {
        let mut other = a.create_label();
        let mut both = a.create_label();
        a.test(ecx, ecx).unwrap();
        a.je(other).unwrap();
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.jmp(both).unwrap();
        a.set_label(&mut other).unwrap();
        a.lea(rdx, qword_ptr(DATA + 0x10)).unwrap();
        a.set_label(&mut both).unwrap();
        a.mov(eax, dword_ptr(rdx + rcx * 4)).unwrap();
        a.ret().unwrap();
    });
    let indexed: Vec<Rva> = code.facts.uses.iter().filter(|(_, uses)| uses.indexed).map(|(rva, _)| *rva).collect();
    assert_eq!(indexed, [TABLE, Rva(0x2010)]);
}

#[test]
fn addresses_survive_on_the_stack_and_in_kept_registers_but_not_in_scratch_ones() {
    let kept = |through: AsmRegister64| {
        uses(|a| {
            a.lea(through, qword_ptr(DATA)).unwrap();
            a.xor(ecx, ecx).unwrap();
            a.call(0x1100).unwrap();
            a.mov(eax, dword_ptr(through + rsi * 4)).unwrap();
            a.ret().unwrap();
        })
    };
    assert!(kept(rbx).indexed);
    assert!(!kept(r10).indexed, "the call destroys r10");
    let spilled = uses(|a| {
        a.sub(rsp, 0x28).unwrap();
        a.lea(rax, qword_ptr(DATA)).unwrap();
        a.mov(qword_ptr(rsp + 0x20), rax).unwrap();
        a.call(0x1100).unwrap();
        a.mov(rbx, qword_ptr(rsp + 0x20)).unwrap();
        a.mov(eax, dword_ptr(rbx + rsi * 4)).unwrap();
        a.ret().unwrap();
    });
    assert!(spilled.indexed, "{spilled:?}");
}

#[test]
fn loops_end() {
    let code = decode(|a| {
        let mut top = a.create_label();
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.set_label(&mut top).unwrap();
        a.mov(eax, dword_ptr(rdx)).unwrap();
        a.add(rdx, 4).unwrap();
        a.cmp(rdx, rcx).unwrap();
        a.jne(top).unwrap();
        a.ret().unwrap();
    });
    let uses = code.facts.uses.get(&TABLE).copied().unwrap();
    assert!(uses.direct && uses.computed, "{uses:?}");
}

/// A table is read at an index: the uses of the table, where `bound` comes before and leaves the index in `rax`.
fn indexed_after(bound: impl FnOnce(&mut CodeAssembler, CodeLabel)) -> Uses {
    uses(|a| {
        let mut out = a.create_label();
        bound(a, out);
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.mov(rax, qword_ptr(rdx + rax * 8)).unwrap();
        a.ret().unwrap();
        a.set_label(&mut out).unwrap();
        a.ret().unwrap();
    })
}

const UNBOUNDED: Uses = Uses { indexed: true, unbounded: true, ..NONE };

#[test]
fn a_comparison_bounds_an_index() {
    let reach = |reach| Uses { indexed: true, reach, ..NONE };
    // As clang reads tables that it makes of `switch`.
    let below = indexed_after(|a, out| {
        a.dec(ecx).unwrap();
        a.cmp(ecx, 9).unwrap();
        a.jae(out).unwrap();
        a.mov(eax, ecx).unwrap();
    });
    assert_eq!(below, reach(72));
    let at_most = indexed_after(|a, out| {
        a.cmp(rax, 9).unwrap();
        a.ja(out).unwrap();
    });
    assert_eq!(at_most, reach(80));
    let other_branch = indexed_after(|a, out| {
        let mut inside = a.create_label();
        a.cmp(ecx, 3).unwrap();
        a.jb(inside).unwrap();
        a.jmp(out).unwrap();
        a.set_label(&mut inside).unwrap();
        a.mov(eax, ecx).unwrap();
    });
    assert_eq!(other_branch, reach(24));
    let masked = indexed_after(|a, _| {
        a.and(eax, 7).unwrap();
    });
    assert_eq!(masked, reach(64));
    let byte = indexed_after(|a, _| {
        a.movzx(eax, cl).unwrap();
    });
    assert_eq!(byte, reach(2048));
    // As clang reads them by an enumeration that is kept in a byte.
    let of_byte = indexed_after(|a, out| {
        a.lea(ecx, ptr(rax - 1)).unwrap();
        a.cmp(cl, 4).unwrap();
        a.ja(out).unwrap();
        a.movzx(eax, cl).unwrap();
    });
    assert_eq!(of_byte, reach(40));
    // The same of a number that is kept in 16 bits.
    let of_word = indexed_after(|a, out| {
        a.dec(eax).unwrap();
        a.cmp(ax, 7).unwrap();
        a.ja(out).unwrap();
        a.movzx(eax, ax).unwrap();
    });
    assert_eq!(of_word, reach(64));
    let byte_of_word = indexed_after(|a, out| {
        a.cmp(cx, 7).unwrap();
        a.ja(out).unwrap();
        a.movzx(eax, cl).unwrap();
    });
    assert_eq!(byte_of_word, reach(64));
    let word_of_byte = indexed_after(|a, out| {
        a.cmp(cl, 7).unwrap();
        a.ja(out).unwrap();
        a.movzx(eax, cx).unwrap();
    });
    assert_eq!(word_of_byte, Uses { indexed: true, reach: 0x1_0000 * 8, ..NONE });
    // The scale in an instruction of its own, the index in the place of the base.
    let shifted = |by: i32| {
        uses(|a| {
            let mut out = a.create_label();
            a.cmp(cl, 2).unwrap();
            a.ja(out).unwrap();
            a.movzx(eax, cl).unwrap();
            a.shl(eax, by).unwrap();
            a.lea(rdx, qword_ptr(DATA)).unwrap();
            a.mov(rax, qword_ptr(rax + rdx)).unwrap();
            a.set_label(&mut out).unwrap();
            a.ret().unwrap();
        })
    };
    assert_eq!(shifted(3), reach(24));
    assert_eq!(shifted(31), UNBOUNDED, "bits are lost");
    let known_to_be_a_byte = indexed_after(|a, out| {
        a.movzx(eax, cl).unwrap();
        a.cmp(al, 4).unwrap();
        a.ja(out).unwrap();
    });
    assert_eq!(known_to_be_a_byte, reach(40));
    let high_bit = indexed_after(|a, out| {
        a.cmp(cl, 0xf0).unwrap();
        a.ja(out).unwrap();
        a.movzx(eax, cl).unwrap();
    });
    assert_eq!(high_bit, reach(0xf1 * 8));
    assert!(below.is_indexed_within(72) && !below.is_indexed_within(71));
}

/// Where all other values are out of bounds, a `switch` goes on with one of its constants, as link-time optimisation makes it.
#[test]
fn a_default_that_is_a_constant_bounds_an_index() {
    let or_else = |constant: u32| {
        indexed_after(|a, _| {
            let mut known = a.create_label();
            a.dec(ecx).unwrap();
            a.cmp(ecx, 9).unwrap();
            a.jb(known).unwrap();
            a.mov(ecx, constant).unwrap();
            a.set_label(&mut known).unwrap();
            a.mov(eax, ecx).unwrap();
        })
    };
    let reach = |reach| Uses { indexed: true, reach, ..NONE };
    assert_eq!([or_else(3), or_else(8), or_else(9)], [reach(72), reach(72), reach(80)]);
    let either = indexed_after(|a, _| {
        let mut other = a.create_label();
        a.mov(eax, 2).unwrap();
        a.test(ecx, ecx).unwrap();
        a.je(other).unwrap();
        a.mov(eax, 5).unwrap();
        a.set_label(&mut other).unwrap();
    });
    assert_eq!(either, reach(48));
    // One index for several tables, in bytes.
    let multiple = uses(|a| {
        let mut out = a.create_label();
        a.movzx(ecx, byte_ptr(rcx)).unwrap();
        a.cmp(ecx, 3).unwrap();
        a.jae(out).unwrap();
        a.lea(eax, ptr(rcx * 4)).unwrap();
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.mov(eax, dword_ptr(rax + rdx)).unwrap();
        a.set_label(&mut out).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(multiple, reach(12));
    // What the other path brings is not known.
    let loaded = indexed_after(|a, _| {
        let mut other = a.create_label();
        a.mov(eax, 2).unwrap();
        a.test(ecx, ecx).unwrap();
        a.je(other).unwrap();
        a.mov(eax, dword_ptr(rdx)).unwrap();
        a.set_label(&mut other).unwrap();
    });
    assert_eq!(loaded, UNBOUNDED);
}

/// Conditions that become numbers: cleared and set, moved, one of two constants.
#[test]
fn a_condition_that_becomes_a_number_bounds_an_index() {
    let reach = |reach| Uses { indexed: true, reach, ..NONE };
    let truth = indexed_after(|a, _| {
        a.xor(eax, eax).unwrap();
        a.cmp(ecx, 9).unwrap();
        a.setb(al).unwrap();
    });
    let extended = indexed_after(|a, _| {
        a.cmp(ecx, 9).unwrap();
        a.setb(cl).unwrap();
        a.movzx(eax, cl).unwrap();
    });
    assert_eq!([truth, extended], [reach(16), reach(16)]);
    // As `i < 6 ? 2 : i < 9`.
    let one_of_three = indexed_after(|a, _| {
        let mut known = a.create_label();
        a.mov(ebp, 2).unwrap();
        a.cmp(ecx, 6).unwrap();
        a.jb(known).unwrap();
        a.xor(ebp, ebp).unwrap();
        a.cmp(ecx, 9).unwrap();
        a.setb(bpl).unwrap();
        a.set_label(&mut known).unwrap();
        a.mov(eax, ebp).unwrap();
    });
    assert_eq!(one_of_three, reach(24));
    let one_of_two = indexed_after(|a, _| {
        a.sub(eax, eax).unwrap();
        a.mov(ecx, 4).unwrap();
        a.test(edx, edx).unwrap();
        a.cmove(eax, ecx).unwrap();
    });
    assert_eq!(one_of_two, reach(40));
    for not_known in [
        // The bytes above the lowest one.
        indexed_after(|a, _| {
            a.cmp(ecx, 9).unwrap();
            a.setb(al).unwrap();
        }),
        indexed_after(|a, _| {
            a.mov(eax, 0x100).unwrap();
            a.cmp(ecx, 9).unwrap();
            a.setb(al).unwrap();
        }),
        indexed_after(|a, _| {
            a.xor(eax, eax).unwrap();
            a.setb(ah).unwrap();
        }),
        indexed_after(|a, _| a.xor(al, al).unwrap()),
        // What is moved on one side only.
        indexed_after(|a, _| {
            a.xor(eax, eax).unwrap();
            a.test(edx, edx).unwrap();
            a.cmove(eax, ecx).unwrap();
        }),
    ] {
        assert_eq!(not_known, UNBOUNDED);
    }
    // In a loop, what only grows a little is not followed to its end.
    let counted = indexed_after(|a, _| {
        let mut top = a.create_label();
        a.xor(eax, eax).unwrap();
        a.set_label(&mut top).unwrap();
        a.lea(eax, ptr(rax * 1 + 4)).unwrap();
        a.test(ecx, ecx).unwrap();
        a.jne(top).unwrap();
    });
    assert_eq!(counted, UNBOUNDED);
}

#[test]
fn what_bounds_something_else_bounds_no_index() {
    // The upper half was not compared.
    let half = indexed_after(|a, out| {
        a.cmp(eax, 9).unwrap();
        a.jae(out).unwrap();
    });
    assert_eq!(half, UNBOUNDED);
    // All but the lowest byte was not compared.
    for byte in [
        indexed_after(|a, out| {
            a.cmp(al, 4).unwrap();
            a.ja(out).unwrap();
        }),
        indexed_after(|a, out| {
            a.cmp(cl, 4).unwrap();
            a.ja(out).unwrap();
            a.mov(eax, ecx).unwrap();
        }),
    ] {
        assert_eq!(byte, UNBOUNDED);
    }
    // The bytes above the lowest one, and another byte than was compared.
    for other in [
        indexed_after(|a, out| {
            a.cmp(ch, 4).unwrap();
            a.ja(out).unwrap();
            a.movzx(eax, cl).unwrap();
        }),
        indexed_after(|a, out| {
            a.cmp(cl, 4).unwrap();
            a.ja(out).unwrap();
            a.movzx(eax, ch).unwrap();
        }),
        indexed_after(|a, out| {
            a.movzx(eax, cx).unwrap();
            a.cmp(al, 4).unwrap();
            a.ja(out).unwrap();
            a.movzx(eax, ah).unwrap();
        }),
    ] {
        assert_eq!(other, Uses { indexed: true, reach: 2048, ..NONE });
    }
    // The wrong side of the branch, and a comparison of numbers with signs.
    for wrong in [
        indexed_after(|a, out| {
            a.cmp(rax, 9).unwrap();
            a.jb(out).unwrap();
        }),
        indexed_after(|a, out| {
            a.cmp(rax, 9).unwrap();
            a.jge(out).unwrap();
        }),
    ] {
        assert_eq!(wrong, UNBOUNDED);
    }
    // Changed after it was compared, before or behind the branch.
    for changed in [
        indexed_after(|a, out| {
            a.cmp(rax, 9).unwrap();
            a.mov(rax, rcx).unwrap();
            a.jae(out).unwrap();
        }),
        indexed_after(|a, out| {
            a.cmp(rax, 9).unwrap();
            a.jae(out).unwrap();
            a.inc(rax).unwrap();
        }),
        indexed_after(|a, out| {
            a.cmp(rax, 9).unwrap();
            a.test(rcx, rcx).unwrap();
            a.jae(out).unwrap();
        }),
    ] {
        assert_eq!(changed, UNBOUNDED);
    }
    // A path on which nothing was compared joins.
    let joined = indexed_after(|a, out| {
        let mut read = a.create_label();
        a.test(rcx, rcx).unwrap();
        a.je(read).unwrap();
        a.cmp(rax, 9).unwrap();
        a.jae(out).unwrap();
        a.set_label(&mut read).unwrap();
        a.nop().unwrap();
    });
    assert_eq!(joined, UNBOUNDED);
}

/// What the code does not show can change a number: who has a slot's address, a landing pad behind a call that does not come back, a jump that is not followed.
#[test]
fn a_bound_is_lost_where_others_come_in() {
    let slot = indexed_after(|a, _| {
        a.and(eax, 7).unwrap();
        a.mov(qword_ptr(rsp + 8), rax).unwrap();
        a.mov(rax, qword_ptr(rsp + 8)).unwrap();
    });
    let behind_call = indexed_after(|a, _| {
        a.xor(esi, esi).unwrap();
        a.call(0x1000u64).unwrap();
        a.mov(rax, rsi).unwrap();
    });
    let constant_behind_call = indexed_after(|a, _| {
        a.mov(esi, 1).unwrap();
        a.call(0x1000u64).unwrap();
        a.mov(rax, rsi).unwrap();
    });
    let behind_system_call = indexed_after(|a, _| {
        a.xor(eax, eax).unwrap();
        a.int(0x2e).unwrap();
    });
    let computed_goto = indexed_after(|a, _| {
        let mut read = a.create_label();
        a.and(eax, 7).unwrap();
        a.test(ecx, ecx).unwrap();
        a.je(read).unwrap();
        a.jmp(qword_ptr(r8 + rcx * 8)).unwrap();
        a.set_label(&mut read).unwrap();
        a.inc(r9d).unwrap();
    });
    for lost in [slot, behind_call, constant_behind_call, behind_system_call] {
        assert_eq!(lost, UNBOUNDED);
    }
    assert!(computed_goto.unbounded, "{computed_goto:?}");
    let tail_call = indexed_after(|a, _| {
        let mut read = a.create_label();
        a.and(eax, 7).unwrap();
        a.test(ecx, ecx).unwrap();
        a.je(read).unwrap();
        a.jmp(qword_ptr(DATA + 8)).unwrap();
        a.set_label(&mut read).unwrap();
        a.inc(r9d).unwrap();
    });
    assert_eq!(tail_call, Uses { indexed: true, reach: 64, ..NONE }, "through an import");
}

/// A base that is biased by what the index is at least: the accesses leave whatever stands there.
#[test]
fn an_address_of_which_more_is_done_is_unbounded() {
    let computed = uses(|a| {
        a.and(eax, 7).unwrap();
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.lea(rcx, qword_ptr(rdx + rax * 8)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(computed, UNBOUNDED);
    let before = uses(|a| {
        a.and(eax, 7).unwrap();
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.mov(eax, dword_ptr(rdx + rax * 4 - 4)).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(before, UNBOUNDED);
}

/// A vector instruction that faults where its operand is not aligned, by way of an index and of a copy of the address.
#[test]
fn an_aligned_access_through_a_register_is_noted() {
    let found = uses(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.mov(rax, rdx).unwrap();
        a.movaps(xmm0, xmmword_ptr(rax + rcx)).unwrap();
        a.movups(xmm1, xmmword_ptr(rdx)).unwrap();
        a.movaps(xmmword_ptr(rsp + 0x20), xmm0).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(found.alignment, 16);
    let to_stack = decode(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.movups(xmm0, xmmword_ptr(rdx)).unwrap();
        a.movaps(xmmword_ptr(rsp + 0x20), xmm0).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(to_stack.facts.alignment, 1);
    let reference = to_stack.references[0];
    assert_eq!(to_stack.alignment_of(&reference, TABLE), 1);
}

/// The address is lost in a sum: what is accessed there may be what is accessed aligned.
#[test]
fn what_is_lost_may_be_what_is_aligned() {
    let code = decode(|a| {
        a.lea(rdx, qword_ptr(DATA)).unwrap();
        a.add(rdx, 16).unwrap();
        a.movaps(xmm0, xmmword_ptr(rdx)).unwrap();
        a.ret().unwrap();
    });
    let reference = code.references[0];
    assert_eq!(code.alignment_of(&reference, TABLE), 16);
    assert_eq!(code.alignment_of(&reference, Rva(TABLE.0 + 4)), 1, "the new build does not align it either");
}
