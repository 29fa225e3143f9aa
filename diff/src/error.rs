//! What can be wrong with the files that a comparison is given.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image or PDB cannot be used. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or mapped.
    #[error("cannot read {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not a PE image that hpgen can read.
    #[error("{}: {problem}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No PDB was named, and there is none beside the image.
    #[error(
        "{}: no PDB found: looked for {}; build with debug information (-g -gcodeview and --pdb=, or /Zi and /DEBUG) or name it with --old-pdb or --new-pdb",
        image.display(),
        looked_for.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    PdbNotFound {
        /// The image.
        image: PathBuf,
        /// Where a PDB was looked for.
        looked_for: Vec<PathBuf>,
    },
    /// The PDB cannot be read.
    #[error("{}: {problem}", path.display())]
    Pdb {
        /// The PDB.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The PDB belongs to another build of the image.
    #[error(
        "{}: this PDB is of another build: {} wants {wanted}, the PDB is {found}; take the PDB that the same link wrote",
        pdb.display(),
        image.display()
    )]
    PdbMismatch {
        /// The image.
        image: PathBuf,
        /// The PDB.
        pdb: PathBuf,
        /// GUID and age that the image names.
        wanted: String,
        /// GUID and age of the PDB.
        found: String,
    },
    /// The two images cannot be two builds of one program.
    #[error("{} and {} cannot be compared: {problem}", old.display(), new.display())]
    Incomparable {
        /// The old image.
        old: PathBuf,
        /// The new image.
        new: PathBuf,
        /// What differs.
        problem: String,
    },
}

impl Error {
    pub(crate) fn image(path: &Path, problem: impl Into<String>) -> Error {
        Error::Image { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn pdb(path: &Path, problem: impl Into<String>) -> Error {
        Error::Pdb { path: path.to_owned(), problem: problem.into() }
    }
}
