//! `cargo xtask demo`: two programs that work without a rest are patched while they run, and everything that is said of it
//! is checked.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::child::{self, Ended};
use crate::live::{Host, Hpgen, LUA, PATIENCE, SQLITE, Target};
use crate::steps::Steps;
use crate::{binaries, setup, wine, workspace};

/// Lines that have to show a behaviour, one after the other, before it is believed; about 20 ms each.
const SEEN: usize = 25;
/// Lines of each behaviour that are shown.
const SHOWN: usize = 4;
/// How long a program runs if nobody stops it.
const SECONDS: u32 = 120;

/// A program, and what a person should know of it.
struct Act {
    host: Host,
    title: &'static str,
    story: &'static str,
    /// The words of its lines that are shown: each a label and the value after it.
    labels: &'static [&'static str],
}

const ACTS: [Act; 2] = [
    Act {
        host: LUA,
        title: "Lua 5.4: an interpreter in the middle of a script",
        story: "The script sorts, hashes, calls coroutines and closures, and never rests. The fix changes two functions of the\n\
                interpreter: math.ult(3, 3) becomes true; string.reverse gives a second result, the note, from a new function\n\
                with a new variable, which counts, and a new import from kernel32, the process id.",
        labels: &["seq", "ult", "note"],
    },
    Act {
        host: SQLITE,
        title: "SQLite 3: a database in the middle of a transaction",
        story: "The program inserts, joins, commits and rolls back, with statements and a cursor open all the time. The fix\n\
                changes two functions of the library: strftime learns %q, the quarter; char() gives 3F ('?') for what is no\n\
                character, in place of EFBFBD.",
        labels: &["seq", "quarter", "char"],
    },
];

/// What was measured of one program.
struct Figures {
    name: &'static str,
    functions: u64,
    of: u64,
    payload: u64,
    image: u64,
    author_ms: u128,
    threads: u64,
    apply_us: u64,
    rollback_us: u64,
    lines: usize,
}

