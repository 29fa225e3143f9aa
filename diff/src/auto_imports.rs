//! Fields that mingw's start-up code fills in with the addresses of variables of DLLs (`_pei386_runtime_relocator`).
//!
//! The linker writes the address of the import slot there, with the distance that is meant from the variable's start, and lists the field between
//! `__RUNTIME_PSEUDO_RELOC_LIST__` and `…_END__`: three 32-bit numbers 0, 0, 1, then for each field the RVAs of slot and field, and the field's width in
//! bits. Source: `pseudo-reloc.c` of mingw-w64; LLD's `PseudoRelocTableChunk` writes the same.

use std::collections::BTreeMap;

use crate::image::Image;
use crate::rva::Rva;
use crate::symbols::Symbols;

const LIST: &str = "__RUNTIME_PSEUDO_RELOC_LIST__";
const END: &str = "__RUNTIME_PSEUDO_RELOC_LIST_END__";
/// Version 2, the only one that linkers have written since 2008.
const HEADER: [u32; 3] = [0, 0, 1];
const ENTRY: u32 = 12;

/// The import slot of each such field.
pub(crate) fn read(image: &Image, symbols: &Symbols) -> BTreeMap<Rva, Rva> {
    let place = |name: &str| symbols.publics.iter().find(|public| public.name == name).map(|public| public.rva);
    let (Some(list), Some(end)) = (place(LIST), place(END)) else { return BTreeMap::new() };
    let numbers = |at: u32| -> Option<[u32; 3]> {
        let at = list.checked_add(at)?;
        Some([image.u32_at(at)?, image.u32_at(at.checked_add(4)?)?, image.u32_at(at.checked_add(8)?)?])
    };
    if numbers(0) != Some(HEADER) {
        return BTreeMap::new();
    }
    let entries = end.0.saturating_sub(list.0) / ENTRY;
    let fields = (1..entries).map_while(|number| numbers(number.checked_mul(ENTRY)?));
    fields
        .map(|[slot, field, _]| (Rva(field), Rva(slot)))
        .filter(|(_, slot)| image.import_at(*slot).is_some())
        .collect()
}
