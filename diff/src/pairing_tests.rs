//! Pairs of the committed fixtures.

use std::path::Path;

use super::*;

fn load(fixture: &str) -> (Program, Program) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
    let load = |image| Program::load(&folder.join(image), None).unwrap();
    (load("old.exe"), load("new.exe"))
}

/// Atoms of a name with their module and scope.
fn named(program: &Program, name: &str) -> Vec<(AtomIndex, String, Option<String>)> {
    indexed(program)
        .filter_map(|(index, atom)| {
            let local = atom.names.iter().find(|n| n.key == name)?.local.clone()?;
            Some((index, local.module, local.scope))
        })
        .collect()
}

/// The new build links the modules in another order.
#[test]
fn static_functions_of_one_name_are_told_apart_by_module() {
    let (old, new) = load("static_names");
    let pairing = Pairing::by_name(&old, &new);
    let (olds, news) = (named(&old, "helper"), named(&new, "helper"));
    assert_eq!((olds.len(), news.len()), (2, 2));
    for (index, module, _) in &olds {
        let (partner, ..) = news.iter().find(|(_, other, _)| other == module).unwrap();
        assert_eq!(pairing.new_of(*index), [*partner], "{module}");
        assert_eq!(pairing.old_of(*partner), [*index], "{module}");
        assert_eq!(pairing.how(*index, *partner), Some(How::NameInModule));
    }
}

#[test]
fn static_variables_of_one_name_are_told_apart_by_function() {
    let (old, new) = load("local_static");
    let pairing = Pairing::by_name(&old, &new);
    let (olds, news) = (named(&old, "count"), named(&new, "count"));
    assert_eq!((olds.len(), news.len()), (2, 3));
    for (index, _, scope) in &olds {
        let (partner, ..) = news.iter().find(|(_, _, other)| other == scope).unwrap();
        assert_eq!(pairing.new_of(*index), [*partner], "{scope:?}");
    }
    let (added, ..) = news.iter().find(|(_, _, scope)| scope.as_deref() == Some("between")).unwrap();
    assert!(pairing.old_of(*added).is_empty());
    assert!(!pairing.is_ambiguous(*added), "all old variables of the name have their partners");
}

#[test]
fn a_name_that_several_might_have_is_ambiguous() {
    // The other way round: three old variables, two new ones. None is new.
    let (new, old) = load("local_static");
    let pairing = Pairing::by_name(&old, &new);
    assert!(named(&new, "count").iter().all(|(index, ..)| !pairing.old_of(*index).is_empty()));
    assert!(named(&new, "count").iter().all(|(index, ..)| !pairing.is_ambiguous(*index)));
}

#[test]
fn everything_is_paired_in_another_layout() {
    let (old, new) = load("relink");
    let pairing = Pairing::by_name(&old, &new);
    for (index, atom) in indexed(&old).filter(|(_, atom)| !atom.names.is_empty()) {
        let &[partner] = pairing.new_of(index) else { panic!("{}: {:?}", old.display(atom), pairing.new_of(index)) };
        assert_eq!(old.display(atom), new.display(new.atom(partner).unwrap()));
    }
}

/// One old body with two names, two new bodies: each name leads to its own.
#[test]
fn a_folded_body_is_paired_with_each_of_its_parts() {
    let (old, new) = load("folded");
    let pairing = Pairing::by_name(&old, &new);
    let (folded, _) = indexed(&old).find(|(_, atom)| atom.is_function() && atom.names.len() == 2).unwrap();
    let parts: Vec<String> =
        pairing.new_of(folded).iter().map(|index| new.display(new.atom(*index).unwrap())).collect();
    assert_eq!(parts.len(), 2, "{parts:?}");
    assert_ne!(parts[0], parts[1]);
}
