//! Patching running processes, this time for real: `examples/live_host.rs`, on Windows, or elsewhere under Wine when `HPGEN_LIVE=1` is set.
//! `HPGEN_LIVE_ROUNDS` says how often the hammered function is patched and rolled back (50 when not set).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-pc-windows-gnu";

/// Rust's standard library asks this DLL of Windows for random numbers; Wine 8 lacks it.
const PROCESS_PRNG: &str = "
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
";

/// A DLL with a PDB (so it has an `RSDS` record) that wants the address where EXEs are, and so is moved.
const DLL: &str = "
int counter = 5;
__attribute__((naked)) __declspec(dllexport) int *dll_where(void) { __asm__(\"movabs $counter, %rax\\n ret\"); }
";
const DLL_BASE: &str = "140000000";

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    println!("{}", text(&output.stdout));
}

fn build_host(target_dir: &Path) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "hpgen-runtime", "--example", "live_host", "--target-dir"]).arg(target_dir);
    if cfg!(windows) {
        run(&mut cargo);
        return target_dir.join("debug/examples/live_host.exe");
    }
    run(cargo.args(["--target", TARGET]));
    target_dir.join(TARGET).join("debug/examples/live_host.exe")
}

fn shim_for_wine(folder: &Path) {
    let source = folder.join("process_prng.c");
    std::fs::write(&source, PROCESS_PRNG).unwrap();
    let mut gcc = Command::new("x86_64-w64-mingw32-gcc");
    run(gcc.args(["-O1", "-shared", "-o"]).arg(folder.join("bcryptprimitives.dll")).arg(source).arg("-ladvapi32"));
}

/// A program that needs a DLL which is not there any more.
fn build_incomplete(folder: &Path) -> PathBuf {
    let (library, dll, program) = (folder.join("gone.c"), folder.join("gone.dll"), folder.join("incomplete.exe"));
    let source = folder.join("incomplete.c");
    std::fs::write(&library, "__declspec(dllexport) int gone(void) { return 1; }").unwrap();
    std::fs::write(&source, "int gone(void); int main(void) { return gone(); }").unwrap();
    let gcc = || Command::new("x86_64-w64-mingw32-gcc");
    run(gcc().arg("-shared").arg("-o").arg(&dll).arg(library));
    run(gcc().arg("-o").arg(&program).arg(source).arg(&dll));
    std::fs::remove_file(dll).unwrap();
    program
}

fn build_dll(folder: &Path) -> PathBuf {
    let (source, dll) = (folder.join("live_dll.c"), folder.join("live_dll.dll"));
    std::fs::write(&source, DLL).unwrap();
    let mut clang = Command::new("clang-19");
    clang.args(["--target=x86_64-w64-windows-gnu", "-O1", "-g", "-gcodeview", "-shared", "-fuse-ld=lld-19", "-o"]);
    clang.arg(&dll).arg(source).arg(format!("-Wl,--image-base=0x{DLL_BASE}"));
    run(clang.arg(format!("-Wl,--pdb={}", folder.join("live_dll.pdb").display())));
    dll
}

#[test]
fn live() {
    if !cfg!(windows) && std::env::var_os("HPGEN_LIVE").is_none_or(|value| value != "1") {
        println!("skipped: needs Windows, or Wine with HPGEN_LIVE=1");
        return;
    }
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live");
    let host = build_host(&target_dir);
    let folder = host.parent().unwrap();
    let start = |arguments: &[&str]| {
        let mut command = if cfg!(windows) {
            Command::new(&host)
        } else {
            let mut wine = Command::new("wine");
            wine.arg(&host).current_dir(folder).env("WINEDEBUG", "-all").env_remove("DISPLAY");
            if std::env::var_os("WINEPREFIX").is_none() {
                wine.env("WINEPREFIX", target_dir.join("wine"));
            }
            wine
        };
        run(command.args(arguments));
    };
    if !cfg!(windows) {
        shim_for_wine(folder);
        // Beside the program, where it is found by its name.
        let dll = build_dll(folder);
        start(&["dll", dll.file_name().unwrap().to_str().unwrap(), DLL_BASE]);
        build_incomplete(folder);
        start(&["early", "incomplete.exe"]);
    }
    let rounds = std::env::var("HPGEN_LIVE_ROUNDS").unwrap_or_else(|_| "50".to_owned());
    start(&["self", &rounds]);
    start(&["remote"]);
    start(&["run"]);
}
