//! Source lines, inlined calls, causes and aligned listings of the committed fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use hpgen_diff::asm::{self, Row};
use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::lines::{Frame, Lines};
use hpgen_diff::program::Program;

fn load(fixture: &str, which: &str) -> Program {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
    Program::load(&path.join(format!("{which}.exe")), None).unwrap()
}

fn shown(frames: &[Frame]) -> Vec<String> {
    let place = |frame: &Frame| {
        let source = frame.source.as_ref().map(|s| format!("{}:{}", s.file, s.line)).unwrap_or_default();
        format!("{source} {}", frame.inlined.as_deref().unwrap_or("itself"))
    };
    frames.iter().map(place).collect()
}

#[test]
fn addresses_lead_to_inlined_calls() {
    let program = load("inlined", "old");
    let net =
        program.functions.iter().map(|f| f.atom).find(|atom| program.display(program.atom(*atom).unwrap()) == "net");
    let net = net.unwrap();
    let lines = Lines::of(&program, [net]);
    let start = program.atom(net).unwrap().rva;
    assert_eq!(shown(&lines.at(start)), [r"c:\hpgen\rate.h:6 rate", r"c:\hpgen\main.c:13 itself"]);
    let last = asm::lines(&program, net).last().unwrap().rva;
    assert_eq!(shown(&lines.at(last)), [r"c:\hpgen\main.c:13 itself"]);
    assert_eq!(shown(&lines.at(hpgen_diff::rva::Rva(0))), [" itself"]);
}

#[test]
fn a_changed_inline_function_is_the_cause() {
    let (old, new) = (load("inlined", "old"), load("inlined", "new"));
    let changes = ChangeSet::of(&old, &new, &Comparison::of(&old, &new));
    let causes: Vec<_> = changes
        .causes
        .iter()
        .map(|c| {
            let effects: Vec<&str> = c.effects.iter().map(|i| changes.functions[*i].name.as_str()).collect();
            (c.function.as_str(), c.is_inlined, c.source.file.as_str(), c.source.line, effects)
        })
        .collect();
    // The compiler merged the addition in `gross` with what it inlined there, and says so of no line of the header.
    assert_eq!(
        causes,
        [("gross", false, r"c:\hpgen\main.c", 9, vec!["gross"]), ("rate", true, r"c:\hpgen\rate.h", 6, vec!["net"])]
    );
}

#[test]
fn equal_functions_align_without_a_difference() {
    let (old, new) = (load("relink", "old"), load("relink", "new"));
    for function in &old.functions {
        let name = old.display(old.atom(function.atom).unwrap());
        let same = new.functions.iter().find(|f| new.display(new.atom(f.atom).unwrap()) == name);
        let (a, b) = (asm::lines(&old, function.atom), asm::lines(&new, same.unwrap().atom));
        let differing = asm::align(&a, &b).into_iter().filter(|row| matches!(row, Row::Different(..))).count();
        assert_eq!(differing, 0, "{name}");
    }
}

#[test]
fn damaged_line_information_explains_nothing() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/inlined");
    let folder = tempfile::tempdir().unwrap();
    let pdb = std::fs::read(fixture.join("old.pdb")).unwrap();
    std::fs::copy(fixture.join("old.exe"), folder.path().join("old.exe")).unwrap();
    // Whatever is overwritten: reading ends, with or without an error.
    for start in (0x1000..pdb.len()).step_by(509) {
        for value in [0x00, 0x7f, 0xff] {
            let mut damaged = pdb.clone();
            let end = damaged.len().min(start + 16);
            damaged[start..end].fill(value);
            std::fs::write(folder.path().join("old.pdb"), damaged).unwrap();
            if let Ok(program) = Program::load(&folder.path().join("old.exe"), None) {
                let lines = Lines::of(&program, program.functions.iter().map(|f| f.atom));
                for function in &program.functions {
                    for line in asm::lines(&program, function.atom) {
                        assert!(!lines.at(line.rva).is_empty());
                    }
                }
            }
        }
    }
}
