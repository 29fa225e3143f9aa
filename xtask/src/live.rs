//! What the live tests and the demo do with Windows programs: start one and know its process id, and call `hpgen`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::child::{self, Ended, Running};
use crate::{binaries, transcript, wine, workspace};

/// How long anything may take that is done in well under a second. Slow machines are slow by a factor; hung ones for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether programs are to be patched for real: on Windows always, elsewhere when `HPGEN_LIVE` is 1. If not, it is said
/// that `what` is skipped, where `cargo test` shows it.
pub fn enabled(what: &str) -> bool {
    let enabled = wine::is_native() || std::env::var_os("HPGEN_LIVE").is_some_and(|value| value == "1");
    if !enabled {
        let line =
            format!("skipped: {what}: needs Windows, or Wine and HPGEN_LIVE=1; `cargo xtask test` sets up both\n");
        // Not `println!`, which is caught in tests that pass. There is nothing to do about an output that is closed.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    enabled
}

/// `hpgen`, the tool.
#[derive(Debug, Clone)]
pub struct Hpgen {
    program: PathBuf,
    for_windows: bool,
}

impl Hpgen {
    /// A build for the system that this runs on.
    pub fn native(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), for_windows: false }
    }

    /// The build for Windows, made now if it is not up to date. It changes the processes of Windows programs.
    pub fn for_windows() -> Result<Self> {
        Ok(Self { program: binaries::windows_hpgen()?, for_windows: true })
    }

    /// A command with these arguments.
    pub fn command<Argument: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = Argument>) -> Command {
        let mut command = if self.for_windows { wine::command(&self.program) } else { Command::new(&self.program) };
        command.args(arguments);
        command
    }

    /// Calls it.
    pub fn run<Argument: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = Argument>) -> Result<Ended> {
        child::run(&mut self.command(arguments), PATIENCE)
    }
}

/// A Windows program that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Target {
    program: Running,
    pid: u32,
    /// Lines at the beginning of the output that are not the program's own.
    header: usize,
}

impl Target {
    /// Starts `program`, one of ours.
    pub fn start<Argument: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Result<Self> {
        if wine::is_native() {
            let program = Running::start(Command::new(program).args(arguments))?;
            return Ok(Self { pid: program.system_id(), program, header: 0 });
        }
        let mut command = wine::command(binaries::launcher()?);
        let program = Running::start(command.arg(wine::windows_path(program)).args(arguments))?;
        let lines = program.wait_for("the process id", PATIENCE, |lines| !lines.is_empty())?;
        let pid = lines.first().and_then(|line| line.strip_prefix("pid ")).and_then(|pid| pid.parse().ok());
        Ok(Self { program, pid: pid.context("launch.exe has not said a process id")?, header: 1 })
    }

    /// The process id by which Windows programs know it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The complete lines of its output so far.
    pub fn lines(&self) -> Vec<String> {
        self.program.lines().split_off(self.header)
    }

    /// Waits until `count` more lines have come than now, and every one of the last `count` is as `wanted` says.
    /// Returns all lines.
    pub fn wait_for_lines(&self, what: &str, count: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let enough = self.program.lines().len().max(self.header) + count;
        let done =
            |lines: &[String]| lines.len() >= enough && lines[lines.len() - count..].iter().all(|line| wanted(line));
        Ok(self.program.wait_for(what, PATIENCE, done)?.split_off(self.header))
    }

    /// Waits until some line is this one. Returns all lines.
    pub fn wait_for_first(&self, line: &str) -> Result<Vec<String>> {
        self.wait_for_any(line, |found| found == line)
    }

    /// Waits until some line is as `wanted` says, whatever came behind it. Returns all lines.
    pub fn wait_for_any(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let done = |lines: &[String]| lines.iter().any(|line| wanted(line));
        Ok(self.program.wait_for(what, PATIENCE, done)?.split_off(self.header))
    }

