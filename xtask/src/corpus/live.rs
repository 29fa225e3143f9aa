//! The proof: a driver that runs shows the vulnerable behaviour, then the fixed one, then the vulnerable one again, and
//! everything else that it does with the library gives the same all the time.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::manifest::Live;
use super::outcome::{Measured, Stops};
use crate::child::{self, Ended};
use crate::live::{Hpgen, PATIENCE, Target};
use crate::wine;

/// Lines that have to show a behaviour, one after the other, before it is believed; about 20 ms each.
const SEEN: usize = 15;

/// How long hpgen may wait for a moment in which none of the functions runs: on a machine with other work each look takes long, and
/// some drivers are hardly ever between two steps.
const PATIENCE_MS: &str = "45000";

/// How long a driver runs if nobody stops it.
const SECONDS: &str = "180";

/// A line of a driver.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    seq: usize,
    regression: &'a str,
    probe: &'a str,
}

/// What a driver shows that is given no input of a fix: the same, patched or not.
const NO_PROBE: &str = "none";

/// Patches a running baseline, and takes it back. Without a `live`, what is proven is that everything that the driver does
/// with the library gives the same with the payload as without, and the same as in the fixed build. `at_once`: all functions are
/// switched in a moment when none of them runs.
pub fn prove(hpgen: &Hpgen, folder: &Path, live: Option<&Live>, at_once: bool) -> Result<Measured> {
    let same = || Live { probe: NO_PROBE.into(), vulnerable: NO_PROBE.into(), fixed: NO_PROBE.into() };
    let live = live.cloned().unwrap_or_else(same);
    let (old, new, payload) = (folder.join("old.exe"), folder.join("new.exe"), folder.join("fix.hpx"));
    // What both builds do by themselves, before anything is said of the patched process.
    let fixed = alone(&new, &live)?;
    let regression = fixed_regression(&fixed, &live)?;
    let difference = compare_unpatched(&alone(&old, &live)?, &fixed, &live)?;
    let live = &match difference {
        Shown::Fix => live,
        Shown::Nothing => Live { vulnerable: live.fixed.clone(), ..live },
    };

    let stop_file = folder.join("stop");
    if stop_file.exists() {
        fs::remove_file(&stop_file)?;
    }
    let target = Target::start(&old, [live.probe.as_str(), &wine::windows_path(&stop_file), SECONDS])?;
    let shows = |wanted: &str| {
        let (wanted, regression) = (wanted.to_owned(), regression.clone());
        move |line: &str| read(line).is_some_and(|line| line.probe == wanted && line.regression == regression)
    };
    target.wait_for_lines("the vulnerable behaviour", SEEN, shows(&live.vulnerable))?;
    let pid = target.pid().to_string();
    let moment: &[&str] = if at_once { &["--consistency", "quiescent", "--patience", PATIENCE_MS] } else { &[] };
    let apply = ["apply", &wine::windows_path(&payload), "--pid", &pid, "--allow-unsigned", "--format", "json"];
    let applied = call(hpgen, &[&apply, moment].concat())?;
    let before = target.lines().len();
    target.wait_for_lines("the fixed behaviour", SEEN, shows(&live.fixed))?;
    check_status(&call(hpgen, &["status", "--pid", &pid, "--format", "json"])?)?;
    let rolled_back = call(hpgen, &[&["rollback", "--pid", &pid, "--format", "json"], moment].concat())?;
    let patched = target.lines().len();
    target.wait_for_lines("the vulnerable behaviour after the rollback", SEEN, shows(&live.vulnerable))?;
    fs::write(&stop_file, "")?;
    let ended = target.end()?;
    let seen = check_lines(&ended, &regression)?;
    let lines = if live.vulnerable == live.fixed {
        ensure!(seen.iter().all(|probe| *probe == live.fixed), "the driver showed {seen:?}");
        [before, patched - before, seen.len() - patched]
    } else {
        phases(&seen, live)?
    };
    let stops = Stops {
        apply_us: number(&applied["processes"][0]["images"][0]["stopped_us"])?,
        rollback_us: number(&rolled_back["stopped_us"])?,
        lines,
    };
    Ok(Measured { shows_nothing: difference == Shown::Nothing, stops: Some(stops) })
}

/// What a probe shows of two builds that nobody patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// What the manifest says.
    Fix,
    /// The same in both: compiled in this way, the baseline does not show its fault.
    Nothing,
}

/// Runs a build by itself for a second.
fn alone(program: &Path, live: &Live) -> Result<Ended> {
    child::run(wine::command(program).args([live.probe.as_str(), "no-stop-file", "1"]), PATIENCE)
}

/// Whether the two builds differ in what the probe shows, line by line of both: a payload has no part in that, so that one that does
/// nothing cannot pass for a fault that does not show. A baseline that shows it now and then is neither.
fn compare_unpatched(old: &Ended, new: &Ended, live: &Live) -> Result<Shown> {
    let all = |ended: &Ended, wanted: &str| {
        let mut lines = ended.stdout.lines().filter_map(read).peekable();
        ended.code == Some(0) && lines.peek().is_some() && lines.all(|line| line.probe == wanted)
    };
    ensure!(all(new, &live.fixed), "the fixed build does not show its fix all the time: {new}");
    match (all(old, &live.vulnerable), all(old, &live.fixed)) {
        (true, _) => Ok(Shown::Fix),
        (_, true) => Ok(Shown::Nothing),
        _ => bail!("the baseline shows neither its fault nor the fixed behaviour all the time: {old}"),
    }
}

