//! `hpgen watch`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use hpgen_runtime::{
    Accepted, ApplyError, ApplyOptions, PatchStatus, ProcessError, RunningProcess, apply_to_process, find_processes,
    status_process,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Outcome;
use crate::args::{Format, WatchArguments};
use crate::commands::apply;
use crate::output::{self, BAD, BOLD, GOOD, NOTE, paint};
use crate::probations::{self, Ended, Probations};
use crate::watch::{Candidate, Known, Memory, News, Pair, World};
use crate::{events, interrupts, payload_file};

/// Name and version of a line's form.
const SCHEMA: &str = "hpgen-watch/1";
/// What it remembers, where no file is named: beside the payloads.
const STATE: &str = "hpgen-watch.json";
/// Ends of payloads' file names.
const PAYLOAD: &str = "hpx";

/// Keeps the payloads of a folder applied until somebody ends it.
pub fn execute(arguments: &WatchArguments) -> Result<Outcome> {
    events::start(&arguments.recording)?;
    interrupts::hold()?;
    let state = arguments.state.clone().unwrap_or_else(|| arguments.folder.join(STATE));
    let mut memory = read_state(&state)?;
    let mut folder = Folder::default();
    let mut machine = Machine::default();
    let mut failures = Vec::new();
    loop {
        let mut candidates = folder.read(arguments)?;
        let before = memory.clone();
        let name = |id: &str| candidates.iter().find(|c| c.seal.patch_id() == id).map_or("", |c| c.name.as_str());
        let fail =
            |Ended { pid, patch_id, end }: Ended| Some(memory.fail(pid, &patch_id, name(&patch_id), &end.failure()?));
        let mut news: Vec<News> = failures.drain(..).filter_map(fail).collect();
        news.extend(memory.round(&mut candidates, &mut machine));
        if memory != before {
            write_state(&state, &memory)?;
        }
        for news in news {
            tell(&news, arguments.format)?;
        }
        if interrupts::requested() || arguments.once && machine.probations.is_empty() {
            return Ok(Outcome::Done);
        }
        failures = machine.probations.wait(Duration::from_secs(arguments.interval));
    }
}

/// The processes of this machine, truly.
#[derive(Default)]
struct Machine {
    probations: Probations,
}

impl World for Machine {
    fn find(&mut self, image: &str) -> Result<Vec<RunningProcess>, ProcessError> {
        find_processes(image)
    }

    fn status(&mut self, pid: u32) -> Result<Vec<PatchStatus>, ProcessError> {
        status_process(pid)
    }

    fn take_out(&mut self, pid: u32, patch_id: &str, why: &str) {
        self.probations.forget(pid, patch_id);
        // What became of it, the record tells.
        probations::take_out(pid, patch_id, why);
    }

    fn attend(&mut self, pid: u32, patch_id: &str) {
        if let Err(error) = self.probations.attend(pid, patch_id) {
            output::refusal(&format!("{} process {pid} cannot be watched: {error}", paint(NOTE, "not watched:")));
        }
    }

    fn apply(&mut self, pid: u32, candidate: &Candidate) -> Result<(), ApplyError> {
        apply_to_process(pid, &candidate.payload, &candidate.seal, &ApplyOptions::default()).map(drop)
    }
}

/// Files that were told to be no payloads of ours, and when they were written: they are told once.
#[derive(Default)]
struct Folder {
    refused: BTreeMap<PathBuf, SystemTime>,
}

impl Folder {
    /// The payloads that are in the folder now and are let in.
    fn read(&mut self, arguments: &WatchArguments) -> Result<Vec<Candidate>> {
        let folder = &arguments.folder;
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == PAYLOAD)).collect();
        paths.sort();
        Ok(paths.into_iter().filter_map(|path| self.candidate(path, arguments)).collect())
    }

    fn candidate(&mut self, path: PathBuf, arguments: &WatchArguments) -> Option<Candidate> {
        let written = fs::metadata(&path).and_then(|data| data.modified()).ok()?;
        if self.refused.get(&path) == Some(&written) {
            return None;
        }
        let name = path.file_name()?.to_string_lossy().into_owned();
        match apply::accept(&path, &arguments.trust) {
            Ok(Some(Accepted { payload, seal, .. })) => return Some(Candidate { name, payload, seal }),
            // Said already.
            Ok(None) => {}
            // It may be in the middle of being written; then it is looked at again.
            Err(error) => output::error(&error),
        }
        self.refused.insert(path, written);
        None
    }
}

/// The file's form, schema `hpgen-watch-state/1`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: String,
    pairs: Vec<StatePair>,
    /// Patches that failed their probation, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    failed: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct StatePair {
    #[serde(flatten)]
    pair: Pair,
    #[serde(flatten)]
    known: Known,
}

const STATE_SCHEMA: &str = "hpgen-watch-state/1";

fn read_state(path: &Path) -> Result<Memory> {
    if !path.exists() {
        return Ok(Memory::default());
    }
    let text = payload_file::read_bytes(path)?;
    let problem = || format!("{} is no state of `hpgen watch`; delete it to begin anew", path.display());
    let state: State = serde_json::from_slice(&text).with_context(problem)?;
    anyhow::ensure!(state.schema == STATE_SCHEMA, problem());
    let pairs = state.pairs.into_iter().map(|entry| (entry.pair, entry.known)).collect();
    Ok(Memory { pairs, failed: state.failed })
}

fn write_state(path: &Path, memory: &Memory) -> Result<()> {
    let pairs = memory.pairs.iter().map(|(pair, known)| StatePair { pair: pair.clone(), known: known.clone() });
    let failed = memory.failed.clone();
    let state = State { schema: STATE_SCHEMA.to_owned(), pairs: pairs.collect(), failed };
    payload_file::write(path, &serde_json::to_vec_pretty(&state)?)
}

fn tell(news: &News, format: Format) -> Result<()> {
    let News { pair: Pair { patch_id, pid, .. }, name, known } = news;
    if format == Format::Json {
        let line = json!({ "schema": SCHEMA, "file": name, "patch_id": patch_id, "pid": pid });
        let mut line = line.as_object().cloned().unwrap_or_default();
        line.extend(serde_json::to_value(known)?.as_object().cloned().unwrap_or_default());
        output::print(&(serde_json::to_string(&line)? + "\n"));
        return Ok(());
    }
    let what = match known {
        Known::Applied => format!("{} in process {pid}", paint(GOOD, "applied")),
        Known::Refused(why) => format!("{} by process {pid}: {why}", paint(BAD, "refused")),
        Known::Waiting(why) => format!("{} for process {pid}: {why}", paint(NOTE, "waiting")),
        Known::Failed(why) => format!("{} its probation; process {pid} does without it: {why}", paint(BAD, "failed")),
        Known::TakenOut => {
            format!("{} of process {pid} by somebody else; that process is left alone", paint(NOTE, "taken out"))
        }
    };
    output::print(&format!("{} {} {what}\n", paint(BOLD, patch_id), name));
    Ok(())
}
