//! `hpgen run`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use hpgen_runtime::{Accepted, ApplyOptions, ProbationEnd, ProcessError, RunCommand};

use crate::Outcome;
use crate::args::RunArguments;
use crate::commands::apply;
use crate::events;
use crate::output::{self, BAD, paint};

/// Starts a program with a payload in place, and ends as it ends.
pub fn execute(arguments: &RunArguments) -> Result<Outcome> {
    events::start(&arguments.recording)?;
    let Some(Accepted { payload, seal, .. }) = apply::accept(&arguments.patch, &arguments.trust)? else {
        return Ok(Outcome::Refused);
    };
    let (program, rest) = arguments.program.split_first().context("no program was named")?;
    let command = RunCommand { program: PathBuf::from(program), arguments: rest.to_vec() };
    match hpgen_runtime::run(&command, &payload, &seal, &ApplyOptions::default(), tell) {
        Ok(code) => Ok(Outcome::Program(code)),
        Err(error) if error.is_refusal() => {
            output::refusal(&format!("{} {error}", paint(BAD, "refused:")));
            Ok(Outcome::Refused)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says where a patch did not stand its probation, or could not be watched; the output is the program's otherwise.
fn tell(end: Result<ProbationEnd, ProcessError>) {
    match end {
        Ok(end) => {
            if let Some(failure) = end.failure() {
                output::refusal(&format!("{} {failure}", paint(BAD, "probation failed:")));
            }
        }
        Err(error) => output::refusal(&format!("{} {error}", paint(BAD, "the patch is not watched:"))),
    }
}
