//! One payload for a program and its DLL: both or neither.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::live::Target;
use xtask::workspace;

use crate::compile::compile_file;
use crate::session::Session;

/// Lines to see in each phase.
const SEEN: usize = 20;
const MANY_ROUNDS: &str = "100000";

/// A build of the program and its DLL.
struct Build {
    program: PathBuf,
    dll: PathBuf,
}

impl Build {
    fn of(session: &Session, variant: &str, defines: &[&str]) -> Build {
        let folder = session.file(variant);
        fs::create_dir_all(&folder).unwrap();
        let sources = workspace::testdata().join("set_host");
        let compile = |name: &str, flags: &[&str]| {
            let source = sources.join(name).with_extension("c");
            let pdb = format!("-Wl,--pdb={}", folder.join(name).with_extension("pdb").display());
            let flags = [&["-g", "-gcodeview", "-Wl,--no-insert-timestamp", &pdb], defines, flags].concat();
            compile_file(&folder, name, &source, &flags)
        };
        let dll = compile("units.dll", &["-shared"]);
        let program = compile("scale.exe", &[dll.to_str().unwrap()]);
        Build { program, dll }
    }
}

/// What a line says: the round, the amount and its unit.
fn read(line: &str) -> (u32, u32, &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let ["round", round, "is", amount, unit] = words[..] else { panic!("{line}") };
    (round.parse().unwrap(), amount.parse().unwrap(), unit)
}

/// Grams counted, grams named.
fn is_old(line: &str) -> bool {
    let (round, amount, unit) = read(line);
    amount == round && unit == "grams"
}

fn is_new(line: &str) -> bool {
    let (round, amount, unit) = read(line);
    amount == 10 * round && unit == "decigrams"
}

/// The DLL's fix alone.
fn is_dll_only(line: &str) -> bool {
    let (round, amount, unit) = read(line);
    amount == 10 * round && unit == "grams"
}

fn images(patches: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    patches.iter().map(|patch| (text(&patch["image"]), text(&patch["state"]))).collect()
}

