//! Who vouches for a payload (section 3).

use alloc::string::String;
use alloc::vec::Vec;

use ed25519_dalek::{Signature, VerifyingKey};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::decode::{FormatError, Sealed};
use super::hex;

/// Keeps signatures of other things from being taken for one of a payload.
const CONTEXT: &[u8] = b"hpgen payload signature, format 3\0";

const SIGNATURE_MAGIC: [u8; 8] = *b"HPGENSIG";

/// The block behind a signed payload.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SignatureBlock {
    magic: [u8; 8],
    key: [u8; 32],
    signature: [u8; 64],
}

fn block(bytes: &[u8]) -> Option<&SignatureBlock> {
    SignatureBlock::ref_from_bytes(bytes).ok().filter(|block| block.magic == SIGNATURE_MAGIC)
}

/// Whether what stands behind a body may stand there.
pub(super) fn is_one_or_none(bytes: &[u8]) -> bool {
    bytes.is_empty() || block(bytes).is_some()
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl core::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl core::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl PublicKey {
    /// A short form for people: the first eight bytes in hexadecimal.
    pub fn short(&self) -> String {
        hex(&self.0[..8])
    }
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The file is no payload.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// There is none.
    #[error("the payload is not signed")]
    Unsigned,
    /// Made with another key, or over something else.
    #[error("the signature by key {0} does not match the payload: it was forged or damaged")]
    Forged(PublicKey),
    /// Made with a key that nobody here trusts.
    #[error("the payload is signed by key {0}, which is not trusted here")]
    Untrusted(PublicKey),
}

/// What a signature is made over: the whole of the seal, which stands for the payload.
pub struct SigningMessage(Vec<u8>);

impl SigningMessage {
    /// The message for a payload file, signed already or not.
    ///
    /// # Errors
    /// When it is no payload file, or its seal does not match.
    pub fn of(file: &[u8]) -> Result<SigningMessage, FormatError> {
        let Sealed { seal, .. } = Sealed::split(file)?;
        Ok(SigningMessage([CONTEXT, &seal.0].concat()))
    }

    /// The bytes to sign.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The file with this signature in place of one that it may have.
///
/// # Errors
/// When it is no payload file.
pub fn append_signature(file: &[u8], key: PublicKey, signature: [u8; 64]) -> Result<Vec<u8>, FormatError> {
    let Sealed { payload, .. } = Sealed::split(file)?;
    let block = SignatureBlock { magic: SIGNATURE_MAGIC, key: key.0, signature };
    Ok([payload, block.as_bytes()].concat())
}

impl PublicKey {
    /// The key that signed a payload file, if its signature is right and the key is one of `trusted`.
    ///
    /// # Errors
    /// Says why the file is not to be believed.
    pub fn of_signer(file: &[u8], trusted: &[PublicKey]) -> Result<PublicKey, SignatureError> {
        let key = PublicKey::claimed(file)?.ok_or(SignatureError::Unsigned)?;
        if !trusted.contains(&key) {
            return Err(SignatureError::Untrusted(key));
        }
        key.check(file)?;
        Ok(key)
    }

    /// The key that a payload file says it was signed with; none if it is not signed.
    ///
    /// # Errors
    /// When it is no payload file.
    pub fn claimed(file: &[u8]) -> Result<Option<PublicKey>, FormatError> {
        Ok(block(Sealed::split(file)?.rest).map(|block| PublicKey(block.key)))
    }

    /// Whether this key signed a payload file.
    ///
    /// # Errors
    /// When it did not.
    pub fn check(&self, file: &[u8]) -> Result<(), SignatureError> {
        let rest = Sealed::split(file)?.rest;
        let block = block(rest).filter(|block| block.key == self.0).ok_or(SignatureError::Unsigned)?;
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError::Forged(*self))?;
        let message = SigningMessage::of(file)?;
        // Strict: neither weak keys nor more than one form of a signature.
        key.verify_strict(message.as_bytes(), &Signature::from_bytes(&block.signature))
            .map_err(|_| SignatureError::Forged(*self))
    }
}
