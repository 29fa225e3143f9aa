//! What is recorded of what is done to a process.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xtask::live::Target;
use xtask::{wine, workspace};

use crate::schemas;
use crate::session::Session;

const SEEN: usize = 5;
const MANY_ROUNDS: &str = "100000";

/// The lines of a record: event, action, and whether an error is told.
fn recorded(path: &Path) -> Vec<(Value, String)> {
    let lines = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["schema"], "hpgen-event/1");
        schemas::check(&value);
        assert!(value["time"].as_str().unwrap().ends_with('Z'), "{value}");
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let what = format!("{} {}", text("action"), text("event"));
        (value, what)
    };
    lines.lines().map(line).collect()
}

#[test]
fn every_attempt_and_its_end_is_recorded() {
    let Some(session) = Session::start("events") else { return };
    let (old, new) = (workspace::fixture("constant", "old"), workspace::fixture("constant", "new"));
    let payload = session.build("fix.hpx", &old, &new, &["--series", "3"]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    target.wait_for_lines("the baseline", SEEN, |_| true).unwrap();
    let pid = target.pid().to_string();
    let record = session.file("record/events.jsonl");
    let events = wine::windows_path(&record);
    let file = wine::windows_path(&payload);
    let apply = ["apply", &file, "--pid", &pid, "--events", &events];
    let call = |code: i32, arguments: &[&str]| session.call(code, arguments);

    call(5, &apply);
    call(0, &[&apply[..], &["--allow-unsigned"]].concat());
    call(5, &[&apply[..], &["--allow-unsigned"]].concat());
    call(0, &["rollback", "--pid", &pid, "--events", &events]);
    call(1, &["rollback", "--pid", &pid, "--events", &events]);
    // No record where none is wanted.
    call(1, &["rollback", "--pid", &pid, "--events", "none"]);

    let lines = recorded(&record);
    let what: Vec<&str> = lines.iter().map(|(_, what)| what.as_str()).collect();
    let apply_done = ["apply attempt", "apply done", "apply attempt", "apply refused"];
    let rollback_done = ["rollback attempt", "rollback done", "rollback attempt", "rollback failed"];
    assert_eq!(what, [&["accept refused"], &apply_done[..], &rollback_done[..]].concat());
    let [(unsigned, _), (attempt, _), (done, _), _, (again, _), _, (back, _), _, (nothing, _)] = &lines[..] else {
        panic!("nine lines");
    };
    assert!(unsigned["error"].as_str().unwrap().contains("not signed"), "{unsigned}");
    assert_eq!((&attempt["pid"], &attempt["series"]), (&Value::from(target.pid()), &Value::from(3)));
    assert_eq!((&attempt["images"], &attempt["patch"]), (&"old.exe".into(), &back["patch"]));
    assert_eq!((&done["functions"], &back["functions"]), (&1.into(), &1.into()));
    assert!(done["stopped_us"].as_u64().unwrap() > 0 && done["threads"] == 1, "{done}");
    assert!(again["error"].as_str().unwrap().contains("already applied"), "{again}");
    assert_eq!(back["region"], "freed");
    assert!(nothing["error"].as_str().unwrap().contains("no hpgen patch"), "{nothing}");
}

/// Wine shows what goes to the Event Log where it is asked to.
#[test]
#[cfg(not(windows))]
fn the_system_log_gets_the_same() {
    let Some(session) = Session::start("event_log") else { return };
    let target = Target::start(&workspace::fixture("constant", "old"), [MANY_ROUNDS]).unwrap();
    let pid = target.pid().to_string();
    let mut command = session.windows.command(["rollback", "--pid", &pid]);
    let ended = xtask::child::run(command.env("WINEDEBUG", "+eventlog"), xtask::live::PATIENCE).unwrap();
    crate::session::expect(1, &ended);
    let logged = |severity: &str, event: &str| {
        let is_it = |line: &&str| line.contains(severity) && line.contains("ReportEventW") && line.contains(event);
        ended.stderr.lines().filter(is_it).count()
    };
    assert_eq!(logged("trace:", "attempt"), 1, "{ended}");
    assert_eq!(logged("err:", "failed"), 1, "{ended}");
}