/// The fixed build's probe must show what the manifest says. Returns its checksum over all the rest.
fn fixed_regression(ended: &Ended, live: &Live) -> Result<String> {
    let line = ended.stdout.lines().next().and_then(read).with_context(|| format!("the fixed build: {ended}"))?;
    ensure!(ended.code == Some(0) && line.probe == live.fixed, "the fixed build does not show its fix: {ended}");
    Ok(line.regression.to_owned())
}

fn check_status(status: &Value) -> Result<()> {
    let patch = &status["patches"][0];
    let functions = patch["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(
        patch["state"] == "applied"
            && !functions.is_empty()
            && functions.iter().all(|function| function["redirected"] == true),
        "every function should be redirected: {status:#}"
    );
    Ok(())
}

/// The driver did every step once, with the right result. Returns what it showed of its input in each.
fn check_lines<'a>(ended: &'a Ended, regression: &str) -> Result<Vec<&'a str>> {
    ensure!(ended.code == Some(0), "the driver should end with exit code 0: {ended}");
    let mut seen = Vec::new();
    for text in ended.stdout.lines() {
        let Some(line) = read(text) else {
            ensure!(text == format!("done {}", seen.len()), "this is no line of a driver: {text:?}");
            continue;
        };
        ensure!(line.seq == seen.len() + 1, "step {} is missing: {text:?}", seen.len() + 1);
        ensure!(line.regression == regression, "another result than that of the fixed build: {text:?}");
        seen.push(line.probe);
    }
    Ok(seen)
}

/// Old, fixed and old behaviour were shown, in this order. Returns how often each.
fn phases(seen: &[&str], live: &Live) -> Result<[usize; 3]> {
    let wanted = [&live.vulnerable, &live.fixed, &live.vulnerable];
    let mut counts = [0; 3];
    let mut phase = 0;
    for (step, probe) in seen.iter().enumerate() {
        if probe != wanted[phase] && phase < 2 {
            phase += 1;
        }
        ensure!(probe == wanted[phase], "{:?} was to be shown in step {}: {probe:?}", wanted[phase], step + 1);
        counts[phase] += 1;
    }
    ensure!(phase == 2 && counts[0] > 0, "the behaviour changed {phase} times, not twice from the vulnerable one on");
    Ok(counts)
}

fn read(line: &str) -> Option<Line<'_>> {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["seq", seq, "regression", regression, "probe", probe] => {
            Some(Line { seq: seq.parse().ok()?, regression, probe })
        }
        _ => None,
    }
}

fn call(hpgen: &Hpgen, arguments: &[&str]) -> Result<Value> {
    let ended = hpgen.run(arguments)?;
    ensure!(ended.code == Some(0), "hpgen {} should succeed: {ended}", arguments.join(" "));
    ended.json()
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("hpgen's output has {value} where a number should be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(probes: &[&str]) -> Ended {
        let lines =
            probes.iter().enumerate().map(|(at, probe)| format!("seq {} regression f00 probe {probe}\n", at + 1));
        let stdout = format!("{}done {}\n", lines.collect::<String>(), probes.len());
        Ended { code: Some(0), stdout, stderr: String::new() }
    }

    fn count(probes: &[&str]) -> Option<[usize; 3]> {
        let live = Live { probe: "p".into(), vulnerable: "bad".into(), fixed: "good".into() };
        phases(&check_lines(&ended(probes), "f00").ok()?, &live).ok()
    }

    #[test]
    fn counts_old_fixed_and_old_lines() {
        assert_eq!(count(&["bad", "bad", "good", "bad"]), Some([2, 1, 1]));
    }

    #[test]
    fn takes_no_other_order_and_no_other_word() {
        assert_eq!(count(&["bad", "good"]), None);
        assert_eq!(count(&["good", "bad"]), None);
        assert_eq!(count(&["bad", "ugly", "good", "bad"]), None);
        assert_eq!(count(&["bad", "good", "bad", "good"]), None);
    }

    fn unpatched(old: &[&str], new: &[&str]) -> Option<Shown> {
        let live = Live { probe: "p".into(), vulnerable: "bad".into(), fixed: "good".into() };
        compare_unpatched(&ended(old), &ended(new), &live).ok()
    }

    #[test]
    fn a_fault_that_does_not_show_is_told_from_both_builds() {
        assert_eq!(unpatched(&["bad", "bad"], &["good", "good"]), Some(Shown::Fix));
        assert_eq!(unpatched(&["good", "good"], &["good", "good"]), Some(Shown::Nothing));
        assert_eq!(unpatched(&["good", "bad"], &["good", "good"]), None, "now and then");
        assert_eq!(unpatched(&["ugly", "ugly"], &["good", "good"]), None);
        assert_eq!(unpatched(&["bad", "bad"], &["bad", "bad"]), None, "no fix");
        assert_eq!(unpatched(&[], &["good"]), None);
    }

    #[test]
    fn takes_no_other_checksum_and_no_gap() {
        assert!(check_lines(&ended(&["bad", "good", "bad"]), "bad").is_err());
        let mut gap = ended(&["bad", "good", "bad"]);
        gap.stdout = gap.stdout.replace("seq 2", "seq 3");
        assert!(check_lines(&gap, "f00").is_err());
    }
}
