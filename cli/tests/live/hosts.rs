//! Lua and SQLite, patched in the middle of their work, and back.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xtask::live::{Host, LUA, SQLITE, Target};

use crate::session::{Session, expect};

/// Lines that have to show a behaviour before it is believed; about 20 ms each.
const SEEN: usize = 10;
/// How long a program runs if the test fails and nobody stops it.
const SECONDS: u32 = 120;

#[test]
fn lua() {
    there_and_back(&LUA);
}

#[test]
fn sqlite() {
    there_and_back(&SQLITE);
}

fn there_and_back(host: &Host) {
    let Some(session) = Session::start(host.name) else { return };
    let payload = session.build("fix.hpx", &host.image("old"), &host.image("new"), &[]);
    let stop_file = session.file("stop");
    let target = Target::start(&host.image("old"), host.arguments(SECONDS, Some(&stop_file))).unwrap();
    let pid = target.pid();
    let sees_old = |when: &str| target.wait_for_lines(when, SEEN, host.is_old).map(drop).unwrap();
    let sees_fix = |when: &str| target.wait_for_lines(when, SEEN, host.is_fixed).map(drop).unwrap();
    sees_old("the baseline's behaviour");
    assert_eq!(session.status(pid), [] as [Value; 0]);

    // In, and it shows.
    let process = session.apply(0, pid, &payload);
    sees_fix("the fixed behaviour");
    let status = session.status(pid);
    assert_eq!(status, [process["images"][0].clone()]);
    check_status(host, &status[0]);

    // A second time: refused, and nothing is touched.
    session.apply(5, pid, &payload);
    assert_eq!(session.status(pid), status);
    sees_fix("the fixed behaviour after a refused payload");

    // Out, and it shows.
    let done = session.roll_back(pid);
    assert_eq!(done["functions"], 2, "{done:#}");
    sees_old("the baseline's behaviour after the rollback");
    assert_eq!(session.applied(pid), [] as [Value; 0]);
    // An id that the process does not have is an error in what was given.
    session.call(1, &["rollback", "--pid", &pid.to_string(), "--patch", "0123456789abcdef"]);

    // And the same again.
    session.apply(0, pid, &payload);
    sees_fix("the fixed behaviour, applied again");
    session.roll_back(pid);
    sees_old("the baseline's behaviour after the second rollback");

    stop(target, host, &stop_file, &[false, true, false, true, false]);
}

/// Lets a program end, and proves from its output that it lost nothing while it was patched: `fixed` says in which phases the fix shows.
pub fn stop(target: Target, host: &Host, stop_file: &Path, fixed: &[bool]) {
    fs::write(stop_file, "").unwrap();
    let ended = target.end().unwrap();
    expect(0, &ended);
    let phases = host.phases(&ended.stdout).unwrap();
    assert_eq!(phases.iter().map(|(fixed, _)| *fixed).collect::<Vec<_>>(), fixed, "{phases:?}");
    assert!(phases.iter().all(|(_, lines)| *lines >= SEEN), "{phases:?}");
}

fn check_status(host: &Host, patch: &Value) {
    assert_eq!(patch["state"], "applied", "{patch:#}");
    assert_eq!(patch["image"], format!("{}.exe", host.name), "{patch:#}");
    let functions = patch["functions"].as_array().unwrap();
    assert_eq!(functions.len(), 2, "{patch:#}");
    assert!(functions.iter().all(|function| function["redirected"] == true), "{patch:#}");
}
