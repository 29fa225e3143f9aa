//! Entries that take a jump and entries that do not: a function of a fixture is replaced by code assembled for the test.

use std::fs;
use std::path::Path;

use hpgen_diff::atoms::Atom;
use iced_x86::code_asm::*;

use super::*;

/// `print` of the fixture `constant`, with the room up to the next function.
const PRINT: u32 = 0x1050;
const PRINT_SIZE: usize = 71;
const PRINT_ROOM: usize = 0x50;
/// `fee`: `lea eax, [rcx+7]; ret`, and padding behind it.
const FEE: u32 = 0x1000;

/// Where the code section is in memory and in the file.
const TEXT: u32 = 0x1000;
const TEXT_IN_FILE: usize = 0x400;

fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).unwrap();
    write(&mut assembler);
    assembler.assemble(u64::from(PRINT)).unwrap()
}

/// The site of the function at an address of the fixture, after bytes were changed at other addresses.
fn site_at(entry: u32, changes: &[(u32, &[u8])]) -> Result<Site, (&'static str, String)> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/constant");
    let mut image = fs::read(fixture.join("old.exe")).unwrap();
    for (rva, bytes) in changes {
        let place = (rva - TEXT) as usize + TEXT_IN_FILE;
        image[place..place + bytes.len()].copy_from_slice(bytes);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old.exe"), image).unwrap();
    fs::copy(fixture.join("old.pdb"), folder.path().join("old.pdb")).unwrap();
    let program = Program::load(&folder.path().join("old.exe"), None).unwrap();
    let index = program.atom_before(Rva(entry)).unwrap();
    assert_eq!(program.atom(index).map(|atom: &Atom| atom.rva), Some(Rva(entry)));
    site(&program, &EntryLabels::of(&program), index)
}

fn site_of(code: &[u8]) -> Result<Site, (&'static str, String)> {
    assert!(code.len() <= PRINT_SIZE);
    let mut room = [0xcc; PRINT_ROOM];
    room[..code.len()].copy_from_slice(code);
    site_at(PRINT, &[(PRINT, &room)])
}

#[track_caller]
fn assert_refused(result: Result<Site, (&'static str, String)>, code: &str, text: &str) {
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
    let site = site_of(&code).unwrap();
    assert_eq!(site, Site { entry: Rva(PRINT), expected: code[..6].to_vec(), rebased_at: None });
}

#[test]
fn a_branch_back_to_the_entry_would_run_into_the_jump() {
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
        assert_refused(site_of(&code), "branch-into-entry", &format!("back to +{target:#x}"));
    }
    let behind = assemble(|a| {
        let mut top = a.create_label();
        a.mov(eax, 7).unwrap();
        a.set_label(&mut top).unwrap();
        a.dec(eax).unwrap();
        a.jne(top).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(site_of(&behind).map(|site| site.expected.len()), Ok(5), "back to +5 is behind the jump");
}

#[test]
fn nothing_may_return_into_the_jump() {
    let call = |a: &mut CodeAssembler| {
        a.call(rax).unwrap();
        a.nop().unwrap();
        a.mov(eax, 7).unwrap();
        a.ret().unwrap();
    };
    assert_refused(site_of(&assemble(call)), "call-in-entry", "return into the jump");
    // A call of five bytes returns to the instruction behind the jump.
    let whole = assemble(|a| {
        a.call(u64::from(FEE)).unwrap();
        a.mov(eax, 7).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(site_of(&whole).map(|site| site.expected.len()), Ok(5));
}

#[test]
fn another_function_that_jumps_behind_the_entry_is_seen() {
    let entered = assemble(|a| {
        a.xor(eax, eax).unwrap();
        a.mov(ecx, 7).unwrap();
        a.ret().unwrap();
    });
    let mut print = [0xcc; PRINT_ROOM];
    print[..entered.len()].copy_from_slice(&entered);
    // `fixture_round` begins with a jump to print+2.
    let round = 0x1010u32;
    let distance = (PRINT + 2).wrapping_sub(round + 5).to_le_bytes();
    let jump = [&[0xe9][..], &distance].concat();
    assert_refused(site_at(PRINT, &[(PRINT, &print), (round, &jump)]), "branch-into-entry", "+0x2");
    assert!(site_at(PRINT, &[(PRINT, &print)]).is_ok());
}

#[test]
fn a_short_function_needs_padding_behind_it() {
    let site = site_at(FEE, &[]).unwrap();
    assert_eq!(site.expected, [0x8d, 0x41, 0x07, 0xc3, 0xcc], "four bytes of code and one of padding");
    assert_refused(site_at(FEE, &[(FEE + 4, &[0x00])]), "function-too-short", "4 bytes");
    assert!(site_at(FEE, &[(FEE + 4, &[0x90])]).is_ok());
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
    assert_refused(site_of(&code), "unresolved-reference", "+0x6");
}
