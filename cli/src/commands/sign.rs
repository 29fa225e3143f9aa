//! `hpgen sign`.

use anyhow::Result;
use hpgen_runtime::format::PublicKey;

use crate::Outcome;
use crate::args::SignArguments;
use crate::{keys, output, payload_file};

/// Signs a payload file, in place unless another file is named.
pub fn execute(arguments: &SignArguments) -> Result<Outcome> {
    let key = keys::read_private(&arguments.key)?;
    let (path, target) = (&arguments.file, arguments.output.as_ref().unwrap_or(&arguments.file));
    let file = payload_file::read_bytes(path)?;
    // What is signed is vouched for: it must be sound.
    let (_, seal) = payload_file::decode(path, &file)?;
    payload_file::write(target, &keys::sign(&file, &key)?)?;
    let public = PublicKey(key.verifying_key().to_bytes());
    output::print(&format!("signed patch {} with key {}: {}\n", seal.patch_id(), public.short(), target.display()));
    Ok(Outcome::Done)
}
