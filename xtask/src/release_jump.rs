//! `cargo xtask release-jump`: a running program becomes the next release of the library in it.
//!
//! For each pair of neighbouring releases of other people's libraries, both built in the same way: hpgen says what changed, and makes a payload or
//! refuses. Where there is one, the old program is patched while it works, and gives the answers of the new release to every check of
//! `testdata/release_jump`; taken out, those of the old one. The same program at its usual work loses nothing on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::live::{Host, Hpgen, LUA, PATIENCE, SQLITE, Target};
use crate::sources::Sources;
use crate::toolchain::Toolchain;
use crate::{binaries, programs, setup, wine, workspace};

/// A release, as a package of a registry brings it.
#[derive(Debug)]
struct Release {
    number: &'static str,
    package: &'static str,
    version: &'static str,
    folder: &'static str,
}

/// Two neighbours.
struct Jump {
    library: &'static str,
    host: Host,
    /// What is run beside the usual work, where there is something.
    checks: Option<&'static str>,
    /// What an author answers for, and why that is right.
    accepted: Option<(&'static str, &'static str)>,
    /// Why its author has to refuse it, although nothing in the images tells: stored values mean something else.
    unfit: Option<&'static str>,
    releases: [Release; 2],
}

const fn lua(number: &'static str, version: &'static str, folder: &'static str) -> Release {
    Release { number, package: "lua-src", version, folder }
}

const fn sqlite(number: &'static str, version: &'static str) -> Release {
    Release { number, package: "libsqlite3-sys", version, folder: "sqlite3" }
}

const IDENT: Option<(&str, &str)> = Some((
    "lua_ident=keep",
    "a text with the release's number and its authors, for people who look into the file; nothing reads it",
));

const LUA_JUMP: Jump = Jump {
    library: "Lua",
    host: LUA,
    checks: Some("checks.lua"),
    accepted: IDENT,
    unfit: None,
    releases: [LUA_547, LUA_548],
};
const LUA_546: Release = lua("5.4.6", "546.0.2", "lua-5.4.6");
const LUA_547: Release = lua("5.4.7", "547.0.0", "lua-5.4.7");
const LUA_548: Release = lua("5.4.8", "548.1.2", "lua-5.4.8");
const LUA_549: Release = lua("5.4.9", "551.1.0", "lua-5.4.9");
const SQLITE_JUMP: Jump = Jump {
    library: "SQLite",
    host: SQLITE,
    checks: None,
    accepted: None,
    unfit: None,
    releases: [sqlite("3.49.1", "0.33.0"), sqlite("3.49.2", "0.34.0")],
};

/// No type and no table changes: only its live check showed it, by an error message with bytes of a string's header in the place of its text.
const LONG_STRINGS: &str = "known to its author only: 5.4.7 tells long strings by `shrlen == 0xFF`, which 5.4.6 never wrote; the running \
                            process has such strings, and new code would take them for short ones";

const JUMPS: [Jump; 5] = [
    Jump { unfit: Some(LONG_STRINGS), releases: [LUA_546, LUA_547], ..LUA_JUMP },
    LUA_JUMP,
    Jump { releases: [LUA_548, LUA_549], ..LUA_JUMP },
    SQLITE_JUMP,
    Jump { releases: [sqlite("3.51.1", "0.36.0"), sqlite("3.51.3", "0.37.0")], ..SQLITE_JUMP },
];

/// How long a program runs if nobody stops it.
const SECONDS: u32 = 240;
/// Lines of work that are waited for in each state.
const SEEN: usize = 25;

/// What became of a jump.
struct Outcome {
    title: String,
    changed: usize,
    added: usize,
    unchanged: u64,
    result: Went,
}

enum Went {
    Refused(Vec<String>),
    Live(Measured),
}

struct Measured {
    payload: u64,
    accepted: Option<(&'static str, &'static str)>,
    apply_us: u64,
    rollback_us: u64,
    lines: usize,
    checks: Option<Checks>,
}

