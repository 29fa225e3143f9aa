//! Patches on probation that this hpgen watches, in any number of processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hpgen_runtime::{ApplyOptions, PatchWatch, ProbationEnd, probation_process, rollback_process};

use crate::interrupts;

/// How often to look: a thread that raised an exception waits for it.
const LOOK: Duration = Duration::from_millis(50);

/// Those that have not ended.
#[derive(Default)]
pub struct Probations(Vec<PatchWatch>);

/// One that has.
pub struct Ended {
    pub pid: u32,
    pub patch_id: String,
    pub end: ProbationEnd,
}

impl Probations {
    /// Makes sure that a patch is watched if it is on probation; whether it is.
    ///
    /// # Errors
    /// Says why it cannot be watched.
    pub fn attend(&mut self, pid: u32, patch_id: &str) -> Result<bool, String> {
        if self.0.iter().any(|probation| probation.pid() == pid && probation.patch_id() == patch_id) {
            return Ok(true);
        }
        let begun = probation_process(pid, Some(patch_id)).map_err(|error| error.to_string())?;
        let is_begun = begun.is_some();
        self.0.extend(begun);
        Ok(is_begun)
    }

    /// Watches a patch no more.
    pub fn forget(&mut self, pid: u32, patch_id: &str) {
        self.0.retain(|probation| probation.pid() != pid || probation.patch_id() != patch_id);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that have ended since.
    pub fn look(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.0.retain_mut(|probation| {
            let Some(end) = probation.look() else { return true };
            ended.push(Ended { pid: probation.pid(), patch_id: probation.patch_id().to_owned(), end });
            false
        });
        ended
    }

    /// Waits for so long, for the end of one, or until somebody wants this program to end.
    pub fn wait(&mut self, time: Duration) -> Vec<Ended> {
        let begin = Instant::now();
        loop {
            let ended = self.look();
            let left = time.saturating_sub(begin.elapsed());
            if !ended.is_empty() || left.is_zero() || interrupts::requested() {
                return ended;
            }
            interrupts::pause(if self.is_empty() { left } else { LOOK.min(left) });
        }
    }
}

/// How a patch stood its probation in one process.
pub struct Stood {
    /// As JSON has it.
    pub name: &'static str,
    /// What speaks against it, or why nobody can tell.
    pub why: Option<String>,
}

impl Stood {
    pub fn unwatched(why: &str) -> Stood {
        Stood { name: "unwatched", why: Some(why.to_owned()) }
    }

    fn of(end: &ProbationEnd) -> Stood {
        let why = match end {
            ProbationEnd::ProcessEnded(code) => Some(format!("the process ended with code {code}")),
            _ => end.failure(),
        };
        Stood { name: end.name(), why }
    }

    pub fn is_failed(&self) -> bool {
        self.name == "failed"
    }
}

/// Watches a patch in all processes to the end. Where it fails in one, it is taken out of all of them.
pub fn stand(pids: &[u32], patch_id: &str) -> BTreeMap<u32, Stood> {
    let mut probations = Probations::default();
    let mut stood = BTreeMap::new();
    for pid in pids {
        if let Err(error) = probations.attend(*pid, patch_id) {
            stood.insert(*pid, Stood::unwatched(&error));
        }
    }
    while !probations.is_empty() && !interrupts::requested() {
        for Ended { pid, end, .. } in probations.wait(Duration::MAX) {
            stood.insert(pid, Stood::of(&end));
        }
        let failed = stood.iter().find(|(_, stood)| stood.is_failed()).map(|(pid, _)| *pid);
        if let Some(failed) = failed {
            // Whoever still watches one stops it, so that its end is not told twice.
            drop(std::mem::take(&mut probations));
            for pid in pids.iter().filter(|pid| **pid != failed) {
                if let Some(other) = take_out(*pid, patch_id, &format!("it failed in process {failed}")) {
                    stood.insert(*pid, other);
                }
            }
        }
    }
    for pid in pids {
        stood.entry(*pid).or_insert_with(|| Stood::unwatched("somebody ended this hpgen"));
    }
    stood
}

/// Takes a patch that failed elsewhere out of a process, if that is still there.
pub fn take_out(pid: u32, patch_id: &str, why: &str) -> Option<Stood> {
    match rollback_process(pid, Some(patch_id), &ApplyOptions::default()) {
        Ok(_) => Some(Stood { name: "failed", why: Some(why.to_owned()) }),
        Err(hpgen_runtime::RollbackError::Process(_)) => None,
        Err(error) => Some(Stood { name: "failed", why: Some(format!("{why}; it could not be rolled back: {error}")) }),
    }
}
