//! `hpgen`: what a person types. Each command is a file in `commands/`; what it does is in the library crates.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod compared;
mod events;
mod identity;
mod interrupts;
mod keys;
mod output;
mod payload_file;
mod probations;
mod rules;
mod watch;

use std::process::ExitCode;

use clap::Parser;

/// How a command ended, other than by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; for `check` and `build`: hotpatchable.
    Done,
    /// The changes need a restart.
    RestartRequired,
    /// No change of meaning.
    NothingToPatch,
    /// The payload does not do what the new build does.
    NotVerified,
    /// The target process refused.
    Refused,
    /// The exit code of the program that `run` ran.
    Program(u32),
}

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    output::set_color(arguments.color);
    match commands::execute(&arguments.command) {
        Ok(outcome) => exit_code(outcome),
        Err(error) => {
            output::error(&error);
            ExitCode::from(1)
        }
    }
}

fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::NotVerified => ExitCode::from(1),
        Outcome::RestartRequired => ExitCode::from(3),
        Outcome::NothingToPatch => ExitCode::from(4),
        Outcome::Refused => ExitCode::from(5),
        // Windows exit codes have 32 bits, which `ExitCode` cannot carry.
        Outcome::Program(code) => std::process::exit(code.cast_signed()),
    }
}
