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
use crate::session::expect_done;

const ROUNDS: &str = "50";
/// A round takes a tenth of a second, more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
const PATIENCE_A_ROUND: Duration = Duration::from_secs(2);

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
    check(&["forms", &rounds()]);
}

/// A function that is too short for a jump is redirected at its callers, under calls.
#[test]
fn redirected_callers() {
    check(&["callers", &rounds()]);
}

/// 32 threads hammer the function: no wrong result, and no handle, allocation or memory left behind. `HPGEN_LIVE_ROUNDS=10000` is the whole proof.
#[test]
fn cycles_under_load() {
    check(&["cycles", &rounds(), "32"]);
}

/// A patch is rolled back while a fiber that does not run has a frame in it.
#[test]
fn fibers() {
    check(&["fibers"]);
}

/// A payload with constructors that is tried many times.
#[test]
fn attempts() {
    check(&["attempts"]);
}

/// Each page of a patch, and of all others, asked of the system; and a process that lets nobody in.
#[test]
fn pages_and_access() {
    check(&["memory"]);
}

/// A program that watches a patch of its own: a health check, and an exception that nobody handles.
#[test]
fn own_probation() {
    check(&["probation"]);
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

#[cfg(not(windows))]
const LATE_DLL: &str = "
    __attribute__((naked)) __declspec(dllexport) unsigned dll_answer(unsigned x) {
        __asm__(\"leal 1(%ecx), %eax\\n nop\\n nop\\n nop\\n nop\\n nop\\n ret\");
    }
    int __stdcall DllMain(void *module, unsigned reason, void *reserved) { return reason != 1 || dll_answer(1) == 2; }
";

/// A DLL that the program loads while a payload waits for it; it is patched after its entry point has run.
#[test]
#[cfg(not(windows))]
fn late_dll() {
    let Some(host) = host() else { return };
    compile(host.parent().unwrap(), "late_dll.dll", LATE_DLL, &["-shared"]);
    check(&["late", "late_dll.dll"]);
}

/// A patched DLL that is unloaded, also by force, and loaded again.
#[test]
#[cfg(not(windows))]
fn unloaded_dll() {
    let Some(host) = host() else { return };
    compile(host.parent().unwrap(), "unloaded_dll.dll", LATE_DLL, &["-shared"]);
    check(&["unloaded", "unloaded_dll.dll"]);
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

/// Runs one of the program's checks, to its end.
fn check(arguments: &[&str]) {
    let Some(host) = host() else { return };
    let mut command = wine::command(&host);
    let patience = PATIENCE + PATIENCE_A_ROUND * rounds().parse().unwrap();
    let ended = child::run(command.args(arguments).current_dir(host.parent().unwrap()), patience).unwrap();
    expect_done(&ended);
    println!("{}", ended.stdout);
}

/// The program, built.
fn host() -> Option<PathBuf> {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    let build = || binaries::windows_example("hpgen-runtime", "live_host", &[]).unwrap();
    live::enabled("the loader's own checks").then(|| HOST.get_or_init(build).clone())
}
