//! Entries that take a jump and entries that do not, and what that demands: a function of a fixture is replaced by code assembled for the test.

use std::fs;
use std::path::Path;

use hpgen_diff::atoms::Atom;
use iced_x86::code_asm::*;

use super::*;

/// `print` of the fixture `constant`, with the room up to the next function.
const PRINT: u32 = 0x1050;
const PRINT_SIZE: usize = 71;
const PRINT_ROOM: usize = 0x50;
/// `fixture_round`, which begins at 0x1010.
const ROUND_SIZE: usize = 0x32;
/// `fee`: `lea eax, [rcx+7]; ret`, and padding behind it.
const FEE: u32 = 0x1000;

/// Where the code section is in memory and in the file.
const TEXT: u32 = 0x1000;
const TEXT_IN_FILE: usize = 0x400;
/// The same of the constants.
const CONSTANTS: u32 = 0x2000;
const CONSTANTS_IN_FILE: usize = 0x600;

fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).unwrap();
    write(&mut assembler);
    assembler.assemble(u64::from(PRINT)).unwrap()
}

/// The ways to redirect the function at an address of the fixture, after bytes were changed at other addresses.
fn ways_at(entry: u32, changes: &[(u32, &[u8])]) -> Result<Ways, Refusal> {
    with_program(changes, |program| {
        let index = program.atom_before(Rva(entry)).unwrap();
        assert_eq!(program.atom(index).map(|atom: &Atom| atom.rva), Some(Rva(entry)));
        Entries::of(program).ways(program, index)
    })
}

fn with_program<T>(changes: &[(u32, &[u8])], look: impl FnOnce(&Program) -> T) -> T {
    with_program_of("constant", changes, look)
}

