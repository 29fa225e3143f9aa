//! Every function of a running program is replaced by that of another build: same source, another layout.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use xtask::live::{Host, LUA, SQLITE, Target};
use xtask::suite::relinked;
use xtask::wine;

use crate::hosts::stop;
use crate::session::{Session, expect};

const SEEN: usize = 10;
const SECONDS: u32 = 240;

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
/// at least this share in percent. It prints what it prints unpatched. So it does when every other function is replaced: then
/// panics and exceptions go from old code to new, from new code to old, and through frames of both on their way.
fn replace_all(name: &str, functions: usize, share: f64) {
    let Some(session) = Session::start(&format!("transplant_{name}")) else { return };
    let images = relinked::build(name).unwrap();
    let (all, report) = author(&session, "all.hpx", &images, "all");
    let left_out = report["left_out"].as_array().unwrap();

    let stop_file = session.file("stop");
    let arguments = [SECONDS.to_string(), wine::windows_path(&stop_file)];
    let [unpatched, target] = [&images[1], &images[0]].map(|image| Target::start(image, &arguments).unwrap());
    let steps = |when: &str, count| target.wait_for_lines(when, count, |_| true).map(drop).unwrap();
    steps("the first steps", SEEN);
    let patch = session.apply(0, target.pid(), &all)["images"][0].clone();
    steps("steps of the transplanted program", 10 * SEEN);
    session.roll_back(target.pid());
    steps("steps after the rollback", SEEN);
    assert_eq!(session.applied(target.pid()), [] as [Value; 0]);
    let replaced: Vec<&str> =
        patch["functions"].as_array().unwrap().iter().map(|function| function["name"].as_str().unwrap()).collect();

    // Those that the command line can name.
    let some: Vec<&str> = replaced.iter().copied().filter(|name| !name.contains(',')).step_by(2).collect();
    let (half, _) = author(&session, "half.hpx", &images, &some.join(","));
    let half = session.apply(0, target.pid(), &half)["images"][0]["functions"].as_array().unwrap().len();
    assert!(half >= replaced.len() / 4, "{half} of {}", replaced.len());
    steps("steps of the program half of which is replaced", 10 * SEEN);
    session.roll_back(target.pid());
    steps("steps after the second rollback", SEEN);

    fs::write(&stop_file, "").unwrap();
    let [patched, plain] = [target, unpatched].map(|target| {
        let ended = target.end().unwrap();
        expect(0, &ended);
        // The last line says how far it came.
        ended.stdout.lines().take_while(|line| line.starts_with("seq ")).map(str::to_owned).collect::<Vec<_>>()
    });
    let (found, stopped) = (&report["old"]["functions"], &patch["stopped_us"]);
    println!("{name}: {} of {found} functions, stopped for {stopped} us; then {half}", replaced.len());
    for reason in left_out {
        println!("left out: {reason}");
    }
    assert!(patched.len() >= 23 * SEEN && plain.len() >= 23 * SEEN, "{} and {} lines", patched.len(), plain.len());
    for (line, expected) in patched.iter().zip(&plain) {
        assert_eq!(line, expected);
    }
    assert!(replaced.len() >= functions, "{} functions", replaced.len());
    let reached = 100.0 * replaced.len() as f64 / (replaced.len() + left_out.len()) as f64;
    assert!(reached >= share, "{reached:.2} % of the functions: {left_out:#?}");
}

/// A payload with these functions, changed or not, and what `build` says of it.
fn author(session: &Session, name: &str, [old, new]: &[PathBuf; 2], include: &str) -> (PathBuf, Value) {
    let payload = session.file(name);
    let paths = [&payload, old, new].map(|path| path.to_str().unwrap());
    let [payload_path, old, new] = paths;
    let arguments = ["build", "--include", include, "--format", "json", "-o", payload_path, old, new];
    let built = session.authoring.run(arguments).unwrap();
    expect(0, &built);
    (payload, built.json().unwrap())
}