/// Shows it. Fails where anything is not as it is said.
pub fn demo() -> Result<ExitCode> {
    let mut steps = Steps::default();
    let result = show(&mut steps);
    // Nothing of Wine stays behind.
    let stopped = wine::stop();
    heading("How long it took");
    steps.print();
    if let Err(error) = result.and(stopped) {
        eprintln!("\nThe demo failed: {error:#}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(steps: &mut Steps) -> Result<()> {
    heading("Set-up");
    steps.run("set-up, test programs", setup::setup)?;
    println!("building hpgen for this system and for Windows");
    let authoring = steps.run("build hpgen", || Ok(Hpgen::native(binaries::native_hpgen()?)))?;
    let windows = steps.run("build hpgen.exe", Hpgen::for_windows)?;
    let mut figures = Vec::new();
    for act in &ACTS {
        figures.push(Stage::set(act, &authoring, &windows)?.perform(steps)?);
    }
    summary(&figures);
    Ok(())
}

fn summary(figures: &[Figures]) {
    heading("What was shown");
    let row = |name: &str, value: fn(&Figures) -> String| {
        let values: String = figures.iter().map(|figures| format!("{:>22}", value(figures))).collect();
        println!("{name:34}{values}");
    };
    row("", |figures| figures.name.to_owned());
    row("functions replaced", |figures| format!("{} of {}", figures.functions, figures.of));
    row("payload", |figures| format!("{} bytes", figures.payload));
    row("image", |figures| format!("{} bytes", figures.image));
    row("payload to image", |figures| format!("1 : {}", figures.image / figures.payload.max(1)));
    row("time to author", |figures| format!("{} ms", figures.author_ms));
    row("threads stopped", |figures| figures.threads.to_string());
    row("stopped to apply", |figures| format!("{} us", figures.apply_us));
    row("stopped to roll back", |figures| format!("{} us", figures.rollback_us));
    row("steps of work, none lost", |figures| figures.lines.to_string());
    println!(
        "\nBoth programs ran on through it all: no restart, and every checksum over their state is right. They showed the\n\
         fixed behaviour after `apply`, the old one after `rollback`, and ended with exit code 0."
    );
}

/// One program with its payload.
struct Stage<'a> {
    act: &'a Act,
    folder: PathBuf,
    authoring: &'a Hpgen,
    windows: &'a Hpgen,
}

impl<'a> Stage<'a> {
    fn set(act: &'a Act, authoring: &'a Hpgen, windows: &'a Hpgen) -> Result<Self> {
        let folder = workspace::target().join("demo").join(act.host.name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { act, folder, authoring, windows })
    }

    fn perform(&self, steps: &mut Steps) -> Result<Figures> {
        let Act { host, title, story, .. } = self.act;
        heading(title);
        println!("{story}\n");
        let payload = relative(&self.folder.join("fix.hpx"));
        let [old, new] = ["old", "new"].map(|variant| relative(&host.image(variant)));
        let built = steps.run(format!("{}: author", host.name), || {
            call(self.authoring, "hpgen", &["build", &old, &new, "-o", &payload])
        })?;
        let author_ms = steps.last().as_millis();
        let (replaced, functions) = (&built["payload"]["replaced"], &built["old"]["functions"]);
        println!("    {replaced} of {functions} functions changed; {} bytes\n", built["payload"]["bytes"]);

        let stop_file = self.folder.join("stop");
        let target = steps.run(format!("{}: start", host.name), || {
            Target::start(&host.image("old"), host.arguments(SECONDS, Some(&stop_file)))
        })?;
        println!("  $ {}.exe &", host.name);
        println!("    process {}\n", target.pid());
        let before = steps
            .run(format!("{}: work", host.name), || target.wait_for_lines("the old behaviour", SEEN, host.is_old))?;

        let pid = target.pid().to_string();
        let apply = ["apply", &payload, "--pid", &pid, "--allow-unsigned"];
        let applied = steps.run(format!("{}: apply", host.name), || call(self.windows, "hpgen.exe", &apply))?;
        let patch = &applied["processes"][0]["images"][0];
        print_stop(patch);
        let patched = steps.run(format!("{}: work, patched", host.name), || {
            target.wait_for_lines("the fixed behaviour", SEEN, host.is_fixed)
        })?;
        self.check_status(&pid, "applied")?;

        let rollback = ["rollback", "--pid", &pid];
        let rolled_back =
            steps.run(format!("{}: roll back", host.name), || call(self.windows, "hpgen.exe", &rollback))?;
        print_stop(&rolled_back);
        let after = steps.run(format!("{}: work, as before", host.name), || {
            target.wait_for_lines("the old behaviour after the rollback", SEEN, host.is_old)
        })?;

        fs::write(&stop_file, "")?;
        let ended = steps.run(format!("{}: end", host.name), || target.end())?;
        self.print_side_by_side([&before, &patched, &after]);
        let lines = self.check_end(&ended)?;
        Ok(Figures {
            name: host.name,
            functions: number(&built["payload"]["replaced"])?,
            of: number(&built["old"]["functions"])?,
            payload: number(&built["payload"]["bytes"])?,
            image: number(&built["old"]["size"])?,
            author_ms,
            threads: number(&patch["threads_stopped"])?,
            apply_us: number(&patch["stopped_us"])?,
            rollback_us: number(&rolled_back["stopped_us"])?,
            lines,
        })
    }

    /// The process says itself that it is patched, and that every redirection is in place.
    fn check_status(&self, pid: &str, state: &str) -> Result<()> {
        let status = call(self.windows, "hpgen.exe", &["status", "--pid", pid])?;
        let patch = &status["patches"][0];
        let functions = patch["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(patch["state"] == state, "the patch should be {state}: {status:#}");
        ensure!(
            !functions.is_empty() && functions.iter().all(|function| function["redirected"] == true),
            "every function should be redirected: {status:#}"
        );
        let names: Vec<_> = functions.iter().filter_map(|function| function["name"].as_str()).collect();
        println!("    {state}: {}\n", names.join(", "));
        Ok(())
    }

    /// The program lost nothing: it did every step, once, with the right result. Returns how many.
    fn check_end(&self, ended: &Ended) -> Result<usize> {
        ensure!(ended.code == Some(0), "{} should end with exit code 0: {ended}", self.act.host.name);
        let phases = self.act.host.phases(&ended.stdout)?;
        let order: Vec<bool> = phases.iter().map(|(fixed, _)| *fixed).collect();
        ensure!(order == [false, true, false], "the behaviour should be old, fixed, and old again, not {phases:?}");
        let lines = phases.iter().map(|(_, lines)| lines).sum();
        println!("\n    exit code 0; {lines} steps, every checksum right");
        Ok(lines)
    }

    fn print_side_by_side(&self, columns: [&[String]; 3]) {
        let columns = columns
            .map(|lines| lines.iter().rev().take(SHOWN).rev().map(|line| self.shorten(line)).collect::<Vec<_>>());
        let width = columns.iter().flatten().map(String::len).max().unwrap_or(0) + 3;
        let headings = ["before", "patched", "rolled back"].map(|heading| format!("{heading:width$}"));
        println!("    {}", bold(headings.concat().trim_end()));
        for row in 0..SHOWN {
            let cells = columns
                .iter()
                .map(|lines| format!("{:width$}", lines.get(row).map(String::as_str).unwrap_or_default()));
            println!("    {}", cells.collect::<String>().trim_end());
        }
    }

    /// A line with the checksum and the like left out.
    fn shorten(&self, line: &str) -> String {
        let words: Vec<_> = line.split(' ').collect();
        let chosen = words.chunks_exact(2).filter(|pair| self.act.labels.contains(&pair[0]));
        chosen.map(|pair| pair.join(" ")).collect::<Vec<_>>().join("  ")
    }
}

/// Shows a command, runs it with `--format json` (which is not shown), and returns what it says.
fn call(hpgen: &Hpgen, name: &str, arguments: &[&str]) -> Result<Value> {
    println!("  $ {name} {}", arguments.join(" "));
    let mut command = hpgen.command(arguments.iter().chain(&["--format", "json"]));
    let ended = child::run(command.current_dir(workspace::root()), PATIENCE)?;
    ensure!(ended.code == Some(0), "hpgen {} should succeed: {ended}", arguments.join(" "));
    ended.json()
}

/// What the process felt of a command.
fn print_stop(report: &Value) {
    let threads = match report["threads_stopped"].as_u64() {
        Some(1) => "1 thread".to_owned(),
        _ => format!("{} threads", report["threads_stopped"]),
    };
    println!("    {threads} stood still for {} microseconds\n", report["stopped_us"]);
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("hpgen's output has {value} where a number should be"))
}

/// A path as it is shown: from the workspace's root, where it is below that.
fn relative(path: &Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}

fn heading(text: &str) {
    println!("\n{}\n", bold(text));
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
