//! `cargo xtask`: everything that is done to this workspace and is not `cargo build`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::suite::{metamorphic, msvc, mutation};
use xtask::toolchain::Toolchain;
use xtask::{
    bench, bless, check, corpus, demo, fixtures, forms, programs, release_jump, runtime_library, setup, sizes,
};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sets up, builds and tests hpgen's workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what this machine lacks (compilers, Wine, Rust targets) and build the test programs; safe to repeat
    Setup,
    /// Build the test programs into target/testdata, where their inputs changed
    Programs,
    /// Rebuild the committed PE and PDB files of testdata/fixtures from their sources
    Fixtures {
        /// Change nothing: fail if a rebuild gives other bytes than the committed files
        #[arg(long)]
        check: bool,
        /// Only these fixtures
        names: Vec<String>,
    },
    /// Accept what hpgen prints for the fixtures now as their goldens; review the diff
    Bless,
    /// Prove something over whole programs
    Suite {
        /// What to prove
        #[command(subcommand)]
        suite: Suite,
    },
    /// How many functions of each test program, and of the images in these folders, can be redirected without stopping a thread
    Forms {
        /// Folders with images that have their PDBs beside them
        folders: Vec<std::path::PathBuf>,
    },
    /// Measure for how long threads stand still, by the number of functions and of threads
    Bench {
        /// Applies and rollbacks of each case
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// Build the runtime for C and C++, a DLL and a static library, and fail if it is larger than it may be
    Runtime,
    /// Turn running programs into the next release of the library in them, and run that release's checks there
    ReleaseJump,
    /// Compare the sizes of payloads with those of binary patches of the same images, for everything that can be patched
    Sizes,
    /// Author security fixes of real libraries, apply them to processes that run, and write corpus/README.md
    Corpus {
        /// Also the cases whose outcome is known
        #[arg(long)]
        again: bool,
        /// Make the payloads, patch nothing
        #[arg(long)]
        authoring_only: bool,
        /// Only a few cases, and no table
        #[arg(long)]
        sample: bool,
        /// How both builds are optimised
        #[arg(long, value_enum, default_value = "O2")]
        flavour: Vec<corpus::flavour::Flavour>,
        /// Only cases with one of these in their name, for example zlib or CVE-2022-37434
        names: Vec<String>,
    },
    /// Set up, then patch a busy Lua and a busy SQLite while they run, and take it back
    Demo,
    /// Set up, then run the lints and all tests, the live ones included
    Test,
}

#[derive(Subcommand)]
enum Suite {
    /// The same program in another layout is the same program: compare many, expect nothing
    Metamorphic {
        /// Only a part that is over within a minute
        #[arg(long)]
        sample: bool,
        /// Only these configurations, for example O2-sections
        #[arg(long)]
        configuration: Vec<String>,
        /// Only programs with one of these in their name
        programs: Vec<String>,
    },
    /// Images that Microsoft's tools made: themselves, built again, and changed as is written down
    Msvc {
        /// Only a small part, fetched by the package manager that is at hand
        #[arg(long)]
        sample: bool,
        /// Write down what changed; review the diff
        #[arg(long)]
        bless: bool,
        /// Only packages with one of these in their name; the standard library is called std
        packages: Vec<String>,
    },
    /// One small edit of a source changes what the object files say: make many, expect neither less nor more
    Mutation {
        /// Only a part that is over within a minute or so
        #[arg(long)]
        sample: bool,
        /// Only these configurations, for example O2-sections
        #[arg(long)]
        configuration: Vec<String>,
        /// Only programs with one of these in their name
        programs: Vec<String>,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().task {
        Task::Setup => setup::setup()?,
        Task::Programs => programs::build_all(&Toolchain::find()?)?,
        Task::Fixtures { check: true, names } => fixtures::check(&Toolchain::find()?, &names)?,
        Task::Fixtures { check: false, names } => fixtures::rebuild(&Toolchain::find()?, &names)?,
        Task::Bless => bless::bless()?,
        Task::Suite { suite: Suite::Metamorphic { sample, configuration, programs } } => {
            return metamorphic::run(&metamorphic::Selection { sample, programs, configurations: configuration });
        }
        Task::Suite { suite: Suite::Mutation { sample, configuration, programs } } => {
            return mutation::run(&mutation::Selection { sample, programs, configurations: configuration });
        }
        Task::Suite { suite: Suite::Msvc { sample, bless, packages } } => {
            return msvc::run(&msvc::Selection { sample, bless, packages });
        }
        Task::Bench { rounds } => bench::run(rounds)?,
        Task::Runtime => runtime_library::run()?,
        Task::ReleaseJump => return release_jump::run(),
        Task::Sizes => sizes::sizes()?,
        Task::Forms { folders } => forms::forms(&folders)?,
        Task::Corpus { again, authoring_only, sample, flavour, names } => {
            let selection = corpus::Selection { names, again, authoring_only, sample, flavours: flavour };
            return corpus::run(&selection);
        }
        Task::Demo => return demo::demo(),
        Task::Test => return check::test(),
    }
    Ok(ExitCode::SUCCESS)
}
