//! Digests over named inputs, to know when something must be rebuilt.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Collects inputs; two collections with the same inputs in the same order have the same digest.
#[derive(Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Adds one input. Lengths are hashed too, so that no two lists of inputs run together.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        for part in [name.as_bytes(), bytes] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// The digest as hexadecimal digits.
    pub fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The digest of `bytes` as hexadecimal digits.
pub fn of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
