//! Where a table of virtual functions ends that no type describes (Itanium C++ ABI, 2.5.2): clang and gcc put it among the other constants of
//! a file, and write no size for it.
//!
//! A group of tables is, once or more: offsets, the pointer to the class's type information, pointers to functions.

use std::ops::Range;

use crate::image::Image;
use crate::rva::Rva;

const SLOT: u32 = 8;

/// Bytes of the group of tables that begins with `range`, which nothing else begins inside; `is_type` says of an address whether a class's type
/// information stands there. None for what does not look like one, such as those of programs without type information.
pub(crate) fn vtable_size(image: &Image, range: Range<Rva>, is_type: impl Fn(Rva) -> bool) -> Option<u32> {
    let slots = |from: Rva| (from.0..range.end.0).step_by(SLOT as usize).map(Rva);
    let pointer = |slot: Rva| {
        let relocated = image.base_relocations_in(slot..slot.checked_add(1)?);
        (!relocated.is_empty() && slot < range.end).then(|| image.relocated_target(slot)).flatten()
    };
    let is_function = |target: Rva| image.section_at(target).is_some_and(|section| section.is_executable());
    let mut end = range.start;
    let mut class = None;
    // Before the pointer are offsets: of virtual bases, of virtual calls, to the top.
    while let Some(place) = slots(end).find(|slot| pointer(*slot).is_some()) {
        let found = pointer(place).filter(|target| is_type(*target));
        if found.is_none() || class.is_some() && found != class {
            break;
        }
        class = found;
        end = place.checked_add(SLOT)?;
        while pointer(end).is_some_and(is_function) {
            end = end.checked_add(SLOT)?;
        }
    }
    class.is_some().then(|| end.distance_from(range.start)).and_then(|size| u32::try_from(size).ok())
}
