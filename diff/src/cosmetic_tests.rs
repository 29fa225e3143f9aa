//! Traces in the committed fixtures.

use std::path::Path;

use super::*;
use crate::pairing::indexed;

fn load(fixture: &str) -> (Program, Program) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
    let load = |image| Program::load(&folder.join(image), None).unwrap();
    (load("old.exe"), load("new.exe"))
}

fn function(program: &Program, name: &str) -> (AtomIndex, Rva) {
    let (index, atom) = indexed(program).find(|(_, atom)| atom.is_function() && program.display(atom) == name).unwrap();
    (index, atom.rva)
}

/// The fixture's macro stands in line 16 of the old source and in line 18 of the new one.
#[test]
fn a_number_is_a_line_where_the_tables_of_both_builds_say_so() {
    let (old, new) = load("line_macro");
    let ((a, old_rva), (b, new_rva)) = (function(&old, "fixture_round"), function(&new, "fixture_round"));
    let mut traces = Traces::of(&old, &new);
    assert_eq!(traces.same_line((old_rva, 16), (new_rva, 18)), None, "nothing was read");
    traces.read_lines(&[(a, b)]);
    assert_eq!(traces.same_line((old_rva, 16), (new_rva, 18)), Some(true));
    for (x, y) in [(16, 17), (15, 18), (18, 16), (16, 16)] {
        assert_eq!(traces.same_line((old_rva, x), (new_rva, y)), Some(false), "{x} and {y}");
    }
}

#[test]
fn a_path_is_cosmetic_where_both_builds_list_the_file() {
    let (old, new) = load("line_macro");
    let traces = Traces::of(&old, &new);
    assert!(traces.same_path("main.c", r"c:\hpgen\main.c"));
    assert!(!traces.same_path("main.c", "support.c"), "another file");
    assert!(!traces.same_path("elsewhere.c", "elsewhere.c"), "no file of the program");
}
