//! Exceptions and walks of the stack through frames of old and new code, in both directions: `testdata/throw_host` says which.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::live::Target;
use xtask::suite::{relinked, subjects};
use xtask::{wine, workspace};

#[cfg(not(windows))]
use crate::compile::compile_with_runtime;
use crate::schemas;
use crate::session::{Session, expect};

const SEEN: usize = 20;
const SECONDS: u32 = 120;

/// What a step prints depends on its number and on the build alone.
#[test]
fn exceptions_pass_frames_of_both_builds() {
    let Some(session) = Session::start("exceptions") else { return };
    let [subject_old, subject_new] = subjects::throw_host().unwrap();
    let images = relinked::build_pair([&subject_old, &subject_new]).unwrap();
    let arguments = |stop_file: &Path| vec![SECONDS.to_string(), wine::windows_path(stop_file)];
    let seen = there_and_back(&session, &images, arguments);

    // Exactly the changed functions are new; whatever they throw to, catch from and are left through is old.
    let functions = seen.process["images"][0]["functions"].as_array().unwrap();
    let names: Vec<&str> = functions.iter().map(|function| function["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| name.contains("changed_")), "{names:?}");
    assert_eq!(names.len(), 23, "{names:?}");

    // The builds tell themselves apart in every case, and each walk finds every frame up to `main` and what called that.
    for (old, new) in seen.plain_old.iter().zip(&seen.plain_new) {
        for ((name, of_old), (_, of_new)) in items(old).into_iter().zip(items(new)) {
            assert!(name == "seq" || of_old != of_new, "{name} is {of_old} in both builds");
            assert!(
                !name.starts_with("walk") || (of_old == "0/0" && of_new.ends_with("000000/0")),
                "{name} {of_old} {of_new}"
            );
        }
    }
}

/// The same in the Itanium ABI, with gcc's runtime.
#[cfg(not(windows))]
#[test]
fn new_types_of_mingw_are_thrown() {
    let Some(session) = Session::start("mingw_exceptions") else { return };
    let source = workspace::testdata().join("mingw_throw_host").join("mingw_throw_host.cpp");
    let images = ["old", "new"].map(|build| {
        let folder = session.file(build);
        fs::create_dir_all(&folder).unwrap();
        let flags: &[&str] = if build == "new" { &["-static", "-DNEW"] } else { &["-static"] };
        compile_with_runtime(&folder, "mingw_throw_host.exe", &source, flags)
    });
    let seen = there_and_back(&session, &images, |stop_file| vec![wine::windows_path(stop_file)]);
    let functions = seen.process["images"][0]["functions"].as_array().unwrap();
    assert_eq!(functions.len(), 3, "{functions:?}");
    for (old, new) in seen.plain_old.iter().zip(&seen.plain_new) {
        for ((name, of_old), (_, of_new)) in items(old).into_iter().zip(items(new)) {
            assert!(name == "seq" || of_old != of_new, "{name} is {of_old} in both builds");
        }
    }
}

/// A new type's description leads to a DLL's variable: its place is known only once the program has started.
#[cfg(not(windows))]
#[test]
fn new_types_that_lead_to_a_dll_are_refused() {
    let Some(session) = Session::start("mingw_dll_exceptions") else { return };
    let source = workspace::testdata().join("mingw_throw_host").join("mingw_throw_host.cpp");
    let [old, new] = ["old", "new"].map(|build| {
        let folder = session.file(build);
        fs::create_dir_all(&folder).unwrap();
        let flags: &[&str] = if build == "new" { &["-DNEW"] } else { &[] };
        compile_with_runtime(&folder, "mingw_throw_host.exe", &source, flags)
    });
    let refused = session.authoring.run([Path::new("check"), &old, &new]).unwrap();
    expect(3, &refused);
    // What both builds throw is the same in both, wherever the linker put the slots of imports.
    assert!(!refused.stdout.contains("_ZTI5Error"), "{refused}");
    assert!(refused.stdout.contains("_ZTI13changed_Fresh: holds the address of a DLL's variable"), "{refused}");
}

/// What was seen of a program that was patched and rolled back.
struct Seen {
    /// What `apply` said of the process.
    process: Value,
    plain_old: Vec<String>,
    plain_new: Vec<String>,
}

/// Runs the old build, patches it and takes the patch out again, beside both builds by themselves: each of its steps must be one of the build
/// that it is of at the time.
fn there_and_back(session: &Session, [old, new]: &[PathBuf; 2], arguments: impl Fn(&Path) -> Vec<String>) -> Seen {
    let payload = session.build("fix.hpx", old, new, &[]);
    let [stop_file, stop_plain] = ["stop", "stop-plain"].map(|name| session.file(name));
    let plain = [old, new].map(|image| Target::start(image, arguments(&stop_plain)).unwrap());
    let target = Target::start(old, arguments(&stop_file)).unwrap();
    let steps = |when: &str, count| target.wait_for_lines(when, count, |line| line.starts_with("seq ")).unwrap().len();
    let before = steps("the first steps", SEEN);
    let process = session.apply(0, target.pid(), &payload);
    let first_new = steps("the first patched step", 1);
    let last_new = steps("patched steps", 2 * SEEN);
    // Somebody may hold what was thrown: its description stays.
    assert_eq!(session.roll_back(target.pid())["region"], "kept-for-exit");
    let first_old = steps("the first step after the rollback", 1);
    steps("steps after the rollback", SEEN);
    assert_eq!(session.applied(target.pid()), [] as [Value; 0]);
    fs::write(&stop_file, "").unwrap();
    let patched = lines(target);
    for target in &plain {
        let missing = patched.len().saturating_sub(target.lines().len());
        target.wait_for_lines("as many steps of the builds by themselves", missing, |_| true).unwrap();
    }
    fs::write(&stop_plain, "").unwrap();
    let [plain_old, plain_new] = plain.map(lines);

    // A step during which the patch goes in or out may be of both.
    assert_eq!(patched[..before], plain_old[..before]);
    assert_eq!(patched[first_new..last_new], plain_new[first_new..last_new]);
    assert_eq!(patched[first_old..], plain_old[first_old..patched.len()]);
    Seen { process, plain_old, plain_new }
}

/// The program sleeps most of the time, in `changed_rest` below `kept_rest` below `changed_rest`: of both builds in turn.
#[test]
fn status_names_the_frames_of_threads() {
    let Some(session) = Session::start("frames") else { return };
    let [subject_old, subject_new] = subjects::throw_host().unwrap();
    let [old, new] = relinked::build_pair([&subject_old, &subject_new]).unwrap();
    let payload = session.build("fix.hpx", &old, &new, &[]);
    let stop_file = session.file("stop");
    let target = Target::start(&old, [SECONDS.to_string(), wine::windows_path(&stop_file)]).unwrap();
    let steps = |when: &str| target.wait_for_lines(when, SEEN, |_| true).map(drop).unwrap();
    steps("the first steps");
    let patch = session.apply(0, target.pid(), &payload)["images"][0].clone();
    steps("patched steps");

    let text = fs::read_to_string(workspace::testdata().join("throw_host").join("rest.cpp")).unwrap();
    let line_of = |what: &str| text.lines().position(|line| line.contains(what)).unwrap() + 1;
    let expected = [line_of("Sleep(20)"), line_of("+= kept_rest")];
    let (pid, symbols) = (target.pid().to_string(), format!("{}.sym", wine::windows_path(&payload)));
    // It is now and then elsewhere: between two sleeps.
    let mut resting = 0;
    for _ in 0..20 {
        let status =
            session.call(0, &["status", "--pid", &pid, "--symbols", &symbols, "--format", "json"]).json().unwrap();
        schemas::check(&status);
        assert_eq!(status["patches"][0], patch);
        let threads = status["threads"].as_array().unwrap();
        let frames: Vec<&Value> = threads.iter().flat_map(|thread| thread["frames"].as_array().unwrap()).collect();
        for frame in &frames {
            assert!(frame["function"].as_str().unwrap().contains("changed_"), "{status:#}");
            assert_eq!((&frame["certain"], &frame["patch_id"]), (&Value::Bool(true), &patch["patch_id"]), "{status:#}");
        }
        assert!(threads.iter().all(|thread| thread["unwound"] == true), "{status:#}");
        let lines: Vec<_> = frames.iter().map(|frame| frame["source"][0]["line"].as_u64().unwrap() as usize).collect();
        resting += usize::from(lines == expected && frames.iter().all(|frame| frame["returns_here"] == true));
    }
    assert!(resting >= 10, "seen resting {resting} times in 20");
    let shows = |shown: &String| shown.contains("returns to  changed_rest+") && shown.contains("rest.cpp:");
    let shown = (0..10).map(|_| session.call(0, &["status", "--pid", &pid, "--symbols", &symbols]).stdout).find(shows);
    println!("{}", shown.expect("the text names the frames too"));

    // The symbols of another payload are of no use.
    let other = session.build("other.hpx", &old, &new, &["--series", "2"]);
    let other = format!("{}.sym", wine::windows_path(&other));
    let refused = session.call(1, &["status", "--pid", &pid, "--symbols", &other]);
    assert!(refused.stderr.contains("belongs to another payload"), "{refused}");

    session.roll_back(target.pid());
    steps("steps after the rollback");
    let after = session.call(0, &["status", "--pid", &pid, "--format", "json"]).json().unwrap();
    assert_eq!(after["threads"], Value::Array(Vec::new()));
}

fn lines(target: Target) -> Vec<String> {
    let ended = target.end().unwrap();
    expect(0, &ended);
    ended.stdout.lines().filter(|line| line.starts_with("seq ")).map(str::to_owned).collect()
}

/// Names and values of a line.
fn items(line: &str) -> Vec<(&str, &str)> {
    let words: Vec<&str> = line.split(' ').collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}
