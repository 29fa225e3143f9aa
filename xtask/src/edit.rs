//! Edits of source files: how a `fix.toml` describes the fixed build of a test program.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One edit. `find` must occur exactly once in the file, so that an edit can neither miss nor hit twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The name of the source file.
    pub file: String,
    /// The text to replace; as short as it can be.
    pub find: String,
    /// What takes its place.
    pub replace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fix {
    edit: Vec<Edit>,
}

/// Reads the edits of a `fix.toml`.
pub fn read(path: &Path) -> Result<Vec<Edit>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let fix: Fix = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    Ok(fix.edit)
}

impl Edit {
    /// `text` with this edit made.
    pub fn apply(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.find).count();
        ensure!(count == 1, "{:?} occurs {count} times in {}, not once: the edit cannot be made", self.find, self.file);
        Ok(text.replacen(&self.find, &self.replace, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(find: &str) -> Edit {
        Edit { file: "a.c".into(), find: find.into(), replace: "new".into() }
    }

    #[test]
    fn replaces_an_anchor_that_is_there_once() {
        assert!(edit("old").apply("an old one").is_ok_and(|text| text == "an new one"));
    }

    #[test]
    fn refuses_an_anchor_that_is_missing_or_ambiguous() {
        assert!(edit("old").apply("nothing").is_err());
        assert!(edit("old").apply("old and old").is_err());
    }
}
