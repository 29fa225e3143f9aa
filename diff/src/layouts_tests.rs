//! Which differences of types count.

use super::*;

fn member(name: &str, offset: u64, size: u32) -> Member {
    Member { name: name.to_owned(), offset, size: Some(size), bits: None }
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
    assert_eq!(
        change(enumeration(8, &[("NONE", -1), ("RED", 0), ("BLUE", 1)])),
        ["its size changed from 4 to 8 bytes"]
    );
}

/// C modules may each define a type of one name.
#[test]
fn a_second_definition_of_a_name_is_a_new_type_and_a_replaced_one_is_a_change() {
    let (small, large) = (layout(4, &[member("id", 0, 4)]), layout(8, &[member("id", 0, 8)]));
    let other = layout(2, &[member("id", 0, 2)]);
    assert_eq!(what(std::slice::from_ref(&small), &[small.clone(), large.clone()]), Vec::<String>::new());
    assert_eq!(what(&[small.clone(), large.clone()], std::slice::from_ref(&small)), Vec::<String>::new());
    assert_eq!(what(&[small.clone(), large], &[small, other]), ["member id changed its size"]);
}

/// A PDB can lack the definition of a member's type: the module that has it was not linked with its types.
#[test]
fn a_size_that_one_build_does_not_know_is_no_change() {
    let known = layout(16, &[member("id", 0, 4), member("mutex", 8, 8)]);
    let open = layout(16, &[member("id", 0, 4), Member { size: None, ..member("mutex", 8, 0) }]);
    assert_eq!(what(std::slice::from_ref(&known), std::slice::from_ref(&open)), Vec::<String>::new());
    assert_eq!(what(std::slice::from_ref(&open), std::slice::from_ref(&known)), Vec::<String>::new());
    // What is around it is known.
    let longer = layout(24, &[member("id", 0, 4), Member { size: None, ..member("mutex", 8, 0) }]);
    assert_eq!(
        what(std::slice::from_ref(&known), std::slice::from_ref(&longer)),
        ["its size changed from 16 to 24 bytes"]
    );
    let moved = layout(16, &[member("id", 4, 4), Member { size: None, ..member("mutex", 8, 0) }]);
    assert_eq!(what(&[known], &[moved]), ["member id moved from offset 0 to 4"]);
}
