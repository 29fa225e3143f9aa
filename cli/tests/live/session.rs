//! What the tests have in common: the tool in both builds, a folder, payloads, and processes to patch.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use xtask::child::Ended;
use xtask::live::{self, Hpgen};
use xtask::wine;

use crate::schemas;

/// One test's folder and tools.
pub struct Session {
    folder: PathBuf,
    /// The build for this machine.
    pub authoring: Hpgen,
    /// The build for Windows.
    pub windows: Hpgen,
}

impl Session {
    /// None where no program can be patched for real; then this was said.
    pub fn start(name: &str) -> Option<Session> {
        static WINDOWS: OnceLock<Hpgen> = OnceLock::new();
        if !live::enabled(&format!("live test `{name}`")) {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Some(Session {
            folder,
            authoring: Hpgen::native(env!("CARGO_BIN_EXE_hpgen")),
            windows: WINDOWS.get_or_init(|| Hpgen::for_windows().unwrap()).clone(),
        })
    }

    /// A file in the test's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Authors the payload `name`, which must be possible.
    pub fn build(&self, name: &str, old: &Path, new: &Path, flags: &[&str]) -> PathBuf {
        let payload = self.file(name);
        let paths = [old, new, Path::new("-o"), &payload].map(Path::as_os_str);
        let built =
            self.authoring.run(["build".as_ref()].into_iter().chain(flags.iter().map(AsRef::as_ref)).chain(paths));
        expect(0, &built.unwrap());
        payload
    }

    /// Calls the build for Windows, which must end with this exit code.
    pub fn call(&self, code: i32, arguments: &[&str]) -> Ended {
        let ended = self.windows.run(arguments).unwrap();
        expect(code, &ended);
        ended
    }

    /// Applies a payload to a process, and returns what `--format json` says of that process.
    pub fn apply(&self, code: i32, pid: u32, payload: &Path) -> Value {
        let (file, pid) = (wine::windows_path(payload), pid.to_string());
        let ended = self.call(code, &["apply", &file, "--pid", &pid, "--allow-unsigned", "--format", "json"]);
        let json = ended.json().unwrap();
        schemas::check(&json);
        let process = &json["processes"][0];
        assert_eq!(process["pid"].to_string(), pid, "{json:#}");
        assert_eq!(process["applied"], code == 0, "{json:#}");
        process.clone()
    }

    /// The patches in a process.
    pub fn status(&self, pid: u32) -> Vec<Value> {
        let json = self.call(0, &["status", "--pid", &pid.to_string(), "--format", "json"]).json().unwrap();
        schemas::check(&json);
        json["patches"].as_array().unwrap().clone()
    }

    /// The patches in a process that redirect functions now. Others may still be there because their memory was kept.
    pub fn applied(&self, pid: u32) -> Vec<Value> {
        self.status(pid).into_iter().filter(|patch| patch["state"] == "applied").collect()
    }

    /// Takes the newest patch out of a process.
    pub fn roll_back(&self, pid: u32) -> Value {
        let json = self.call(0, &["rollback", "--pid", &pid.to_string(), "--format", "json"]).json().unwrap();
        schemas::check(&json);
        json
    }
}

/// Fails with everything that the program said if its exit code is another one.
#[track_caller]
pub fn expect(code: i32, ended: &Ended) {
    assert_eq!(ended.code, Some(code), "{ended}");
}

/// Fails where a program of checks did not come to its last line. Its exit code does not tell: Wine gives 0 to a program that a breakpoint ended, or that
/// lost Wine's server.
#[track_caller]
pub fn expect_done(ended: &Ended) {
    expect(0, ended);
    assert!(ended.stdout.trim_end().ends_with("all done"), "it ended early: {ended}");
}
