//! Programs that are watched while they run: their output is read as it comes, and every wait has an end.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::toolchain;

/// How often it is looked whether a program has ended.
const POLL: Duration = Duration::from_millis(5);

/// How long the output of a program that has ended may go on: what it started may hold it open, and for ever.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    stdout: Lines,
    stderr: Lines,
}

/// How a program ended, and all that it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// The standard output, read as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("this is not JSON:\n{self}"))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "exit code {code}")?,
            None => write!(f, "ended by a signal")?,
        }
        write!(f, "\n--- standard output\n{}--- standard error\n{}", self.stdout, self.stderr)
    }
}

impl Running {
    /// Starts a program with nothing to read.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = toolchain::describe(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = Lines::read(child.stdout.take());
        let stderr = Lines::read(child.stderr.take());
        Ok(Self { child, name, stdout, stderr })
    }

    /// The system's id of the program: under Wine not the one that Windows programs know it by.
    pub fn system_id(&self) -> u32 {
        self.child.id()
    }

    /// The complete lines of its output so far.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Waits until the lines so far are as `wanted` says, and returns them.
    ///
    /// # Errors
    /// After `patience`, or when the output ends before: both say `what` was waited for.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        mut wanted: impl FnMut(&[String]) -> bool,
    ) -> Result<Vec<String>> {
        let end = Instant::now() + patience;
        let mut state = self.stdout.lock();
        loop {
            if wanted(&state.lines) {
                return Ok(state.lines.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let why = if state.ended { "its output ended".to_owned() } else { format!("{patience:?} went by") };
                let last = state.lines.iter().rev().take(5).rev().map(|line| format!("\n  {line}"));
                let last: String = last.collect();
                drop(state);
                bail!(
                    "waited for {what} of {}, but {why}; its last lines:{last}\nstandard error: {}",
                    self.name,
                    self.stderr.so_far().join("\n")
                );
            }
            state = self.stdout.wait(state, left);
        }
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// After `patience`; the program is killed then.
    pub fn end(mut self, patience: Duration) -> Result<Ended> {
        let end = Instant::now() + patience;
        let Some(status) = exit_status(&mut self.child, end)? else {
            bail!("{} has not ended in {patience:?}; its output so far:\n{}", self.name, self.lines().join("\n"));
        };
        let (stdout, stderr) = (self.stdout.all(LAST_WORDS), self.stderr.all(LAST_WORDS));
        let open = || {
            let lines = [self.stdout.so_far(), self.stderr.so_far()].concat().join("\n");
            format!("{} has ended ({status}), but another program holds its output open; it said:\n{lines}", self.name)
        };
        Ok(Ended { code: status.code(), stdout: stdout.with_context(open)?, stderr: stderr.with_context(open)? })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command, patience: Duration) -> Result<Ended> {
    Running::start(command)?.end(patience)
}

/// Runs a program to its end with no output, so that what it starts and leaves behind has nothing of ours to hold on to.
/// Whether it succeeded in that time; it is killed if it takes longer.
pub fn run_silently(command: &mut Command, patience: Duration) -> Result<bool> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", toolchain::describe(command)))?;
    let status = exit_status(&mut child, Instant::now() + patience)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(status.is_some_and(|status| status.success()))
}

/// How a program ended, if it does so in time.
fn exit_status(child: &mut Child, end: Instant) -> Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() > end {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
}

/// The lines of a stream, collected by a thread.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(stream: Option<impl Read + Send + 'static>) -> Self {
        let lines = Self::default();
        let collected = lines.clone();
        thread::spawn(move || {
            let mut reader = stream.map(BufReader::new);
            let mut line = Vec::new();
            while reader.as_mut().is_some_and(|reader| reader.read_until(b'\n', &mut line).is_ok_and(|size| size > 0)) {
                let text = String::from_utf8_lossy(&line);
                collected.change(|state| state.lines.push(text.trim_end_matches(['\r', '\n']).to_owned()));
                line.clear();
            }
            collected.change(|state| state.ended = true);
        });
        lines
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn wait<'s>(&'s self, state: std::sync::MutexGuard<'s, State>, time: Duration) -> std::sync::MutexGuard<'s, State> {
        self.0.1.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn so_far(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Everything up to the stream's end.
    fn all(&self, patience: Duration) -> Option<String> {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        while !state.ended {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.wait(state, left);
        }
        Some(state.lines.iter().map(|line| format!("{line}\n")).collect())
    }
}
