//! Which image a payload is made for.

use hpgen_diff::program::Program;
use hpgen_runtime::format::Payload;

/// Whether the payload is made for this build.
pub fn fits(old: &Program, payload: &Payload) -> bool {
    let (is, wanted) = (&old.image.identity, &payload.identity);
    (is.guid, is.age, is.timestamp, is.size_of_image)
        == (wanted.guid, wanted.age, wanted.timestamp, wanted.size_of_image)
}
