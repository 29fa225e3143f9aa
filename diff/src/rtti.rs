//! Data of Microsoft's C++ ABI that names other data by RVA, without base relocations: RTTI and the descriptions of thrown types.
//!
//! Sources: `rttidata.h` and `ehdata.h` of Microsoft's compiler; LLVM's `MicrosoftCXXABI.cpp` writes the same.

use crate::atoms::Atom;

/// Offsets of the 32-bit RVAs in an atom, recognised by its name. An RVA of 0 stands for nothing.
pub fn rva_fields(atom: &Atom) -> Vec<u32> {
    let has_name = |prefix: &str| atom.names.iter().any(|name| name.key.starts_with(prefix));
    let all_from = |first: u32| (first..atom.size / 4 * 4).step_by(4).collect();
    if has_name("_TI") {
        // ThrowInfo: destructor, forward compatibility, array of catchable types.
        vec![4, 8, 12]
    } else if has_name("_CTA") {
        // CatchableTypeArray: a count and its entries.
        all_from(4)
    } else if has_name("_CT") {
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
