//! Which shapes are taken for the same.

use super::*;

fn pointer(to: Shape) -> Shape {
    Shape::Pointer(Arc::new(to))
}

fn array(size: u64, element: Shape) -> Shape {
    Shape::Array(size, Arc::new(element))
}

fn structure(name: &str) -> Shape {
    Shape::Type(name.into())
}

/// Name, offset and shape.
type Place = (&'static str, u64, Shape);

fn layouts(types: &[(&str, &[Place])]) -> Layouts {
    let member = |(name, offset, shape): &Place| Member {
        name: (*name).to_owned(),
        offset: *offset,
        size: Some(8),
        shape: shape.clone(),
        bits: None,
    };
    let layout = |name: &str, members: &[Place]| TypeLayout {
        name: name.to_owned(),
        is_enumeration: false,
        size: 16,
        members: members.iter().map(member).collect(),
    };
    types.iter().map(|(name, members)| ((*name).to_owned(), BTreeSet::from([layout(name, members)]))).collect()
}

#[test]
fn values_of_another_kind_or_size_differ() {
    let none = Layouts::new();
    let mut shapes = Shapes::new(&none, &none);
    let int = Shape::Integer(4);
    let different = [
        (Shape::Float(8), Shape::Integer(8)),
        (pointer(int.clone()), pointer(Shape::Integer(8))),
        (pointer(structure("item")), pointer(pointer(structure("item")))),
        (array(256, array(64, int.clone())), array(256, array(16, int.clone()))),
        (array(0, int.clone()), array(0, Shape::Integer(8))),
        (array(8, Shape::Integer(1)), pointer(Shape::Integer(1))),
        (pointer(structure("one")), pointer(structure("other"))),
    ];
    for (old, new) in different {
        assert!(!shapes.is_same(&old, &new), "{old} {new}");
        assert!(!shapes.is_same(&new, &old), "{new} {old}");
        assert!(shapes.is_same(&old, &old), "{old}");
    }
}

#[test]
fn pointers_to_bytes_lead_to_anything() {
    let none = Layouts::new();
    let mut shapes = Shapes::new(&none, &none);
    for bytes in [Shape::Integer(0), Shape::Integer(1)] {
        assert!(shapes.is_same(&pointer(bytes), &pointer(structure("item"))));
    }
}

#[test]
fn types_of_other_names_are_compared_member_by_member() {
    let int = || Shape::Integer(8);
    let old = layouts(&[("node", &[("next", 0, pointer(structure("node"))), ("value", 8, int())])]);
    let same = layouts(&[("entry", &[("next", 0, pointer(structure("entry"))), ("value", 8, int())])]);
    let other = layouts(&[("entry", &[("next", 0, pointer(structure("entry"))), ("value", 8, Shape::Float(8))])]);
    let swapped = layouts(&[("entry", &[("value", 0, int()), ("next", 8, pointer(structure("entry")))])]);
    assert!(Shapes::new(&old, &same).is_same(&structure("node"), &structure("entry")));
    assert!(!Shapes::new(&old, &other).is_same(&structure("node"), &structure("entry")));
    assert!(!Shapes::new(&old, &swapped).is_same(&structure("node"), &structure("entry")));
}

/// What was taken for the same while a whole was compared that is not the same must not count later.
#[test]
fn an_assumption_that_failed_is_forgotten() {
    let inner = |to: &str| ("back", 0, pointer(structure(to)));
    let old = layouts(&[("a", &[("b", 0, pointer(structure("b"))), ("x", 8, Shape::Float(8))]), ("b", &[inner("a")])]);
    let new =
        layouts(&[("c", &[("b", 0, pointer(structure("d"))), ("x", 8, Shape::Integer(8))]), ("d", &[inner("c")])]);
    let mut shapes = Shapes::new(&old, &new);
    assert!(!shapes.is_same(&structure("a"), &structure("c")));
    assert!(!shapes.is_same(&structure("b"), &structure("d")));
}

#[test]
fn arguments_of_templates_count_where_no_member_shows_them() {
    let empty: &[Place] = &[];
    let head: &[Place] = &[("head", 0, pointer(Shape::Integer(0)))];
    let names = ["Vec<i32>", "Vec<u32>", "Vec<i64>", "Ring<16>", "Ring<64>", "Map<int, less>", "Map<int, greater>"];
    let mut types: Vec<_> = names.iter().map(|name| (*name, head)).collect();
    types.extend([("less", empty), ("greater", empty)]);
    let all = layouts(&types);
    let mut shapes = Shapes::new(&all, &all);
    let mut is_same = |old: &str, new: &str| shapes.is_same(&structure(old), &structure(new));
    assert!(is_same("Vec<i32>", "Vec<u32>"));
    assert!(!is_same("Vec<i32>", "Vec<i64>"));
    assert!(!is_same("Ring<16>", "Ring<64>"));
    assert!(!is_same("Map<int, less>", "Map<int, greater>"));
    assert!(is_same("Vec<i32>", "Ring<16>"));
}

#[test]
fn a_type_around_one_value_is_that_value() {
    let around = |shape: Shape| {
        let mut all = layouts(&[("Atomic", &[("v", 0, shape)])]);
        let layout = TypeLayout { size: 8, ..all["Atomic"].first().unwrap().clone() };
        all.insert("Atomic".to_owned(), BTreeSet::from([layout]));
        all
    };
    let none = Layouts::new();
    let (integer, float) = (around(Shape::Integer(8)), around(Shape::Float(8)));
    assert!(Shapes::new(&none, &integer).is_same(&Shape::Integer(8), &structure("Atomic")));
    assert!(Shapes::new(&integer, &none).is_same(&structure("Atomic"), &Shape::Integer(8)));
    assert!(!Shapes::new(&none, &float).is_same(&Shape::Integer(8), &structure("Atomic")));
    // What is larger than its member has more than it.
    let larger = layouts(&[("Atomic", &[("v", 0, Shape::Integer(8))])]);
    assert!(!Shapes::new(&none, &larger).is_same(&Shape::Integer(8), &structure("Atomic")));
}
