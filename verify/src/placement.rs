//! Where image and region could be in a process.

use hpgen_diff::image::Image;
use hpgen_runtime::format::Payload;
use hpgen_runtime::link::{self, LinkError, Linked, TakenOver};

/// Addresses of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Placement {
    /// Where the image begins.
    pub image_base: u64,
    /// Where the region begins.
    pub region_base: u64,
    /// Where an earlier payload of the series has brought the payload's variables, if one has.
    pub earlier_variables: Option<u64>,
}

/// Granularity at which Windows reserves memory.
const GRANULARITY: u64 = 0x1_0000;
/// Farthest that two ends of image and region may be apart for 32-bit distances, less one granule.
const REACH: u64 = 0x7fff_0000;
/// A base that no linker prefers, in the area where Windows puts images.
const OTHER_BASE: u64 = 0x7ff6_1234_0000;
/// Bytes by which each variable of an earlier payload is farther from the one before it than in this payload.
const SPREAD: u64 = 64;

/// The preferred base with the region close to the image on either side, and another base with the region as far away as
/// 32-bit distances reach. An address that depends on one of the two and was not relocated is wrong in one of these at least.
/// A payload that has to be above the image is looked at above it only. Of each two, one is a process that an earlier payload of the series has brought the variables to.
pub fn placements(image: &Image, payload: &Payload) -> Vec<Placement> {
    let size = u64::from(image.identity.size_of_image);
    let region = u64::from(payload.region_size());
    let variables = (payload.variables.len() as u64).saturating_mul(SPREAD).saturating_add(region);
    let before = |address: u64| address.checked_sub(variables).map(round_down);
    let preferred = image.identity.image_base;
    let near_above = |base: u64| base.checked_add(size).and_then(|end| end.checked_next_multiple_of(GRANULARITY));
    let near_below = preferred.checked_sub(region).map(round_down).filter(|base| *base != 0);
    let far_above = OTHER_BASE.checked_add(REACH).and_then(|end| end.checked_sub(region)).map(round_down);
    let far_below = OTHER_BASE.checked_add(size).and_then(|end| end.checked_sub(REACH));
    let far_below = far_below.and_then(|start| start.checked_next_multiple_of(GRANULARITY));
    let is_apart = |placement: &Placement| {
        let ends = (placement.image_base.checked_add(size), placement.region_base.checked_add(region));
        matches!(ends, (Some(image_end), Some(region_end))
            if region_end <= placement.image_base || image_end <= placement.region_base)
    };
    let behind = |start: Option<u64>| start.and_then(|s| s.checked_add(region)?.checked_next_multiple_of(GRANULARITY));
    let places = if payload.must_be_above() {
        // All that the image's base is added to is above the image, and so was the payload that brought the variables.
        [
            (preferred, near_above(preferred), None),
            (preferred, behind(near_above(preferred)), behind(behind(near_above(preferred)))),
            (OTHER_BASE, far_above, None),
            (OTHER_BASE, far_above, near_above(OTHER_BASE)),
        ]
    } else {
        [
            (preferred, near_above(preferred), None),
            (preferred, near_below, near_below.and_then(before)),
            (OTHER_BASE, far_above, None),
            (OTHER_BASE, far_below, before(OTHER_BASE)),
        ]
    };
    places
        .into_iter()
        .filter_map(|(image_base, region_base, earlier)| {
            let earlier_variables = earlier.filter(|_| !payload.variables.is_empty());
            Some(Placement { image_base, region_base: region_base?, earlier_variables })
        })
        .filter(is_apart)
        .collect()
}

impl Placement {
    /// Where the payload's variables have been since an earlier payload brought them.
    pub fn taken_over(&self, payload: &Payload) -> Vec<TakenOver> {
        let Some(start) = self.earlier_variables else { return Vec::new() };
        let first = payload.variables.iter().map(|variable| variable.offset).min().unwrap_or(0);
        let place = |(number, variable): (u64, &hpgen_runtime::format::Variable)| {
            let distance = u64::from(variable.offset - first).saturating_add(SPREAD.saturating_mul(number));
            Some(TakenOver { offset: variable.offset, size: variable.size, address: start.checked_add(distance)? })
        };
        (0..).zip(&payload.variables).filter_map(place).collect()
    }

    /// What the loader makes of the payload here. `imports` holds the address of each import.
    ///
    /// # Errors
    /// When the payload cannot be placed so.
    pub fn link(&self, payload: &Payload, imports: &[u64]) -> Result<Linked, LinkError> {
        let taken_over = self.taken_over(payload);
        link::link_taking_over(payload, self.region_base, self.image_base, imports, &taken_over)
    }
}

fn round_down(address: u64) -> u64 {
    address & !(GRANULARITY - 1)
}