/// Answers of the two releases.
struct Checks {
    count: usize,
    /// Those that differ: name, old, new.
    mended: Vec<[String; 3]>,
}

/// Does all jumps and writes the table.
pub fn run() -> Result<ExitCode> {
    setup::machine()?;
    let tools = Toolchain::find()?;
    let authoring = Hpgen::native(binaries::native_hpgen()?);
    let windows = Hpgen::for_windows()?;
    let outcomes = JUMPS.iter().map(|jump| {
        let outcome = jump.perform(&tools, &authoring, &windows).with_context(|| jump.title());
        outcome.inspect(|outcome| println!("{}", outcome.summary()))
    });
    let outcomes = outcomes.collect::<Result<Vec<_>>>();
    wine::stop()?;
    let file = workspace::testdata().join("release_jump").join("README.md");
    fs::write(&file, table(&outcomes?))?;
    println!("written: {}", file.strip_prefix(workspace::root())?.display());
    Ok(ExitCode::SUCCESS)
}

impl Jump {
    fn title(&self) -> String {
        let [old, new] = &self.releases;
        format!("{} {} to {}", self.library, old.number, new.number)
    }

    fn perform(&self, tools: &Toolchain, authoring: &Hpgen, windows: &Hpgen) -> Result<Outcome> {
        let folder = workspace::target().join("release-jump");
        let mut images = Vec::new();
        for release in &self.releases {
            let library = Sources::release(release.package, release.version)?.join(release.folder);
            let folder = folder.join(self.library).join(release.number);
            images.push(programs::build_release(tools, self.host.name, &library, folder)?);
        }
        let [old, new] = images.as_slice() else { bail!("a jump has two releases") };
        let payload = folder.join(format!("{}.hpx", self.title().replace(' ', "-")));
        let mut build: Vec<&Path> = vec!["build".as_ref(), old, new, "-o".as_ref(), &payload];
        build.extend(["--format", "json"].map(Path::new));
        build.extend(self.accepted.iter().flat_map(|(rule, _)| [Path::new("--accept"), Path::new(rule)]));
        let built = authoring.run(&build)?;
        let report = built.json()?;
        let result = match built.code {
            Some(3) => Went::Refused(reasons(&report)),
            Some(0) if let Some(unfit) = self.unfit => Went::Refused(vec![unfit.to_owned()]),
            Some(0) => {
                let verified =
                    authoring.run([Path::new("verify"), &payload, "--old".as_ref(), old, "--new".as_ref(), new])?;
                ensure!(verified.code == Some(0), "{verified}");
                Went::Live(self.prove(windows, [old, new], &payload)?)
            }
            _ => bail!("{built}"),
        };
        let count = |status: &str| {
            let functions = report["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
            functions.iter().filter(|function| function["status"] == status).count()
        };
        let unchanged = report["unchanged"].as_u64().context("no count of unchanged functions")?;
        Ok(Outcome { title: self.title(), changed: count("changed"), added: count("added"), unchanged, result })
    }

    /// The old program at its work, and the checks, each before, with and after the payload.
    fn prove(&self, windows: &Hpgen, images: [&Path; 2], payload: &Path) -> Result<Measured> {
        let stop_file = payload.with_extension("stop");
        let _ = fs::remove_file(&stop_file);
        let work = Target::start(images[0], self.host.arguments(SECONDS, Some(&stop_file)))?;
        let seen = |when: &str| work.wait_for_lines(when, SEEN, self.host.is_old).map(drop);
        seen("work")?;
        let apply_us = apply(windows, &work, payload)?;
        seen("work of the patched program")?;
        let rollback_us = roll_back(windows, &work)?;
        seen("work after the rollback")?;
        fs::write(&stop_file, "")?;
        let ended = work.end()?;
        ensure!(ended.code == Some(0), "{ended}");
        // Proves that no step was lost and no sum is wrong. The library's change is none of what the work shows.
        let phases = self.host.phases(&ended.stdout)?;
        ensure!(phases.len() == 1, "the work shows {phases:?}");
        let checks = self.checks.map(|script| check(windows, images, payload, script)).transpose()?;
        let lines = ended.stdout.lines().count();
        let payload = fs::metadata(payload)?.len();
        Ok(Measured { payload, accepted: self.accepted, apply_us, rollback_us, lines, checks })
    }
}

fn reasons(report: &Value) -> Vec<String> {
    let all = report["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |reason: &Value| {
        format!("`{}` ({}): {}", text(&reason["symbol"]), text(&reason["code"]), text(&reason["message"]))
    };
    all.iter().map(one).collect()
}

fn call(windows: &Hpgen, arguments: &[&str]) -> Result<Value> {
    let ended = windows.run(arguments)?;
    ensure!(ended.code == Some(0), "{ended}");
    ended.json()
}

fn apply(windows: &Hpgen, target: &Target, payload: &Path) -> Result<u64> {
    let (file, pid) = (wine::windows_path(payload), target.pid().to_string());
    let said = call(windows, &["apply", &file, "--pid", &pid, "--allow-unsigned", "--format", "json"])?;
    said["processes"][0]["images"][0]["stopped_us"].as_u64().with_context(|| format!("not applied: {said:#}"))
}

fn roll_back(windows: &Hpgen, target: &Target) -> Result<u64> {
    let said = call(windows, &["rollback", "--pid", &target.pid().to_string(), "--format", "json"])?;
    said["stopped_us"].as_u64().with_context(|| format!("not rolled back: {said:#}"))
}

/// Answers by the checks' names.
type Answers = BTreeMap<String, String>;

/// The old release patched answers as the new one does, and as the old one before and afterwards.
fn check(windows: &Hpgen, images: [&Path; 2], payload: &Path, script: &str) -> Result<Checks> {
    let script = wine::windows_path(&workspace::testdata().join("release_jump").join(script));
    let start = |image: &Path| {
        let stop_file = payload.with_extension("checked");
        let _ = fs::remove_file(&stop_file);
        let target = Target::start(image, [script.clone(), SECONDS.to_string(), wine::windows_path(&stop_file)])?;
        Ok::<_, anyhow::Error>((target, stop_file))
    };
    let (target, stop_file) = start(images[1])?;
    let new = next_round(&target)?;
    end(target, &stop_file)?;
    let (target, stop_file) = start(images[0])?;
    let old = next_round(&target)?;
    apply(windows, &target, payload)?;
    let patched = next_round(&target)?;
    roll_back(windows, &target)?;
    let back = next_round(&target)?;
    end(target, &stop_file)?;
    same("patched", &patched, &new)?;
    same("rolled back", &back, &old)?;
    let mended = new.iter().filter_map(|(name, answer)| {
        let before = old.get(name).filter(|before| *before != answer)?;
        Some([name.clone(), before.clone(), answer.clone()])
    });
    Ok(Checks { count: new.len(), mended: mended.collect() })
}

fn end(target: Target, stop_file: &Path) -> Result<()> {
    fs::write(stop_file, "")?;
    let ended = target.end()?;
    ensure!(ended.code == Some(0), "{ended}");
    Ok(())
}

fn same(state: &str, found: &Answers, wanted: &Answers) -> Result<()> {
    for (name, answer) in wanted {
        let got = found.get(name).map_or("nothing", String::as_str);
        ensure!(got == answer, "{state}, \"{name}\" gives {got:?}, not {answer:?}");
    }
    ensure!(
        !wanted.is_empty() && found.len() == wanted.len(),
        "{state}, {} answers, not {}",
        found.len(),
        wanted.len()
    );
    Ok(())
}

/// The answers of the first round that begins from now on.
fn next_round(target: &Target) -> Result<Answers> {
    let start = Instant::now();
    let is_end = |line: &String| line.starts_with("round ");
    let before = target.lines().iter().filter(|line| is_end(line)).count();
    // The round that runs now may have begun with other code; the first one of a program has not.
    let skipped = if target.lines().is_empty() { 0 } else { before + 1 };
    loop {
        let lines = target.lines();
        let ends: Vec<usize> = (0..lines.len()).filter(|index| lines.get(*index).is_some_and(is_end)).collect();
        if let Some(end) = ends.get(skipped) {
            let first = skipped.checked_sub(1).and_then(|index| ends.get(index)).map_or(0, |index| index + 1);
            let round = lines.get(first..*end).unwrap_or_default();
            let answer = |line: &String| {
                let (name, answer) = line.strip_prefix("check ")?.split_once(": ")?;
                Some((name.to_owned(), answer.trim_end().to_owned()))
            };
            return Ok(round.iter().filter_map(answer).collect());
        }
        ensure!(
            start.elapsed() < 2 * PATIENCE,
            "no whole round came; the last lines: {:?}",
            lines.iter().rev().take(3).collect::<Vec<_>>()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

impl Outcome {
    fn summary(&self) -> String {
        match &self.result {
            Went::Refused(reasons) => format!("{}: restart required, {} reasons", self.title, reasons.len()),
            Went::Live(measured) => format!("{}: patched live with {} bytes", self.title, measured.payload),
        }
    }

    fn row(&self) -> String {
        let Outcome { title, changed, added, unchanged, result } = self;
        let functions = format!("{changed} changed, {added} new, {unchanged} the same");
        let rest = match result {
            Went::Refused(_) => "restart required | | | |".to_owned(),
            Went::Live(Measured { payload, apply_us, rollback_us, lines, checks, .. }) => {
                let checks = checks.as_ref().map_or("none".to_owned(), |checks| {
                    format!(
                        "{} of {} answers as in the new release, {} mended",
                        checks.count,
                        checks.count,
                        checks.mended.len()
                    )
                });
                format!(
                    "hotpatchable | {payload} bytes | {apply_us} us, back {rollback_us} us | {lines} lines, none wrong; {checks} |"
                )
            }
        };
        format!("| {title} | {functions} | {rest}\n")
    }

    fn notes(&self) -> String {
        let mut text = format!("\n## {}\n", self.title);
        match &self.result {
            Went::Refused(reasons) => {
                text.push_str("Refused, since\n");
                reasons.iter().for_each(|reason| text.push_str(&format!("* {reason}\n")));
            }
            Went::Live(Measured { accepted, checks, .. }) => {
                if let Some((rule, why)) = accepted {
                    text.push_str(&format!("The author answers for `{rule}`: {why}.\n"));
                }
                for [name, old, new] in checks.iter().flat_map(|checks| &checks.mended) {
                    text.push_str(&format!("* {name}: `{old}` became `{new}`\n"));
                }
            }
        }
        text
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = "# Releases that running programs became\n\n\
        Written by `cargo xtask release-jump`; do not edit. Neighbouring releases of libraries, as packages of a registry bring them, each built with clang `-O2`\n\
        into a program of ours; hpgen sees images and PDBs. Live: the old release's program is patched at its work and goes on with it; then, at the\n\
        checks beside this file (what releases mended, and what must stay), it answers as the new release does, and after the rollback as the old one.\n\
        Measured under Wine, on a machine with other work.\n\n\
        | jump | functions | verdict | payload | stopped | live |\n|---|---|---|---|---|---|\n"
        .to_owned();
    outcomes.iter().for_each(|outcome| text.push_str(&outcome.row()));
    outcomes.iter().for_each(|outcome| text.push_str(&outcome.notes()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_counts() {
        let answers = |pairs: &[(&str, &str)]| -> Answers {
            pairs.iter().map(|(name, answer)| ((*name).to_owned(), (*answer).to_owned())).collect()
        };
        let wanted = answers(&[("a", "1"), ("b", "2")]);
        assert!(same("", &wanted, &wanted).is_ok());
        for wrong in
            [answers(&[("a", "1")]), answers(&[("a", "1"), ("b", "3")]), answers(&[("a", "1"), ("b", "2"), ("c", "")])]
        {
            assert!(same("", &wrong, &wanted).is_err());
        }
        assert!(same("", &Answers::new(), &Answers::new()).is_err());
    }
}
