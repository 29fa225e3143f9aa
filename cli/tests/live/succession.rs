//! Payloads of a series, their hooks and their signatures, in running processes.

use std::path::PathBuf;

use xtask::live::Target;
use xtask::suite::{relinked, subjects};
use xtask::workspace;

use crate::session::{Session, expect};

/// Lines to see in each phase.
const SEEN: usize = 30;
const MANY_ROUNDS: &str = "100000";

fn builds(fixture: &str) -> (PathBuf, PathBuf) {
    (workspace::fixture(fixture, "old"), workspace::fixture(fixture, "new"))
}

fn is_new(line: &str) -> bool {
    line.contains(" calls ")
}

/// The numbers of the new build's tickets come from a variable that the first payload brings.
#[test]
fn a_payload_takes_the_place_and_the_variables_of_the_one_before() {
    let Some(session) = Session::start("succession") else { return };
    let (old, new) = builds("new_global");
    let first = session.build("first.hpx", &old, &new, &["--include", "fixture_round"]);
    let second = session.build("second.hpx", &old, &new, &["--series", "2"]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    target.wait_for_lines("the first rounds", SEEN, |_: &str| true).unwrap();

    session.apply(0, pid, &first);
    target.wait_for_lines("rounds with the first", SEEN, |_: &str| true).unwrap();
    session.apply(0, pid, &second);
    let states = |session: &Session| -> Vec<(u64, String, Vec<bool>)> {
        let state = |patch: &serde_json::Value| {
            let functions = patch["functions"].as_array().unwrap().iter();
            let redirected = functions.map(|f| f["redirected"].as_bool().unwrap()).collect();
            (patch["series"].as_u64().unwrap(), patch["state"].as_str().unwrap().to_owned(), redirected)
        };
        session.status(pid).iter().map(state).collect()
    };
    let after = states(&session);
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!((after[0].0, after[0].1.as_str()), (1, "replaced"));
    assert_eq!((after[1].0, after[1].1.as_str(), &after[1].2), (2, "applied", &vec![true]));
    assert!(after[0].2.iter().all(|redirected| !redirected), "no entry leads to the first any more: {after:?}");

    let refused = session.apply(5, pid, &first);
    assert!(refused["error"].as_str().unwrap().contains("series 2"), "{refused:#}");
    let lines = target.wait_for_lines("rounds with the second", SEEN, |_: &str| true).unwrap();
    assert_eq!(numbers_in_order(&lines), Ok(()), "{}", lines.join("\n"));

    let by_first = session.status(pid)[0]["patch_id"].as_str().unwrap().to_owned();
    let kept = session.call(5, &["rollback", "--pid", &pid.to_string(), "--patch", &by_first]);
    assert!(kept.stderr.contains("goes on using its variables"), "{kept}");
    session.roll_back(pid);
    let lines = target.wait_for_lines("rounds after the rollback", SEEN, |_: &str| true).unwrap();
    assert!(lines.iter().rev().take(SEEN / 2).all(|line| !is_new(line)), "{}", lines.join("\n"));
    assert!(states(&session).iter().all(|(_, state, _)| state == "retired"), "{:?}", states(&session));
}

/// The new build counts its rounds: no number comes twice.
fn numbers_in_order(lines: &[String]) -> Result<(), String> {
    let mut last = 0;
    for line in lines.iter().filter(|line| is_new(line)) {
        let number = line.split(|c: char| !c.is_ascii_digit()).rfind(|part| !part.is_empty());
        let number: u32 = number.and_then(|n| n.parse().ok()).ok_or(line.clone())?;
        if number <= last {
            return Err(format!("{line} after {last}"));
        }
        last = number;
    }
    if last == 0 { Err("no line of the new build".to_owned()) } else { Ok(()) }
}

#[test]
fn hooks_convert_say_no_and_clean_up() {
    convert_say_no_and_clean_up("hooks", "hpgen_pre_apply");
}

/// Two before the patch goes in: the first says no, the second converts.
#[test]
fn hooks_are_found_by_their_section() {
    convert_say_no_and_clean_up("hook_section", "not_twice");
}

fn convert_say_no_and_clean_up(fixture: &str, says_no: &str) {
    let Some(session) = Session::start(fixture) else { return };
    let (old, new) = builds(fixture);
    let payload = session.build("fix.hpx", &old, &new, &[]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    target.wait_for_lines("the first rounds", SEEN, |line: &str| line == "limit 5 units").unwrap();
    session.apply(0, pid, &payload);
    target.wait_for_lines("rounds with the patch", SEEN, |line: &str| line == "limit 50 tenths").unwrap();
    session.roll_back(pid);
    target.wait_for_lines("rounds after the rollback", SEEN, |line: &str| line == "limit 50 units again").unwrap();

    let refused = session.apply(5, pid, &payload);
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains(says_no) && error.contains("returned 7"), "{error}");
    assert_eq!(session.applied(pid), Vec::<serde_json::Value>::new());
    target.wait_for_lines("rounds after the veto", SEEN, |line: &str| line == "limit 50 units again").unwrap();
}

#[test]
fn only_the_trusted_get_in() {
    let Some(session) = Session::start("trust") else { return };
    let (old, new) = builds("constant");
    let key = |name: &str| {
        let file = session.file(name);
        expect(0, &session.authoring.run(["keygen", "-o", file.to_str().unwrap()]).unwrap());
        file
    };
    let (ours, theirs) = (key("ours.pem"), key("theirs.pem"));
    let payload = session.build("fix.hpx", &old, &new, &["--key", ours.to_str().unwrap()]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid().to_string();
    let apply = |code, trust: &[&str]| {
        let file = xtask::wine::windows_path(&payload);
        session.call(code, &[&["apply", file.as_str(), "--pid", &pid], trust].concat())
    };
    let public = |key: &std::path::Path| format!("{}.pub", xtask::wine::windows_path(key));
    assert!(apply(5, &[]).stderr.contains("not trusted here"));
    assert!(apply(5, &["--trust", &public(&theirs)]).stderr.contains("not trusted here"));

    // Signed again by others: only one signature counts.
    let resigned = session.file("resigned.hpx");
    let sign = ["sign", payload.to_str().unwrap(), "--key", theirs.to_str().unwrap(), "-o", resigned.to_str().unwrap()];
    expect(0, &session.authoring.run(sign).unwrap());
    let file = xtask::wine::windows_path(&resigned);
    let refused = session.call(5, &["apply", &file, "--pid", &pid, "--trust", &public(&ours)]);
    assert!(refused.stderr.contains("not trusted here"), "{refused}");

    // A forged signature gets in with no policy.
    let mut forged = std::fs::read(&payload).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    std::fs::write(&resigned, forged).unwrap();
    for policy in [&["--trust", &public(&ours)][..], &["--allow-unsigned"]] {
        let refused = session.call(5, &[&["apply", file.as_str(), "--pid", &pid], policy].concat());
        assert!(refused.stderr.contains("forged"), "{refused}");
    }
    apply(0, &["--trust", &public(&theirs), "--trust", &public(&ours)]);
    session.roll_back(target.pid());
}

/// The process counts up from 10, the new build from 20.
#[test]
fn a_rule_sets_a_variable_together_with_the_code() {
    let Some(session) = Session::start("rules") else { return };
    let (old, new) = builds("data_init");
    std::fs::write(
        session.file("rules.toml"),
        "[[accept]]\nsymbol = \"limit\"\nreason = \"data-initialiser\"\naction = \"set\"\nwhy = \"20 it is\"\n",
    )
    .unwrap();
    let rules = session.file("rules.toml");
    let payload = session.build("fix.hpx", &old, &new, &["--rules", rules.to_str().unwrap()]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    let before = target.wait_for_lines("the first rounds", SEEN, |_: &str| true).unwrap();
    session.apply(0, pid, &payload);
    let lines = target.wait_for_lines("rounds with the new value", SEEN, |_: &str| true).unwrap();
    let numbers: Vec<u32> = lines.iter().map(|line| line.strip_prefix("limit ").unwrap().parse().unwrap()).collect();
    let jumps: Vec<usize> = (1..numbers.len()).filter(|i| numbers[*i] != numbers[i - 1] + 1).collect();
    assert_eq!(jumps.len(), 1, "{numbers:?}");
    assert!(jumps[0] >= before.len() && numbers[jumps[0]] == 20, "{jumps:?} {numbers:?}");

    // The process has counted on since: its value stays.
    session.roll_back(pid);
    let lines = target.wait_for_lines("rounds after the rollback", SEEN, |_: &str| true).unwrap();
    let numbers: Vec<u32> = lines.iter().map(|line| line.strip_prefix("limit ").unwrap().parse().unwrap()).collect();
    assert!(numbers[jumps[0]..].windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

/// Each of two live objects gets a count of its own, and it lasts from one payload to the next.
#[test]
fn shadow_state_is_attached_to_live_objects() {
    let Some(session) = Session::start("shadow") else { return };
    let (old, new) = builds("shadow");
    let first = session.build("first.hpx", &old, &new, &[]);
    let second = session.build("second.hpx", &old, &new, &["--series", "2"]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    target.wait_for_lines("the first rounds", SEEN, |line: &str| line.ends_with(" used")).unwrap();
    session.apply(0, pid, &first);
    target.wait_for_lines("rounds with the first", SEEN, |line: &str| !line.ends_with(" used")).unwrap();
    session.apply(0, pid, &second);
    let lines = target.wait_for_lines("rounds with the second", SEEN, |line: &str| !line.ends_with(" used")).unwrap();
    for lamp in ["red used ", "blue used "] {
        let counts: Vec<usize> = lines.iter().filter_map(|line| line.strip_prefix(lamp)?.parse().ok()).collect();
        assert!(counts.len() >= SEEN - 1, "{lamp}: {counts:?}");
        assert!(counts.iter().enumerate().all(|(index, count)| *count == index + 1), "{lamp}: {counts:?}");
    }
    session.roll_back(pid);
    target.wait_for_lines("rounds after the rollback", SEEN, |line: &str| line.ends_with(" used")).unwrap();
}

/// The same of Rust, with `hpgen-shadow`.
#[test]
fn shadow_state_of_rust() {
    let Some(session) = Session::start("shadow_rust") else { return };
    let subjects = subjects::shadow_host();
    let [old, new] = relinked::build_pair([&subjects[0], &subjects[1]]).unwrap();
    let first = session.build("first.hpx", &old, &new, &[]);
    let second = session.build("second.hpx", &old, &new, &["--series", "2"]);
    let stop_file = session.file("stop");
    let target = Target::start(&old, ["240".to_owned(), xtask::wine::windows_path(&stop_file)]).unwrap();
    let pid = target.pid();
    let counts = |line: &str| line.chars().last().is_some_and(|c| c.is_ascii_digit());
    target.wait_for_lines("the first rounds", SEEN, |line: &str| !counts(line)).unwrap();
    session.apply(0, pid, &first);
    target.wait_for_lines("rounds with the first", SEEN, counts).unwrap();
    session.apply(0, pid, &second);
    let lines = target.wait_for_lines("rounds with the second", SEEN, counts).unwrap();
    for lamp in ["used red ", "used green ", "used blue "] {
        let counts: Vec<usize> = lines.iter().filter_map(|line| line.strip_prefix(lamp)?.parse().ok()).collect();
        assert!(counts.len() >= SEEN / 2, "{lamp}: {counts:?}");
        assert!(counts.iter().enumerate().all(|(index, count)| *count == index + 1), "{lamp}: {counts:?}");
    }
    session.roll_back(pid);
    target.wait_for_lines("rounds after the rollback", SEEN, |line: &str| !counts(line)).unwrap();
    // What was attached is gone: the counts begin anew.
    session.apply(0, pid, &first);
    let lines = target.wait_for_lines("rounds with the first again", SEEN, counts).unwrap();
    let again: Vec<&String> = lines.iter().rev().take_while(|line| counts(line)).collect();
    assert!(again.last().is_some_and(|line| line.ends_with(" 1")), "{again:?}");
    std::fs::write(&stop_file, "").unwrap();
    expect(0, &target.end().unwrap());
}

/// The number behind a word of a line.
fn number_behind(line: &str, word: &str) -> Option<u32> {
    line.split(word).nth(1)?.split_whitespace().next()?.parse().ok()
}

/// The constructors of two new objects run when the first payload goes in, and not again when the second takes its place; the function that
/// one of them registers for the end of the process is still there when that comes, though the patch is long out.
#[test]
fn constructors_of_new_objects_run_once() {
    let Some(session) = Session::start("new_object") else { return };
    let (old, new) = builds("new_object");
    let first = session.build("first.hpx", &old, &new, &[]);
    let second = session.build("second.hpx", &old, &new, &["--series", "2"]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    let is_old = |line: &str| line.ends_with(" scale 40");
    target.wait_for_lines("the first rounds", SEEN, is_old).unwrap();
    session.apply(0, pid, &first);
    target.wait_for_lines("rounds with the first", SEEN, |line: &str| !is_old(line)).unwrap();
    session.apply(0, pid, &second);
    target.wait_for_lines("rounds with the second", SEEN, |line: &str| !is_old(line)).unwrap();
    let rolled_back = session.roll_back(pid);
    assert_ne!(rolled_back["region"], "kept-for-exit", "the second registered nothing: {rolled_back:#}");
    target.wait_for_lines("rounds after the rollback", SEEN, is_old).unwrap();

    let left = target.wait_for_any("the end", |line| line.starts_with("left ")).unwrap();
    let reads: Vec<u32> = left.iter().filter_map(|line| number_behind(line, " reads ")).collect();
    assert!(reads.len() >= SEEN * 2, "{}", left.join("\n"));
    assert!((1..).zip(&reads).all(|(count, read)| count == *read), "each payload goes on counting: {reads:?}");
    let values = left.iter().filter(|line| line.contains(" meter "));
    assert!(values.clone().all(|line| line.contains(" meter 42 table 43 constructed 1 ")), "{}", left.join("\n"));
    // The destructor of the new object writes how often it was read, the function of the old build adds 1000.
    let end = format!("left 2 measured {}", 1000 + reads.len());
    assert_eq!(left.last(), Some(&end));

    // The region of the first holds the destructor: whoever asks to have it freed hears why it is not.
    let patches = session.status(pid);
    let kept = patches.iter().find(|patch| patch["series"] == 1).expect("still there");
    assert_eq!(kept["state"], "retired", "{kept:#}");
    let id = kept["patch_id"].as_str().unwrap();
    let again = session.call(0, &["rollback", "--pid", &pid.to_string(), "--patch", id, "--format", "json"]);
    assert_eq!(again.json().unwrap()["region"], "kept-for-exit", "{again}");
}

/// One function computes the first values of all variables of a file: what is new in it runs, and nothing of the rest.
#[test]
fn constructors_of_old_objects_do_not_run_again() {
    let Some(session) = Session::start("grown_constructor") else { return };
    let (old, new) = builds("grown_constructor");
    let first = session.build("first.hpx", &old, &new, &[]);
    let second = session.build("second.hpx", &old, &new, &["--series", "2"]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    let is_old = |line: &str| line.ends_with(" last 9");
    target.wait_for_lines("the first rounds", SEEN, is_old).unwrap();
    session.apply(0, pid, &first);
    target.wait_for_lines("rounds with the first", SEEN, |line: &str| !is_old(line)).unwrap();
    session.apply(0, pid, &second);
    target.wait_for_lines("rounds with the second", SEEN, |line: &str| !is_old(line)).unwrap();
    session.roll_back(pid);
    target.wait_for_lines("rounds after the rollback", SEEN, is_old).unwrap();

    let left = target.wait_for_any("the end", |line| line.starts_with("left ")).unwrap();
    let rounds: Vec<&String> = left.iter().filter(|line| line.starts_with("round ")).collect();
    // A constructor that ran again would have set its count to 0.
    let whole = (1..)
        .zip(&rounds)
        .all(|(round, line)| line.starts_with(&format!("round {round} first 43 reads {round} last 9")));
    assert!(whole && rounds.len() == 999, "{}", left.join("\n"));
    let values: Vec<&&String> = rounds.iter().filter(|line| line.contains(" meter ")).collect();
    let reads = values.iter().filter_map(|line| number_behind(line, " meter 52 reads ")).collect::<Vec<_>>();
    assert!(reads.len() == values.len() && reads.len() >= SEEN * 2, "{}", left.join("\n"));
    assert!((1..).zip(&reads).all(|(count, read)| count == *read), "each payload goes on counting: {reads:?}");
    assert!(values.iter().all(|line| line.ends_with(" table 43 area 1600")), "{}", left.join("\n"));
    // Of the old build: its farewell and two destructors. The new object's came with the first payload, once.
    assert_eq!(left.last(), Some(&format!("left 4 measured {}", 1000 + 999 + reads.len())));
}

/// A function of C with the attribute that has start-up code call it.
#[test]
fn a_constructor_of_c_runs_before_the_code_that_counts_on_it() {
    let Some(session) = Session::start("constructor") else { return };
    let (old, new) = builds("constructor");
    let payload = session.build("fix.hpx", &old, &new, &[]);
    let target = Target::start(&old, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    target.wait_for_lines("the first rounds", SEEN, |line: &str| line == "rate 3").unwrap();
    session.apply(0, pid, &payload);
    target.wait_for_lines("rounds with the patch", SEEN, |line: &str| line == "rate 3, doubled 6").unwrap();
    assert_ne!(session.roll_back(pid)["region"], "kept-for-exit", "it registers nothing");
}
