//! What changed between two images, as a person found it right: names in `testdata/suite/msvc/`, one a line.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hpgen_diff::change_set::{ChangeSet, FunctionStatus};

use crate::workspace;

/// Status and name of each function that changed, and how often: functions of several modules can have one name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What was seen of the pair, for the reader; lines without the `#`.
    remarks: Vec<String>,
    lines: BTreeMap<String, usize>,
}

impl Recorded {
    /// Where the list of a pair stands.
    pub fn file(package: &str, versions: [&str; 2], image: &str) -> PathBuf {
        let folder = workspace::testdata().join("suite").join("msvc").join(package);
        folder.join(format!("{}..{}", versions[0], versions[1])).join(format!("{image}.txt"))
    }

    /// Reads a list.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut recorded = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(remark) = line.strip_prefix('#') {
                recorded.remarks.push(remark.to_owned());
            } else if line.split_once(' ').is_some_and(|(status, _)| STATUSES.contains(&status)) {
                recorded.add(line.to_owned());
            } else {
                bail!("{line:?} does not begin with one of {STATUSES:?}");
            }
        }
        Ok(recorded)
    }

    /// What a comparison found. Funclets of a function that is in the list are a part of it.
    pub fn of(changes: &ChangeSet) -> Self {
        let mut recorded = Self::default();
        let is_listed = |name: &String| changes.functions.iter().any(|f| f.funclet_of.is_empty() && f.name == *name);
        for function in changes.functions.iter().filter(|f| !f.funclet_of.iter().any(is_listed)) {
            let status = match function.status {
                FunctionStatus::Changed => "changed",
                FunctionStatus::Added => "added",
                FunctionStatus::Removed => "removed",
                FunctionStatus::Cosmetic => "cosmetic",
                FunctionStatus::Unresolved => "unresolved",
            };
            recorded.add(format!("{status} {}", function.name));
        }
        recorded
    }

    /// How the list differs from what was found now, a line each.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let more = |a: &Self, b: &Self, word: &str| -> Vec<String> {
            let lines = a.lines.iter().filter(|(line, count)| b.lines.get(*line).is_none_or(|other| other < count));
            lines.map(|(line, _)| format!("{word}: {line}")).collect()
        };
        [more(self, found, "recorded, not found"), more(found, self, "found, not recorded")].concat()
    }

    /// Writes the list, with the remarks of the one that stands there.
    pub fn write(mut self, file: &Path) -> Result<()> {
        if file.exists() {
            self.remarks = Self::read(file)?.remarks;
        }
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        fs::write(file, self.to_string()).with_context(|| format!("cannot write {}", file.display()))
    }

    fn add(&mut self, line: String) {
        *self.lines.entry(line).or_default() += 1;
    }
}

const STATUSES: [&str; 5] = ["changed", "added", "removed", "cosmetic", "unresolved"];

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for remark in &self.remarks {
            writeln!(f, "#{remark}")?;
        }
        for (line, count) in &self.lines {
            for _ in 0..*count {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# a remark\nadded f\nchanged g\nchanged g\n";

    #[test]
    fn a_list_is_written_as_it_was_read() {
        assert_eq!(Recorded::parse(LIST).unwrap().to_string(), LIST);
    }

    #[test]
    fn lines_that_say_nothing_are_refused() {
        for text in ["changed", "chnaged g", "g"] {
            assert!(Recorded::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn differences_say_which_side_has_more() {
        let recorded = Recorded::parse(LIST).unwrap();
        assert_eq!(recorded.differences(&recorded), Vec::<String>::new());
        let found = Recorded::parse("changed g\nremoved h\nadded f\n").unwrap();
        assert_eq!(recorded.differences(&found), ["recorded, not found: changed g", "found, not recorded: removed h"]);
    }
}
