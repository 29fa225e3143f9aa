//! Programs that a test compiles for itself.
#![cfg(not(windows))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::toolchain::{self, Toolchain};

/// Compiles C text into `folder`.
pub fn compile_text(folder: &Path, name: &str, text: &str, flags: &[&str]) -> PathBuf {
    let source = folder.join(name).with_extension("c");
    fs::write(&source, text).unwrap();
    compile_file(folder, name, &source, flags)
}

/// Compiles a C file into `folder`.
pub fn compile_file(folder: &Path, name: &str, source: &Path, flags: &[&str]) -> PathBuf {
    let output = folder.join(name);
    let tools = Toolchain::find().unwrap();
    let mut clang = Command::new(tools.clang);
    clang.args(["--target=x86_64-w64-windows-gnu", "-O1", &format!("-fuse-ld={}", tools.linker_name), "-o"]);
    toolchain::run(clang.arg(&output).arg(source).args(flags)).unwrap();
    output
}

/// Compiles a C++ file into `folder`, with a PDB.
pub fn compile_with_runtime(folder: &Path, name: &str, source: &Path, flags: &[&str]) -> PathBuf {
    let output = folder.join(name);
    let tools = Toolchain::find().unwrap();
    let mut clang = Command::new(tools.clang);
    clang.args(["--driver-mode=g++", "--target=x86_64-w64-windows-gnu", "-O1", "-g", "-gcodeview"]);
    clang.arg(format!("-fuse-ld={}", tools.linker_name)).arg("-Wl,--pdb=").arg("-o").arg(&output);
    toolchain::run(clang.arg(source).args(flags)).unwrap();
    output
}

/// A program for 32-bit x86, which needs no library, with a PDB.
pub fn compile_for_x86(folder: &Path, name: &str) -> PathBuf {
    let tools = Toolchain::find().unwrap();
    let [source, object, image] = ["c", "obj", "exe"].map(|extension| folder.join(name).with_extension(extension));
    fs::write(&source, "int start(void) { return 0; }\n").unwrap();
    let mut clang = Command::new(tools.clang);
    clang.args(["--target=i686-pc-windows-msvc", "-g", "-gcodeview", "-c", "-o"]).arg(&object).arg(&source);
    toolchain::run(&mut clang).unwrap();
    let mut link = Command::new(tools.lld_link);
    link.args(["/nologo", "/nodefaultlib", "/entry:start", "/subsystem:console", "/safeseh:no", "/debug"]);
    toolchain::run(link.arg(format!("/out:{}", image.display())).arg(&object)).unwrap();
    image
}
