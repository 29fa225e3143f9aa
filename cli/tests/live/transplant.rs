//! Every function of a running program is replaced by that of another build: same source, another layout.

use serde_json::Value;
use xtask::live::{Host, LUA, SQLITE, Target};

use crate::hosts::stop;
use crate::session::Session;

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
