//! Memory for one patch, near its image. Freed again unless it is kept.

use std::ops::Range;

use super::process::{PageState, Process};
use crate::target::reach;

/// A region that goes away when it is dropped.
pub(super) struct Region<'p> {
    process: &'p Process,
    pub base: u64,
    pub size: u64,
    kept: bool,
}

impl<'p> Region<'p> {
    /// Reserves writable memory within reach of all of `image`; only above it where that is asked for.
    pub fn reserve(process: &'p Process, image: &Range<u64>, size: u64, only_above: bool) -> Option<Region<'p>> {
        let free: Vec<Range<u64>> = process
            .pages(reach::window(image, size))
            .filter(|pages| pages.state == PageState::Free)
            .map(|pages| pages.base..pages.base.saturating_add(pages.size))
            .collect();
        // Another thread may take a place first: then the next one.
        let places = reach::candidates(image, size, &free).into_iter();
        let mut places = places.filter(|place| !only_above || *place >= image.end);
        let base = places.find_map(|place| process.allocate(place, size))?;
        Some(Region { process, base, size, kept: false })
    }

    /// Leaves the region in the process.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing better can be done about a failure: the memory stays reserved, and nothing leads to it.
            let _ = self.process.free(self.base);
        }
    }
}
