//! Compiles a program once for each configuration, into a folder with a stamp.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::digest::Inputs;
use crate::msvc_abi::MsvcAbi;
use crate::suite::configuration::Configuration;
use crate::suite::subjects::{Kind, Subject};
use crate::toolchain::{self, Toolchain};
use crate::workspace;

/// What all objects are compiled and linked with.
pub struct Tools {
    /// Compilers and linkers.
    pub toolchain: Toolchain,
    /// Libraries for Microsoft's ABI.
    pub msvc: MsvcAbi,
    /// The version of rustc, as a part of stamps.
    pub rustc: String,
}

impl Tools {
    /// Finds or makes everything.
    pub fn find() -> Result<Self> {
        let toolchain = Toolchain::find()?;
        let msvc = MsvcAbi::make(&toolchain)?;
        let rustc = toolchain::output(Command::new("rustc").arg("--version"))?;
        Ok(Self { toolchain, msvc, rustc })
    }

    /// Everything but the sources that objects depend on.
    pub fn described(&self, kind: Kind, configuration: Configuration) -> String {
        let (versions, rustc) = (&self.toolchain.versions, &self.rustc);
        let (c, rust) = (configuration.clang_flags(), configuration.rustc_flags());
        format!("{versions} {rustc} {CLANG:?} {:?} {c:?} {RUSTC:?} {rust:?}", kind_flags(kind))
    }
}

/// Objects of one program in one configuration.
pub struct Objects<'a> {
    /// The program.
    pub subject: &'a Subject,
    /// How it is compiled.
    pub configuration: Configuration,
    /// Whether unused functions stand in front of each source.
    pub prepended: bool,
}

/// The unused functions and data that some variants add.
fn extra_source() -> PathBuf {
    workspace::testdata().join("suite").join("extra.c")
}

/// Everything of a suite is below this folder.
pub fn folder() -> PathBuf {
    workspace::target().join("suite")
}

const CLANG: [&str; 6] =
    ["-g", "-gcodeview", "-ffile-compilation-dir=.", "-mno-incremental-linker-compatible", "-Wno-everything", "-c"];

fn kind_flags(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Mingw => &["--target=x86_64-w64-windows-gnu"],
        Kind::Msvc => {
            &["--target=x86_64-pc-windows-msvc", "-std=c++20", "-fexceptions", "-fcxx-exceptions", "-nostdinc"]
        }
        Kind::Freestanding | Kind::Rust => &["--target=x86_64-pc-windows-msvc", "-ffreestanding", "-DHPGEN_NO_RUNTIME"],
    }
}

impl Objects<'_> {
    /// Where they are.
    pub fn folder(&self) -> PathBuf {
        let part = if self.prepended { "prepended" } else { "obj" };
        folder().join(&self.subject.name).join(self.configuration.folder()).join(part)
    }

    /// Takes the objects away from where the images' PDBs say they are, until the result is dropped.
    pub fn hide(&self) -> Result<Hidden> {
        let folder = self.folder();
        let away = folder.with_extension("hidden");
        if folder.exists() {
            fs::rename(&folder, &away).with_context(|| format!("cannot rename {}", folder.display()))?;
        }
        Ok(Hidden { folder, away })
    }

    /// The object with nothing but unused functions. It has no sections of its own for them: the linker keeps it whole.
    pub fn extra(&self) -> PathBuf {
        self.folder().join("extra.o")
    }

    /// Compiles what is not there or was made of something else.
    pub fn make(&self, tools: &Tools) -> Result<()> {
        let folder = self.folder();
        let stamp = self.stamp(tools)?;
        let stamp_file = folder.join("stamp");
        if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
            return Ok(());
        }
        for old in [&folder, &folder.with_extension("hidden")].into_iter().filter(|old| old.exists()) {
            fs::remove_dir_all(old).with_context(|| format!("cannot empty {}", old.display()))?;
        }
        fs::create_dir_all(&folder)?;
        self.compile_extra(tools)?;
        if self.subject.kind == Kind::Rust {
            self.compile_rust(tools)?
        } else {
            self.compile_c(tools)?
        }
        fs::write(stamp_file, stamp).map_err(Into::into)
    }

    /// The objects in the order in which the compiler or the program's list gives them.
    pub fn objects(&self) -> Result<Vec<PathBuf>> {
        if self.subject.kind == Kind::Rust {
            return listed_inputs(&self.folder());
        }
        let folder = self.folder();
        Ok(self.subject.modules.iter().map(|(module, _)| folder.join(object_name(module))).collect())
    }

    fn stamp(&self, tools: &Tools) -> Result<String> {
        let mut inputs = Inputs::default();
        inputs.add("tools", tools.described(self.subject.kind, self.configuration).as_bytes());
        inputs.add("extra", &fs::read(extra_source())?);
        for (name, bytes) in self.subject.inputs()? {
            inputs.add(&name, &bytes);
        }
        Ok(inputs.hex())
    }

    fn compile_extra(&self, tools: &Tools) -> Result<()> {
        let mut command = clang(tools, self.subject, &self.folder());
        command.args(["-x", if self.subject.kind == Kind::Msvc { "c++" } else { "c" }]);
        command.args([&format!("-O{}", self.configuration.optimisation), "-fno-function-sections"]);
        toolchain::run(command.arg(extra_source()).args(["-o", "extra.o"]))
    }

    fn compile_c(&self, tools: &Tools) -> Result<()> {
        let Subject { modules, includes, .. } = self.subject;
        for (module, source) in modules {
            let mut command = clang(tools, self.subject, &self.folder());
            if self.prepended {
                command.arg(format!("-DHPGEN_EXTRA=hpgen_extra_{module}")).arg("-include").arg(extra_source());
            }
            compile_module(&mut command, self.configuration, includes, source, &object_name(module))?;
        }
        Ok(())
    }

    fn compile_rust(&self, tools: &Tools) -> Result<()> {
        ensure!(!self.prepended, "functions in front of Rust sources change how the crate is cut into units");
        let (_, source) = self.subject.modules.first().context("a crate without a source")?;
        compile_crate(tools, self.configuration, &self.folder(), source)
    }
}