    /// Waits until it has ended.
    pub fn end(self) -> Result<Ended> {
        let mut ended = self.program.end(PATIENCE)?;
        if self.header > 0 {
            ended.stdout = ended.stdout.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        }
        Ok(ended)
    }
}

/// A test program that is kept busy: what it is told, and how its lines show the fix.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// `lua_host` or `sqlite_host`.
    pub name: &'static str,
    /// The script that it runs, where it needs one.
    script: Option<&'static str>,
    /// Whether a line comes from the fixed functions.
    pub is_fixed: fn(&str) -> bool,
    /// Whether a line comes from the functions of the baseline.
    pub is_old: fn(&str) -> bool,
    /// Proves from a whole output that nothing was lost.
    proof: fn(&str) -> Result<()>,
}

/// An interpreter.
pub const LUA: Host = Host {
    name: "lua_host",
    script: Some("busy.lua"),
    is_fixed: |line| line.contains(" ult true ") && line.contains(" note fixed:"),
    is_old: |line| line.contains(" ult false ") && line.ends_with(" note -"),
    proof: |text| transcript::lua(text).map(drop),
};

/// A database.
pub const SQLITE: Host = Host {
    name: "sqlite_host",
    script: None,
    is_fixed: |line| line.contains(" quarter Q") && line.ends_with(" char 3F"),
    is_old: |line| line.contains(" quarter - ") && line.ends_with(" char EFBFBD"),
    proof: |text| transcript::sqlite(text).map(drop),
};

impl Host {
    /// Its arguments, to run for so many seconds, or until `stop_file` exists.
    pub fn arguments(&self, seconds: u32, stop_file: Option<&Path>) -> Vec<String> {
        let script = self.script.map(|script| wine::windows_path(&workspace::testdata().join(self.name).join(script)));
        let stop_file = stop_file.map(wine::windows_path);
        script.into_iter().chain([seconds.to_string()]).chain(stop_file).collect()
    }

    /// One of its builds: `old`, `new` or `relinked`.
    pub fn image(&self, variant: &str) -> PathBuf {
        workspace::program(self.name, variant)
    }

    /// Proves from a whole output that nothing was lost, and tells its phases: whether the fix shows, and for how many lines.
    pub fn phases(&self, text: &str) -> Result<Vec<(bool, usize)>> {
        (self.proof)(text)?;
        // The last line is `done`.
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("done")).collect();
        let shown: Vec<_> = lines.iter().map(|line| self.shows(line)).collect();
        // A line calls several functions. One that was being made when they were exchanged may show half of the fix.
        for (index, line) in lines.iter().enumerate() {
            let around = |index: Option<usize>| index.and_then(|index| shown.get(index).copied().flatten());
            let (before, after) = (around(index.checked_sub(1)), around(Some(index + 1)));
            ensure!(
                shown[index].is_some() || before.zip(after).is_some_and(|(before, after)| before != after),
                "half of the fix shows in {line:?}, where nothing was exchanged"
            );
        }
        Ok(phases(shown))
    }

    fn shows(&self, line: &str) -> Option<bool> {
        let shown = ((self.is_fixed)(line), (self.is_old)(line));
        (shown.0 != shown.1).then_some(shown.0)
    }
}

/// Runs of the same value and their lengths; `None` stands for either.
pub fn phases(shown: impl IntoIterator<Item = Option<bool>>) -> Vec<(bool, usize)> {
    let mut phases: Vec<(bool, usize)> = Vec::new();
    for fixed in shown.into_iter().flatten() {
        match phases.last_mut() {
            Some((last, count)) if *last == fixed => *count += 1,
            _ => phases.push((fixed, 1)),
        }
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_lines_of_each_phase() {
        let shown = [Some(false), None, Some(false), Some(true), None, Some(false)];
        assert_eq!(phases(shown), [(false, 2), (true, 1), (false, 1)]);
    }
}