fn with_program_of<T>(fixture: &str, changes: &[(u32, &[u8])], look: impl FnOnce(&Program) -> T) -> T {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
    let mut image = fs::read(fixture.join("old.exe")).unwrap();
    for (rva, bytes) in changes {
        let place = match rva.checked_sub(CONSTANTS) {
            Some(offset) => offset as usize + CONSTANTS_IN_FILE,
            None => (rva - TEXT) as usize + TEXT_IN_FILE,
        };
        image[place..place + bytes.len()].copy_from_slice(bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old.exe"), image).unwrap();
    fs::copy(fixture.join("old.pdb"), folder.path().join("old.pdb")).unwrap();
    look(&Program::load(&folder.path().join("old.exe"), None).unwrap())
}

fn ways_of(code: &[u8]) -> Ways {
    ways_at(PRINT, &[(PRINT, &room(code))]).unwrap()
}

fn room(code: &[u8]) -> [u8; PRINT_ROOM] {
    assert!(code.len() <= PRINT_SIZE);
    let mut room = [0xcc; PRINT_ROOM];
    room[..code.len()].copy_from_slice(code);
    room
}

/// Demands of the long and the short jump.
fn demands(ways: &Ways) -> (Demand, Demand) {
    (ways.long.as_ref().unwrap().demand, ways.short.as_ref().unwrap().demand)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Refusal>, code: &str, text: &str) {
    let (found, message) = result.unwrap_err();
    assert_eq!(found, code, "{message}");
    assert!(message.contains(text), "{message}");
}

#[test]
fn expected_bytes_end_with_an_instruction() {
    let code = assemble(|a| {
        a.push(rsi).unwrap();
        a.push(rdi).unwrap();
        a.sub(rsp, 0x28).unwrap();
        a.add(rsp, 0x28).unwrap();
        a.pop(rdi).unwrap();
        a.pop(rsi).unwrap();
        a.ret().unwrap();
    });
    let long =
        Way { form: TrampolineForm::Jump32, demand: Demand::Entry, expected: code[..6].to_vec(), rebased_at: None };
    // One byte each: push rsi, push rdi.
    let short = Way { form: TrampolineForm::Jump8, expected: code[..2].to_vec(), ..long.clone() };
    let Ways { entry, long: found_long, short: found_short, callers } = ways_of(&code);
    assert_eq!((entry, found_long, found_short), (Rva(PRINT), Ok(long), Ok(short)));
    assert!(callers.is_err(), "nobody looks for callers where a jump fits");
}

#[test]
fn a_first_instruction_as_long_as_the_jump_demands_nothing() {
    let first = |size: usize| {
        let code = assemble(|a| {
            match size {
                2 => a.xor(eax, eax).unwrap(),
                3 => a.mov(rax, rcx).unwrap(),
                4 => a.sub(rsp, 0x28).unwrap(),
                _ => a.mov(eax, 7).unwrap(),
            }
            a.mov(edx, 7).unwrap();
            a.ret().unwrap();
        });
        demands(&ways_of(&code))
    };
    for size in [2, 3, 4] {
        assert_eq!(first(size), (Demand::Entry, Demand::Nothing), "{size}");
    }
    assert_eq!(first(5), (Demand::Nothing, Demand::Nothing));
}

/// No check of instruction pointers helps: the branch comes later.
#[test]
fn a_branch_back_to_the_entry_demands_the_whole_function() {
    for target in [0, 2, 4] {
        let code = assemble(|a| {
            let mut labels = [a.create_label(), a.create_label(), a.create_label()];
            for label in &mut labels {
                a.set_label(label).unwrap();
                a.inc(ecx).unwrap();
            }
            a.cmp(ecx, edx).unwrap();
            a.jne(labels[target / 2]).unwrap();
            a.ret().unwrap();
        });
        // Behind two bytes, a short jump is out of the branch's way.
        let short = if target == 0 { Demand::Body } else { Demand::Nothing };
        assert_eq!(demands(&ways_of(&code)), (Demand::Body, short), "back to +{target:#x}");
    }
    let behind = assemble(|a| {
        let mut top = a.create_label();
        a.mov(eax, 7).unwrap();
        a.set_label(&mut top).unwrap();
        a.dec(eax).unwrap();
        a.jne(top).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(demands(&ways_of(&behind)), (Demand::Nothing, Demand::Nothing), "back to +5 is behind the jump");
}

#[test]
fn a_call_that_returns_into_the_jump_demands_the_whole_function() {
    let call = assemble(|a| {
        a.call(rax).unwrap();
        a.nop().unwrap();
        a.mov(eax, 7).unwrap();
        a.ret().unwrap();
    });
    // It returns behind the two bytes of a short jump.
    assert_eq!(demands(&ways_of(&call)), (Demand::Body, Demand::Nothing));
    // A call of five bytes returns to the instruction behind the jump.
    let whole = assemble(|a| {
        a.call(u64::from(FEE)).unwrap();
        a.mov(eax, 7).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(demands(&ways_of(&whole)), (Demand::Nothing, Demand::Nothing));
}

#[test]
fn another_function_that_jumps_behind_the_entry_is_seen() {
    let entered = assemble(|a| {
        a.xor(eax, eax).unwrap();
        a.mov(ecx, 7).unwrap();
        a.ret().unwrap();
    });
    let print = room(&entered);
    // `fixture_round` begins with a jump into print.
    let round = 0x1010u32;
    let jump_to = |offset: u32| {
        let distance = (PRINT + offset).wrapping_sub(round + 5).to_le_bytes();
        [&[0xe9][..], &distance, &[0xcc; ROUND_SIZE - 5]].concat()
    };
    let ways = ways_at(PRINT, &[(PRINT, &print), (round, &jump_to(2))]).unwrap();
    assert_refused(ways.long, "branch-into-entry", "+0x2");
    assert_eq!(ways.short.unwrap().demand, Demand::Nothing, "it lands behind two bytes");
    let ways = ways_at(PRINT, &[(PRINT, &print), (round, &jump_to(1))]);
    assert_refused(ways, "branch-into-entry", "+0x1");
    let ways = ways_at(PRINT, &[(PRINT, &print)]).unwrap();
    assert_eq!(demands(&ways), (Demand::Entry, Demand::Nothing));
}

/// Functions that jump into each other's middle are one: what stands in either counts, and a jump to the entry is no call.
#[test]
fn parts_elsewhere_belong_to_the_function() {
    let entered = assemble(|a| {
        a.xor(eax, eax).unwrap();
        a.mov(ecx, 7).unwrap();
        a.mov(edx, 7).unwrap();
        a.ret().unwrap();
    });
    let (print, round) = (room(&entered), 0x1010u32);
    let jump = |from: u32, to: u32| [&[0xe9][..], &to.wrapping_sub(from + 5).to_le_bytes()].concat();
    let cold = [&jump(round, PRINT + 7)[..], &jump(round + 5, PRINT), &[0xcc; ROUND_SIZE - 10]].concat();
    let changes = [(PRINT, &print[..]), (round, &cold[..])];
    assert_eq!(demands(&ways_at(PRINT, &changes).unwrap()), (Demand::Body, Demand::Body));
    let runs = with_program(&changes, |program| {
        Entries::of(program).bodies(program, program.atom_before(Rva(PRINT)).unwrap())
    });
    let starts: Vec<Rva> = runs.iter().map(|run| run.start).collect();
    assert_eq!(starts, [Rva(round), Rva(PRINT)]);
    // A jump to the entry from a function that is no part of it is a call like others.
    let tail = jump(round, PRINT);
    let ways = ways_at(PRINT, &[(PRINT, &print), (round, &tail)]).unwrap();
    assert_eq!(demands(&ways), (Demand::Entry, Demand::Nothing));
}

#[test]
fn a_short_function_needs_padding_behind_it() {
    let ways = ways_at(FEE, &[]).unwrap();
    let long = ways.long.as_ref().unwrap();
    assert_eq!(long.expected, [0x8d, 0x41, 0x07, 0xc3, 0xcc], "four bytes of code and one of padding");
    assert_eq!(demands(&ways), (Demand::Entry, Demand::Nothing), "two bytes of the first instruction's three");
    let ways = ways_at(FEE, &[(FEE + 4, &[0x00])]).unwrap();
    assert_refused(ways.long, "function-too-short", "4 bytes");
    assert_eq!(ways.short.unwrap().expected, [0x8d, 0x41, 0x07]);
    assert!(ways_at(FEE, &[(FEE + 4, &[0x90])]).unwrap().long.is_ok());
    // A single return, and something else right behind it.
    let ways = ways_at(FEE, &[(FEE, &[0xc3, 0xcc, 0xcc, 0xcc, 0x00])]).unwrap();
    assert_eq!(ways.short.unwrap().demand, Demand::Entry, "its only instruction ends inside");
}

/// What was not decoded could come back to the entry.
#[test]
fn an_old_body_that_is_not_all_code_is_refused() {
    let mut code = assemble(|a| {
        a.mov(eax, 7).unwrap();
        a.ret().unwrap();
    });
    // push es does not exist in 64-bit code; a jump to the entry behind it is not seen.
    code.extend([0x06, 0xeb, 0xf7]);
    assert_refused(ways_at(PRINT, &[(PRINT, &room(&code))]), "unresolved-reference", "+0x6");
}

/// The fixture `short_function`: `level`, three bytes between two other functions, and `print` with the bytes up to the next function.
const LEVEL: u32 = 0x116a;
const SHORT_PRINT: u32 = 0x1044;
const SHORT_PRINT_SIZE: usize = 69;
/// Where `fixture_round` calls `level`.
const CALL: u32 = 0x1011;
/// A string, in the section of constants.
const TEXT_CONSTANT: u32 = 0x2000;

/// What is known of the callers of `level` where other bytes are changed.
fn callers_with(changes: &[(u32, &[u8])]) -> Result<Vec<Rva>, String> {
    with_program_of("short_function", changes, |program| {
        Entries::of(program).callers.fields(program, program.atom_before(Rva(LEVEL)).unwrap())
    })
}

/// The same where `print` begins with other code.
fn callers_with_print(code: &[u8]) -> Result<Vec<Rva>, String> {
    let mut print = [0xcc; SHORT_PRINT_SIZE];
    print[..code.len()].copy_from_slice(code);
    callers_with(&[(SHORT_PRINT, &print)])
}

fn relative(opcode: &[u8], to: u32) -> Vec<u8> {
    let end = SHORT_PRINT + opcode.len() as u32 + 4;
    [opcode, &to.wrapping_sub(end).to_le_bytes(), &[0xc3]].concat()
}

#[test]
fn all_callers_of_a_short_function_are_found() {
    assert_eq!(callers_with(&[]).unwrap(), [Rva(CALL)]);
    assert_eq!(callers_with_print(&[0xc3]).unwrap(), [Rva(CALL)]);
    for (opcode, what) in [(&[0xe8][..], "call"), (&[0xe9], "jmp"), (&[0x0f, 0x84], "je")] {
        let field = Rva(SHORT_PRINT + opcode.len() as u32);
        assert_eq!(callers_with_print(&relative(opcode, LEVEL)).unwrap(), [Rva(CALL), field], "{what}");
    }
    // Nobody looks for callers where there is room for a jump.
    assert!(ways_at(FEE, &[]).unwrap().callers.is_err());
}

/// Whatever else may lead there refuses it.
#[test]
fn what_is_no_long_call_keeps_callers_from_being_redirected() {
    let refused = |callers: Result<Vec<Rva>, String>, text: &str| {
        let obstacle = callers.unwrap_err();
        assert!(obstacle.contains(text), "{obstacle}");
    };
    // lea rax, [level]
    refused(callers_with_print(&relative(&[0x48, 0x8d, 0x05], LEVEL)), "leads there in another way");
    refused(callers_with_print(&relative(&[0x48, 0x8d, 0x05], LEVEL + 2)), "leads into its middle");
    refused(callers_with_print(&relative(&[0xe9], LEVEL + 2)), "leads into its middle");
    // A call in code that is not understood: push es does not exist.
    let mut unclear = relative(&[0xe8], LEVEL);
    unclear.push(0x06);
    refused(callers_with_print(&unclear), "leads there in another way");
    // mov eax, its RVA; mov rax, its address.
    let rva = [&[0xb8][..], &LEVEL.to_le_bytes(), &[0xc3]].concat();
    refused(callers_with_print(&rva), "of print, may be its address");
    let address = [&[0x48, 0xb8][..], &(0x1_4000_0000 + u64::from(LEVEL)).to_le_bytes(), &[0xc3]].concat();
    refused(callers_with_print(&address), "of print, may be its address");
    // In data: the RVA at any place, a distance from there, a distance from the object.
    for (value, at) in [(LEVEL, 1), (LEVEL.wrapping_sub(TEXT_CONSTANT + 2), 2), (LEVEL.wrapping_sub(TEXT_CONSTANT), 3)]
    {
        refused(callers_with(&[(TEXT_CONSTANT + at, &value.to_le_bytes())]), "may be its address, or lead there");
    }
    // Control that runs on into it, from `entry` before it.
    refused(callers_with(&[(LEVEL - 1, &[0x90])]), "control may run on into it from entry");
    // A short branch from the function behind it.
    let short = [0xeb, LEVEL.wrapping_sub(LEVEL + 3 + 2) as u8];
    refused(callers_with(&[(LEVEL + 3, &short)]), "leads there in another way");
    // The same in bytes that are not understood.
    refused(callers_with(&[(LEVEL + 3, &[0x06, 0x06, 0xeb, LEVEL.wrapping_sub(LEVEL + 3 + 4) as u8])]), "short branch");
}
