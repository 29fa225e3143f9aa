//! Who vouches for a payload (section 3).

use alloc::string::String;
use alloc::vec::Vec;

use ed25519_dalek::{Signature, VerifyingKey};
use zerocopy::IntoBytes;

use super::decode::{FormatError, split_file};
use super::hex;
use super::layout::{FileHeader, SIGNATURE_MAGIC, SignatureBlock};

/// Keeps signatures of other things from being taken for one of a payload.
const CONTEXT: &[u8] = b"hpgen payload signature, format 3\0";

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

/// What a signature is made over: the header, whose seal stands for the rest.
pub struct SigningMessage(Vec<u8>);

impl SigningMessage {
    /// The message for a payload file, signed already or not.
    ///
    /// # Errors
    /// When it is no payload file, or its seal does not match.
    pub fn of(file: &[u8]) -> Result<SigningMessage, FormatError> {
        let (header, ..) = split_file(file)?;
        Ok(SigningMessage([CONTEXT, header.as_bytes()].concat()))
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
    let (header, stored, _) = split_file(file)?;
    let block = SignatureBlock { magic: SIGNATURE_MAGIC, key: key.0, signature };
    Ok([header.as_bytes(), stored, block.as_bytes()].concat())
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
        let (.., block) = split_file(file)?;
        Ok(block.map(|block| PublicKey(block.key)))
    }

    /// Whether this key signed a payload file.
    ///
    /// # Errors
    /// When it did not.
    pub fn check(&self, file: &[u8]) -> Result<(), SignatureError> {
        let (.., block) = split_file(file)?;
        let block = block.filter(|block| block.key == self.0).ok_or(SignatureError::Unsigned)?;
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError::Forged(*self))?;
        let message = SigningMessage::of(file)?;
        // Strict: neither weak keys nor more than one form of a signature.
        key.verify_strict(message.as_bytes(), &Signature::from_bytes(&block.signature))
            .map_err(|_| SignatureError::Forged(*self))
    }
}

/// The parts of a file.
pub(super) type Parts<'a> = (&'a FileHeader, &'a [u8], Option<&'a SignatureBlock>);
