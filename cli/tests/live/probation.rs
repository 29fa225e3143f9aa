//! Patches on probation: health checks, exceptions that nobody handles, and what becomes of the patch.
#![cfg(not(windows))]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::child::Running;
use xtask::live::{PATIENCE, Target};
use xtask::wine;

use crate::compile::compile_text;
use crate::schemas;
use crate::session::Session;

const SEEN: usize = 5;
const MANY_ROUNDS: &str = "100000";

/// The fee is the round plus 7, in the fixed builds plus 9. Two of these are not as good as they seem: after some calls one breaks what the
/// program's own test looks at, the other writes where nothing is, in processes that are called fragile.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
void __stdcall Sleep(unsigned);
int broken, fragile;
__declspec(dllexport) __attribute__((noinline)) int self_test(void) { return broken; }
#if defined(BREAKS) || defined(CRASHES)
static int calls;
#endif
__attribute__((noinline)) int fee(int round) {
#if defined(BREAKS)
    if (++calls == 50) broken = 3;
#elif defined(CRASHES)
    if (fragile && ++calls == 50) *(volatile int *)16 = 1;
#endif
#ifdef FIXED
    return round + 9;
#else
    return round + 7;
#endif
}
#ifdef FIXED
int brought_check(void) { return fee(1) == 10 ? 0 : 4; }
#endif
int main(int count, char **arguments) {
    int rounds = atoi(arguments[1]);
    fragile = count > 2;
    for (int round = 1; round <= rounds; round++) {
        printf("fee %d\n", fee(round));
        fflush(stdout);
        Sleep(10);
    }
}
"#;

/// A build of the program, in a folder of its own. Each test calls it by another name, by which a watch finds it.
fn compile(session: &Session, name: &str, variant: &str, flags: &[&str]) -> PathBuf {
    let folder = session.file(variant);
    fs::create_dir_all(&folder).unwrap();
    let pdb = format!("-Wl,--pdb={}", folder.join(name).with_extension("pdb").display());
    compile_text(&folder, name, PROGRAM, &[&["-g", "-gcodeview", &pdb], flags].concat())
}

fn start(image: &Path, arguments: &[&str]) -> Target {
    let target = Target::start(image, [&[MANY_ROUNDS], arguments].concat()).unwrap();
    sees(&target, "the baseline", false);
    target
}

/// The last line is that of the fix, or of the baseline.
fn sees(target: &Target, what: &str, fixed: bool) {
    let lines = target.wait_for_lines(what, SEEN, |line| line.starts_with("fee ")).unwrap();
    // The round is the number of the line.
    assert_eq!(lines.last(), Some(&format!("fee {}", lines.len() + if fixed { 9 } else { 7 })), "{what}");
}

/// Applies, and gives what is said of the process.
fn apply(session: &Session, code: i32, pid: u32, payload: &Path, flags: &[&str]) -> Value {
    let (file, pid) = (wine::windows_path(payload), pid.to_string());
    let arguments = ["apply", &file, "--pid", &pid, "--allow-unsigned", "--format", "json"];
    let json = session.call(code, &[&arguments, flags].concat()).json().unwrap();
    schemas::check(&json);
    json["processes"][0].clone()
}

/// What the record says of probations.
fn recorded(record: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(record).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let probations = lines.inspect(schemas::check).filter(|line| line["action"] == "probation");
    let told = |line: Value| {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (text("event"), text("error"))
    };
    probations.map(told).collect()
}

