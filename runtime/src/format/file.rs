//! The whole of a payload file's body: what it holds for each of its images (section 2).

use alloc::vec::Vec;

use super::decode::malformed;
use super::numbers::{Reader, put_number};
use super::part::decode_part;
use super::{EncodeError, FormatError, MAX_BODY, Payload, Probation, Seal, same_name, unseal};

/// Images that one file can be for.
pub const MAX_IMAGES: usize = 64;

const SECTION: &str = "images";

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
        Ok((PayloadFile::decode_body(&body)?, seal))
    }

    /// Reads a body, and checks every rule of section 2.
    ///
    /// # Errors
    /// Says which rule is broken, and where.
    pub fn decode_body(body: &[u8]) -> Result<PayloadFile, FormatError> {
        let mut reader = Reader::new(body);
        reader.enter(SECTION);
        let count = reader.number()? as usize;
        if !(1..=MAX_IMAGES).contains(&count) {
            return Err(reader.error("not a number of images from 1 to 64"));
        }
        let payloads = (0..count).map(|_| decode_part(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        if !reader.rest().is_empty() {
            return Err(malformed(SECTION, "bytes behind the last image's part"));
        }
        require_distinct(&payloads)?;
        Ok(PayloadFile { payloads })
    }

    /// Place among the payloads of its images: the highest of them.
    pub fn series(&self) -> u32 {
        self.payloads.iter().map(|payload| payload.identity.series).max().unwrap_or_default()
    }

    /// File names of its images.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.payloads.iter().map(|payload| payload.identity.image_name.as_str())
    }

    /// How it is watched, image by image.
    pub fn probations(&self) -> impl Iterator<Item = Probation> {
        self.payloads.iter().filter_map(|payload| payload.probation)
    }

    /// The body (section 2), not compressed. The same payloads always give the same bytes.
    ///
    /// # Errors
    /// When something exceeds the format's limits, or does not fit together.
    pub fn encode_body(&self) -> Result<Vec<u8>, EncodeError> {
        if !(1..=MAX_IMAGES).contains(&self.payloads.len()) {
            return Err(EncodeError::Images(self.payloads.len()));
        }
        let mut body = Vec::new();
        put_number(&mut body, self.payloads.len() as u64);
        self.payloads.iter().try_for_each(|payload| payload.encode_part(&mut body))?;
        if body.len() as u64 > MAX_BODY { Err(EncodeError::TooLarge(body.len())) } else { Ok(body) }
    }
}

impl From<Payload> for PayloadFile {
    fn from(payload: Payload) -> PayloadFile {
        PayloadFile { payloads: Vec::from([payload]) }
    }
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
