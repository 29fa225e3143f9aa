//! `hpgen keygen`.

use anyhow::Result;

use crate::Outcome;
use crate::args::KeygenArguments;
use crate::keys;
use crate::output::{self, BOLD, paint};

/// Makes a key pair.
pub fn execute(arguments: &KeygenArguments) -> Result<Outcome> {
    let key = keys::generate(&arguments.output)?;
    output::print(&format!(
        "wrote key {}\n  {}  the private key: keep it where releases are signed, and nowhere else\n  {}  the public key: give it to `apply --trust` on every machine that takes payloads\n",
        paint(BOLD, key.short()),
        arguments.output.display(),
        keys::public_path(&arguments.output).display(),
    ));
    Ok(Outcome::Done)
}
