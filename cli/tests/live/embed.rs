//! Servers in C, C++ and Rust that have the runtime in them and patch themselves from a file: `runtime/c/examples`, `runtime/examples/server.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::live::Target;
use xtask::toolchain::{self, Toolchain};
use xtask::{binaries, runtime_library, wine, workspace};

#[cfg(not(windows))]
use crate::compile::compile_text;
use crate::session::{Session, expect};

/// Lines that have to show a behaviour before it is believed; about 10 ms each.
const SEEN: usize = 10;
const MANY_REQUESTS: &str = "100000";

/// With the DLL that has all functions, which this example calls.
#[test]
fn c_server() {
    let Some(session) = Session::start("embed_c") else { return };
    let library = runtime_library::build_full().unwrap();
    let images = compile(&session, "server.c", &[], &library.import);
    for image in &images {
        fs::copy(&library.dll, image.with_file_name("hpgen_runtime.dll")).unwrap();
    }
    patches_itself(&session, images, "apply: 0 ", "roll back: 0 ", |_, fixed| format!("fee {}", u32::from(fixed)));
}

#[test]
fn cpp_server() {
    let Some(session) = Session::start("embed_cpp") else { return };
    let library = runtime_library::build_full().unwrap();
    let images = compile(&session, "server.cpp", &["-fno-exceptions", "-fno-rtti"], &library.import);
    for image in &images {
        fs::copy(&library.dll, image.with_file_name("hpgen_runtime.dll")).unwrap();
    }
    patches_itself(&session, images, "apply: 0 ", "roll back: 0 ", |request, fixed| {
        let amount = request % 8;
        format!("{} to pay", if fixed && amount > 5 { 5 } else { amount * 37 % 11 })
    });
}

/// A health check fails: the server itself takes the patch out again.
#[test]
fn cpp_server_watches_its_patch() {
    let Some(session) = Session::start("embed_probation") else { return };
    let library = runtime_library::build_full().unwrap();
    let [old, broken] = compile_as(
        &session,
        "server.cpp",
        &["-fno-exceptions", "-fno-rtti"],
        &library.import,
        "-DFIXED_BUILD -DBROKEN_BUILD",
    );
    fs::copy(&library.dll, old.with_file_name("hpgen_runtime.dll")).unwrap();
    let flags = ["--health-check", "self_test", "--probation", "60s", "--probation-interval", "500ms"];
    let payload = session.build("payload.hpx", &old, &broken, &flags);
    let file = session.file("fix.hpx");
    let target = Target::start(&old, [&wine::windows_path(&file), MANY_REQUESTS]).unwrap();
    target.wait_for_lines("requests", SEEN, |line| line.starts_with("request ")).unwrap();
    fs::rename(&payload, &file).unwrap();
    target.wait_for_any("the end of the probation", |line| line.starts_with("probation: ")).unwrap();
    let before = target.lines().len();
    target.wait_for_lines("the baseline again", before + SEEN, |line| !line.is_empty()).unwrap();
    assert_eq!(session.applied(target.pid()).len(), 0);
    let lines = target.lines();
    let ends: Vec<_> = lines.iter().filter(|line| line.starts_with("probation: ")).collect();
    assert_eq!(ends, ["probation: 0 2 the health check self_test returned 3"]);
    let last = lines.iter().rev().find_map(|line| line.strip_prefix("request ")?.split_once(": ")).unwrap();
    assert_eq!(last.1, format!("{} to pay", last.0.parse::<u32>().unwrap() % 8 * 37 % 11));
}

/// A DLL that the server loads gets its payload, which was there before.
#[cfg(not(windows))]
#[test]
fn c_server_follows_a_plugin() {
    let Some(session) = Session::start("embed_follow") else { return };
    let library = runtime_library::build_full().unwrap();
    let [server, _] = compile(&session, "server.c", &[], &library.import);
    fs::copy(&library.dll, server.with_file_name("hpgen_runtime.dll")).unwrap();
    let text = "__declspec(dllexport) unsigned plugin_answer(unsigned x) { return x + ADDED; }";
    let plugins = ["-DADDED=1000", "-DADDED=2000"].map(|added| {
        let folder = session.file(&format!("plugin{added}"));
        fs::create_dir_all(&folder).unwrap();
        let pdb = format!("-Wl,--pdb={}", folder.join("plugin.pdb").display());
        compile_text(&folder, "plugin.dll", text, &["-shared", "-g", "-gcodeview", &pdb, added])
    });
    let payload = session.build("plugin.hpx", &plugins[0], &plugins[1], &[]);
    let [none, plugin, payload] = [&session.file("none"), &plugins[0], &payload].map(|path| wine::windows_path(path));
    let target = Target::start(&server, [&none, MANY_REQUESTS, &plugin, &payload]).unwrap();
    let answers = |line: &str, added: u32| {
        let request = line.strip_prefix("request ").and_then(|line| line.split_once(": "));
        request.is_some_and(|(request, said)| {
            said.ends_with(&format!(" plugin {}", request.parse::<u32>().unwrap() + added))
        })
    };
    target.wait_for_lines("the plugin's new answers", SEEN, |line| answers(line, 2000)).unwrap();
    let lines = target.lines();
    assert!(lines.iter().any(|line| line == "follow: 0 "), "{}", lines.join("\n"));
    let told: Vec<_> = lines.iter().filter(|line| line.starts_with("plugin ")).collect();
    assert!(matches!(told[..], [line] if line.contains(": 0, 1 functions")), "{}", lines.join("\n"));
    assert_eq!(session.applied(target.pid()).len(), 1);
    let strange = lines.iter().find(|line| line.contains(" plugin ") && !answers(line, 1000) && !answers(line, 2000));
    assert_eq!(strange, None);
}

