//! Every system call of an apply and of a rollback fails once, in the own process and from outside: `runtime/examples/faults.rs`. Whatever fails, the
//! process is as it was to the byte, its threads run, and nothing is left behind. Each call that changes something is tried; `HPGEN_LIVE_FAULTS` says
//! how many of those that only look are tried one by one, and of those behind them, fewer and fewer. They take many minutes under Wine, and its server does not always
//! outlive them, which ends other tests: they run only where it is set.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use xtask::{binaries, child, live, wine};

use crate::session::expect_done;

const PATIENCE: Duration = Duration::from_secs(1800);

#[test]
fn own_process() {
    check("self");
}

#[test]
fn another_process() {
    check("remote");
}

/// A patcher that is killed before each call that changes something.
#[test]
fn deaths() {
    if std::env::var_os("HPGEN_LIVE_FAULTS").is_some() {
        run("deaths", "1");
    } else {
        skipped();
    }
}

fn check(what: &str) {
    match std::env::var("HPGEN_LIVE_FAULTS") {
        Ok(steps) => run(what, &steps),
        Err(_) => skipped(),
    }
}

fn skipped() {
    eprintln!("skipped: set HPGEN_LIVE_FAULTS to make every system call fail");
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
