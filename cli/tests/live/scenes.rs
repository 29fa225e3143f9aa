//! What threads may be doing while a patch goes in: small programs of `testdata/scenes`, each compiled without and with its fix.
#![cfg(not(windows))]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use xtask::live::Target;
use xtask::{wine, workspace};

use crate::compile::compile_file;
use crate::session::Session;

const SEEN: usize = 10;

/// A program that runs, and the payload for it.
struct Scene {
    session: Session,
    payload: PathBuf,
    target: Target,
}

impl Scene {
    fn start(name: &str, arguments: impl Fn(&Session) -> Vec<String>) -> Option<Scene> {
        let session = Session::start(name)?;
        let source = workspace::testdata().join("scenes").join(name).with_extension("c");
        let build = |variant: &str, define: &[&str]| {
            let folder = session.file(variant);
            fs::create_dir_all(&folder).unwrap();
            let pdb = format!("-Wl,--pdb={}", folder.join(name).with_extension("pdb").display());
            let flags = [&["-g", "-gcodeview", "-Wl,--no-insert-timestamp", "-luser32", &pdb], define].concat();
            compile_file(&folder, &format!("{name}.exe"), &source, &flags)
        };
        let (old, new) = (build("old", &[]), build("new", &["-DNEW_BUILD"]));
        let payload = session.build("fix.hpx", &old, &new, &[]);
        let target = Target::start(&old, arguments(&session)).unwrap();
        Some(Scene { session, payload, target })
    }

    /// Waits until so many lines are this one.
    fn sees(&self, line: &str) {
        self.target.wait_for_lines(line, SEEN, |found| found == line).unwrap();
    }

    fn apply(&self) {
        self.session.apply(0, self.target.pid(), &self.payload);
    }

    /// Rolls back until nothing is left.
    fn clean(&self) {
        while !self.session.status(self.target.pid()).is_empty() {
            self.session.roll_back(self.target.pid());
        }
    }
}

/// Frames of a recursion return as they were called; to switch all at once is to wait for the recursion's end.
#[test]
fn recursion() {
    let go = |session: &Session| vec![wine::windows_path(&session.file("go"))];
    let Some(scene) = Scene::start("recursion", go) else { return };
    let pid = scene.target.pid().to_string();
    let file = wine::windows_path(&scene.payload);
    scene.target.wait_for_first("bottom").unwrap();
    let quiescent = ["--pid", &pid, "--allow-unsigned", "--consistency", "quiescent", "--patience", "100"];
    let refused = scene.session.call(5, &[&["apply", &file][..], &quiescent].concat());
    assert!(refused.stderr.contains("walk"), "{refused}");
    assert_eq!(scene.session.status(scene.target.pid()), [] as [Value; 0]);
    scene.apply();
    fs::write(scene.session.file("go"), "").unwrap();
    scene.sees("sum 80");
    let lines = scene.target.lines();
    assert_eq!(lines[..3], ["bottom", "sum 8", "sum 80"], "all frames of the first walk are the old code's");
    scene.session.roll_back(scene.target.pid());
    scene.sees("sum 8");
    scene.clean();
    // Between two walks nothing is on the stack.
    scene.session.call(0, &[&["apply", &file][..], &quiescent[..5], &["--patience", "20000"]].concat());
    scene.sees("sum 80");
}

#[test]
fn tail_call() {
    let Some(scene) = Scene::start("tail_call", |_| vec![]) else { return };
    scene.sees("sum 301");
    scene.apply();
    scene.sees("sum 310");
    scene.session.roll_back(scene.target.pid());
    scene.sees("sum 301");
    scene.clean();
}

/// Threads that wait in the system return to the code that called it.
#[test]
fn blocked() {
    let folder = |session: &Session| vec![wine::windows_path(&session.file("."))];
    let Some(scene) = Scene::start("blocked", folder) else { return };
    let wake = |round: u32| fs::write(scene.session.file(&round.to_string()), "").unwrap();
    scene.target.wait_for_first("blocked 1").unwrap();
    scene.apply();
    wake(1);
    scene.target.wait_for_first("blocked 2").unwrap();
    let done = scene.session.roll_back(scene.target.pid());
    assert_eq!(done["region"], "kept", "{done:#}");
    wake(2);
    scene.target.wait_for_first("blocked 3").unwrap();
    scene.clean();
    wake(3);
    scene.target.wait_for_first("gave 1 2 3 4").unwrap();
    scene.target.wait_for_first("blocked 4").unwrap();
    let expected =
        ["blocked 1", "gave 1 2 3 4", "blocked 2", "gave 10 20 30 40", "blocked 3", "gave 1 2 3 4", "blocked 4"];
    assert_eq!(scene.target.lines(), expected);
}

/// Threads that come and go by the hundred in each second.
#[test]
fn births() {
    let Some(scene) = Scene::start("births", |_| vec![]) else { return };
    let numbers = |line: &str| line.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<u32>>();
    let only = |place: usize| move |line: &str| numbers(line)[place] > 0 && numbers(line)[3 - place] == 0;
    for _ in 0..3 {
        scene.target.wait_for_lines("threads of the old code", SEEN, only(1)).unwrap();
        scene.apply();
        scene.target.wait_for_lines("threads of the new code", SEEN, only(2)).unwrap();
        scene.session.roll_back(scene.target.pid());
        scene.clean();
    }
    let lines = scene.target.lines();
    let last = numbers(lines.last().unwrap());
    println!("{} threads born in {} lines of 50 ms", last[0], lines.len());
    assert_eq!(last[3], 0, "none got a wrong result, and each one began and ended: {lines:#?}");
}

/// A jump that somebody else wrote over the entry.
#[test]
fn hooked() {
    let Some(scene) = Scene::start("hooked", |_| vec![]) else { return };
    scene.sees("sum 107");
    let refused = scene.session.apply(5, scene.target.pid(), &scene.payload);
    assert!(refused["error"].as_str().unwrap().contains("give"), "{refused:#}");
    assert_eq!(scene.session.status(scene.target.pid()), [] as [Value; 0]);
    scene.sees("sum 107");
}
