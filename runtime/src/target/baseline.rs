//! Whether the code that a payload replaces is that of the baseline, in all of its length.

use crate::format::{Body, Payload};
use crate::target::image::LoadedImage;
use crate::target::memory::Memory;
use crate::target::record::Record;

/// The first body that is another one than when the payload was made. What patches of ours wrote counts as what was there before.
pub(crate) fn changed_body<'p>(
    memory: &impl Memory,
    payload: &'p Payload,
    image: &LoadedImage,
    present: &[Record],
) -> Option<&'p Body> {
    payload.bodies.iter().find(|body| body.checked > 0 && !is_as_it_was(memory, body, image, present))
}

fn is_as_it_was(memory: &impl Memory, body: &Body, image: &LoadedImage, present: &[Record]) -> bool {
    let address = image.address(body.start, body.checked);
    let Some(mut bytes) = address.and_then(|address| memory.bytes(address, body.checked as usize)) else {
        return false;
    };
    let ours = present.iter().filter(|record| record.image_base == image.base).flat_map(|record| &record.entries);
    for spot in ours.flat_map(|entry| entry.spots()) {
        for (rva, original) in (spot.rva..).zip(spot.original) {
            let place = rva.checked_sub(body.start).and_then(|offset| bytes.get_mut(offset as usize));
            if let Some(byte) = place {
                *byte = *original;
            }
        }
    }
    Body::digest_of(&bytes) == body.digest
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::target::memory::Bytes;

    const BASE: u64 = 0x1_4000_0000;

    fn body(checked: u32, bytes: &[u8]) -> Body {
        Body { checked, digest: Body::digest_of(bytes), ..Body::unchecked(0x10, 0x10, 16) }
    }

    fn image() -> LoadedImage {
        let directory = crate::target::image::Directory::default();
        LoadedImage {
            base: BASE,
            machine: crate::format::MACHINE_X64,
            timestamp: 0,
            size: 0x100,
            entry_point: 0,
            exports: directory,
            functions: directory,
            debug_id: None,
        }
    }

    #[test]
    fn every_checked_byte_counts_and_no_other() {
        let code: Vec<u8> = (0..0x100).map(|byte| byte as u8).collect();
        let body = body(12, &code[0x10..0x1c]);
        for place in 0..0x100 {
            let mut memory = Bytes { base: BASE, bytes: code.clone() };
            memory.bytes[place] ^= 0x40;
            assert_eq!(is_as_it_was(&memory, &body, &image(), &[]), !(0x10..0x1c).contains(&place), "{place:#x}");
        }
        let cut_off = Bytes { base: BASE, bytes: vec![0; 0x14] };
        assert!(!is_as_it_was(&cut_off, &body, &image(), &[]));
    }
}
