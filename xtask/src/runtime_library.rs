//! `cargo xtask runtime`: the runtime for C and C++ (`runtime/c`) as it is released: a DLL and a static library, made small.
//!
//! Most of a small Rust DLL is the standard library's own printing of stack traces, which this one never does. So the standard library
//! is compiled from its source (`rust-src`) without it. A compiler of the stable channel does that only when it is told to behave as one of
//! the nightly channel; `cargo build --profile embed -p hpgen-runtime-c` needs none of that and gives a DLL of half a megabyte.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::toolchain::{self, Toolchain};
use crate::{binaries, wine};

/// The DLL has at most so many bytes.
pub const MOST_BYTES: u64 = 300 << 10;

const SMALL: [&str; 6] = [
    // Plain forms of the hash and of the curve: a payload is checked in milliseconds by either.
    r#"--cfg=curve25519_dalek_backend="serial""#,
    r#"--cfg=sha2_backend="soft""#,
    r#"--cfg=sha2_backend_soft="compact""#,
    // The linker drops unused functions only if each has a section.
    "-Zfunction-sections=yes",
    // A panic says what it is, not where; values that only programmers read are left out.
    "-Zlocation-detail=none",
    "-Zfmt-debug=none",
];

/// What was built.
#[derive(Debug, Clone)]
pub struct RuntimeLibrary {
    /// `hpgen_runtime.dll`
    pub dll: PathBuf,
    /// Its import library.
    pub import: PathBuf,
    /// The static library.
    pub archive: PathBuf,
}

/// Builds the small one, of what is not up to date: it applies, rolls back, and says what is in the process.
pub fn build() -> Result<RuntimeLibrary> {
    build_as("embed", &["--no-default-features"])
}

/// The same with all functions of the header.
pub fn build_full() -> Result<RuntimeLibrary> {
    build_as("embed-full", &[])
}

fn build_as(profile: &str, features: &[&str]) -> Result<RuntimeLibrary> {
    let (mut build, folder) = binaries::cargo_for_windows("build", profile)?;
    build.args(["--quiet", "--profile", profile, "--package", "hpgen-runtime-c"]).args(features);
    build.args(["-Zbuild-std=std,panic_unwind", "-Zbuild-std-features=optimize_for_size"]);
    let mut flags = SMALL.map(str::to_owned).to_vec();
    if !wine::is_native() {
        // Other than GNU's, LLVM's linker has one copy of functions that are the same. Microsoft's does so by itself.
        let tools = Toolchain::find()?;
        flags.push(format!("-Clinker={}", tools.clang));
        flags.push(format!("-Clink-arg=-fuse-ld={}", tools.linker_name));
        flags.extend(["-Clink-arg=--target=x86_64-w64-windows-gnu", "-Clink-arg=-Wl,--icf=all"].map(str::to_owned));
    }
    build.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    toolchain::run_visibly(&mut build).context("`cargo xtask setup` installs rust-src, which this needs")?;
    let [import, archive] = if folder.join("libhpgen_runtime.a").is_file() {
        ["libhpgen_runtime.dll.a", "libhpgen_runtime.a"]
    } else {
        ["hpgen_runtime.dll.lib", "hpgen_runtime.lib"]
    };
    let [dll, import, archive] = ["hpgen_runtime.dll", import, archive].map(|name| folder.join(name));
    Ok(RuntimeLibrary { dll, import, archive })
}

/// Builds it, says how large it is, and fails if that is too much.
pub fn run() -> Result<()> {
    let built = build()?;
    let bytes = fs::metadata(&built.dll).with_context(|| format!("no {}", built.dll.display()))?.len();
    println!("{}: {bytes} bytes of at most {MOST_BYTES}", built.dll.display());
    println!("{}\n{}", built.import.display(), built.archive.display());
    ensure!(bytes <= MOST_BYTES, "the DLL is too large");
    let full = build_full()?;
    let bytes = fs::metadata(&full.dll).with_context(|| format!("no {}", full.dll.display()))?.len();
    println!("{}: {bytes} bytes, with DLLs that are loaded later and probation", full.dll.display());
    println!("{}\n{}", full.import.display(), full.archive.display());
    Ok(())
}
