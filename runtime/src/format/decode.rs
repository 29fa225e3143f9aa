//! From a file to its body: header, seal, compression (section 1).

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use super::compression::decompress;
use super::numbers::{Reader, put_number};
use super::*;

const MAGIC: [u8; 4] = *b"HPGX";
/// What files of versions 1 and 2 begin with; their version follows.
const EARLIER_MAGIC: [u8; 8] = *b"HPGENHPX";
const VERSION: u8 = 3;
/// Bytes of the seal that the file holds.
const SEALED_BY: usize = 8;
/// Bytes before those: magic, version, machine.
const BEFORE_SEAL: usize = 7;

/// What is wrong with a payload file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not even a header.
    #[error("the file ends after {0} bytes, in the middle of its header")]
    Truncated(usize),
    /// Another kind of file.
    #[error("this is not an hpgen payload: it does not begin with HPGX")]
    Magic,
    /// Made by another hpgen.
    #[error("format version {0} is not known to this hpgen, which reads version 3")]
    Version(u16),
    /// For another processor.
    #[error("the payload is for machine {0:#06x}; only x64 (0x8664) is known")]
    Machine(u16),
    /// Header fields disagree with the file.
    #[error(
        "the header says {expected} bytes of body, {found} follow, and what is over is no signature: it was cut off or added to"
    )]
    StoredSize {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes behind the header.
        found: u64,
    },
    /// The content was changed after it was made.
    #[error("the seal does not match the content: the file is damaged or was altered")]
    Seal,
    /// An unpacked body of this size is not accepted.
    #[error("the body of {0} bytes is larger than the limit of {MAX_BODY}")]
    BodySize(u64),
    /// The compressed body cannot be unpacked to the announced size.
    #[error("the body cannot be decompressed to the {0} bytes that the header announces")]
    Decompress(u64),
    /// A rule of the format is broken.
    #[error("{section}: {problem}")]
    Malformed {
        /// The section concerned.
        section: &'static str,
        /// The rule, in words.
        problem: &'static str,
    },
    /// A rule of the format is broken by one record of a table.
    #[error("{section}, record {index}: {problem}")]
    Record {
        /// The section concerned.
        section: &'static str,
        /// Which record, from 0.
        index: usize,
        /// The rule, in words.
        problem: &'static str,
    },
}

/// Checks the header and the seal, and gives the decompressed body.
///
/// # Errors
/// As [`PayloadFile::decode`].
pub fn unseal(file: &[u8]) -> Result<(Vec<u8>, Seal), FormatError> {
    let Sealed { seal, body_size, stored, .. } = Sealed::split(file)?;
    if body_size > MAX_BODY {
        return Err(FormatError::BodySize(body_size));
    }
    let body = decompress(stored, body_size as usize).ok_or(FormatError::Decompress(body_size))?;
    Ok((body, seal))
}

/// The whole file: header with its seal, then `stored`, the compressed form of a body of `body_size` bytes.
pub fn seal_file(machine: u16, body_size: u64, stored: &[u8]) -> Vec<u8> {
    let mut file = Vec::from(MAGIC);
    file.push(VERSION);
    file.extend_from_slice(&machine.to_le_bytes());
    let mut sealed = Vec::new();
    put_number(&mut sealed, body_size);
    put_number(&mut sealed, stored.len() as u64);
    sealed.extend_from_slice(stored);
    let Seal(seal) = compute_seal(&file, &sealed);
    file.extend_from_slice(&seal[..SEALED_BY]);
    file.extend_from_slice(&sealed);
    file
}

/// SHA-256 over what stands before and behind the seal's bytes.
fn compute_seal(before: &[u8], behind: &[u8]) -> Seal {
    Seal(Sha256::new().chain_update(before).chain_update(behind).finalize().into())
}

/// A file whose header and seal are right.
pub(super) struct Sealed<'a> {
    pub seal: Seal,
    /// Bytes of the body, as the header has it.
    body_size: u64,
    /// The compressed body.
    stored: &'a [u8],
    /// Header and compressed body.
    pub payload: &'a [u8],
    /// What follows: nothing, or a signature.
    pub rest: &'a [u8],
}

impl<'a> Sealed<'a> {
    pub fn split(file: &'a [u8]) -> Result<Sealed<'a>, FormatError> {
        let truncated = || FormatError::Truncated(file.len());
        if let Some([version, _, ..]) = file.strip_prefix(&EARLIER_MAGIC) {
            return Err(FormatError::Version((*version).into()));
        }
        if !file.starts_with(&MAGIC) {
            return Err(if MAGIC.starts_with(file) { truncated() } else { FormatError::Magic });
        }
        let (before, rest) = file.split_at_checked(BEFORE_SEAL).ok_or_else(truncated)?;
        let [.., version, low, high] = before else { return Err(truncated()) };
        if *version != VERSION {
            return Err(FormatError::Version((*version).into()));
        }
        let (kept, sealed) = rest.split_at_checked(SEALED_BY).ok_or_else(truncated)?;
        let mut reader = Reader::new(sealed);
        let sizes = reader.long().and_then(|body_size| Ok((body_size, reader.long()?)));
        let (body_size, expected) = sizes.map_err(|_| truncated())?;
        let found = reader.rest().len() as u64;
        let split = usize::try_from(expected).ok().and_then(|expected| reader.rest().split_at_checked(expected));
        let (stored, rest) = split
            .filter(|(_, rest)| signature::is_one_or_none(rest))
            .ok_or(FormatError::StoredSize { expected, found })?;
        let seal = compute_seal(before, sealed.get(..sealed.len() - rest.len()).unwrap_or_default());
        if !seal.0.starts_with(kept) {
            return Err(FormatError::Seal);
        }
        let machine = u16::from_le_bytes([*low, *high]);
        if machine != MACHINE_X64 {
            return Err(FormatError::Machine(machine));
        }
        let payload = file.get(..file.len() - rest.len()).unwrap_or_default();
        Ok(Sealed { seal, body_size, stored, payload, rest })
    }
}

pub(super) fn malformed(section: &'static str, problem: &'static str) -> FormatError {
    FormatError::Malformed { section, problem }
}
