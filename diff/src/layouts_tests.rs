//! Which differences of types count.

use super::*;
use crate::shapes::Shape;

fn member(name: &str, offset: u64, size: u32) -> Member {
    Member { name: name.to_owned(), offset, size: Some(size), shape: Shape::Integer(u64::from(size)), bits: None }
}

fn layout(size: u64, members: &[Member]) -> TypeLayout {
    TypeLayout { name: "account".to_owned(), is_enumeration: false, size, members: members.to_vec() }
}

fn symbols(layouts: &[TypeLayout]) -> Symbols {
    let mut symbols = Symbols::default();
    symbols.layouts.insert(".?AUaccount@@".to_owned(), layouts.iter().cloned().collect());
    symbols
}

fn what(old: &[TypeLayout], new: &[TypeLayout]) -> Vec<String> {
    changes(&symbols(old), &symbols(new)).into_iter().map(|change| change.what).collect()
}

#[test]
fn the_first_member_that_differs_is_named() {
    let old = layout(8, &[member("id", 0, 4), member("balance", 4, 4)]);
    let inserted = layout(12, &[member("id", 0, 4), member("limit", 4, 4), member("balance", 8, 4)]);
    let moved = layout(12, &[member("id", 0, 4), member("balance", 8, 4)]);
    let widened = layout(16, &[member("id", 0, 4), member("balance", 4, 8)]);
    let removed = layout(8, &[member("id", 0, 4)]);
    let padded = layout(16, &[member("id", 0, 4), member("balance", 4, 4)]);
    let narrowed = Member { bits: Some((0, 3)), ..member("balance", 4, 4) };
    let cases = [
        (inserted, "member limit was added at offset 4"),
        (moved, "member balance moved from offset 4 to 8"),
        (widened, "member balance changed its size"),
        (layout(8, &[member("id", 0, 4), narrowed]), "member balance changed its size"),
        (removed, "member balance at offset 4 was removed"),
        (padded, "its size changed from 8 to 16 bytes"),
    ];
    for (new, expected) in cases {
        assert_eq!(what(std::slice::from_ref(&old), std::slice::from_ref(&new)), [expected]);
    }
}

#[test]
fn the_same_layout_and_types_of_one_build_only_are_no_change() {
    let layout = layout(4, &[member("id", 0, 4)]);
    assert_eq!(what(std::slice::from_ref(&layout), std::slice::from_ref(&layout)), Vec::<String>::new());
    let some = symbols(std::slice::from_ref(&layout));
    assert_eq!(changes(&some, &Symbols::default()), []);
    assert_eq!(changes(&Symbols::default(), &some), []);
}

#[test]
fn enumerators_may_come_and_go_but_not_change_their_values() {
    let enumeration = |size: u64, members: &[(&str, i64)]| TypeLayout {
        is_enumeration: true,
        members: members
            .iter()
            .map(|(name, value)| Member { size: None, ..member(name, value.cast_unsigned(), 0) })
            .collect(),
        ..layout(size, &[])
    };
    let old = enumeration(4, &[("NONE", -1), ("RED", 0), ("BLUE", 1)]);
    let change = |new: TypeLayout| what(std::slice::from_ref(&old), &[new]);
    assert_eq!(change(enumeration(4, &[("NONE", -1), ("RED", 0), ("BLUE", 1), ("GREEN", 2)])), Vec::<String>::new());
    assert_eq!(change(enumeration(4, &[("RED", 0), ("BLUE", 1)])), Vec::<String>::new());
    assert_eq!(change(enumeration(4, &[("NONE", -1), ("GREEN", 0), ("BLUE", 2)])), ["BLUE was 1 and is 2"]);
    assert_eq!(change(enumeration(4, &[("NONE", -2), ("RED", 0), ("BLUE", 1)])), ["NONE was -1 and is -2"]);
    // Who holds a 1 has what is gone: it would be taken for what is new.
    assert_eq!(change(enumeration(4, &[("NONE", -1), ("RED", 0), ("GREEN", 1)])), ["GREEN is 1, which BLUE was"]);
    assert_eq!(
        change(enumeration(8, &[("NONE", -1), ("RED", 0), ("BLUE", 1)])),
        ["its size changed from 4 to 8 bytes"]
    );
}

/// C modules may each define a type of one name.
#[test]
fn a_definition_more_or_less_is_a_change_where_its_users_changed() {
    let (small, large) = (layout(4, &[member("id", 0, 4)]), layout(8, &[member("id", 0, 8)]));
    let other = layout(2, &[member("id", 0, 2)]);
    let found = |old: &[TypeLayout], new: &[TypeLayout]| -> Vec<(String, bool)> {
        changes(&symbols(old), &symbols(new)).into_iter().map(|change| (change.what, change.is_certain)).collect()
    };
    let resized = |is_certain: bool| vec![("member id changed its size".to_owned(), is_certain)];
    assert_eq!(found(std::slice::from_ref(&small), &[small.clone(), large.clone()]), resized(false));
    assert_eq!(found(&[small.clone(), large.clone()], std::slice::from_ref(&small)), resized(false));
    assert_eq!(found(&[small.clone(), large.clone()], &[small.clone(), other]), resized(true));
    assert_eq!(found(&[small.clone(), large.clone()], &[small, large]), []);
}

