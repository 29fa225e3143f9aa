//! `hpgen run`: a program that is patched from its first line on.

use std::fs;

use xtask::live::{LUA, SQLITE};
use xtask::wine;

#[cfg(not(windows))]
use crate::compile::compile_for_x86;
use crate::session::Session;

#[test]
fn run() {
    let Some(session) = Session::start("run") else { return };
    for host in [LUA, SQLITE] {
        let payload = session.build(host.name, &host.image("old"), &host.image("new"), &[]);
        let payload = wine::windows_path(&payload);
        let program = wine::windows_path(&host.image("old"));
        let arguments = host.arguments(1, None);
        let words: Vec<&str> = [&payload, "--allow-unsigned", "--", &program]
            .into_iter()
            .chain(arguments.iter().map(String::as_str))
            .collect();
        let ended = session.call(0, &[&["run", "--patch"], words.as_slice()].concat());
        let phases = host.phases(&ended.stdout).unwrap();
        assert!(matches!(phases[..], [(true, lines)] if lines > 5), "{ended}");
    }
}

#[test]
fn run_passes_on_output_and_exit_code() {
    let Some(session) = Session::start("run_exit_code") else { return };
    let payload = session.build("fix.hpx", &LUA.image("old"), &LUA.image("new"), &[]);
    let program = wine::windows_path(&LUA.image("old"));
    let script = session.file("a script.lua");
    fs::write(
        &script,
        "io.stdout:write(string.reverse('abc'), ' ', #arg, ' ', arg[1], '|', arg[2], '|', arg[3])\n\
         io.stderr:write('to standard error')\n\
         os.exit(tonumber(arg[1]))\n",
    )
    .unwrap();
    let (patch, script) = (wine::windows_path(&payload), wine::windows_path(&script));
    for code in [0, 1, 37, 255] {
        let number = code.to_string();
        let program = ["--allow-unsigned", "--", &program, &script, &number, "two words", "quo\"te"];
        let ended = session.call(code, &[&["run", "--patch", &patch], &program[..]].concat());
        assert!(ended.stdout.starts_with("cba"), "{ended}");
        assert!(ended.stdout.ends_with(&format!(" 3 {code}|two words|quo\"te\n")), "{ended}");
        assert_eq!(ended.stderr, "to standard error\n");
    }
}

/// Whether the system runs 32-bit programs or not.
#[cfg(not(windows))]
#[test]
fn a_32_bit_program_is_refused() {
    let Some(session) = Session::start("run_32_bit") else { return };
    let program = compile_for_x86(&session.file(""), "tiny");
    let payload = session.build("fix.hpx", &LUA.image("old"), &LUA.image("new"), &[]);
    let (payload, program) = (wine::windows_path(&payload), wine::windows_path(&program));
    let ended = session.call(5, &["run", "--patch", &payload, "--allow-unsigned", "--", &program]);
    assert!(ended.stderr.contains("refused:") && ended.stderr.contains("only x64 "), "{ended}");
}

#[test]
fn run_starts_nothing_that_it_cannot_patch() {
    let Some(session) = Session::start("run_refusals") else { return };
    let lua = session.build("lua.hpx", &LUA.image("old"), &LUA.image("new"), &[]);
    let sqlite = session.build("sqlite.hpx", &SQLITE.image("old"), &SQLITE.image("new"), &[]);
    let (lua, sqlite) = (wine::windows_path(&lua), wine::windows_path(&sqlite));
    let program = wine::windows_path(&SQLITE.image("old"));
    let fixed = wine::windows_path(&SQLITE.image("new"));
    for (code, arguments) in [
        (5, ["--patch", &sqlite, "--", &program].as_slice()),
        (5, &["--patch", &lua, "--allow-unsigned", "--", &program]),
        (5, &["--patch", &sqlite, "--allow-unsigned", "--", &fixed]),
        (1, &["--patch", &sqlite, "--allow-unsigned", "--", "no_such_program.exe"]),
        (2, &["--patch", &sqlite, "--allow-unsigned"]),
    ] {
        let ended = session.call(code, &[&["run"], arguments, &["1"]].concat());
        assert_eq!(ended.stdout, "", "the program ran: {arguments:?}");
    }
}
