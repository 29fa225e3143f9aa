//! Looking a symbol up in the export table of a loaded image.
//!
//! Layout: "PE Format", section "The .edata Section".

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::ImportSymbol;
use crate::target::image::LoadedImage;
use crate::target::memory::Memory;

/// What an export leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Export {
    Address(u64),
    /// Another module's export.
    Forward {
        dll: String,
        symbol: ImportSymbol,
    },
}

/// `IMAGE_EXPORT_DIRECTORY`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ExportDirectory {
    flags: U32,
    timestamp: U32,
    version: U32,
    name: U32,
    ordinal_base: U32,
    functions: U32,
    names: U32,
    function_rvas: U32,
    name_rvas: U32,
    name_ordinals: U32,
}

/// Longer than any symbol that a compiler makes (MSVC stops at 4096).
const MAX_NAME: usize = 8192;

/// Finds `symbol` among the exports of `image`. `None` also when the table is unsound.
pub(crate) fn find_export(memory: &impl Memory, image: &LoadedImage, symbol: &ImportSymbol) -> Option<Export> {
    let at = image.address(image.exports.rva, size_of::<ExportDirectory>() as u32)?;
    if image.exports.size == 0 {
        return None;
    }
    let directory: ExportDirectory = memory.record(at)?;
    let index = match symbol {
        ImportSymbol::Ordinal(ordinal) => u32::from(*ordinal).checked_sub(directory.ordinal_base.get())?,
        ImportSymbol::Name(name) => named_index(memory, image, &directory, name.as_bytes())?,
    };
    if index >= directory.functions.get() {
        return None;
    }
    let rva: U32 = memory.record(element(image, directory.function_rvas, index, 4)?)?;
    let rva = rva.get();
    if !image.exports.contains(rva) {
        return (rva != 0).then(|| image.address(rva, 1)).flatten().map(Export::Address);
    }
    forward(&memory.c_string(image.address(rva, 1)?, MAX_NAME)?)
}

/// Address of an element of one of the directory's arrays.
fn element(image: &LoadedImage, array: U32, index: u32, size: u32) -> Option<u64> {
    image.address(array.get().checked_add(index.checked_mul(size)?)?, size)
}

/// Names are sorted by their bytes: a binary search, then from the name's place to the function's index.
fn named_index(memory: &impl Memory, image: &LoadedImage, directory: &ExportDirectory, name: &[u8]) -> Option<u32> {
    let (mut low, mut high) = (0, directory.names.get());
    while low < high {
        let middle = low + (high - low) / 2;
        let rva: U32 = memory.record(element(image, directory.name_rvas, middle, 4)?)?;
        let found = memory.c_string(image.address(rva.get(), 1)?, MAX_NAME)?;
        match found.as_slice().cmp(name) {
            core::cmp::Ordering::Less => low = middle + 1,
            core::cmp::Ordering::Greater => high = middle,
            core::cmp::Ordering::Equal => {
                let index: U16 = memory.record(element(image, directory.name_ordinals, middle, 2)?)?;
                return Some(index.get().into());
            }
        }
    }
    None
}

/// `DLL.Name` or `DLL.#7`; the DLL's name has no extension and may itself contain dots.
fn forward(text: &[u8]) -> Option<Export> {
    let text = core::str::from_utf8(text).ok()?;
    let (dll, name) = text.rsplit_once('.')?;
    let symbol = match name.strip_prefix('#') {
        Some(ordinal) => ImportSymbol::Ordinal(ordinal.parse().ok()?),
        None => ImportSymbol::Name(name.to_owned()),
    };
    Some(Export::Forward { dll: format!("{dll}.dll"), symbol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarders() {
        let by_name = Export::Forward { dll: "NTDLL.dll".into(), symbol: ImportSymbol::Name("RtlX".into()) };
        assert_eq!(forward(b"NTDLL.RtlX"), Some(by_name));
        let by_ordinal = Export::Forward { dll: "a.b.dll".into(), symbol: ImportSymbol::Ordinal(7) };
        assert_eq!(forward(b"a.b.#7"), Some(by_ordinal));
        assert_eq!(forward(b"nothing"), None);
        assert_eq!(forward(b"a.#70000"), None);
    }
}
