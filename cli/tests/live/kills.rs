//! `hpgen apply` and `rollback`, killed at any moment. `HPGEN_KILLS` says how often.

use std::path::Path;
use std::time::{Duration, Instant};

use xtask::child::Running;
use xtask::live::{LUA, Target};
use xtask::wine;

use crate::session::Session;

const KILLS: u32 = 2;
/// Lines of output that show that the program goes on.
const SEEN: usize = 2;
const SECONDS: u32 = 3600;

/// What a killed hpgen left, each so often.
#[derive(Debug, Default)]
struct Left {
    untouched: u32,
    prepared: u32,
    interrupted: u32,
    applied: u32,
}

/// How long a call takes that is not killed.
struct Times {
    apply: Duration,
    rollback: Duration,
}

#[test]
fn whenever_it_is_killed_the_process_is_as_before_or_after() {
    let Some(session) = Session::start("kills") else { return };
    let kills = std::env::var("HPGEN_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let (old, new) = (LUA.image("old"), LUA.image("new"));
    // All functions, so that the change takes its time.
    let payload = session.build("all.hpx", &old, &new, &["--include", "all"]);
    let stop_file = session.file("stop");
    let target = Target::start(&old, LUA.arguments(SECONDS, Some(&stop_file))).unwrap();
    target.wait_for_lines("the baseline", SEEN, |_| true).unwrap();
    let pid = target.pid();
    let times = measure(&session, pid, &payload);
    let mut left = Left::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Loading hpgen takes the first part.
        let share = 0.4 + 0.7 * ((random >> 40) as f64 / f64::from(1 << 24));
        kill(&session, &apply(pid, &payload), times.apply.mul_f64(share));
        let was_applied = settle(&session, &target, &mut left);
        if was_applied {
            kill(&session, &rollback(pid), times.rollback.mul_f64(share));
            if settle(&session, &target, &mut left) {
                session.roll_back(pid);
            }
        }
        assert!(session.applied(pid).is_empty(), "round {round}");
    }
    println!("{kills} rounds left {left:?}");
    std::fs::write(&stop_file, "").unwrap();
    let ended = target.end().unwrap();
    // Every line, patched or not, and none is missing.
    LUA.phases(&ended.stdout).unwrap();
}

fn apply(pid: u32, payload: &Path) -> Vec<String> {
    ["apply", &wine::windows_path(payload), "--pid", &pid.to_string(), "--allow-unsigned"].map(str::to_owned).to_vec()
}

fn rollback(pid: u32) -> Vec<String> {
    ["rollback", "--pid", &pid.to_string()].map(str::to_owned).to_vec()
}

fn measure(session: &Session, pid: u32, payload: &Path) -> Times {
    let time = |arguments: Vec<String>| {
        let start = Instant::now();
        session.call(0, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        start.elapsed()
    };
    // The first call starts more than itself.
    session.status(pid);
    let apply = time(apply(pid, payload));
    Times { apply, rollback: time(rollback(pid)) }
}

/// Starts a call and kills it after so long.
fn kill(session: &Session, arguments: &[String], after: Duration) {
    let running = Running::start(&mut session.windows.command(arguments)).unwrap();
    std::thread::sleep(after);
    drop(running);
}

/// Finds out what the killed call left, mends it, and sees the program go on. Whether the patch is in.
fn settle(session: &Session, target: &Target, left: &mut Left) -> bool {
    let pid = target.pid().to_string();
    let json = session.call(0, &["status", "--pid", &pid, "--format", "json"]).json().unwrap();
    let has = |state: &str| json["patches"].as_array().unwrap().iter().any(|patch| patch["state"] == state);
    let count = match json["interrupted"].as_bool().unwrap() {
        true => &mut left.interrupted,
        false if has("applied") => &mut left.applied,
        false if has("prepared") => &mut left.prepared,
        false => &mut left.untouched,
    };
    *count += 1;
    if json["interrupted"] == true {
        session.call(5, &["rollback", "--pid", &pid]);
    }
    session.call(0, &["rollback", "--repair", "--pid", &pid]);
    target.wait_for_lines("the program goes on", SEEN, |_| true).unwrap();
    let applied = session.applied(target.pid());
    for patch in &applied {
        let functions = patch["functions"].as_array().unwrap();
        assert!(functions.iter().all(|function| function["redirected"] == true), "half applied");
    }
    !applied.is_empty()
}
