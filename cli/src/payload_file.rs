//! Reading and writing payload files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use hpgen_runtime::format::{PayloadFile, Seal};

/// Reads a file.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Checks what was read.
pub fn decode(path: &Path, file: &[u8]) -> Result<(PayloadFile, Seal)> {
    PayloadFile::decode(file).map_err(|problem| anyhow!("{}: {problem}", path.display()))
}

/// The file beside a payload that says where its code came from.
pub fn symbols_path(payload: &Path) -> PathBuf {
    let mut name = payload.as_os_str().to_owned();
    name.push(".sym");
    name.into()
}

/// Writes a file so that it is there whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let name = path.file_name().with_context(failed)?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let result = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // Nothing more can be done about a file that was only half made.
        let _ = fs::remove_file(&temporary);
    }
    result.with_context(failed)
}
