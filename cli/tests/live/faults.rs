//! Every system call of an apply and of a rollback fails once, in the own process and from outside: `runtime/examples/faults.rs`. Whatever fails, the
//! process is as it was to the byte, its threads run, and nothing is left behind. Each call that changes something is tried; of those that only
//! look, of which there are hundreds, the first ones one by one, as many as `HPGEN_LIVE_FAULTS` says, and of those behind them fewer and fewer.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use xtask::{binaries, child, live, wine};

use crate::session::expect_done;

const PATIENCE: Duration = Duration::from_secs(900);

/// How many calls that only look fail one by one, where nobody asks for more.
const STEPS: &str = "1";

const KILLS: &str = "20";

#[test]
fn own_process() {
    run("self", &steps());
}

#[test]
fn another_process() {
    run("remote", &steps());
}

/// A patcher that is killed before each call that changes something.
#[test]
fn deaths() {
    run("deaths", "1");
}

/// A patcher that is killed at any moment; `HPGEN_KILLS` says how often.
#[test]
fn kills() {
    run("kills", &std::env::var("HPGEN_KILLS").unwrap_or_else(|_| KILLS.to_owned()));
}

fn steps() -> String {
    std::env::var("HPGEN_LIVE_FAULTS").unwrap_or_else(|_| STEPS.to_owned())
}

fn run(what: &str, steps: &str) {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    if !live::enabled("system calls that fail") {
        return;
    }
    let build = || binaries::optimised_windows_example("hpgen-runtime", "faults", &["fault-injection"]).unwrap();
    let host = HOST.get_or_init(build);
    let ended = child::run(wine::command(host).args([what, steps]), PATIENCE).unwrap();
    expect_done(&ended);
    println!("{}", ended.stdout);
}
