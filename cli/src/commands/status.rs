//! `hpgen status`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use hpgen_emit::symbol_file::{Place, SymbolFile, SymbolFileError};
use hpgen_runtime::{
    Mitigations, PatchFrame, PatchStatus, ThreadFrames, frames_process, is_interrupted, mitigations_process,
    status_process,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Format, StatusArguments};
use crate::commands::{inspect, symbolize};
use crate::output::{self, BAD, BOLD, DIM, NOTE, count, paint};
use crate::payload_file;

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-status/1";

/// Lists the patches in a process, and the threads that execute their code.
pub fn execute(arguments: &StatusArguments) -> Result<Outcome> {
    let patches = status_process(arguments.pid)?;
    let threads = frames_process(arguments.pid)?;
    let interrupted = is_interrupted(arguments.pid)?;
    let mitigations = mitigations_process(arguments.pid)?;
    let symbols = Symbols::read(&arguments.symbols, &patches)?;
    match arguments.format {
        Format::Text => {
            output::print(&text(arguments.pid, &patches));
            output::print(&mitigations_text(&mitigations));
            output::print(&threads_text(&threads, &symbols));
            output::print(&warning(arguments.pid, interrupted));
        }
        Format::Json => output::json(&json!({
            "schema": SCHEMA,
            "pid": arguments.pid,
            "interrupted": interrupted,
            "mitigations": mitigations_value(&mitigations),
            "patches": patches.iter().map(value).collect::<Vec<_>>(),
            "threads": threads.iter().map(|thread| thread_value(thread, &symbols)).collect::<Vec<_>>(),
        }))?,
    }
    Ok(Outcome::Done)
}

/// What a process is guarded with, for programs.
pub fn mitigations_value(mitigations: &Mitigations) -> Value {
    json!({
        "prohibits_dynamic_code": mitigations.prohibits_dynamic_code,
        "control_flow_guard": mitigations.control_flow_guard,
        "shadow_stack": mitigations.shadow_stack,
        "checks_continuations": mitigations.checks_continuations,
    })
}

fn mitigations_text(mitigations: &Mitigations) -> String {
    let named = [
        (mitigations.prohibits_dynamic_code, "Arbitrary Code Guard: it takes no patch"),
        (mitigations.control_flow_guard, "Control Flow Guard"),
        (mitigations.shadow_stack, "shadow stacks"),
        (mitigations.checks_continuations, "checked continuations: it takes no patch that handles exceptions"),
    ];
    let there: Vec<&str> = named.iter().filter(|(is_there, _)| *is_there).map(|(_, name)| *name).collect();
    if there.is_empty() { String::new() } else { format!("\nguarded with {}\n", there.join(", ")) }
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

/// The symbol files that were named, by the patch that each belongs to.
struct Symbols(Vec<(String, SymbolFile)>);

impl Symbols {
    fn read(files: &[PathBuf], patches: &[PatchStatus]) -> Result<Symbols> {
        files.iter().map(|file| Self::read_one(file, patches)).collect::<Result<_>>().map(Symbols)
    }

    fn read_one(file: &Path, patches: &[PatchStatus]) -> Result<(String, SymbolFile)> {
        let bytes = payload_file::read_bytes(file)?;
        let mut problem = anyhow!("the process has no patch");
        for patch in patches {
            match SymbolFile::decode(&bytes, &patch.seal) {
                Ok(symbols) => return Ok((patch.patch_id.clone(), symbols)),
                Err(other @ SymbolFileError::OtherPayload { .. }) if patches.len() > 1 => {
                    problem = anyhow!("it belongs to none of the patches in the process: {other}");
                }
                Err(error) => problem = error.into(),
            }
        }
        Err(problem).with_context(|| format!("{} is of no use here", file.display()))
    }

    /// A return address belongs to the call before it.
    fn at(&self, frame: &PatchFrame) -> Option<Place<'_>> {
        let (_, symbols) = self.0.iter().find(|(patch, _)| *patch == frame.patch_id)?;
        symbols.image(Some(&frame.image_name))?.at(frame.region_offset.checked_sub(u32::from(frame.is_return))?)
    }
}

fn thread_value(thread: &ThreadFrames, symbols: &Symbols) -> Value {
    json!({
        "thread": thread.thread,
        "unwound": thread.is_whole,
        "frames": thread.frames.iter().map(|frame| {
            let place = symbols.at(frame);
            json!({
                "patch_id": frame.patch_id,
                "image": frame.image_name,
                "address": frame.address,
                "region_offset": frame.region_offset,
                "function": frame.function,
                "function_offset": frame.function_offset,
                "returns_here": frame.is_return,
                "certain": frame.is_certain,
                "source": place.as_ref().map(|place| symbolize::frames_value(place)),
            })
        }).collect::<Vec<_>>(),
    })
}

fn threads_text(threads: &[ThreadFrames], symbols: &Symbols) -> String {
    let mut text = String::new();
    for thread in threads {
        text.push_str(&format!("\nthread {} executes patched code\n", thread.thread));
        if !thread.is_whole {
            text.push_str(&paint(NOTE, "  its stack could not be unwound to the end: what may be a frame is marked\n"));
        }
        let rows: Vec<Vec<String>> = thread.frames.iter().map(|frame| row(frame, symbols)).collect();
        text.push_str(&output::table(&rows));
    }
    text
}

fn row(frame: &PatchFrame, symbols: &Symbols) -> Vec<String> {
    let place = symbols.at(frame);
    let function = match (&place, &frame.function) {
        (Some(place), _) => format!("{}+{:#x}", place.function.display, frame.function_offset),
        (None, Some(function)) => format!("{function}+{:#x}", frame.function_offset),
        (None, None) => "no function".to_owned(),
    };
    let does = match (frame.is_certain, frame.is_return) {
        (false, _) => paint(NOTE, "may return to"),
        (true, true) => "returns to".to_owned(),
        (true, false) => "is at".to_owned(),
    };
    let source = place.as_ref().map(|place| symbolize::source(place.frames.first())).unwrap_or_default();
    let address = paint(DIM, format!("{:#x} in {}", frame.address, frame.patch_id));
    vec![does, paint(BOLD, function), source, address]
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
        "probation_until": patch.probation_until.map(|t| t.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default()),
        "functions": patch.functions.iter().map(|f| json!({
            "name": f.name,
            "old_rva": f.old_rva,
            "old_address": f.old_address,
            "new_address": f.new_address,
            "form": f.form.name(),
            "demand": f.demand.name(),
            "no_stop": f.is_no_stop,
            "redirected": f.redirected,
        })).collect::<Vec<_>>(),
    })
}

fn probation(patch: &PatchStatus) -> String {
    let Some(until) = patch.probation_until else { return String::new() };
    let time = humantime::format_rfc3339_seconds(until);
    match until > SystemTime::now() {
        true => format!("  {}\n", paint(NOTE, format!("on probation until {time}"))),
        false => format!("  {}\n", paint(NOTE, format!("on probation until {time}; nobody watched it to its end"))),
    }
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
        text.push_str(&probation(patch));
        let rows: Vec<Vec<String>> = patch
            .functions
            .iter()
            .map(|f| {
                let note = if f.redirected { String::new() } else { paint(BAD, "not redirected") };
                let place = paint(DIM, format!("{:#x} -> {:#x}", f.old_address, f.new_address));
                let demand = inspect::demand(f.demand, f.is_no_stop);
                vec![paint(BOLD, &f.name), place, f.form.name().to_owned(), demand.to_owned(), note]
            })
            .collect();
        text.push_str(&output::table(&rows));
    }
    text
}