#[test]
fn a_program_and_its_dll_change_together() {
    let Some(session) = Session::start("images") else { return };
    let (old, new) = (Build::of(&session, "old", &[]), Build::of(&session, "new", &["-DFIX"]));
    let and: Vec<&str> = ["--and", old.dll.to_str().unwrap(), new.dll.to_str().unwrap()].to_vec();
    let both = session.build("both.hpx", &old.program, &new.program, &and);
    let dll_only = session.build("dll.hpx", &old.dll, &new.dll, &[]);
    let dll_later = session.build("dll2.hpx", &old.dll, &new.dll, &["--series", "2"]);
    verify(&session, &both, (&old, &new));

    let target = Target::start(&old.program, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    let sees = |what: &str, wanted: fn(&str) -> bool| drop(target.wait_for_lines(what, SEEN, wanted).unwrap());
    sees("the baseline", is_old);

    // None: the DLL's function belongs to another patch, so the program stays as it is too.
    session.apply(0, pid, &dll_only);
    sees("the DLL's fix alone", is_dll_only);
    let refused = session.apply(5, pid, &both);
    assert!(refused["error"].as_str().unwrap().contains("already redirected"), "{refused:#}");
    assert_eq!(images(&session.status(pid)), [("units.dll".to_owned(), "applied".to_owned())]);
    sees("the DLL's fix alone, after the refusal", is_dll_only);
    session.roll_back(pid);
    sees("the baseline again", is_old);

    // All.
    session.apply(0, pid, &both);
    sees("the fix of both", is_new);
    let status = session.status(pid);
    let applied = |image: &str| (image.to_owned(), "applied".to_owned());
    assert_eq!(images(&status), [applied("scale.exe"), applied("units.dll")]);
    assert_eq!(status[0]["patch_id"], status[1]["patch_id"]);
    assert_eq!(status[0]["sequence"], status[1]["sequence"]);

    // A patch is replaced as a whole or not at all.
    let refused = session.apply(5, pid, &dll_later);
    assert!(refused["error"].as_str().unwrap().contains("changed scale.exe as well"), "{refused:#}");
    sees("the fix of both, after the refusal", is_new);

    let done = session.roll_back(pid);
    assert_eq!(done["functions"], 2, "{done:#}");
    sees("the baseline after the rollback", is_old);
    assert_eq!(session.applied(pid), [] as [Value; 0]);
}

/// The program's fix calls a function that the DLL's fix brings.
#[test]
fn a_new_export_is_imported_within_the_payload() {
    let Some(session) = Session::start("images_export") else { return };
    let (old, new) = (Build::of(&session, "old", &[]), Build::of(&session, "new", &["-DFIX", "-DEXPORT"]));
    let and: Vec<&str> = ["--and", old.dll.to_str().unwrap(), new.dll.to_str().unwrap()].to_vec();
    let both = session.build("both.hpx", &old.program, &new.program, &and);
    // In the other order: the DLL's region is not the first one.
    let and_program = ["--and", old.program.to_str().unwrap(), new.program.to_str().unwrap()];
    let other_way = session.build("other.hpx", &old.dll, &new.dll, &and_program);
    verify(&session, &both, (&old, &new));

    // Alone, the DLL changes what it exports, and the program asks for what nobody has.
    let check = |old: &Path, new: &Path| session.authoring.run([Path::new("check"), old, new]).unwrap();
    let refused = check(&old.dll, &new.dll);
    assert!(refused.code == Some(3) && refused.stdout.contains("unit_name is exported now"), "{refused}");
    let program_only = session.build("program.hpx", &old.program, &new.program, &[]);

    let target = Target::start(&old.program, [MANY_ROUNDS]).unwrap();
    let pid = target.pid();
    let sees = |what: &str, wanted: fn(&str) -> bool| drop(target.wait_for_lines(what, SEEN, wanted).unwrap());
    sees("the baseline", is_old);
    let refused = session.apply(5, pid, &program_only);
    assert!(refused["error"].as_str().unwrap().contains("unit_name"), "{refused:#}");
    for payload in [&both, &other_way] {
        session.apply(0, pid, payload);
        sees("the fix of both", is_new);
        session.roll_back(pid);
        sees("the baseline after the rollback", is_old);
    }
    assert_eq!(session.applied(pid), [] as [Value; 0]);
}

/// A program that lacks one of the images is not touched.
#[test]
fn a_payload_waits_for_none_of_its_images() {
    let Some(session) = Session::start("images_missing") else { return };
    let (old, new) = (Build::of(&session, "old", &[]), Build::of(&session, "new", &["-DFIX"]));
    let fixture = |variant| workspace::fixture("constant", variant);
    let (old_fixture, new_fixture) = (fixture("old"), fixture("new"));
    let and = ["--and", old.dll.to_str().unwrap(), new.dll.to_str().unwrap()];
    let payload = session.build("both.hpx", &old_fixture, &new_fixture, &and);
    let target = Target::start(&old_fixture, [MANY_ROUNDS]).unwrap();
    target.wait_for_lines("the baseline", SEEN, |_| true).unwrap();
    let refused = session.apply(5, target.pid(), &payload);
    assert!(refused["error"].as_str().unwrap().contains("units.dll is not loaded"), "{refused:#}");
    assert_eq!(session.status(target.pid()), [] as [Value; 0]);
}

/// The builds are found by what they are, in any order; all must be there.
fn verify(session: &Session, payload: &Path, (old, new): (&Build, &Build)) {
    let call = |code: i32, pairs: &[(&Path, &Path)]| {
        let paths = pairs.iter().flat_map(|(old, new)| [Path::new("--old"), old, Path::new("--new"), new]);
        let ended = session.authoring.run([Path::new("verify"), payload].into_iter().chain(paths)).unwrap();
        assert_eq!(ended.code, Some(code), "{ended}");
        ended
    };
    let (program, dll) = ((&*old.program, &*new.program), (&*old.dll, &*new.dll));
    call(0, &[program, dll]);
    call(0, &[dll, program]);
    assert!(call(1, &[dll]).stderr.contains("scale.exe as well"));
    assert!(call(1, &[dll, dll]).stderr.contains("named twice"));
}