/// With the static library; an image that has gcc's or Rust's exception tables for mingw in it cannot be patched itself yet. What is wrong is
/// told in words.
#[test]
fn static_library() {
    let Some(session) = Session::start("embed_static") else { return };
    let library = runtime_library::build_full().unwrap();
    let system = ["-lntdll", "-luserenv", "-lws2_32", "-ldbghelp"];
    let [image, _] = compile(&session, "server.c", &system, &library.archive);
    let stranger = session.build("fix.hpx", &xtask::live::LUA.image("old"), &xtask::live::LUA.image("new"), &[]);
    let damaged = session.file("damaged.hpx");
    fs::write(&damaged, b"no payload").unwrap();
    for (file, said) in
        [(stranger, "apply: 5 lua_host.exe is not loaded"), (damaged, "apply: 1 "), (session.file("none"), "request")]
    {
        let ended = Target::start(&image, [&wine::windows_path(&file), "3"]).unwrap().end().unwrap();
        expect(0, &ended);
        assert!(ended.stdout.starts_with(said) && ended.stdout.lines().last() == Some("request 2: fee 0"), "{ended}");
    }
}

/// With the crate.
#[test]
fn rust_server() {
    let Some(session) = Session::start("embed_rust") else { return };
    let images = ["old", "new"].map(|variant| {
        let flags: &[&str] = if variant == "new" { &["--cfg", "fixed"] } else { &[] };
        let built = binaries::windows_example_with_pdb("hpgen-runtime", "server", flags).unwrap();
        let folder = session.file(variant);
        fs::create_dir_all(&folder).unwrap();
        binaries::place_process_prng(&folder).unwrap();
        for extension in ["exe", "pdb"] {
            fs::copy(built.with_extension(extension), folder.join("server").with_extension(extension)).unwrap();
        }
        folder.join("server.exe")
    });
    patches_itself(&session, images, "apply: 1 functions", "roll back: 1 functions", |request, fixed| {
        format!("{} percent", if fixed && request.is_multiple_of(3) { 50 } else { request % 7 })
    });
}

/// Builds an example as the baseline and as the fixed build.
fn compile(session: &Session, source: &str, flags: &[&str], library: &Path) -> [PathBuf; 2] {
    compile_as(session, source, flags, library, "-DFIXED_BUILD")
}

/// The same with other definitions for the new build.
fn compile_as(session: &Session, source: &str, flags: &[&str], library: &Path, new: &str) -> [PathBuf; 2] {
    let tools = Toolchain::find().unwrap();
    let source = workspace::root().join("runtime").join("c").join("examples").join(source);
    ["old", "new"].map(|variant| {
        let folder = session.file(variant);
        fs::create_dir_all(&folder).unwrap();
        let image = folder.join("server.exe");
        let mut clang = Command::new(tools.clang);
        clang.args(["--target=x86_64-w64-windows-gnu", "-O2", "-g", "-gcodeview", "-ffunction-sections", "-Wall"]);
        clang.arg(format!("-fuse-ld={}", tools.linker_name)).arg("-o").arg(&image);
        clang.arg(format!("-Wl,--pdb={}", folder.join("server.pdb").display()));
        clang.arg("-I").arg(workspace::root().join("runtime").join("include"));
        if variant == "new" {
            clang.args(new.split(' '));
        }
        toolchain::run(clang.arg(&source).arg(library).args(flags)).unwrap();
        image
    })
}

/// The server becomes the fixed build when the payload is put where it looks, and the baseline again when it is taken away, twice.
fn patches_itself(
    session: &Session,
    [old, new]: [PathBuf; 2],
    applied: &str,
    rolled_back: &str,
    answer: impl Fn(u32, bool) -> String,
) {
    let payload = session.build("payload.hpx", &old, &new, &[]);
    let file = session.file("fix.hpx");
    let target = Target::start(&old, [&wine::windows_path(&file), MANY_REQUESTS]).unwrap();
    let answers = |fixed: bool| {
        let right = |line: &str| {
            let request = line.strip_prefix("request ").and_then(|line| line.split_once(": "));
            request.is_some_and(|(request, said)| said == answer(request.parse().unwrap(), fixed))
        };
        target.wait_for_lines(if fixed { "fixed answers" } else { "the baseline's answers" }, SEEN, right).unwrap()
    };
    answers(false);
    for _ in 0..2 {
        fs::rename(&payload, &file).unwrap();
        answers(true);
        let status = session.status(target.pid());
        assert_eq!(status.iter().filter(|patch| patch["state"] == "applied").count(), 1, "{status:?}");
        fs::rename(&file, &payload).unwrap();
        answers(false);
        assert_eq!(session.applied(target.pid()).len(), 0);
    }
    let lines = target.lines();
    let said = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((said(applied), said(rolled_back)), (2, 2), "{}", lines.join("\n"));
    // Every answer was one of the two builds'.
    for line in lines.iter().filter_map(|line| line.strip_prefix("request ")) {
        let (request, said) = line.split_once(": ").unwrap();
        let request = request.parse().unwrap();
        assert!([false, true].map(|fixed| answer(request, fixed)).iter().any(|right| right == said), "{line}");
    }
}
