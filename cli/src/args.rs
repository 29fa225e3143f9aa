//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hpgen_runtime::ApplyOptions;

use crate::rules::ProbationArguments;

/// Authors hotpatches for Windows programs and applies them to running processes.
///
/// Exit codes: 0 done (check, build: hotpatchable); 1 an error in what was given; 2 wrong usage; 3 restart required;
/// 4 nothing to patch; 5 refused by the target process.
#[derive(Debug, Parser)]
#[command(name = "hpgen", version, propagate_version = true)]
pub struct Arguments {
    /// When to use colours.
    #[arg(long, value_enum, default_value_t = Color::Auto, global = true)]
    pub color: Color,
    #[command(subcommand)]
    pub command: Command,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what changed in meaning between two builds.
    Diff(DiffArguments),
    /// Say whether the changes can go into a running process: exit code 0 yes, 3 no, 4 nothing changed.
    Check(CheckArguments),
    /// Write the payload that turns a running OLD into NEW.
    Build(BuildArguments),
    /// Make a key pair to sign payloads with.
    Keygen(KeygenArguments),
    /// Sign a payload.
    Sign(SignArguments),
    /// Print what is in a payload.
    Inspect(InspectArguments),
    /// Prove that a payload means what the new build means: exit code 0 it does, 1 it does not.
    Verify(VerifyArguments),
    /// Say which function and source line an address inside a patch belongs to.
    Symbolize(SymbolizeArguments),
    /// Put a payload into running processes.
    Apply(ApplyArguments),
    /// List the patches in a process.
    Status(StatusArguments),
    /// Take a patch out of a process.
    Rollback(RollbackArguments),
    /// Keep the payloads of a folder applied: in processes that run, in those that start later, and when their images are loaded.
    Watch(WatchArguments),
    /// Start a program with a payload in place before its first instruction.
    Run(RunArguments),
}

/// Two builds.
#[derive(Debug, Args)]
pub struct Images {
    /// The baseline: the EXE or DLL that runs.
    pub old: PathBuf,
    /// The fixed build of the same program.
    pub new: PathBuf,
    /// PDB of OLD; beside it when not named.
    #[arg(long, value_name = "FILE")]
    pub old_pdb: Option<PathBuf>,
    /// PDB of NEW; beside it when not named.
    #[arg(long, value_name = "FILE")]
    pub new_pdb: Option<PathBuf>,
    /// Also put this function into the payload, by name; `cosmetic` puts in those that differ in line numbers, source paths
    /// and dates only, `all` every function of the new build.
    #[arg(long, value_name = "all|cosmetic|NAME", value_delimiter = ',')]
    pub include: Vec<String>,
    /// Rules about the state of the running process; `hpgen.toml` in the current folder when not named.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Answer for a reason against patching: `keep` what the process has, `set` the new initial value, or leave it to a `hook`.
    #[arg(long, value_name = "SYMBOL=keep|set|hook")]
    pub accept: Vec<String>,
}

/// Further images of the same release.
#[derive(Debug, Args)]
pub struct More {
    /// Another image of the same release, an EXE's DLL for example: one payload for all, applied together or not at all. Can be given
    /// several times; the PDBs stand beside the images.
    #[arg(long = "and", value_names = ["OLD", "NEW"], num_args = 2)]
    pub and: Vec<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs; stable.
    Json,
}

