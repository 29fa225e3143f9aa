//! What the body is made of (section 2.1): numbers of as many bytes as they need, texts, and the columns of tables.

use alloc::string::String;
use alloc::vec::Vec;

use super::decode::{FormatError, malformed};

/// Bits of a number in each of its bytes; the eighth says that another byte follows.
const GROUP: u32 = 7;
const MORE: u8 = 0x80;

/// Writes a number.
pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >> GROUP != 0 {
        bytes.push(number as u8 | MORE);
        number >>= GROUP;
    }
    bytes.push(number as u8);
}

/// Writes a number that can be negative: small ones of both signs in turn.
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put_number(bytes, ((number << 1) ^ (number >> 63)) as u64);
}

/// Writes a text behind its length.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

/// Reads from the front of some bytes. Nothing that it gives is longer than what is there.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    section: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, section: "body" }
    }

    /// Names what is read next, for messages.
    pub fn enter(&mut self, section: &'static str) {
        self.section = section;
    }

    pub fn error(&self, problem: &'static str) -> FormatError {
        malformed(self.section, problem)
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.error("cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(|| self.error("cut off"))?;
        self.rest = rest;
        Ok(*array)
    }

    pub fn long(&mut self) -> Result<u64, FormatError> {
        let mut number = 0;
        for place in (0..u64::BITS).step_by(GROUP as usize) {
            let [byte] = self.array()?;
            let group = u64::from(byte & !MORE);
            if group << place >> place != group || byte == 0 && place > 0 {
                break;
            }
            number |= group << place;
            if byte & MORE == 0 {
                return Ok(number);
            }
        }
        Err(self.error("a number is too large, or longer than it need be"))
    }

    pub fn number(&mut self) -> Result<u32, FormatError> {
        u32::try_from(self.long()?).map_err(|_| self.error("a number is too large"))
    }

    pub fn signed(&mut self) -> Result<i64, FormatError> {
        let number = self.long()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub fn text(&mut self) -> Result<String, FormatError> {
        let length = self.number()? as usize;
        let text = core::str::from_utf8(self.bytes(length)?).map_err(|_| self.error("not UTF-8"))?;
        Ok(text.into())
    }

    /// How many records follow, of which each has a byte at least.
    pub fn count(&mut self) -> Result<usize, FormatError> {
        let count = self.number()? as usize;
        if count > self.rest.len() { Err(self.error("cut off")) } else { Ok(count) }
    }

    /// A column of a table.
    pub fn column<T>(
        &mut self,
        count: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        (0..count).map(|_| one(self)).collect()
    }

    /// A column of numbers.
    pub fn numbers(&mut self, count: usize) -> Result<Vec<u32>, FormatError> {
        self.column(count, Reader::number)
    }

    /// A column of places, each counted from the one before it, which `next` gives; the first from `place`.
    pub fn places(
        &mut self,
        count: usize,
        mut place: u32,
        mut next: impl FnMut(usize, u32) -> u32,
    ) -> Result<Vec<u32>, FormatError> {
        let mut places = Vec::with_capacity(count);
        for index in 0..count {
            let distance = self.signed()?;
            let found = i64::from(place).checked_add(distance).and_then(|found| u32::try_from(found).ok());
            let found = found.ok_or_else(|| self.error("a place is out of range"))?;
            places.push(found);
            place = next(index, found);
        }
        Ok(places)
    }
}

/// Writes a column that [`Reader::places`] reads.
pub(super) fn put_places(
    bytes: &mut Vec<u8>,
    places: impl IntoIterator<Item = u32>,
    mut place: u32,
    mut next: impl FnMut(usize, u32) -> u32,
) {
    for (index, found) in places.into_iter().enumerate() {
        put_signed(bytes, i64::from(found) - i64::from(place));
        place = next(index, found);
    }
}
