//! Listings of code that was assembled for the test, and of fixtures against the listing of the build that they came from.

use std::path::Path;

use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_runtime::format::{Identity, Import, Segment, Unwind, Variable};

use super::*;
use crate::build;
use crate::plan::{Include, Plan};

const CODE: u32 = 0x1000;

fn segment(offset: u32, protection: Protection, content: &[u8]) -> Segment {
    Segment { offset, size: content.len() as u32, protection, content: content.to_vec() }
}

fn payload(code: &[u8], relocations: Vec<Relocation>) -> Payload {
    let function =
        |offset, size, name: &str| Function { offset, size, old_rva: None, name: name.to_owned(), exported: false };
    Payload {
        identity: Identity {
            guid: [0; 16],
            age: 1,
            timestamp: 0,
            size_of_image: 0x10000,
            entry_point: 0x1000,
            image_base: 0x1_4000_0000,
            image_name: "a.exe".to_owned(),
            series: 1,
            stays: false,
        },
        segments: vec![
            segment(CODE, Protection::ReadExecute, code),
            segment(0x2000, Protection::Read, b"\0\0\0\0\0\0\0\0a text\0abc\0"),
            segment(0x3000, Protection::ReadWrite, &[0; 16]),
        ],
        relocations,
        trampolines: Vec::new(),
        bodies: Vec::new(),
        functions: vec![function(CODE, code.len() as u32, "own"), function(0x1100, 16, "_ZN5other4makeEv")],
        imports: vec![Import { slot: 0x2000, dll: "k.dll".to_owned(), symbol: ImportSymbol::Ordinal(7) }],
        unwind: Unwind::default(),
        variables: vec![Variable { offset: 0x3000, size: 16, name: "main.c!count".to_owned() }],
        hooks: Vec::new(),
        probation: None,
        assignments: Vec::new(),
        initialisers: Vec::new(),
    }
}

/// The only instruction's text.
fn text(code: &[u8], relocation: Option<(u32, RelocationKind, Space, u32, i32)>) -> String {
    let relocation = relocation.map(|(field, kind, space, target, addend)| Relocation {
        place: CODE + field,
        kind,
        space,
        target,
        addend,
    });
    let payload = payload(code, relocation.into_iter().collect());
    let lines = Disassembly::of(&payload, None).function(&payload.functions[0]);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(line.offset, 0);
    let literal = line.literal.as_ref().map(|literal| format!(" ; {literal}"));
    line.text.clone() + &literal.unwrap_or_default()
}

#[test]
fn relocated_fields_read_as_what_they_lead_to() {
    use RelocationKind::{Addr64, Rel32};
    use Space::{Image, Region};
    let lea = [0x48, 0x8d, 0x0d, 0, 0, 0, 0];
    assert_eq!(text(&lea, Some((3, Rel32, Image, 0x3000, -4))), "lea rcx, [image+0x3000]");
    assert_eq!(text(&lea, Some((3, Rel32, Image, 0, -0x14))), "lea rcx, [image-0x10]");
    assert_eq!(text(&lea, Some((3, Rel32, Region, 0x3000, 4))), "lea rcx, [main.c!count+0x8]");
    assert_eq!(text(&[0xe8, 0, 0, 0, 0], Some((1, Rel32, Image, 0x1234, -4))), "call image+0x1234");
    let pointer = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(text(&pointer, Some((2, Addr64, Image, 0x4000, 8))), "mov rax, offset image+0x4008");
    // The immediate behind the displacement is none of it, though it is the value of the empty field.
    let compare = [0x81, 0x3d, 0, 0, 0, 0, 0x0a, 0x10, 0, 0];
    assert_eq!(text(&compare, Some((2, Rel32, Image, 0x5000, -8))), "cmp dword ptr [image+0x5000], 0x100A");
}

#[test]
fn linked_fields_read_as_parts_of_the_payload() {
    let to = |opcode: &[u8], target: u32| {
        let end = CODE + opcode.len() as u32 + 4;
        [opcode, &target.wrapping_sub(end).to_le_bytes()].concat()
    };
    let lea = [0x48, 0x8d, 0x15];
    for (code, wanted) in [
        (to(&[0xe8], 0x1100), "call other::make()"),
        (to(&[0xe9], 0x1104), "jmp other::make()+0x4"),
        (to(&[0xff, 0x15], 0x2000), "call qword ptr [k.dll!#7]"),
        (to(&lea, 0x2008), "lea rdx, [region+0x2008] ; \"a text\""),
        (to(&lea, 0x200f), "lea rdx, [region+0x200f]"),
        (to(&lea, 0x3004), "lea rdx, [main.c!count+0x4]"),
        (vec![0xeb, 0xfe], "jmp +0x0"),
        (vec![0xb8, 0, 0x20, 0, 0], "mov eax, 0x2000"),
        (vec![0x8b, 0x81, 0, 0x20, 0, 0], "mov eax, [rcx+0x2000]"),
        (vec![0xc3], "ret"),
    ] {
        assert_eq!(text(&code, None), wanted);
    }
}

#[test]
fn functions_outside_the_code_have_no_lines() {
    let payload = payload(&[0xc3], Vec::new());
    assert_eq!(Disassembly::of(&payload, None).function(&payload.functions[1]), []);
}

/// Calls and jumps go where those of the new build go.
#[test]
fn branches_read_as_those_of_the_new_build() {
    let mut calls = 0;
    for fixture in ["callee", "new_function", "new_import", "shared_inline", "constant"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
        let load = |image| Program::load(&folder.join(image), None).unwrap();
        let (old, new) = (load("old.exe"), load("new.exe"));
        let comparison = Comparison::of(&old, &new);
        let changes = ChangeSet::of(&old, &new, &comparison);
        let plan = Plan::of(&old, &new, &comparison, &changes, &Include { all: true, ..Include::default() });
        let payload = build::payload(&old, &new, &plan).unwrap();
        let disassembly = Disassembly::of(&payload, Some(&old));
        for (index, function) in plan.functions.keys().zip(&payload.functions) {
            for line in disassembly.function(function) {
                let theirs = listing::instruction(&new, *index, line.offset);
                let mnemonic = line.text.split(' ').next();
                assert_eq!(mnemonic, theirs.split(' ').next(), "{fixture}: {} +{:#x}", function.name, line.offset);
                // Import slots have a name of the linker's in the one, and none in the other.
                let is_direct = !line.text.contains('[');
                if is_direct && (line.text.starts_with("call") || line.text.starts_with('j')) {
                    assert_eq!(line.text, theirs, "{fixture}: {} +{:#x}", function.name, line.offset);
                    calls += usize::from(line.text.starts_with("call"));
                }
            }
        }
    }
    assert!(calls > 20, "{calls} calls");
}
