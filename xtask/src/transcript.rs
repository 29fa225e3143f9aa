//! Reads what the test programs print, and proves that they lost nothing of their state.
//!
//! The formats and checksums are documented where they are made: `testdata/lua_host/busy.lua`,
//! `testdata/sqlite_host/sqlite_host.c`. Here they are computed a second time.

use anyhow::{Context, Result, bail, ensure};

/// What one line of `busy.lua` shows of the patched functions.
#[derive(Debug, PartialEq, Eq)]
pub struct LuaLine {
    /// `math.ult(3, 3)`: true with the fix.
    pub ult: bool,
    /// The first result of `string.reverse("hpgen")`.
    pub reversed: String,
    /// Its second result, which only the fix gives.
    pub note: Option<LuaNote>,
}

/// What the fixed `string.reverse` says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct LuaNote {
    /// Its calls since the fix went in, counted in a variable that the fix brought.
    pub calls: u64,
    /// The process id, from a function that the fix imports.
    pub process: u32,
}

/// What one line of `sqlite_host` shows of the patched functions.
#[derive(Debug, PartialEq, Eq)]
pub struct SqliteLine {
    /// `strftime('%q', ...)`: true with the fix.
    pub has_quarter: bool,
    /// `hex(char(...))` of no code point is `3F`: true with the fix.
    pub has_question_mark: bool,
}

/// Checks a whole output of `busy.lua`, from the first line to `done`: no step is missing, every checksum is right.
pub fn lua(text: &str) -> Result<Vec<LuaLine>> {
    let mut state = LuaState::default();
    let mut lines = Vec::new();
    let done = each_step(text, |line| {
        let words = labelled(line, &["seq", "sum", "ult", "reverse", "note"])?;
        state.step();
        ensure!(words[0] == state.steps.to_string(), "step {} is missing", state.steps);
        ensure!(words[1] == state.sum.to_string(), "the checksum should be {}", state.sum);
        let note = match words[4] {
            "-" => None,
            note => Some(lua_note(note)?),
        };
        lines.push(LuaLine { ult: words[2] == "true", reversed: words[3].to_owned(), note });
        Ok(())
    })?;
    ensure!(done == format!("done {} {}", state.steps, state.sum), "the last line is {done:?}");
    Ok(lines)
}

/// Checks a whole output of `sqlite_host`, from the first line to `done`: no step is missing, every checksum is right.
pub fn sqlite(text: &str) -> Result<Vec<SqliteLine>> {
    let mut state = SqliteState::default();
    let mut lines = Vec::new();
    let done = each_step(text, |line| {
        let words = labelled(line, &["seq", "rows", "sum", "quarter", "char"])?;
        state.step();
        ensure!(words[0] == state.steps.to_string(), "step {} is missing", state.steps);
        ensure!(words[1] == (2 * state.steps).to_string(), "there should be {} rows", 2 * state.steps);
        ensure!(words[2] == state.sum.to_string(), "the checksum should be {}", state.sum);
        let quarter = format!("Q{}", state.steps % 12 / 3 + 1);
        ensure!(words[3] == "-" || words[3] == quarter, "the quarter should be {quarter}");
        ensure!(matches!(words[4], "EFBFBD" | "3F"), "char() gave neither of its answers");
        lines.push(SqliteLine { has_quarter: words[3] != "-", has_question_mark: words[4] == "3F" });
        Ok(())
    })?;
    let expected = format!("done {} {} {}", state.steps, 2 * state.steps, state.sum);
    ensure!(done == expected, "the last line is {done:?}, not {expected:?}");
    Ok(lines)
}

/// Calls `step` with every line but the last, which it returns.
fn each_step(text: &str, mut step: impl FnMut(&str) -> Result<()>) -> Result<&str> {
    let mut lines = text.lines();
    let last = lines.next_back().context("the program printed nothing")?;
    for line in lines {
        step(line).with_context(|| format!("in the line {line:?}"))?;
    }
    Ok(last)
}

/// The values of a line that is `label value label value ...`.
fn labelled<'line>(line: &'line str, labels: &[&str]) -> Result<Vec<&'line str>> {
    let words: Vec<_> = line.split(' ').collect();
    ensure!(words.len() == 2 * labels.len(), "it has {} words, not {}", words.len(), 2 * labels.len());
    labels
        .iter()
        .zip(words.chunks_exact(2))
        .map(|(label, pair)| if pair[0] == *label { Ok(pair[1]) } else { bail!("{label} is not in its place") })
        .collect()
}

fn lua_note(note: &str) -> Result<LuaNote> {
    let mut parts = note.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("fixed"), Some(calls), Some(process), None) => {
            Ok(LuaNote { calls: calls.parse()?, process: process.parse()? })
        }
        _ => bail!("the note {note:?} is not fixed:<calls>:<process>"),
    }
}

#[derive(Default)]
struct LuaState {
    steps: u32,
    sum: u32,
}

impl LuaState {
    fn step(&mut self) {
        self.steps += 1;
        let mut values: Vec<u32> = (1..=24).map(|i| (self.steps * 7 + i * i * 13) % 1009).collect();
        values.sort_unstable();
        let text = values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let hash = text.bytes().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        self.sum = self.sum.wrapping_mul(31).wrapping_add(hash.wrapping_add(self.steps));
    }
}

#[derive(Default)]
struct SqliteState {
    steps: u64,
    sum: u32,
}

impl SqliteState {
    /// A checksum over all items is that over the items before, and the new one.
    fn step(&mut self) {
        self.steps += 1;
        let value = (self.steps * 7919 % 10007) as u32;
        let parity = if self.steps.is_multiple_of(2) { "even" } else { "odd" };
        for tag in ["number", parity] {
            self.sum = self.sum.wrapping_mul(31).wrapping_add(value).wrapping_add(tag.len() as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LUA: &str = "seq 1 sum 3461473041 ult false reverse negph note -\n\
                       seq 2 sum 3899710209 ult true reverse negph note fixed:17:276\n\
                       done 2 3899710209\n";
    const SQLITE: &str = "seq 1 rows 2 sum 253597 quarter - char EFBFBD\n\
                          seq 2 rows 4 sum 243893499 quarter Q1 char 3F\n\
                          done 2 4 243893499\n";

    #[test]
    fn reads_the_behaviour_before_and_after_a_fix() {
        let lines = lua(LUA).unwrap_or_default();
        assert_eq!(lines.iter().map(|line| line.ult).collect::<Vec<_>>(), [false, true]);
        assert_eq!(lines[1].note, Some(LuaNote { calls: 17, process: 276 }));
        let lines = sqlite(SQLITE).unwrap_or_default();
        assert_eq!(lines.iter().map(|line| line.has_quarter).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn notices_what_was_lost() {
        assert!(lua(&LUA.replace("seq 1 ", "seq 3 ")).is_err());
        assert!(lua(&LUA.replace("done 2", "done 1")).is_err());
        assert!(lua("").is_err());
        assert!(sqlite(&SQLITE.replace("rows 4", "rows 3")).is_err());
        assert!(sqlite(&SQLITE.replace("253597", "253598")).is_err());
    }
}
