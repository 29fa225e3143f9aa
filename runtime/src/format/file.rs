//! The whole of a payload file's body: what it holds for each of its images (section 2).

use alloc::vec::Vec;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::decode::{decode_part, malformed};
use super::encode::size32;
use super::{EncodeError, FormatError, Payload, Seal, same_name, unseal};

/// Images that one file can be for.
pub const MAX_IMAGES: usize = 64;

const SECTION: &str = "image directory";

/// A payload file, decoded: one payload for each image that it changes. They go into a process together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFile {
    /// At least one; no two are for images of the same name.
    pub payloads: Vec<Payload>,
}

impl PayloadFile {
    /// Reads a whole payload file and checks every rule of the format.
    ///
    /// # Errors
    /// Says which rule is broken, and where.
    pub fn decode(file: &[u8]) -> Result<(PayloadFile, Seal), FormatError> {
        let (body, seal) = unseal(file)?;
        let payloads = split_parts(&body)?.into_iter().map(decode_part).collect::<Result<Vec<_>, _>>()?;
        require_distinct(&payloads)?;
        Ok((PayloadFile { payloads }, seal))
    }

    /// The body (section 2), not compressed. The same payloads always give the same bytes.
    ///
    /// # Errors
    /// When something exceeds the format's field sizes.
    pub fn encode_body(&self) -> Result<Vec<u8>, EncodeError> {
        if !(1..=MAX_IMAGES).contains(&self.payloads.len()) {
            return Err(EncodeError::Images(self.payloads.len()));
        }
        let parts = self.payloads.iter().map(Payload::encode_part).collect::<Result<Vec<_>, _>>()?;
        let mut body = Vec::from((parts.len() as u32).to_le_bytes());
        for part in &parts {
            body.extend_from_slice(&size32(part.len(), "parts")?.to_le_bytes());
        }
        for part in &parts {
            body.resize(body.len().next_multiple_of(8), 0);
            body.extend_from_slice(part);
        }
        Ok(body)
    }
}

impl From<Payload> for PayloadFile {
    fn from(payload: Payload) -> PayloadFile {
        PayloadFile { payloads: Vec::from([payload]) }
    }
}

/// The images' parts of a body.
fn split_parts(body: &[u8]) -> Result<Vec<&[u8]>, FormatError> {
    let (count, rest) = U32::ref_from_prefix(body).map_err(|_| malformed(SECTION, "missing"))?;
    let count = count.get() as usize;
    if !(1..=MAX_IMAGES).contains(&count) {
        return Err(malformed(SECTION, "not a number of images from 1 to 64"));
    }
    let (sizes, _) = <[U32]>::ref_from_prefix_with_elems(rest, count).map_err(|_| malformed(SECTION, "cut off"))?;
    let mut end = 4 + size_of_val(sizes);
    let mut parts = Vec::with_capacity(count);
    for size in sizes {
        let start = end.next_multiple_of(8);
        if body.get(end..start).is_none_or(|gap| gap.iter().any(|byte| *byte != 0)) {
            return Err(malformed(SECTION, "the bytes before an image's part are not zero"));
        }
        end = start.checked_add(size.get() as usize).ok_or(malformed(SECTION, "a part is too large"))?;
        parts.push(body.get(start..end).ok_or(malformed(SECTION, "a part reaches beyond the body"))?);
    }
    if end != body.len() {
        return Err(malformed(SECTION, "bytes behind the last image's part"));
    }
    Ok(parts)
}

/// The loader finds images by name, in any case of its letters.
fn require_distinct(payloads: &[Payload]) -> Result<(), FormatError> {
    for (index, payload) in payloads.iter().enumerate() {
        let name = &payload.identity.image_name;
        if payloads.iter().take(index).any(|earlier| same_name(&earlier.identity.image_name, name)) {
            return Err(malformed(SECTION, "two parts are for images of the same name"));
        }
    }
    Ok(())
}