/// The name of a C or C++ module's object.
pub fn object_name(module: &str) -> String {
    format!("{module}.o")
}

/// clang as it compiles a program, in a folder.
pub fn clang(tools: &Tools, subject: &Subject, folder: &Path) -> Command {
    let mut command = Command::new(tools.toolchain.clang);
    command.current_dir(folder).args(CLANG).args(kind_flags(subject.kind)).args(&subject.definitions);
    command
}

/// Compiles one source with [`clang`].
pub fn compile_module(
    clang: &mut Command,
    configuration: Configuration,
    includes: &[PathBuf],
    source: &Path,
    object: &str,
) -> Result<()> {
    clang.args(configuration.clang_flags());
    for folder in includes {
        clang.arg("-I").arg(folder);
    }
    toolchain::run(clang.arg(source).args(["-o", object]))
}

/// Compiles and links a crate in a folder, and takes from the linker's own record of its inputs what it was given.
pub fn compile_crate(tools: &Tools, configuration: Configuration, folder: &Path, source: &Path) -> Result<()> {
    let mut command = Command::new("rustc");
    // `-Zfunction-sections` is not stable.
    command.env("RUSTC_BOOTSTRAP", "1").current_dir(folder).args(RUSTC).args(configuration.rustc_flags());
    command.arg(format!("-Clinker={}", tools.toolchain.lld_link));
    command.arg(format!("-Clink-arg=/libpath:{}", tools.msvc.folder().display()));
    command.args(["-Clink-arg=/reproduce:linked.tar", "-o", "linked.exe"]);
    toolchain::run(command.arg(source))?;
    toolchain::run(Command::new("tar").current_dir(folder).args(["-xf", "linked.tar"]))?;
    let list = toolchain::output(Command::new("tar").current_dir(folder).args(["-tf", "linked.tar"]))?;
    fs::write(folder.join(LISTED), list)?;
    fs::remove_file(folder.join("linked.tar")).map_err(Into::into)
}

/// The objects and Rust libraries that rustc gave to the linker when a crate was compiled in `folder`, in its order.
pub fn listed_inputs(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_to_string(folder.join(LISTED))?;
    let is_input = |line: &&str| [".o", ".rlib"].iter().any(|ending| line.ends_with(ending));
    Ok(list.lines().filter(is_input).map(|line| folder.join(Path::new(line))).collect())
}

/// What the linker was given, a line each.
const LISTED: &str = "linked.txt";

/// A folder of objects that is not where it was.
pub struct Hidden {
    folder: PathBuf,
    away: PathBuf,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Should it fail, the stamp is missing the next time and the objects are compiled anew.
        let _ = fs::rename(&self.away, &self.folder);
    }
}

const RUSTC: [&str; 6] = [
    "--edition=2024",
    "--target=x86_64-pc-windows-msvc",
    "-Clinker-flavor=lld-link",
    "-Cdebuginfo=2",
    "-Ccodegen-units=8",
    "--remap-path-prefix=/=c:/",
];
