use super::*;

fn signature(result: Value, parameters: &[Value]) -> Signature {
    Signature { result, parameters: parameters.to_vec(), is_vector: false }
}

const INT: Value = Value::Integer(4);

#[test]
fn what_callers_and_a_function_must_agree_on() {
    let old = signature(INT, &[INT, Value::Pointer]);
    for (new, expected) in [
        (signature(INT, &[INT, Value::Pointer]), None),
        (signature(INT, &[INT, Value::Unknown]), None),
        (signature(INT, &[INT]), Some("the number of its parameters was 2 and is 1")),
        (signature(INT, &[]), Some("the number of its parameters was 2 and is 0")),
        (
            signature(INT, &[Value::Integer(8), Value::Pointer]),
            Some("its parameter 1 was an integer of 4 bytes and is an integer of 8 bytes"),
        ),
        (
            signature(INT, &[INT, Value::Float(8)]),
            Some("its parameter 2 was a pointer and is a floating-point number of 8 bytes"),
        ),
        (
            signature(Value::Integer(1), &[INT, Value::Pointer]),
            Some("its result was an integer of 4 bytes and is an integer of 1 bytes"),
        ),
        (
            signature(Value::Nothing, &[INT, Value::Pointer]),
            Some("its result was an integer of 4 bytes and is nothing"),
        ),
    ] {
        assert_eq!(old.conflict(&new).as_deref(), expected, "{new:?}");
    }
}

#[test]
fn who_expects_nothing_takes_any_result_that_needs_no_place() {
    let old = signature(Value::Nothing, &[INT]);
    assert_eq!(old.conflict(&signature(INT, &[INT])), None);
    assert_eq!(old.conflict(&signature(Value::Pointer, &[INT])), None);
    assert!(old.conflict(&signature(Value::Aggregate(24), &[INT])).is_some());
}

#[test]
fn a_definition_without_a_prototype_takes_nothing_or_anything() {
    assert_eq!(signature(INT, &[]).conflict(&signature(INT, &[Value::Variable])), None);
    assert!(signature(INT, &[INT]).conflict(&signature(INT, &[INT, Value::Variable])).is_some());
}

fn procedure(parameters: &[&str]) -> Procedure {
    Procedure {
        name: "copy".to_owned(),
        signature: Some(signature(INT, &[Value::Pointer, Value::Pointer, INT])),
        parameters: parameters.iter().map(|name| (*name).to_owned()).collect(),
        registers: BTreeMap::new(),
        shares_name: false,
    }
}

#[test]
fn parameters_that_change_places() {
    let old = procedure(&["to", "from", "n"]);
    assert_eq!(old.conflict(&procedure(&["to", "from", "n"])), None);
    assert_eq!(old.conflict(&procedure(&["to", "from", "count"])), None, "a new name is no other place");
    assert_eq!(
        old.conflict(&procedure(&["from", "to", "n"])).as_deref(),
        Some("its parameters to and from changed places")
    );
}

#[test]
fn primitive_types() {
    for (index, expected) in [
        (0x74, INT),
        (0x75, INT),
        (0x41, Value::Float(8)),
        (0x03, Value::Nothing),
        (0x603, Value::Pointer),
        (0x670, Value::Pointer),
        (0x30, Value::Integer(1)),
        (0x7f, Value::Unknown),
    ] {
        assert_eq!(primitive(index), expected, "{index:#x}");
    }
}
