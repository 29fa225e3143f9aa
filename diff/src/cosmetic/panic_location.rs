//! Rust's panic locations: constants that name the place in the source which a panic message shows.

use std::fmt;

use crate::atoms::Atom;
use crate::program::Program;
use crate::rva::Rva;

/// Longest path that is looked at.
const MAX_PATH: u64 = 4096;

/// `core::panic::Location`: the path as pointer and length, line and column, as rustc lays it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PanicLocation {
    /// The source file.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl PanicLocation {
    /// Bytes that it takes.
    pub const SIZE: u32 = 24;

    /// Reads one at an offset of an atom, where its pointer leads to `path`; none where there is no such thing.
    pub fn at(program: &Program, atom: &Atom, offset: u32, path: Rva) -> Option<PanicLocation> {
        let start = atom.rva.checked_add(offset)?;
        let word = |at: u32| program.image.u32_at(start.checked_add(at)?);
        let len = program.image.u64_at(start.checked_add(8)?).filter(|len| (1..=MAX_PATH).contains(len))?;
        let path = program.image.bytes(path, u32::try_from(len).ok()?)?;
        let path = std::str::from_utf8(path).ok().filter(|path| path.ends_with(".rs"))?;
        let (line, column) = (word(16)?, word(20)?);
        (line > 0 && column > 0).then(|| PanicLocation { path: path.to_owned(), line, column })
    }
}

impl fmt::Display for PanicLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path, self.line, self.column)
    }
}
