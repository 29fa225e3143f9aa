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
    /// Takes a patch that failed elsewhere out of one.
    fn take_out(&mut self, pid: u32, patch_id: &str, why: &str);
    /// Makes sure that a patch is watched if it is on probation.
    fn attend(&mut self, pid: u32, patch_id: &str);
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
    /// It failed its probation, in this process or another one.
    Failed(String),
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
    /// Patches that failed their probation, with what speaks against each: no process gets them again.
    pub failed: BTreeMap<String, String>,
}

impl Memory {
    /// Notes that a patch failed in a process. What there is to tell of that.
    pub fn fail(&mut self, pid: u32, patch_id: &str, name: &str, why: &str) -> News {
        self.failed.insert(patch_id.to_owned(), why.to_owned());
        let known = Known::Failed(why.to_owned());
        let own = self.pairs.iter_mut().find(|(pair, _)| pair.pid == pid && pair.patch_id == patch_id);
        let pair = match own {
            Some((pair, before)) => {
                *before = known.clone();
                pair.clone()
            }
            None => Pair { patch_id: patch_id.to_owned(), pid, started: 0 },
        };
        News { pair, name: name.to_owned(), known }
    }

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
                let failed = self.failed.get(&pair.patch_id);
                let known = match failed {
                    Some(why) => candidate.keep_out(pid, before, why, world),
                    None => candidate.see_to(pid, before, world),
                };
                let Some(known) = known else { continue };
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
        self.payload.series()
    }

    /// The processes that have all of its images.
    fn processes(&self, world: &mut impl World) -> Vec<RunningProcess> {
        let mut images = self.payload.images();
        let mut processes = images.next().and_then(|image| world.find(image).ok()).unwrap_or_default();
        for image in images {
            let others = world.find(image).unwrap_or_default();
            processes.retain(|process| others.contains(process));
        }
        processes
    }

    /// Takes it out of a process where it is still in: it failed.
    fn keep_out(&self, pid: u32, before: Option<&Known>, why: &str, world: &mut impl World) -> Option<Known> {
        if let Some(known @ (Known::Refused(_) | Known::TakenOut)) = before {
            return Some(known.clone());
        }
        let present = world.status(pid).unwrap_or_default();
        if present.iter().any(|patch| patch.seal == self.seal && patch.state == PatchState::Applied) {
            world.take_out(pid, &self.seal.patch_id(), why);
        }
        Some(Known::Failed(why.to_owned()))
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
        let own = present.iter().find(|patch| patch.seal == self.seal && patch.state == PatchState::Applied);
        if let Some(own) = own {
            if own.probation_until.is_some() {
                world.attend(pid, &own.patch_id);
            }
            return Some(Known::Applied);
        }
        let is_ours =
            |patch: &PatchStatus| self.payload.images().any(|image| image.eq_ignore_ascii_case(&patch.image_name));
        let is_later = |patch: &PatchStatus| patch.state == PatchState::Applied && patch.series > self.series();
        if present.iter().any(|patch| is_ours(patch) && is_later(patch)) {
            return None;
        }
        if before == Some(&Known::Applied) {
            return Some(Known::TakenOut);
        }
        Some(match world.apply(pid, self) {
            Ok(()) => {
                world.attend(pid, &self.seal.patch_id());
                Known::Applied
            }
            Err(error) if error.is_passing() => Known::Waiting(error.to_string()),
            Err(error) => Known::Refused(error.to_string()),
        })
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
