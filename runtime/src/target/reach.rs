//! Where a region may go: so near to its image that every 32-bit distance between any two of their bytes can be written.

use core::ops::Range;

/// Addresses of new allocations are multiples of this on Windows.
pub(crate) const GRANULARITY: u64 = 0x1_0000;
/// From the first byte of image and region to the last. Signed 32-bit distances reach a little further; the difference
/// covers addends and the end of an instruction.
const SPAN: u64 = (1 << 31) - 0x1_0000;
/// Nothing is placed lower, where pointers are commonly taken for errors.
const LOWEST: u64 = 0x10_0000;

/// The address range to be looked through for a region of `size` bytes.
pub(crate) fn window(image: &Range<u64>, size: u64) -> Range<u64> {
    let image_size = image.end.saturating_sub(image.start);
    let slack = SPAN.saturating_sub(image_size).saturating_sub(size);
    image.start.saturating_sub(slack + size).max(LOWEST)..image.end.saturating_add(slack + size)
}

/// Places for `size` bytes in the `free` blocks: those above the image first, the nearest first.
pub(crate) fn candidates(image: &Range<u64>, size: u64, free: &[Range<u64>]) -> Vec<u64> {
    let window = window(image, size);
    let (mut above, mut below) = (Vec::new(), Vec::new());
    for block in free {
        let (start, end) = (block.start.max(window.start), block.end.min(window.end));
        let lowest = start.max(image.end).checked_next_multiple_of(GRANULARITY);
        if let Some(address) = lowest.filter(|address| end.saturating_sub(*address) >= size && *address <= end) {
            above.push(address);
        }
        let highest = end.min(image.start).checked_sub(size).map(|address| address & !(GRANULARITY - 1));
        if let Some(address) = highest.filter(|address| *address >= start) {
            below.push(address);
        }
    }
    above.sort_unstable();
    below.sort_unstable_by(|a, b| b.cmp(a));
    above.append(&mut below);
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Range<u64> = 0..u64::MAX;
    const IMAGE: Range<u64> = 0x1_4000_0000..0x1_4002_3000;

    #[test]
    fn nearest_above_first_then_nearest_below() {
        let free = [
            0x1_0000_0000..0x1_2000_0000,
            0x1_3000_0000..0x1_4000_0000,
            0x1_4002_3000..0x1_4003_5000,
            0x1_5000_0000..0x7000_0000_0000,
        ];
        assert_eq!(candidates(&IMAGE, 0x5000, &free), [0x1_4003_0000, 0x1_5000_0000, 0x1_3fff_0000, 0x1_1fff_0000]);
        assert_eq!(candidates(&IMAGE, 0x6000, &free), [0x1_5000_0000, 0x1_3fff_0000, 0x1_1fff_0000]);
    }

    #[test]
    fn everything_stays_within_reach() {
        for size in [0x1000, 0x1_0000, 1 << 30] {
            let found = candidates(&IMAGE, size, &[ALL, 5..7]);
            assert!(!found.is_empty());
            for address in found {
                let (low, high) = (address.min(IMAGE.start), (address + size).max(IMAGE.end));
                assert!(high - low <= i32::MAX as u64);
            }
        }
        assert!(candidates(&IMAGE, 0x1000, &[0x2_0000_0000..0x3_0000_0000, 5..7]).is_empty());
        // Just at the border: one page more does not fit.
        let border = IMAGE.start + SPAN;
        let last = [border - 0x1_0000..u64::MAX, 5..7];
        assert_eq!(candidates(&IMAGE, 0x1_0000, &last), [border - 0x1_0000]);
        assert!(candidates(&IMAGE, 0x1_1000, &last).is_empty());
    }

    #[test]
    fn absurd_input_gives_nothing() {
        assert!(candidates(&(0..0), u64::MAX, &[ALL, 5..7]).is_empty());
        assert!(candidates(&(u64::MAX - 5..u64::MAX), 0x1000, &[5..7, 7..7]).is_empty());
    }
}
