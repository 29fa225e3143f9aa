//! `hpgen watch`: payloads of a folder in processes that start before and after it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xtask::child::Running;
use xtask::live::{PATIENCE, Target};
use xtask::{wine, workspace};

use crate::schemas;
use crate::session::Session;

const SEEN: usize = 5;
const MANY_ROUNDS: &str = "100000";

fn program() -> Target {
    Target::start(&workspace::fixture("constant", "old"), [MANY_ROUNDS]).unwrap()
}

/// `fee` is the round plus 7; the fix makes it 9.
fn sees(target: &Target, what: &str, fixed: bool) {
    // The round is the number of the line.
    let lines = target.wait_for_lines(what, SEEN, |line| line.starts_with("fee ")).unwrap();
    let round = lines.len();
    assert_eq!(lines[round - 1], format!("fee {}", round + if fixed { 9 } else { 7 }), "{what}");
}

fn start(session: &Session, folder: &Path) -> Running {
    let folder = wine::windows_path(folder);
    let arguments = ["watch", &folder, "--allow-unsigned", "--interval", "1", "--format", "json"];
    Running::start(&mut session.windows.command(arguments)).unwrap()
}

/// Waits for the next line that a watch prints, which must be this one.
fn says(watch: &Running, number: usize, pid: u32, known: &str) {
    let lines = watch.wait_for("the watch's line", PATIENCE, |lines| lines.len() >= number).unwrap();
    let line: Value = serde_json::from_str(&lines[number - 1]).unwrap();
    schemas::check(&line);
    assert_eq!((&line["pid"], &line["known"]), (&pid.into(), &known.into()), "{line}");
    assert_eq!(line["schema"], "hpgen-watch/1");
}

#[test]
fn processes_of_now_and_later_get_the_payloads_of_a_folder() {
    let Some(session) = Session::start("watch") else { return };
    let (old, new) = (workspace::fixture("constant", "old"), workspace::fixture("constant", "new"));
    let folder = session.file("payloads");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(session.build("fix.hpx", &old, &new, &[]), folder.join("fix.hpx")).unwrap();

    let first = program();
    sees(&first, "the baseline", false);
    let watch = start(&session, &folder);
    says(&watch, 1, first.pid(), "applied");
    sees(&first, "the fix", true);

    // A process that starts later, of whose baseline a quick watch leaves nothing to see.
    let second = program();
    says(&watch, 2, second.pid(), "applied");
    sees(&second, "the fix in the second process", true);

    // What an administrator takes out stays out.
    session.roll_back(first.pid());
    says(&watch, 3, first.pid(), "taken-out");
    sees(&first, "the baseline after the rollback", false);

    // Also for a watch that begins anew, which finds the rest as it should be.
    drop(watch);
    let watch = start(&session, &folder);
    let third = program();
    says(&watch, 1, third.pid(), "applied");
    sees(&first, "the baseline, left alone", false);
    sees(&second, "the fix, still there", true);
    assert_eq!(session.applied(second.pid()).len(), 1);

    // A later payload of the series takes the place.
    let later = session.build("later.hpx", &old, &new, &["--series", "2"]);
    fs::copy(later, folder.join("later.hpx")).unwrap();
    let series = |target: &Target| session.applied(target.pid())[0]["series"].clone();
    let replaced = |lines: &[String]| lines.len() >= 4;
    watch.wait_for("the later payload", PATIENCE, replaced).unwrap();
    assert_eq!((series(&first), series(&second), series(&third)), (2.into(), 2.into(), 2.into()));
    sees(&first, "the later fix", true);
}
