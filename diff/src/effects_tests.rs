use std::path::Path;

use super::*;
use crate::initialisers::initialisers;

/// What each initialiser of a fixture's new build does, by its name.
fn of_fixture(fixture: &str) -> BTreeMap<String, Result<(Vec<String>, bool), String>> {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture).join("new.exe");
    let program = Program::load(&image, None).unwrap();
    let name = |index: AtomIndex| program.display(program.atom(index).unwrap());
    let one = |index| match effects(&program, index) {
        Ok(effects) => {
            let written = effects.written.keys().map(|atom| name(*atom)).collect();
            Ok((written, effects.registers_exit_function))
        }
        Err(doubt) => Err(doubt.describe(&program)),
    };
    initialisers(&program).into_keys().map(|index| (name(index), one(index))).collect()
}

#[test]
fn constructors_are_followed_into_what_they_call() {
    let found = of_fixture("new_object");
    let all: Vec<_> = found.values().collect();
    assert_eq!(all, [&Ok((vec!["table".to_owned(), "meter".to_owned()], true))], "{found:?}");
}

#[test]
fn what_else_they_write_is_named() {
    let found = of_fixture("constructor_of_old");
    assert_eq!(found["double_rate"], Ok((vec!["rate".to_owned(), "doubled".to_owned()], false)));
}
