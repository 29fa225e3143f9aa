//! `hpgen apply`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use hpgen_runtime::events::not_accepted;
use hpgen_runtime::format::{PayloadFile, Seal, SignatureError};
use hpgen_runtime::{
    Accepted, ApplyError, ApplyOptions, PatchStatus, Policy, PolicyError, apply_to_process, find_processes,
    mitigations_process,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{ApplyArguments, Format, Trust};
use crate::commands::status;
use crate::output::{self, BAD, GOOD, NOTE, count, paint};
use crate::probations::{self, Stood};
use crate::{events, interrupts, keys, payload_file};

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-apply/2";

/// Applies a payload to one process, or to all that have an image.
pub fn execute(arguments: &ApplyArguments) -> Result<Outcome> {
    events::start(&arguments.recording)?;
    // Half of a change would leave the process's threads stopped.
    interrupts::hold()?;
    let Some(Accepted { payload, seal, .. }) = accept(&arguments.file, &arguments.trust)? else {
        return Ok(Outcome::Refused);
    };
    let processes = match (arguments.target.pid, &arguments.target.image) {
        (Some(pid), _) => vec![pid],
        (None, Some(image)) => find_processes(image)?.into_iter().map(|process| process.pid).collect(),
        (None, None) => Vec::new(),
    };
    if processes.is_empty() {
        bail!("no running process has {} loaded", arguments.target.image.as_deref().unwrap_or("the image"));
    }
    let options = arguments.moment.options();
    let (mut results, mut mitigations) = (Vec::new(), Vec::new());
    for pid in processes {
        // Asked before: a crash in its probation may end the process.
        mitigations.push(mitigations_process(pid).ok().as_ref().map_or(Value::Null, status::mitigations_value));
        let result = apply(pid, &payload, &seal, &options);
        if arguments.format == Format::Text {
            report(pid, &result);
        }
        results.push((pid, result));
    }
    let stood = probation(arguments, &payload, &seal, &results);
    if arguments.format == Format::Json {
        let processes: Vec<_> = results
            .iter()
            .map(|(pid, result)| match result {
                Ok(images) => {
                    let stood = stood.get(pid);
                    json!({
                        "pid": pid, "applied": true, "images": images.iter().map(status::value).collect::<Vec<_>>(),
                        "probation": stood.map(|stood| json!({ "end": stood.name, "why": stood.why })),
                    })
                }
                Err(error) => {
                    json!({ "pid": pid, "applied": false, "refused": error.is_refusal(), "error": error.to_string() })
                }
            })
            .zip(mitigations)
            .map(|(mut process, mitigations)| {
                process["mitigations"] = mitigations;
                process
            })
            .collect();
        output::json(&json!({ "schema": SCHEMA, "patch_id": seal.patch_id(), "processes": processes }))?;
    }
    if stood.values().any(Stood::is_failed) {
        return Ok(Outcome::Refused);
    }
    worst(results)
}

/// Stays for the time that the payload is to be watched; how it went in each process.
fn probation(
    arguments: &ApplyArguments,
    payload: &PayloadFile,
    seal: &Seal,
    results: &[(u32, Result<Vec<PatchStatus>, ApplyError>)],
) -> BTreeMap<u32, Stood> {
    let window = payload.probations().map(|probation| probation.window_ms).max();
    let applied = results.iter().filter(|(_, result)| result.is_ok()).map(|(pid, _)| *pid);
    let Some(window) = window else { return BTreeMap::new() };
    if arguments.detach {
        return applied.map(|pid| (pid, Stood::unwatched("asked for with --detach"))).collect();
    }
    let is_text = arguments.format == Format::Text;
    if is_text {
        output::print(&format!("on probation for {}\n", output::milliseconds(window)));
    }
    let stood = probations::stand(&applied.collect::<Vec<_>>(), &seal.patch_id());
    for (pid, Stood { name, why }) in stood.iter().filter(|_| is_text) {
        let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        output::print(&match *name {
            "passed" => format!("{} its probation in process {pid}\n", paint(GOOD, "passed")),
            "failed" => format!("{} its probation in process {pid}{why}\n", paint(BAD, "failed")),
            "moot" => format!("{} of process {pid} meanwhile\n", paint(NOTE, "taken out")),
            _ => format!("{} to its end in process {pid}{why}\n", paint(NOTE, "not watched")),
        });
    }
    stood
}

/// Reads a payload that somebody trusted signed; says so and gives none where nobody did.
pub fn accept(path: &Path, trust: &Trust) -> Result<Option<Accepted>> {
    let trusted = trust.trust.iter().map(|file| keys::read_public(file)).collect::<Result<Vec<_>>>()?;
    let file = payload_file::read_bytes(path)?;
    match (Policy { trusted, allow_unsigned: trust.allow_unsigned }).accept(&file) {
        Ok(accepted) => Ok(Some(accepted)),
        Err(PolicyError::Format(error)) => {
            not_accepted(&path.display().to_string(), &error);
            bail!("{}: {error}", path.display())
        }
        Err(PolicyError::Signature(error)) => {
            not_accepted(&path.display().to_string(), &error);
            let hint = match error {
                SignatureError::Unsigned => {
                    "; sign it with `hpgen sign`, or accept it all the same with --allow-unsigned"
                }
                SignatureError::Untrusted(_) => "; name its public key with --trust",
                _ => "",
            };
            output::refusal(&format!("{} {error}{hint}", paint(BAD, "refused:")));
            Ok(None)
        }
    }
}

fn apply(pid: u32, payload: &PayloadFile, seal: &Seal, options: &ApplyOptions) -> Result<Vec<PatchStatus>, ApplyError> {
    let applied = apply_to_process(pid, payload, seal, options)?;
    Ok(applied.status()?)
}

fn report(pid: u32, result: &Result<Vec<PatchStatus>, ApplyError>) {
    match result {
        Ok(images) => {
            let Some(patch) = images.first() else { return };
            let functions = images.iter().map(|image| image.functions.len()).sum();
            let places = match images.len() {
                1 => String::new(),
                images => format!(" in {images} images"),
            };
            output::print(&format!(
                "{} patch {} to process {pid}: {} redirected{places}, {} stopped for {} us\n",
                paint(GOOD, "applied"),
                patch.patch_id,
                count(functions, "function"),
                count(patch.threads_stopped as usize, "thread"),
                patch.stopped.as_micros(),
            ));
        }
        Err(error) => {
            let word = if error.is_refusal() { "refused:" } else { "error:" };
            output::refusal(&format!("{} process {pid}: {error}", paint(BAD, word)));
        }
    }
}

/// All processes must have taken the patch; an error in what was given outweighs a refusal.
fn worst(results: Vec<(u32, Result<Vec<PatchStatus>, ApplyError>)>) -> Result<Outcome> {
    let errors: Vec<ApplyError> = results.into_iter().filter_map(|(_, result)| result.err()).collect();
    if errors.iter().any(|error| !error.is_refusal()) {
        return Ok(Outcome::Program(1));
    }
    Ok(if errors.is_empty() { Outcome::Done } else { Outcome::Refused })
}
