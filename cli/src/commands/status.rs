//! `hpgen status`.

use std::time::UNIX_EPOCH;

use anyhow::Result;
use hpgen_runtime::{PatchStatus, is_interrupted, status_process};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Format, StatusArguments};
use crate::output::{self, BAD, BOLD, DIM, count, paint};

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-status/1";

/// Lists the patches in a process.
pub fn execute(arguments: &StatusArguments) -> Result<Outcome> {
    let patches = status_process(arguments.pid)?;
    let interrupted = is_interrupted(arguments.pid)?;
    match arguments.format {
        Format::Text => output::print(&(text(arguments.pid, &patches) + &warning(arguments.pid, interrupted))),
        Format::Json => output::json(&json!({
            "schema": SCHEMA,
            "pid": arguments.pid,
            "interrupted": interrupted,
            "patches": patches.iter().map(value).collect::<Vec<_>>(),
        }))?,
    }
    Ok(Outcome::Done)
}

fn warning(pid: u32, interrupted: bool) -> String {
    if !interrupted {
        return String::new();
    }
    format!(
        "\n{} an hpgen was killed in the middle of a change; threads of the process may stand still: run `hpgen rollback --repair --pid {pid}`\n",
        paint(BAD, "interrupted:")
    )
}

/// A patch for programs.
pub fn value(patch: &PatchStatus) -> Value {
    json!({
        "patch_id": patch.patch_id,
        "seal": patch.seal.to_string(),
        "series": patch.series,
        "state": patch.state.to_string(),
        "sequence": patch.sequence,
        "image": patch.image_name,
        "image_base": patch.image_base,
        "region_base": patch.region_base,
        "region_size": patch.region_size,
        "applied_at": patch.applied_at.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default(),
        "threads_stopped": patch.threads_stopped,
        "stopped_us": patch.stopped.as_micros() as u64,
        "functions": patch.functions.iter().map(|f| json!({
            "name": f.name,
            "old_rva": f.old_rva,
            "old_address": f.old_address,
            "new_address": f.new_address,
            "redirected": f.redirected,
        })).collect::<Vec<_>>(),
    })
}

fn text(pid: u32, patches: &[PatchStatus]) -> String {
    let mut text = format!("process {pid}: {}\n", count(patches.len(), "patch").replace("patchs", "patches"));
    for patch in patches {
        text.push_str(&format!(
            "\n{} {} of {} at {:#x}\n  series {}; region {:#x}, {} bytes; {} stopped for {} us\n",
            paint(BOLD, &patch.patch_id),
            patch.state,
            patch.image_name,
            patch.image_base,
            patch.series,
            patch.region_base,
            patch.region_size,
            count(patch.threads_stopped as usize, "thread"),
            patch.stopped.as_micros(),
        ));
        let rows: Vec<Vec<String>> = patch
            .functions
            .iter()
            .map(|f| {
                let note = if f.redirected { String::new() } else { paint(BAD, "not redirected") };
                vec![paint(BOLD, &f.name), paint(DIM, format!("{:#x} -> {:#x}", f.old_address, f.new_address)), note]
            })
            .collect();
        text.push_str(&output::table(&rows));
    }
    text
}
