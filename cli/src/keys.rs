//! Key files: PEM, as other tools read and write them (PKCS #8 for private keys, SubjectPublicKeyInfo for public ones).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use hpgen_runtime::format::{PublicKey, SigningMessage, append_signature};

/// The file beside a private key that holds the public one.
pub fn public_path(private: &Path) -> PathBuf {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Makes a key and writes both files, neither over an existing one. Gives the public key.
pub fn generate(path: &Path) -> Result<PublicKey> {
    let public = public_path(path);
    for file in [path, &public] {
        if file.exists() {
            bail!("{} exists already; a key that signed payloads must not be lost", file.display());
        }
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    let key = SigningKey::from_bytes(&secret);
    let private_pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| anyhow!("cannot encode the key: {error}"))?;
    let public_pem = key
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .map_err(|error| anyhow!("cannot encode the key: {error}"))?;
    write_secret(path, private_pem.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    fs::write(&public, public_pem).with_context(|| format!("cannot write {}", public.display()))?;
    Ok(PublicKey(key.verifying_key().to_bytes()))
}

/// A new file that nobody else can read. On Windows the folder's rights decide.
fn write_secret(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    std::io::Write::write_all(&mut options.open(path)?, content)
}

/// A private key.
pub fn read_private(path: &Path) -> Result<SigningKey> {
    let pem = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    SigningKey::from_pkcs8_pem(&pem)
        .map_err(|error| anyhow!("{} is no Ed25519 private key in PEM form: {error}", path.display()))
}

/// A public key.
pub fn read_public(path: &Path) -> Result<PublicKey> {
    let pem = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = VerifyingKey::from_public_key_pem(&pem)
        .map_err(|error| anyhow!("{} is no Ed25519 public key in PEM form: {error}", path.display()))?;
    Ok(PublicKey(key.to_bytes()))
}

/// The payload file with this key's signature in place of any other.
pub fn sign(file: &[u8], key: &SigningKey) -> Result<Vec<u8>> {
    let message = SigningMessage::of(file)?;
    let signature = key.sign(message.as_bytes()).to_bytes();
    let signed = append_signature(file, PublicKey(key.verifying_key().to_bytes()), signature)?;
    Ok(signed)
}
