//! `hpgen rollback`.

use anyhow::Result;
use hpgen_runtime::{
    ApplyOptions, PatchState, PatchStatus, RegionFate, Repaired, repair_process, rollback_process, status_process,
};
use serde_json::json;

use crate::Outcome;
use crate::args::{Format, RollbackArguments};
use crate::output::{self, BAD, GOOD, count, paint};
use crate::{events, interrupts};

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-rollback/1";
/// Of that with `--repair`.
const REPAIR_SCHEMA: &str = "hpgen-repair/1";

/// Takes a patch out of a process.
pub fn execute(arguments: &RollbackArguments) -> Result<Outcome> {
    events::start(&arguments.recording)?;
    // Half of a change would leave the process's threads stopped.
    interrupts::hold()?;
    if arguments.repair {
        return repair(arguments.pid, arguments.format);
    }
    let options = arguments.moment.options();
    let done = match rollback_process(arguments.pid, arguments.patch.as_deref(), &options) {
        Ok(done) => done,
        Err(error) if error.is_refusal() => {
            output::refusal(&format!("{} process {}: {error}", paint(BAD, "refused:"), arguments.pid));
            return Ok(Outcome::Refused);
        }
        Err(error) => return Err(error.into()),
    };
    match arguments.format {
        Format::Text => {
            let memory = match done.region {
                RegionFate::Freed => "its memory was freed".to_owned(),
                RegionFate::KeptForExit => {
                    "its memory is kept, since the process may still use what is in it until it ends".to_owned()
                }
                RegionFate::Kept { thread } => {
                    format!("its memory is kept, since thread {thread} may still return into it")
                }
                RegionFate::Unfreed => "its memory is kept, since the system did not take it back".to_owned(),
            };
            output::print(&format!(
                "{} patch {} in process {}: {} restored, {} stopped for {} us; {memory}\n",
                paint(GOOD, "rolled back"),
                done.patch_id,
                arguments.pid,
                count(done.functions, "function"),
                count(done.threads_stopped as usize, "thread"),
                done.stopped.as_micros(),
            ));
        }
        Format::Json => output::json(&json!({
            "schema": SCHEMA,
            "pid": arguments.pid,
            "patch_id": done.patch_id,
            "functions": done.functions,
            "region": done.region.name(),
            "threads_stopped": done.threads_stopped,
            "stopped_us": done.stopped.as_micros() as u64,
        }))?,
    }
    Ok(Outcome::Done)
}

/// Takes back what was interrupted, down to a patch that is only prepared.
fn repair(pid: u32, format: Format) -> Result<Outcome> {
    let Repaired { was_interrupted, threads, places, allocations } = repair_process(pid)?;
    let is_prepared = |patch: &&PatchStatus| patch.state == PatchState::Prepared;
    let prepared = status_process(pid)?.iter().rev().find(is_prepared).map(|patch| patch.patch_id.clone());
    if let Some(patch) = &prepared {
        rollback_process(pid, Some(patch), &ApplyOptions::default())?;
    }
    match format {
        Format::Text => {
            let change = if was_interrupted {
                format!("took back {}, let {} go on", count(places, "write"), count(threads as usize, "thread"))
            } else {
                "no change was interrupted".to_owned()
            };
            let memory = match allocations {
                0 => String::new(),
                _ => format!("; gave back {} that it had left", count(allocations, "allocation")),
            };
            let patch = prepared.map_or(String::new(), |patch| format!("; removed patch {patch}, which was prepared"));
            output::print(&format!("{} process {pid}: {change}{memory}{patch}\n", paint(GOOD, "repaired")));
        }
        Format::Json => output::json(&json!({
            "schema": REPAIR_SCHEMA,
            "pid": pid,
            "interrupted": was_interrupted,
            "threads": threads,
            "places": places,
            "allocations": allocations,
            "removed": prepared,
        }))?,
    }
    Ok(Outcome::Done)
}
