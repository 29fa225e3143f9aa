//! What `hpgen watch` does in one round: which payload goes into which process, and what is left alone. What it knows of processes
//! it remembers; whether a patch is in, the process itself says.

use std::collections::BTreeMap;

use hpgen_runtime::format::{PayloadFile, Seal};
use hpgen_runtime::{ApplyError, PatchState, PatchStatus, ProcessError, RunningProcess};
use serde::{Deserialize, Serialize};

/// A payload of the folder, with a signature that counts.
pub struct Candidate {
    /// The file's name.
    pub name: String,
    pub payload: PayloadFile,
    pub seal: Seal,
}

/// The processes of this machine.
pub trait World {
    /// Those that have this image loaded.
    fn find(&mut self, image: &str) -> Result<Vec<RunningProcess>, ProcessError>;
    /// What is in one.
    fn status(&mut self, pid: u32) -> Result<Vec<PatchStatus>, ProcessError>;
    /// Puts a payload into one.
    fn apply(&mut self, pid: u32, candidate: &Candidate) -> Result<(), ApplyError>;
}

/// What is known of a payload and a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "known", content = "why", rename_all = "kebab-case")]
pub enum Known {
    /// It is in.
    Applied,
    /// The process refused it for good.
    Refused(String),
    /// It does not go in at the moment.
    Waiting(String),
    /// It was in, and somebody took it out.
    TakenOut,
}

/// One payload and one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    pub patch_id: String,
    pub pid: u32,
    /// When the process started: ids are used again.
    pub started: u64,
}

/// Something that came to be known in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    pub pair: Pair,
    /// The payload's file.
    pub name: String,
    pub known: Known,
}

/// All that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    pub pairs: BTreeMap<Pair, Known>,
}

impl Memory {
    /// Puts every payload into every process that has its images and lacks it. Forgets processes that are gone.
    pub fn round(&mut self, candidates: &mut [Candidate], world: &mut impl World) -> Vec<News> {
        // Of a series, the last goes in; the ones before it have nothing to do then.
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.series()));
        let (mut now, mut news) = (BTreeMap::new(), Vec::new());
        for candidate in candidates.iter() {
            for process in candidate.processes(world) {
                let RunningProcess { pid, started, .. } = process;
                let pair = Pair { patch_id: candidate.seal.patch_id(), pid, started };
                let before = self.pairs.get(&pair);
                let Some(known) = candidate.see_to(pid, before, world) else { continue };
                if before != Some(&known) {
                    news.push(News { pair: pair.clone(), name: candidate.name.clone(), known: known.clone() });
                }
                now.insert(pair, known);
            }
        }
        self.pairs = now;
        news
    }
}

impl Candidate {
    fn series(&self) -> u32 {
        self.payload.payloads.iter().map(|payload| payload.identity.series).max().unwrap_or_default()
    }

    /// The processes that have all of its images.
    fn processes(&self, world: &mut impl World) -> Vec<RunningProcess> {
        let mut images = self.payload.payloads.iter().map(|payload| payload.identity.image_name.as_str());
        let mut processes = images.next().and_then(|image| world.find(image).ok()).unwrap_or_default();
        for image in images {
            let others = world.find(image).unwrap_or_default();
            processes.retain(|process| others.contains(process));
        }
        processes
    }

    /// Makes sure that it is in a process, unless there is a reason to leave that alone. Nothing where it has nothing to do.
    fn see_to(&self, pid: u32, before: Option<&Known>, world: &mut impl World) -> Option<Known> {
        if let Some(known @ (Known::Refused(_) | Known::TakenOut)) = before {
            return Some(known.clone());
        }
        let present = match world.status(pid) {
            Ok(present) => present,
            Err(error) => return Some(Known::Refused(error.to_string())),
        };
        if present.iter().any(|patch| patch.seal == self.seal && patch.state == PatchState::Applied) {
            return Some(Known::Applied);
        }
        let is_ours = |patch: &PatchStatus| {
            self.payload.payloads.iter().any(|p| p.identity.image_name.eq_ignore_ascii_case(&patch.image_name))
        };
        let is_later = |patch: &PatchStatus| patch.state == PatchState::Applied && patch.series > self.series();
        if present.iter().any(|patch| is_ours(patch) && is_later(patch)) {
            return None;
        }
        if before == Some(&Known::Applied) {
            return Some(Known::TakenOut);
        }
        Some(match world.apply(pid, self) {
            Ok(()) => Known::Applied,
            Err(error) if error.is_passing() => Known::Waiting(error.to_string()),
            Err(error) => Known::Refused(error.to_string()),
        })
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
