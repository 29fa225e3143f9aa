//! What `hpgen apply` must refuse, and that the process is as it was afterwards.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xtask::live::{LUA, Target};
use xtask::{wine, workspace};

use crate::session::Session;

/// Lines after each refusal that must be the baseline's.
const SEEN: usize = 5;
const MANY_ROUNDS: &str = "100000";

#[test]
fn refusals() {
    let Some(session) = Session::start("refusals") else { return };
    let image = |name, variant| workspace::fixture(name, variant);
    let payload = session.build("fix.hpx", &image("constant", "old"), &image("constant", "new"), &[]);
    let of_namesake = session.build("string.hpx", &image("string", "old"), &image("string", "new"), &[]);
    let of_stranger = session.build("lua.hpx", &LUA.image("old"), &LUA.image("new"), &[]);
    let damaged = session.file("damaged.hpx");
    let mut bytes = fs::read(&payload).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();

    let target = Target::start(&image("constant", "old"), [MANY_ROUNDS]).unwrap();
    let pid = target.pid().to_string();
    let as_before = |what: &str| {
        // `fee` is the round plus 7; the fix makes it 9.
        let lines = target.wait_for_lines(what, SEEN, |line| line.starts_with("fee ")).unwrap();
        let expected: Vec<_> = (1..=lines.len()).map(|round| format!("fee {}", round + 7)).collect();
        assert_eq!(lines, expected);
        assert_eq!(session.status(target.pid()), [] as [Value; 0]);
    };
    as_before("the baseline's behaviour");

    for (what, payload) in [("another image's payload", &of_stranger), ("a namesake's payload", &of_namesake)] {
        let process = session.apply(5, target.pid(), payload);
        assert_eq!(process["refused"], true, "{process:#}");
        as_before(what);
    }

    let applied = |code, file: &Path, flags: &[&str]| {
        let file = wine::windows_path(file);
        session.call(code, &[&["apply", &file], flags].concat()).stderr
    };
    assert!(applied(1, &damaged, &["--pid", &pid, "--allow-unsigned"]).contains("damaged.hpx"));
    as_before("a damaged payload");
    assert!(applied(5, &payload, &["--pid", &pid]).contains("--allow-unsigned"));
    as_before("a payload without a signature");
    assert!(applied(1, &payload, &["--pid", "4294967280", "--allow-unsigned"]).contains("no process 4294967280"));
    assert!(applied(1, &payload, &["--image", "nobody.exe", "--allow-unsigned"]).contains("nobody.exe"));
    assert!(applied(1, &session.file("nothing.hpx"), &["--pid", &pid, "--allow-unsigned"]).contains("nothing.hpx"));
    applied(2, &payload, &["--allow-unsigned"]);
    applied(2, &payload, &["--pid", &pid, "--image", "old.exe", "--allow-unsigned"]);
    as_before("wrong calls");

    // Nothing of that is in the way of the right one.
    session.apply(0, target.pid(), &payload);
    let lines = target.wait_for_lines("rounds with the patch", SEEN, |line| line.starts_with("fee ")).unwrap();
    assert_eq!(lines.last(), Some(&format!("fee {}", lines.len() + 9)));
}

/// Somebody else's patch stands in the middle of a function, far behind the bytes that are written.
#[test]
fn code_that_another_tool_changed() {
    let Some(session) = Session::start("changed_body") else { return };
    let image = |variant| workspace::fixture("string", variant);
    let payload = session.build("fix.hpx", &image("old"), &image("new"), &[]);
    // `print_parity`: sub rsp, 40; test cl, 1; ...
    let mut bytes = fs::read(image("old")).unwrap();
    let place = bytes.windows(7).position(|window| window == [0x48, 0x83, 0xec, 0x28, 0xf6, 0xc1, 1]).unwrap();
    bytes[place + 6] = 3;
    let changed = session.file("old.exe");
    fs::write(&changed, bytes).unwrap();

    let target = Target::start(&changed, [MANY_ROUNDS]).unwrap();
    let before = target.wait_for_lines("rounds with the other change", SEEN, |_| true).unwrap();
    let refused = session.apply(5, target.pid(), &payload);
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("old.exe is not the baseline in memory: print_parity"), "{error}");
    assert_eq!(session.status(target.pid()), [] as [Value; 0]);
    let lines = target.wait_for_lines("more rounds with it", SEEN, |_| true).unwrap();
    assert!(lines.len() > before.len());

    // The same file without that change takes the payload, and over it the next of the series: what we wrote ourselves is no change.
    let target = Target::start(&image("old"), [MANY_ROUNDS]).unwrap();
    let next = session.build("next.hpx", &image("old"), &image("new"), &["--series", "2"]);
    target.wait_for_lines("the baseline", SEEN, |_| true).unwrap();
    session.apply(0, target.pid(), &payload);
    session.apply(0, target.pid(), &next);
    target.wait_for_lines("the fix", SEEN, |_| true).unwrap();
}

#[test]
fn a_process_that_has_ended() {
    let Some(session) = Session::start("ended") else { return };
    let image = |variant| workspace::fixture("constant", variant);
    let payload = session.build("fix.hpx", &image("old"), &image("new"), &[]);
    let target = Target::start(&image("old"), ["1"]).unwrap();
    let pid = target.pid().to_string();
    assert_eq!(target.end().unwrap().code, Some(0));
    let file = wine::windows_path(&payload);
    for call in [&["apply", &file, "--allow-unsigned"][..], &["status"], &["rollback"]] {
        let ended = session.call(1, &[call, &["--pid", &pid]].concat());
        assert!(ended.stderr.contains(&pid), "{ended}");
    }
}
