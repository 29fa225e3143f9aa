//! Reading somebody else's memory, where every read may fail and no content may be trusted.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A 64-bit address space that can be read.
pub(crate) trait Memory {
    /// Fills all of `buffer` from `address` on; `None` when any byte of that cannot be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()>;

    /// One record.
    fn record<T: FromBytes + FromZeros + IntoBytes>(&self, address: u64) -> Option<T> {
        let mut record = T::new_zeroed();
        self.read(address, record.as_mut_bytes())?;
        Some(record)
    }

    /// `size` bytes, of which the caller knows that they are not too many.
    fn bytes(&self, address: u64, size: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    /// Text up to its zero byte, if that comes within `limit` bytes. Read in steps that do not cross page borders, so that text
    /// at the end of mapped memory can be read.
    fn c_string(&self, address: u64, limit: usize) -> Option<Vec<u8>> {
        const STEP: u64 = 64;
        let mut text = Vec::new();
        while text.len() < limit {
            let here = address.checked_add(text.len() as u64)?;
            let chunk = self.bytes(here, (STEP - here % STEP) as usize)?;
            match chunk.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(chunk.get(..end)?);
                    return Some(text);
                }
                None => text.extend_from_slice(&chunk),
            }
        }
        None
    }
}

/// An address space that holds one run of bytes, for tests.
#[cfg(test)]
pub(crate) struct Bytes {
    pub base: u64,
    pub bytes: Vec<u8>,
}

#[cfg(test)]
impl Memory for Bytes {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(buffer.len())?;
        buffer.copy_from_slice(self.bytes.get(start..end)?);
        Some(())
    }
}
