//! The one place that maps files: images and PDBs are read in place, however large.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::Error;

/// Maps a whole file for reading.
///
/// # Errors
/// When the file cannot be opened, mapped, or is empty.
pub(crate) fn map(path: &Path) -> Result<Mmap, Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::image(path, "a folder, not a file"));
    }
    if metadata.len() == 0 {
        return Err(Error::image(path, "the file is empty"));
    }
    // SAFETY: the mapping is private and read-only. If another process shortens the file meanwhile, reading it can
    // fault; build outputs that change under a running hpgen are outside what it supports, as for any linker.
    unsafe { Mmap::map(&file) }.map_err(failed)
}
