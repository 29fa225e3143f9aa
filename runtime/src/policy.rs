//! Which payloads are let in.

use alloc::vec::Vec;

use crate::format::{FormatError, PayloadFile, PublicKey, Seal, SignatureError};

/// Whose payloads are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Keys whose signatures count.
    pub trusted: Vec<PublicKey>,
    /// Let a payload in that nobody signed, or somebody unknown: for development.
    pub allow_unsigned: bool,
}

/// A payload that the policy lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What it holds for its images.
    pub payload: PayloadFile,
    /// Its seal.
    pub seal: Seal,
    /// Whose signature counted; none where none was asked for.
    pub signer: Option<PublicKey>,
}

/// Why a payload is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is none, or damaged.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Its signature is missing, or does not count.
    #[error(transparent)]
    Signature(SignatureError),
}

impl PolicyError {
    /// Whether nobody who counts vouches for the file (exit code 5), rather than it being none (exit code 1).
    pub fn is_refusal(&self) -> bool {
        matches!(self, PolicyError::Signature(_))
    }
}

impl Policy {
    /// Reads a payload file that the policy lets in.
    ///
    /// # Errors
    /// Says what is wrong with the file or its signature. A forged signature is refused whatever the policy.
    pub fn accept(&self, file: &[u8]) -> Result<Accepted, PolicyError> {
        // The signature first: nothing of an unknown sender's file is unpacked.
        let signer = match PublicKey::of_signer(file, &self.trusted) {
            Ok(key) => Some(key),
            Err(SignatureError::Format(error)) => return Err(error.into()),
            Err(SignatureError::Unsigned) if self.allow_unsigned => None,
            Err(SignatureError::Untrusted(key)) if self.allow_unsigned => {
                key.check(file).map_err(PolicyError::Signature)?;
                None
            }
            Err(error) => return Err(PolicyError::Signature(error)),
        };
        let (payload, seal) = PayloadFile::decode(file)?;
        Ok(Accepted { payload, seal, signer })
    }
}
