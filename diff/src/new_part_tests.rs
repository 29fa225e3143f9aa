use std::path::Path;

use super::*;
use crate::effects::effects_of_part;
use crate::initialisers::initialisers;

/// The one function of a fixture that runs before `main` in both builds.
fn of_fixture<T>(fixture: &str, look: impl Fn(&Program, AtomIndex, Result<NewPart, String>) -> T) -> T {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
    let load = |image: &str| Program::load(&folder.join(image), None).unwrap();
    let (old, new) = (load("old.exe"), load("new.exe"));
    let comparison = Comparison::of(&old, &new);
    let all = initialisers(&new);
    let [index] = all.keys().copied().collect::<Vec<_>>()[..] else { panic!("{fixture}: {all:?}") };
    let [old_index] = *comparison.pairing.old_of(index) else { panic!("{fixture}: the old build has none") };
    look(&new, index, new_part((&old, old_index), (&new, index), &comparison))
}

#[test]
fn what_the_old_build_did_is_taken_out_and_the_rest_writes_new_variables_only() {
    of_fixture("grown_constructor", |new, index, part| {
        let part = part.unwrap();
        assert!(part.does_something);
        // Two constructors with two calls and two stores each, that of the table with a call, and a jump at the end.
        let lengths: Vec<u8> = part.removed.values().map(|removed| removed.len).collect();
        assert_eq!(lengths, [10, 5, 6, 5, 5, 10, 5, 6, 5]);
        assert_eq!(part.removed.values().filter(|removed| removed.returns).count(), 1);
        let name = |index: &AtomIndex| new.display(new.atom(*index).unwrap());
        let written = |part: &NewPart| -> Vec<String> {
            effects_of_part(new, index, part).unwrap().written.keys().map(name).collect()
        };
        assert_eq!(written(&part), ["table", "area", "meter"]);
        let whole = written(&NewPart::default());
        assert!(whole.contains(&"first".to_owned()) && whole.contains(&"last".to_owned()), "{whole:?}");
    });
}

#[test]
fn another_value_for_an_old_variable_is_no_new_part() {
    of_fixture("changed_constructor", |_, _, part| {
        let doubt = part.unwrap_err();
        assert!(doubt.ends_with(" writes to limit, and the new build does not do the same"), "{doubt}");
    });
}