#[derive(Debug, Args)]
pub struct DiffArguments {
    #[command(flatten)]
    pub images: Images,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Show old and new instructions of changed functions side by side: of those named, or of all. Goes behind OLD and NEW.
    #[arg(long, value_name = "NAME", num_args = 0..)]
    pub asm: Option<Vec<String>>,
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub more: More,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct BuildArguments {
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub more: More,
    /// The payload to write; its symbols go to the same name with `.sym` behind it.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Sign it with this private key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Place among the payloads of OLD: in a process, a higher one replaces a lower one, and never the other way round.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub series: u32,
    #[command(flatten)]
    pub probation: ProbationArguments,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct KeygenArguments {
    /// The private key to write; the public one goes to the same name with `.pub` behind it.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct SignArguments {
    /// The payload.
    pub file: PathBuf,
    /// The private key.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where to write the signed payload; in place when not given.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The payload.
    pub file: PathBuf,
    /// Also show the instructions of its functions, with what their relocations lead to.
    #[arg(long)]
    pub asm: bool,
    /// The baseline that it is made for, or one of them: what leads there is shown by the names of its PDB. Can be given several times.
    #[arg(long, value_name = "IMAGE", requires = "asm")]
    pub old: Vec<PathBuf>,
    /// PDB of the baseline, in the same order; beside it when not named.
    #[arg(long, value_name = "FILE", requires = "old")]
    pub old_pdb: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct SymbolizeArguments {
    /// The payload; its symbols are read from the same name with `.sym` behind it.
    pub file: PathBuf,
    /// Addresses in hexadecimal: offsets into the region as +0x1234, or absolute ones with --region.
    #[arg(required = true, value_name = "ADDRESS")]
    pub addresses: Vec<String>,
    /// Where the patch's region begins in the process, as `status` prints it.
    #[arg(long, value_name = "BASE")]
    pub region: Option<String>,
    /// The image whose region it is, where the payload is for several.
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// The symbols, where they are not beside the payload.
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The payload.
    pub file: PathBuf,
    /// The baseline that it is for; for a payload of several images each of them, in any order.
    #[arg(long, value_name = "FILE", required = true)]
    pub old: Vec<PathBuf>,
    /// The fixed build that it was made from, in the order of the baselines. Without it, what the payload means is not checked:
    /// the report says what else is not.
    #[arg(long, value_name = "FILE")]
    pub new: Vec<PathBuf>,
    /// PDB of OLD, in the same order; beside it when not named.
    #[arg(long, value_name = "FILE")]
    pub old_pdb: Vec<PathBuf>,
    /// PDB of NEW, in the same order; beside it when not named.
    #[arg(long, value_name = "FILE")]
    pub new_pdb: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Whose payloads are accepted.
#[derive(Debug, Args)]
pub struct Trust {
    /// Accept payloads that this public key vouches for. Can be given several times.
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Accept a payload without a signature, or with that of somebody unknown: for development.
    #[arg(long)]
    pub allow_unsigned: bool,
}

/// Where to record what is done to processes.
#[derive(Debug, Args)]
pub struct Recording {
    /// Append a line of JSON for each attempt and its end to this file; `none` for no record. Without it, they go to
    /// %LOCALAPPDATA%\hpgen\events.jsonl. The Windows Event Log gets the same.
    #[arg(long, value_name = "FILE|none")]
    pub events: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// The payload.
    pub file: PathBuf,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub trust: Trust,
    #[command(flatten)]
    pub recording: Recording,
    #[command(flatten)]
    pub moment: Moment,
    /// Do not stay to watch a payload that asks for a probation.
    #[arg(long)]
    pub detach: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// When functions are switched.
#[derive(Debug, Args)]
pub struct Moment {
    /// Whether each call enters the new code from now on, or all functions are switched at once when none of them is on a stack.
    #[arg(long, value_enum, default_value_t = Consistency::Immediate)]
    pub consistency: Consistency,
    /// How long to try again when threads are in the way, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub patience: u64,
}

/// When calls enter the new code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Each call from now on; what runs goes on in the old code.
    Immediate,
    /// All functions at once, when none of them is on any thread's stack.
    Quiescent,
}

impl Moment {
    /// In the loader's terms.
    pub fn options(&self) -> ApplyOptions {
        let consistency = match self.consistency {
            Consistency::Immediate => hpgen_runtime::Consistency::Immediate,
            Consistency::Quiescent => hpgen_runtime::Consistency::Quiescent,
        };
        ApplyOptions { patience: Duration::from_millis(self.patience), consistency, no_stop: false }
    }
}

/// Which processes.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The process with this id.
    #[arg(long, value_name = "N")]
    pub pid: Option<u32>,
    /// Every process that has this image loaded.
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
}

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The process.
    #[arg(long, value_name = "N")]
    pub pid: u32,
    /// Symbol file of a patch (`fix.hpx.sym`): tells file and line of the frames that threads have in it.
    #[arg(long, value_name = "FILE")]
    pub symbols: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The process.
    #[arg(long, value_name = "N")]
    pub pid: u32,
    /// The patch, as `status` names it; the newest when not given.
    #[arg(long, value_name = "ID")]
    pub patch: Option<String>,
    /// Only finish what an hpgen left half done that was killed in the middle of a change: everything of that change is taken back, and the
    /// process's threads go on.
    #[arg(long, conflicts_with = "patch")]
    pub repair: bool,
    #[command(flatten)]
    pub recording: Recording,
    #[command(flatten)]
    pub moment: Moment,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct WatchArguments {
    /// The folder: its `*.hpx` files, those that come later included. Of a series, the highest goes in.
    pub folder: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
    /// How often to look, in seconds.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub interval: u64,
    /// Look once, and end.
    #[arg(long)]
    pub once: bool,
    /// Where to remember which process refused a payload, or had it taken out, so that it is left alone after a restart too;
    /// hpgen-watch.json in the folder when not named.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub recording: Recording,
    /// How to print: with `json`, a line for each process and payload of which something new is known.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The payload.
    #[arg(long, value_name = "FILE")]
    pub patch: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
    #[command(flatten)]
    pub recording: Recording,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM [ARGS]")]
    pub program: Vec<OsString>,
}
