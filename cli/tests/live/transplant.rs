//! Every function of a running program is replaced by that of another build: same source, another layout.

use std::fs;

use serde_json::Value;
use xtask::live::{Host, LUA, SQLITE, Target};
use xtask::suite::relinked;
use xtask::wine;

use crate::hosts::stop;
use crate::session::{Session, expect};

const SEEN: usize = 10;
const SECONDS: u32 = 120;

#[test]
fn lua() {
    transplant(&LUA, 500);
}

#[test]
fn sqlite() {
    transplant(&SQLITE, 1000);
}

/// At least `functions` are replaced while the program runs, and it goes on as if nothing had happened.
fn transplant(host: &Host, functions: usize) {
    let Some(session) = Session::start(&format!("transplant_{}", host.name)) else { return };
    let payload = session.build("all.hpx", &host.image("old"), &host.image("relinked"), &["--include", "all"]);
    let stop_file = session.file("stop");
    let target = Target::start(&host.image("old"), host.arguments(SECONDS, Some(&stop_file))).unwrap();
    let goes_on = |when: &str| target.wait_for_lines(when, SEEN, host.is_old).map(drop).unwrap();
    goes_on("the first steps");
    let process = session.apply(0, target.pid(), &payload);
    goes_on("steps of the transplanted program");
    let redirected = process["images"][0]["functions"].as_array().unwrap();
    assert!(redirected.len() >= functions, "{} functions", redirected.len());
    println!("{} functions, stopped for {} us", redirected.len(), process["images"][0]["stopped_us"]);
    session.roll_back(target.pid());
    goes_on("steps after the rollback");
    assert_eq!(session.applied(target.pid()), [] as [Value; 0]);
    stop(target, host, &stop_file, &[false]);
}

/// Panics that are caught, and destructors on their way, are a part of every few lines.
#[test]
fn rust() {
    replace_all("rust_host", 450, 99.0);
}

#[test]
fn cpp() {
    replace_all("cpp_host", 60, 99.0);
}

/// A program whose lines depend on nothing but their number is replaced as a whole while it runs: at least `functions` of it, and
/// at least this share in percent. It prints what it prints unpatched.
fn replace_all(name: &str, functions: usize, share: f64) {
    let Some(session) = Session::start(&format!("transplant_{name}")) else { return };
    let [old, relinked] = relinked::build(name).unwrap();
    let payload = session.file("all.hpx");
    let paths = [&old, &relinked].map(|path| path.to_str().unwrap());
    let arguments = ["build", "--include", "all", "--format", "json", "-o", payload.to_str().unwrap()];
    let built = session.authoring.run(arguments.iter().chain(&paths)).unwrap();
    expect(0, &built);
    let report = built.json().unwrap();
    let (all, left_out) = (&report["old"]["functions"], report["left_out"].as_array().unwrap());

    let stop_file = session.file("stop");
    let arguments = [SECONDS.to_string(), wine::windows_path(&stop_file)];
    let unpatched = Target::start(&relinked, &arguments).unwrap();
    let target = Target::start(&old, &arguments).unwrap();
    let goes_on = |when: &str| target.wait_for_lines(when, SEEN, |line| line.starts_with("seq ")).map(drop).unwrap();
    goes_on("the first steps");
    let process = session.apply(0, target.pid(), &payload);
    let redirected = process["patch"]["functions"].as_array().unwrap().len();
    target.wait_for_lines("steps of the transplanted program", 10 * SEEN, |_| true).unwrap();
    session.roll_back(target.pid());
    goes_on("steps after the rollback");
    assert_eq!(session.applied(target.pid()), [] as [Value; 0]);
    fs::write(&stop_file, "").unwrap();
    let ended = [target, unpatched].map(|target| target.end().unwrap());
    println!("{redirected} of {all} functions, stopped for {} us", process["patch"]["stopped_us"]);
    for reason in left_out {
        println!("left out: {reason}");
    }
    let [patched, plain] = ended.map(|ended| {
        expect(0, &ended);
        // The last line says how far it came.
        ended.stdout.lines().take_while(|line| line.starts_with("seq ")).map(str::to_owned).collect::<Vec<_>>()
    });
    assert!(patched.len() >= 12 * SEEN, "{} lines", patched.len());
    for (line, expected) in patched.iter().zip(&plain) {
        assert_eq!(line, expected);
    }
    assert!(redirected >= functions, "{redirected} functions");
    let reached = 100.0 * redirected as f64 / (redirected + left_out.len()) as f64;
    assert!(reached >= share, "{reached:.2} % of the functions: {left_out:#?}");
}
