//! The loader by itself: `runtime/examples/live_host.rs` patches itself and copies of itself with payloads made by hand.
//! `HPGEN_LIVE_ROUNDS` says how often its hammered function is patched and rolled back.

#[cfg(not(windows))]
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use xtask::{binaries, child, live, wine};

#[cfg(not(windows))]
use crate::compile::compile_text as compile;
use crate::session::expect;

const ROUNDS: &str = "50";
/// A round takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(300);

/// A DLL with a PDB (so it has an `RSDS` record) that wants the address where EXEs are, and so is moved.
#[cfg(not(windows))]
const DLL: &str = "
int counter = 5;
__attribute__((naked)) __declspec(dllexport) int *dll_where(void) { __asm__(\"movabs $counter, %rax\\n ret\"); }
";
#[cfg(not(windows))]
const DLL_BASE: &str = "140000000";

#[test]
fn own_process() {
    check(&["self", &rounds()]);
}

fn rounds() -> String {
    std::env::var("HPGEN_LIVE_ROUNDS").unwrap_or_else(|_| ROUNDS.to_owned())
}

/// Every form of jump, with threads that are busy where it matters.
#[test]
fn forms_of_jumps() {
    let done = |output: String| output.trim_end().ends_with("every form of jump works");
    assert!(check(&["forms", &rounds()]).is_none_or(done), "it ended early");
}

#[test]
fn another_process() {
    check(&["remote"]);
}

#[test]
fn new_process() {
    check(&["run"]);
}

/// Only where DLLs are moved for a collision; Windows moves them as it likes.
#[test]
#[cfg(not(windows))]
fn moved_dll() {
    let Some(host) = host() else { return };
    let folder = host.parent().unwrap();
    let pdb = format!("-Wl,--pdb={}", folder.join("live_dll.pdb").display());
    let base = format!("-Wl,--image-base=0x{DLL_BASE}");
    compile(folder, "live_dll.dll", DLL, &["-g", "-gcodeview", "-shared", &pdb, &base]);
    // Beside the program, where it is found by its name.
    check(&["dll", "live_dll.dll", DLL_BASE]);
}

/// A program that needs a DLL which is not there any more.
#[test]
#[cfg(not(windows))]
fn incomplete_program() {
    let Some(host) = host() else { return };
    let folder = host.parent().unwrap();
    let dll = compile(folder, "gone.dll", "__declspec(dllexport) int gone(void) { return 1; }", &["-shared"]);
    let program = "int gone(void); int main(void) { return gone(); }";
    compile(folder, "incomplete.exe", program, &[dll.to_str().unwrap()]);
    fs::remove_file(dll).unwrap();
    check(&["early", "incomplete.exe"]);
}

/// Runs one of the program's checks; gives what it printed.
fn check(arguments: &[&str]) -> Option<String> {
    let host = host()?;
    let mut command = wine::command(&host);
    let ended = child::run(command.args(arguments).current_dir(host.parent().unwrap()), PATIENCE).unwrap();
    expect(0, &ended);
    println!("{}", ended.stdout);
    Some(ended.stdout)
}

/// The program, built.
fn host() -> Option<PathBuf> {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    let build = || binaries::windows_example("hpgen-runtime", "live_host").unwrap();
    live::enabled("the loader's own checks").then(|| HOST.get_or_init(build).clone())
}
