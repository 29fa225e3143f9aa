//! What a fix touches in the sources: functions in whose text lines were added or removed, and lines of code outside of all
//! functions (macros, types, tables). It is read from the two trees, not from the patch, whose line numbers may be others'.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::build;
use super::definitions::Text;
use crate::toolchain;

/// How much is touched.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Touched {
    /// Functions, namesakes counted once.
    pub functions: usize,
    /// Lines of code that were added or removed outside of functions.
    pub outside: usize,
}

/// A copy of the sources as they are before a fix.
#[derive(Debug)]
pub struct Before(PathBuf);

impl Before {
    /// Makes the copy.
    pub fn copy(library: &Path, place: &Path) -> Result<Self> {
        toolchain::run(Command::new("cp").arg("-R").arg(library).arg(place))?;
        Ok(Self(place.to_owned()))
    }

    /// Tells what is different in `after`, and removes the copy.
    pub fn compare(self, after: &Path) -> Result<Touched> {
        let mut diff = Command::new("diff");
        let output =
            diff.args(["--recursive", "--new-file", "--text", "--unified=0"]).arg(&self.0).arg(after).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(1), "a fix that changes nothing: {}", toolchain::describe(&diff));
        let (mut functions, mut outside) = (BTreeSet::new(), 0);
        let [mut old, mut new] = [None, None];
        for line in text.lines() {
            if let Some(path) = line.strip_prefix("--- ") {
                old = Side::of(path, &self.0)?;
            } else if let Some(path) = line.strip_prefix("+++ ") {
                new = Side::of(path, after)?;
            } else if let Some([removed, added]) = hunk(line) {
                for (side, lines) in [(&old, removed), (&new, added)] {
                    for definition in side.iter().flat_map(|side| side.definitions_at(lines.clone())) {
                        match definition {
                            Some(name) => drop(functions.insert(name.to_owned())),
                            None => outside += 1,
                        }
                    }
                }
            }
        }
        fs::remove_dir_all(&self.0)?;
        Ok(Touched { functions: functions.len(), outside })
    }
}

/// A file on one side of a difference.
struct Side {
    text: Text,
}

impl Side {
    /// None where the file is not compiled.
    fn of(path: &str, root: &Path) -> Result<Option<Self>> {
        let path = Path::new(path.split('\t').next().unwrap_or_default());
        let Ok(name) = path.strip_prefix(root) else { return Ok(None) };
        if !build::is_compiled(name) || !path.is_file() {
            return Ok(None);
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = Text::read(&String::from_utf8_lossy(&bytes));
        Ok(Some(Self { text }))
    }

    /// For each line of code among some lines, the function that it is in, if it is in one.
    fn definitions_at(&self, lines: std::ops::Range<usize>) -> impl Iterator<Item = Option<&str>> {
        let is_code = |line: &usize| line.checked_sub(1).and_then(|line| self.text.is_code.get(line)) == Some(&true);
        lines.filter(is_code).map(|line| {
            let definition = self.text.definitions.iter().find(|definition| definition.lines.contains(&line));
            definition.map(|definition| definition.name.as_str())
        })
    }
}

/// The removed and the added lines that `@@ -a,b +c,d @@` speaks of.
fn hunk(line: &str) -> Option<[std::ops::Range<usize>; 2]> {
    let (removed, added) = line.strip_prefix("@@ -")?.split_once(" @@")?.0.split_once(" +")?;
    let range = |text: &str| {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        let start: usize = start.parse().ok()?;
        Some(start..start.checked_add(count.parse().ok()?)?)
    };
    Some([range(removed)?, range(added)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hunks() {
        assert_eq!(hunk("@@ -3 +4,2 @@ int f()"), Some([3..4, 4..6]));
        assert_eq!(hunk("@@ -10,0 +11 @@"), Some([10..10, 11..12]));
        assert_eq!(hunk("--- a"), None);
    }
}
