//! Data of Microsoft's C++ ABI that names other data by RVA, without base relocations: RTTI and the descriptions of thrown types.
//!
//! Sources: `rttidata.h` and `ehdata.h` of Microsoft's compiler; LLVM's `MicrosoftCXXABI.cpp` writes the same.

use std::ops::Range;

use crate::atoms::Atom;

/// Offsets of the 32-bit RVAs in an atom, recognised by its name. An RVA of 0 stands for nothing.
pub fn rva_fields(atom: &Atom) -> Vec<u32> {
    let has_name = |prefix: &str| atom.names.iter().any(|name| name.key.starts_with(prefix));
    let is_named = |wanted: fn(&str) -> bool| atom.names.iter().any(|name| wanted(&name.key));
    let all_from = |first: u32| (first..atom.size / 4 * 4).step_by(4).collect();
    if is_named(is_throw_info) {
        // ThrowInfo: destructor, forward compatibility, array of catchable types.
        vec![4, 8, 12]
    } else if is_named(is_catchable_type_array) {
        // CatchableTypeArray: a count and its entries.
        all_from(4)
    } else if has_name("_CT??_R0") {
        // CatchableType: type descriptor, copy constructor.
        vec![4, 24]
    } else if has_name("??_R1") {
        // Base class descriptor: type descriptor, class hierarchy.
        vec![0, 24]
    } else if has_name("??_R2") {
        // Base class array.
        all_from(0)
    } else if has_name("??_R3") {
        // Class hierarchy descriptor: base class array.
        vec![12]
    } else if has_name("??_R4") {
        // Complete object locator: type descriptor, class hierarchy, itself.
        vec![12, 16, 20]
    } else {
        Vec::new()
    }
}

/// The function that `throw` calls with the object and its `ThrowInfo`.
pub const THROW_FUNCTION: &str = "_CxxThrowException";

/// Bits of a `ThrowInfo`'s first field that say no more than how the object is qualified: `const`, `volatile`, `__unaligned`. Others stand for
/// objects of `/clr:pure` and of the Windows Runtime, which are thrown in other ways.
pub const QUALIFIERS: u32 = 7;

/// `_TI`, qualifiers of the thrown object, the number of types that catch it, its type. Names of C can begin with `_TI` too.
pub fn is_throw_info(name: &str) -> bool {
    name.strip_prefix("_TI").is_some_and(|rest| starts_with_count(rest.trim_start_matches(['C', 'V', 'U'])))
}

/// `_CTA`, the number of its types, the thrown type.
fn is_catchable_type_array(name: &str) -> bool {
    name.strip_prefix("_CTA").is_some_and(starts_with_count)
}

/// A number and a type's name, of which mangled ones begin with `?`, `P`, a letter of a basic type, or `_` and one.
fn starts_with_count(text: &str) -> bool {
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    rest.len() < text.len() && !rest.is_empty()
}

/// What is thrown (`ThrowInfo`), and what it can be caught as: `_CxxThrowException` finds the module that contains the first, and counts
/// all RVAs from there.
pub fn is_throw_record(name: &str) -> bool {
    is_throw_info(name) || is_catchable_type_array(name) || name.starts_with("_CT??")
}

/// Where a type descriptor's bytes hold the hash of a source path by which Microsoft's compiler tells anonymous namespaces apart
/// (`?A0x` and eight digits in the type's name). It changes from build to build though the type is the same.
pub fn build_hashes(atom: &Atom, bytes: &[u8]) -> Vec<Range<usize>> {
    if is_type_descriptor(atom) { hashes_in(bytes) } else { Vec::new() }
}

/// A type's name as the runtime finds it. It is writable for the sake of a cache, and types are the same by name, wherever their
/// descriptors are.
pub fn is_type_descriptor(atom: &Atom) -> bool {
    atom.names.iter().any(|name| name.key.starts_with("??_R0") || name.key.ends_with("`RTTI Type Descriptor'"))
}

/// A type descriptor is two pointers and the type's name.
fn hashes_in(descriptor: &[u8]) -> Vec<Range<usize>> {
    const NAME: usize = 16;
    const MARKER: &[u8] = b"?A0x";
    const DIGITS: usize = 8;
    let text = descriptor.get(NAME..).unwrap_or(&[]);
    let text = text.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let starts = text.windows(MARKER.len() + DIGITS).enumerate().filter(|(_, window)| {
        window.strip_prefix(MARKER).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    starts.map(|(start, _)| NAME + start + MARKER.len()).map(|start| start..start + DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::{hashes_in, is_catchable_type_array, is_throw_info};

    #[test]
    fn names_of_c_are_no_descriptions_of_thrown_types() {
        for name in ["_TI1H", "_TIC2PEAD", "_TI3?AVlogic_error@std@@"] {
            assert!(is_throw_info(name), "{name}");
        }
        for name in ["_TIFFerrorHandler", "_TIMER", "_TI", "_TIC", "_TI2"] {
            assert!(!is_throw_info(name), "{name}");
        }
        assert!(is_catchable_type_array("_CTA1H") && !is_catchable_type_array("_CTABLE"));
    }

    fn descriptor(name: &str) -> Vec<u8> {
        [&[0; 16], name.as_bytes(), &[0; 3], b"?A0x5ac81882"].concat()
    }

    #[test]
    fn a_hash_is_found_in_the_name_only() {
        assert_eq!(hashes_in(&descriptor(".?AVExceptionImpl@?A0x5ac81882@@")), vec![Range { start: 38, end: 46 }]);
        assert_eq!(hashes_in(&descriptor(".?AVInner@Outer@?A0x5ac81882@?A0xf00b120a@@")).len(), 2);
    }

    #[test]
    fn what_only_looks_like_a_hash_counts() {
        for name in [".?AVException@std@@", ".?AV?A0x5ac8188@@", ".?AV?A0x5ac8188g@@", ".?AVA0x5ac81882@@", ""] {
            assert!(hashes_in(&descriptor(name)).is_empty(), "{name}");
        }
        assert!(hashes_in(&[0; 5]).is_empty());
    }
}
