//! One file a command.

mod apply;
mod asm;
mod build;
mod diff;
mod funclets;
mod inspect;
mod keygen;
mod rollback;
mod run;
mod sign;
mod status;
mod symbolize;
mod verify;
mod watch;

use anyhow::Result;

use crate::Outcome;
use crate::args::Command;

/// Carries out a command.
pub fn execute(command: &Command) -> Result<Outcome> {
    match command {
        Command::Diff(arguments) => diff::diff(arguments),
        Command::Check(arguments) => diff::check(arguments),
        Command::Build(arguments) => build::execute(arguments),
        Command::Keygen(arguments) => keygen::execute(arguments),
        Command::Sign(arguments) => sign::execute(arguments),
        Command::Inspect(arguments) => inspect::execute(arguments),
        Command::Symbolize(arguments) => symbolize::execute(arguments),
        Command::Verify(arguments) => verify::execute(arguments),
        Command::Apply(arguments) => apply::execute(arguments),
        Command::Status(arguments) => status::execute(arguments),
        Command::Rollback(arguments) => rollback::execute(arguments),
        Command::Watch(arguments) => watch::execute(arguments),
        Command::Run(arguments) => run::execute(arguments),
    }
}
