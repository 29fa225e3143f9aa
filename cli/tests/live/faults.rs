//! Every system call of an apply and of a rollback fails once, in the own process and from outside: `runtime/examples/faults.rs`. Whatever fails, the
//! process is as it was to the byte, its threads run, and nothing is left behind. They run where `HPGEN_LIVE_FAULTS` is set, since they take
//! many minutes: it says how many calls of each kind are tried one by one; of those behind them, fewer and fewer.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use xtask::{binaries, child, live, wine};

use crate::session::expect;

const PATIENCE: Duration = Duration::from_secs(1800);

#[test]
fn own_process() {
    check("self");
}

#[test]
fn another_process() {
    check("remote");
}

fn check(what: &str) {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    let Ok(steps) = std::env::var("HPGEN_LIVE_FAULTS") else {
        println!("skipped: set HPGEN_LIVE_FAULTS=1");
        return;
    };
    if !live::enabled("system calls that fail") {
        return;
    }
    let build = || binaries::windows_example("hpgen-runtime", "faults", &["fault-injection"]).unwrap();
    let host = HOST.get_or_init(build);
    let ended = child::run(wine::command(host).args([what, &steps]), PATIENCE).unwrap();
    expect(0, &ended);
    println!("{}", ended.stdout);
}
