//! `hpgen run`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use hpgen_runtime::{ApplyOptions, RunCommand};

use crate::Outcome;
use crate::args::RunArguments;
use crate::commands::apply;
use crate::output::{self, BAD, paint};
use crate::payload_file;

/// Starts a program with a payload in place, and ends as it ends.
pub fn execute(arguments: &RunArguments) -> Result<Outcome> {
    let (payload, seal) = payload_file::read(&arguments.patch)?;
    if let Some(refused) = apply::policy(&arguments.trust) {
        return Ok(refused);
    }
    let (program, rest) = arguments.program.split_first().context("no program was named")?;
    let command = RunCommand { program: PathBuf::from(program), arguments: rest.to_vec() };
    match hpgen_runtime::run(&command, &payload, &seal, &ApplyOptions::default()) {
        Ok(code) => Ok(Outcome::Program(code)),
        Err(error) if error.is_refusal() => {
            output::refusal(&format!("{} {error}", paint(BAD, "refused:")));
            Ok(Outcome::Refused)
        }
        Err(error) => Err(error.into()),
    }
}
