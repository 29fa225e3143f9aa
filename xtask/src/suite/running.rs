//! Runs layouts of one program: what is the same by meaning prints the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::suite::subjects::Kind;
use crate::{binaries, toolchain, wine};

/// Whether programs of a kind are run: those whose lines depend on nothing but the line's number.
pub fn can_run(kind: Kind) -> bool {
    matches!(kind, Kind::Msvc | Kind::Rust) && wine::is_made()
}

/// Fewer lines than this in a second prove nothing.
const MIN_LINES: usize = 5;

/// Runs both images for a second; says what differs.
pub fn difference(kind: Kind, images: [&PathBuf; 2]) -> Result<Option<String>> {
    let [first, second] = [lines(kind, images[0])?, lines(kind, images[1])?];
    if first.len().min(second.len()) < MIN_LINES {
        return Ok(Some(format!("only {} and {} lines in a second", first.len(), second.len())));
    }
    let differs = first.iter().zip(&second).find(|(a, b)| a != b);
    Ok(differs.map(|(a, b)| format!("{a:?} became {b:?}")))
}

/// The lines that an image prints, without the last, which says how far it came.
fn lines(kind: Kind, image: &Path) -> Result<Vec<String>> {
    if kind == Kind::Rust {
        binaries::place_process_prng(image.parent().context("the image is in no folder")?)?;
    }
    let mut lines: Vec<String> = toolchain::output(wine::command(image).arg("1"))?.lines().map(str::to_owned).collect();
    lines.pop();
    Ok(lines)
}