/// All closures of a function have one key: one more or less is none of the others.
#[test]
fn a_closure_that_comes_is_no_change_and_one_that_captures_more_is() {
    let captures = |members: &[Member]| {
        let mut symbols = Symbols::default();
        let layout = TypeLayout { name: "app::run::closure_env$0".to_owned(), ..layout(16, members) };
        symbols.layouts.insert("app::run::closure_env$".to_owned(), BTreeSet::from([layout]));
        symbols
    };
    let (a, b) = (member("a", 0, 8), member("b", 8, 8));
    let (one, other) = (captures(std::slice::from_ref(&a)), captures(&[a, b]));
    let mut both = captures(&[]);
    let key = "app::run::closure_env$";
    let all = one.layouts[key].union(&other.layouts[key]).cloned().collect();
    both.layouts.insert(key.to_owned(), all);
    assert_eq!(changes(&one, &both), []);
    assert_eq!(changes(&one, &other)[0].what, "member b was added at offset 8");
}

#[test]
fn a_member_of_another_kind_and_a_renamed_one_are_said() {
    let old = layout(16, &[member("id", 0, 8), member("at", 8, 8)]);
    let double = Member { shape: Shape::Float(8), ..member("at", 8, 8) };
    let change = |members: &[Member]| what(std::slice::from_ref(&old), &[layout(16, members)]);
    assert_eq!(
        change(&[member("id", 0, 8), double]),
        ["member at was an integer of 8 bytes and is a floating-point number of 8 bytes"]
    );
    assert_eq!(change(&[member("id", 0, 8), member("when", 8, 8)]), ["member at at offset 8 is called when now"]);
}

#[test]
fn a_virtual_function_that_moves_is_said() {
    let function = |name: &str, offset| Member { size: None, shape: Shape::Opaque, ..member(name, offset, 8) };
    let old = layout(8, &[function("virtual area", 0), function("virtual corners", 8)]);
    let new = layout(8, &[function("virtual corners", 0), function("virtual area", 8)]);
    assert_eq!(what(&[old], &[new]), ["member virtual corners moved from offset 8 to 0"]);
}

#[test]
fn a_type_that_got_another_name_and_more_members() {
    let named = |name: &str, members: &[Member]| {
        let mut symbols = Symbols::default();
        let layout = TypeLayout { name: name.to_owned(), ..layout(16, members) };
        symbols.layouts.insert(name.to_owned(), BTreeSet::from([layout]));
        symbols
    };
    let (fd, left, seen) = (member("fd", 0, 4), member("left", 4, 4), member("seen", 8, 8));
    let old = named("conn", &[fd.clone(), left.clone()]);
    let new = named("connection", &[fd.clone(), left.clone(), seen]);
    let found = changes(&old, &new);
    assert_eq!(found[0].what, "it is called connection now, and member seen was added at offset 8");
    assert!(!found[0].is_certain);
    assert_eq!(changes(&old, &named("connection", &[fd, left])), []);
    assert_eq!(changes(&old, &named("other", &[member("fd", 0, 4)])), []);
}

/// A PDB can lack the definition of a member's type: the module that has it was not linked with its types.
#[test]
fn a_size_that_one_build_does_not_know_is_no_change() {
    let known = layout(16, &[member("id", 0, 4), member("mutex", 8, 8)]);
    let open = layout(16, &[member("id", 0, 4), Member { size: None, shape: Shape::Opaque, ..member("mutex", 8, 0) }]);
    assert_eq!(what(std::slice::from_ref(&known), std::slice::from_ref(&open)), Vec::<String>::new());
    assert_eq!(what(std::slice::from_ref(&open), std::slice::from_ref(&known)), Vec::<String>::new());
    // What is around it is known.
    let longer =
        layout(24, &[member("id", 0, 4), Member { size: None, shape: Shape::Opaque, ..member("mutex", 8, 0) }]);
    assert_eq!(
        what(std::slice::from_ref(&known), std::slice::from_ref(&longer)),
        ["its size changed from 16 to 24 bytes"]
    );
    let moved = layout(16, &[member("id", 4, 4), Member { size: None, shape: Shape::Opaque, ..member("mutex", 8, 0) }]);
    assert_eq!(what(&[known], &[moved]), ["member id moved from offset 0 to 4"]);
}
