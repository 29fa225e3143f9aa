//! Running Windows programs: natively on Windows, under Wine elsewhere, in a prefix of the project's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{child, toolchain, workspace};

/// Debian keeps the 64-bit loader out of the search path; its `wine` is a script around it.
const LOADERS: [&str; 2] = ["wine64", "/usr/lib/wine/wine64"];

/// How long Wine's server outlives its last program, in seconds. Starting it takes half a second, each time; and its
/// services inherit the output of the program that started them, so that who waits for the end of that output waits for
/// them too.
const SERVER_SECONDS: u32 = 600;

/// How long making the prefix, or ending everything in it, may take on a slow machine: each is done in some seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// The folder that is Wine's `C:` drive and registry for this project.
pub fn prefix() -> PathBuf {
    workspace::target().join("wineprefix")
}

/// Whether Windows programs can be started as they are.
pub const fn is_native() -> bool {
    cfg!(windows)
}

/// A command that starts `program`, a Windows program; arguments can be added.
///
/// Under Wine, a path in an argument can be the machine's own (`/tmp/x`): Wine shows the whole file system as drive `Z:`
/// and takes `/tmp/x` for `Z:\tmp\x` where the current folder is on that drive. [`windows_path`] spells it out.
pub fn command(program: impl AsRef<Path>) -> Command {
    static SERVER: Once = Once::new();
    if is_native() {
        return Command::new(program.as_ref());
    }
    SERVER.call_once(start_server);
    emulated(program.as_ref())
}

/// Starts Wine's server and services with no output to hold on to, if they do not run yet. Programs would start them too,
/// so a failure here only costs time.
fn start_server() {
    let mut server = Command::new("wineserver");
    configure(&mut server);
    server.arg(format!("-p{SERVER_SECONDS}"));
    let mut services = emulated(Path::new("wineboot"));
    for command in [&mut server, &mut services] {
        let _ = child::run_silently(command, PATIENCE);
    }
}

fn emulated(program: &Path) -> Command {
    let mut command = Command::new(loader());
    configure(&mut command);
    command.arg(program);
    command
}

/// `path` as a Windows program sees it.
pub fn windows_path(path: &Path) -> String {
    let path = path.to_string_lossy();
    if is_native() || !path.starts_with('/') { path.into_owned() } else { format!("Z:{}", path.replace('/', "\\")) }
}

/// Makes the prefix, and returns when it is written. Takes some seconds.
pub fn make_prefix() -> Result<()> {
    if is_native() {
        return Ok(());
    }
    let boot = child::run(emulated(Path::new("wineboot")).arg("--init"), PATIENCE)?;
    ensure!(boot.code == Some(0), "cannot make the Wine prefix: {boot}");
    wait()
}

/// Whether the prefix is there and complete.
pub fn is_made() -> bool {
    is_native() || prefix().join("system.reg").is_file()
}

/// Waits until all programs in the prefix, and Wine's server, have ended.
pub fn wait() -> Result<()> {
    server("-w")
}

/// Ends all programs in the prefix and Wine's server, and waits until they are gone.
pub fn stop() -> Result<()> {
    // `-k` fails where no server runs, which is what is wanted.
    if server("-k").is_ok() { wait() } else { Ok(()) }
}

fn server(flag: &str) -> Result<()> {
    if is_native() || !is_made() {
        return Ok(());
    }
    let mut command = Command::new("wineserver");
    configure(&mut command);
    let ended = child::run(command.arg(flag), PATIENCE)?;
    ensure!(ended.code == Some(0), "wineserver {flag} failed: {ended}");
    Ok(())
}

fn loader() -> PathBuf {
    let installed = |name: &&str| Path::new(name).is_file() || toolchain::find_in_path(name).is_some();
    PathBuf::from(LOADERS.iter().find(|name| installed(name)).copied().unwrap_or("wine"))
}

/// No display, no messages, no offers to install what the tests do not need.
fn configure(command: &mut Command) {
    command
        .env("WINEPREFIX", prefix())
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY");
}