#[test]
fn a_failing_health_check_rolls_the_patch_back() {
    let Some(session) = Session::start("probation_check") else { return };
    let (old, new) = (
        compile(&session, "breaking_fees.exe", "old", &[]),
        compile(&session, "breaking_fees.exe", "breaks", &["-DFIXED", "-DBREAKS"]),
    );
    let flags = ["--health-check", "self_test", "--probation", "60s", "--probation-interval", "100ms"];
    let payload = session.build("breaks.hpx", &old, &new, &flags);
    let target = start(&old, &[]);
    let record = session.file("events.jsonl");
    let process = apply(&session, 5, target.pid(), &payload, &["--events", &wine::windows_path(&record)]);
    assert_eq!((&process["applied"], &process["probation"]["end"]), (&true.into(), &"failed".into()), "{process:#}");
    assert!(process["probation"]["why"].as_str().unwrap().ends_with(" returned 3"), "{process:#}");
    sees(&target, "the baseline again", false);
    assert!(target.lines().iter().enumerate().any(|(index, line)| *line == format!("fee {}", index + 10)));
    assert_eq!(session.applied(target.pid()), [] as [Value; 0]);
    let recorded = recorded(&record);
    assert!(matches!(&recorded[..], [(event, _)] if event == "probation-failed"), "{recorded:?}");
}

#[test]
fn a_patch_passes_its_probation() {
    let Some(session) = Session::start("probation_passed") else { return };
    let (old, new) = (compile(&session, "fees.exe", "old", &[]), compile(&session, "fees.exe", "new", &["-DFIXED"]));
    let flags = ["--health-check", "brought_check", "--probation", "6s", "--probation-interval", "100ms"];
    let payload = session.build("fix.hpx", &old, &new, &flags);
    let target = start(&old, &[]);
    let (pid, file) = (target.pid().to_string(), wine::windows_path(&payload));
    let record = session.file("events.jsonl");
    let events = wine::windows_path(&record);
    let arguments = ["apply", &file, "--pid", &pid, "--allow-unsigned", "--events", &events];
    let watching = Running::start(&mut session.windows.command(arguments)).unwrap();
    watching.wait_for("the word that it is watched", PATIENCE, |lines| lines.len() >= 2).unwrap();
    assert!(session.applied(target.pid())[0]["probation_until"].as_u64().is_some(), "on probation");
    watching
        .wait_for("the end", PATIENCE, |lines| lines.last().is_some_and(|line| line.starts_with("passed")))
        .unwrap();
    drop(watching);
    sees(&target, "the fix", true);
    let applied = session.applied(target.pid());
    assert!(applied[0]["probation_until"].is_null(), "{applied:?}");
    assert_eq!(recorded(&record), [("probation-passed".to_owned(), String::new())]);
    session.roll_back(target.pid());

    // Who does not stay does not know.
    let process = apply(&session, 0, target.pid(), &payload, &["--detach"]);
    assert_eq!(process["probation"]["end"], "unwatched", "{process:#}");
    assert!(session.applied(target.pid())[0]["probation_until"].as_u64().is_some());
}

/// `run` looks after the patch as long as the program runs: it goes on as the baseline, or has stood it, or ends by itself.
#[test]
fn run_watches_the_patch_of_its_program() {
    let Some(session) = Session::start("probation_run") else { return };
    let build = |variant: &str, flags: &[&str]| compile(&session, "run_fees.exe", variant, flags);
    let (old, breaks) = (build("old", &[]), build("breaks", &["-DFIXED", "-DBREAKS"]));
    let fixed = build("new", &["-DFIXED"]);
    let flags = |window| ["--health-check", "self_test", "--probation", window, "--probation-interval", "100ms"];
    let run = |payload: &Path, rounds: &str, record: &Path| {
        let (file, record) = (wine::windows_path(payload), wine::windows_path(record));
        let program = wine::windows_path(&old);
        let arguments = ["run", "--patch", &file, "--allow-unsigned", "--events", &record, "--", &program, rounds];
        session.call(0, &arguments)
    };
    let fee = |line: &str| line.strip_prefix("fee ").and_then(|fee| fee.parse::<usize>().ok()).unwrap();
    let added = |stdout: &str| -> Vec<usize> {
        stdout.lines().enumerate().map(|(index, line)| fee(line) - index - 1).collect()
    };
    // Bad after 50 rounds.
    let record = session.file("failed.jsonl");
    let ended = run(&session.build("breaks.hpx", &old, &breaks, &flags("60s")), "400", &record);
    let seen = added(&ended.stdout);
    assert_eq!((seen.len(), seen.first(), seen.last()), (400, Some(&9), Some(&7)), "{ended}");
    let said = ended.stderr.trim_end();
    assert!(said.starts_with("probation failed: the health check ") && said.ends_with(" returned 3"), "{ended}");
    assert!(matches!(&recorded(&record)[..], [(event, _)] if event == "probation-failed"));
    // Good, for longer than the window and for less.
    for (window, recorded_event) in [("1s", "probation-passed"), ("60s", "probation-ended")] {
        let record = session.file(&format!("{window}.jsonl"));
        let ended = run(&session.build("fix.hpx", &old, &fixed, &flags(window)), "300", &record);
        assert_eq!(added(&ended.stdout), [9; 300], "{ended}");
        assert_eq!(ended.stderr, "");
        let events = recorded(&record);
        assert!(matches!(&events[..], [(event, _)] if event == recorded_event), "{events:?}");
    }
}

