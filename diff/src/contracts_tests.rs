use std::path::Path;

use super::*;
use crate::rva::Rva;

fn load(fixture: &str, image: &str) -> Program {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
    Program::load(&folder.join(image), None).unwrap()
}

/// Names of the old functions of a fixture that are kept apart, with what is said of them.
fn apart(fixture: &str) -> Vec<(String, Kind, bool, String)> {
    let (old, new) = (load(fixture, "old.exe"), load(fixture, "new.exe"));
    let comparison = Comparison::of(&old, &new);
    let name = |index: AtomIndex| old.display(old.atom(index).unwrap());
    let mut all: Vec<_> = comparison
        .apart()
        .iter()
        .map(|((index, _), apart)| (name(*index), apart.kind, apart.is_stored, apart.why.clone()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn functions_that_are_called_in_another_way() {
    let looked_at = "it looks at RDX where it begins, which the old one does not, so that its callers may not set it";
    let expected = [
        ("bound", looked_at),
        ("bounded", looked_at),
        ("joined", "its parameters first and last changed places"),
        ("scaled", "the number of its parameters was 1 and is 2"),
        ("total", "its result was an integer of 4 bytes and is an integer of 8 bytes"),
    ];
    let expected: Vec<_> = expected.map(|(name, why)| (name.to_owned(), Kind::Contract, false, why.to_owned())).into();
    assert_eq!(apart("signatures"), expected);
}

#[test]
fn functions_to_which_pointers_are_stored() {
    let found = apart("stored_callback");
    assert!(matches!(&found[..], [(name, Kind::Contract, true, _)] if name == "on_event"), "{found:?}");
}

#[test]
fn parts_of_coroutines() {
    let found = apart("coroutine");
    assert!(matches!(&found[..], [(name, Kind::Coroutine, false, _)] if name == "steps"), "{found:?}");
}

#[test]
fn registers_that_callers_count_on() {
    let found = apart("kept_register");
    let why = "sub_11d0 counts on what it leaves in RCX";
    assert!(matches!(&found[..], [(_, Kind::Contract, false, said)] if said == why), "{found:?}");
    let old = load("kept_register", "old.exe");
    let at = |rva: u32| old.atom_before(Rva(rva)).unwrap();
    let expected = crate::after_calls::AfterCalls {
        uses_result: true,
        returns_result: false,
        keeps: Some(iced_x86::Register::RCX),
    };
    assert_eq!(after_calls(&old, at(0x11d0), at(0x1210)), expected);
}

#[test]
fn a_body_alone_is_no_other_contract() {
    for fixture in ["constant", "callee", "new_function", "gcc_code", "static_names", "overloads", "removed"] {
        assert_eq!(apart(fixture), [], "{fixture}");
    }
}