#[test]
fn a_crash_in_new_code_keeps_it_out_of_all_processes() {
    let Some(session) = Session::start("probation_crash") else { return };
    let (old, new) = (
        compile(&session, "crashing_fees.exe", "old", &[]),
        compile(&session, "crashing_fees.exe", "crashes", &["-DFIXED", "-DCRASHES"]),
    );
    let folder = session.file("payloads");
    fs::create_dir_all(&folder).unwrap();
    let payload = session.build("crashes.hpx", &old, &new, &["--probation", "120s"]);
    let (sound, fragile) = (start(&old, &[]), start(&old, &["fragile"]));
    fs::copy(payload, folder.join("crashes.hpx")).unwrap();
    let record = session.file("events.jsonl");
    let watch = || {
        let (folder, events) = (wine::windows_path(&folder), wine::windows_path(&record));
        let arguments =
            ["watch", &folder, "--allow-unsigned", "--format", "json", "--interval", "1", "--events", &events];
        Running::start(&mut session.windows.command(arguments)).unwrap()
    };
    let known = |lines: &[String]| -> Vec<(Value, Value)> {
        let line = |line: &String| serde_json::from_str::<Value>(line).unwrap();
        lines
            .iter()
            .map(line)
            .inspect(schemas::check)
            .map(|line| (line["pid"].clone(), line["known"].clone()))
            .collect()
    };
    let failed = |target: &Target| (Value::from(target.pid()), Value::from("failed"));
    let first = watch();
    first.wait_for("both", PATIENCE, |lines| lines.len() >= 2).unwrap();
    sees(&sound, "the fix, while it seems to be one", true);
    let (crashed, kept) = (failed(&fragile), failed(&sound));
    let told = first
        .wait_for("the failure", PATIENCE, |lines| known(lines).contains(&crashed) && known(lines).contains(&kept));
    told.unwrap();
    sees(&sound, "the baseline again", false);
    assert_eq!(session.applied(sound.pid()), [] as [Value; 0]);
    let ended = fragile.end().unwrap();
    assert_ne!(ended.code, Some(0), "{ended}");

    // Neither does a later process get it, nor one after the watch began anew.
    let second = start(&old, &["fragile"]);
    first.wait_for("the second process", PATIENCE, |lines| known(lines).contains(&failed(&second))).unwrap();
    drop(first);
    let again = watch();
    let third = start(&old, &["fragile"]);
    again.wait_for("the third process", PATIENCE, |lines| known(lines).contains(&failed(&third))).unwrap();
    sees(&third, "the baseline", false);
    assert_eq!(session.status(third.pid()), [] as [Value; 0]);
    let recorded = recorded(&record);
    let [(event, why)] = &recorded[..] else { panic!("{recorded:?}") };
    assert_eq!(event, "probation-failed");
    assert!(why.contains("0xc0000005") && why.contains("runs fee of the patch"), "{why}");
}
