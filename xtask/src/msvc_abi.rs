//! What programs in Microsoft's ABI are linked with, made here without a Windows SDK: import libraries for the DLLs that Wine (or
//! Windows) has, and the start-up object (`testdata/msvc_abi/start.c`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::digest::{self, Inputs};
use crate::toolchain::{self, Toolchain, tool};
use crate::workspace;

/// The DLLs that import libraries are made for. A name that several export (`memcpy`) is imported from the first, whatever the
/// order in which a linker gets the libraries.
const DLLS: [&str; 9] =
    ["vcruntime140", "vcruntime140_1", "ucrtbase", "kernel32", "ntdll", "advapi32", "ws2_32", "userenv", "dbghelp"];

/// Those that together with the start-up object are Microsoft's C runtime, as `msvcrt.lib` stands for it.
const RUNTIME: [&str; 3] = ["vcruntime140", "vcruntime140_1", "ucrtbase"];

/// What the start-up object defines and a DLL exports as well.
const START_DEFINES: &str = "__chkstk";

/// Where 64-bit DLLs are: Debian's Wine, Wine built from source, Windows.
const DLL_FOLDERS: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/wine/x86_64-windows", "/usr/local/lib/wine/x86_64-windows", r"C:\Windows\System32"];

const COMPILE: [&str; 10] = [
    "--target=x86_64-pc-windows-msvc",
    "-O2",
    "-g",
    "-gcodeview",
    "-ffreestanding",
    // Left out where there is no runtime, and yet walks of the stack go through the entry point.
    "-funwind-tables",
    "-ffile-compilation-dir=.",
    "-mno-incremental-linker-compatible",
    "-Wall",
    "-c",
];

/// The folder with the libraries, ready to be linked with.
#[derive(Debug, Clone)]
pub struct MsvcAbi {
    folder: PathBuf,
}

impl MsvcAbi {
    /// Makes what is missing, or was made of something else, below the target folder.
    ///
    /// # Errors
    /// When a tool or a DLL is missing, or a tool fails.
    pub fn make(tools: &Toolchain) -> Result<Self> {
        let made = Self { folder: workspace::target().join("msvc-abi") };
        let dlls = dlls()?;
        let stamp = made.stamp(tools, &dlls)?;
        let stamp_file = made.folder.join("stamp");
        if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
            return Ok(made);
        }
        fs::create_dir_all(&made.folder).with_context(|| format!("cannot make {}", made.folder.display()))?;
        let mut taken: BTreeSet<String> = [START_DEFINES.to_owned()].into();
        for (name, dll) in &dlls {
            let exports = exports(dll)?;
            made.import_library(tools, name, exports.iter().filter(|export| !taken.contains(*export)))?;
            taken.extend(exports);
        }
        made.start_object(tools)?;
        made.runtime_library()?;
        fs::write(stamp_file, stamp)?;
        Ok(made)
    }

    /// The folder of all libraries.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All import libraries.
    pub fn imports(&self) -> impl Iterator<Item = PathBuf> {
        DLLS.into_iter().map(|dll| self.import(dll))
    }

    /// The import library of one DLL.
    pub fn import(&self, dll: &str) -> PathBuf {
        self.folder.join(format!("{dll}.lib"))
    }

    /// The start-up object and the C runtime's import libraries as one library.
    pub fn runtime(&self) -> PathBuf {
        self.folder.join("msvcrt.lib")
    }

    fn stamp(&self, tools: &Toolchain, dlls: &[(&str, PathBuf)]) -> Result<String> {
        let mut inputs = Inputs::default();
        inputs.add("tools", tools.versions.as_bytes()).add("flags", format!("{COMPILE:?}").as_bytes());
        inputs.add("start", &fs::read(start_source())?).add("names", b"each from the first DLL");
        for (name, dll) in dlls {
            inputs.add(name, digest::of(&fs::read(dll)?).as_bytes());
        }
        Ok(inputs.hex())
    }

    fn import_library<'a>(
        &self,
        tools: &Toolchain,
        name: &str,
        exports: impl Iterator<Item = &'a String>,
    ) -> Result<()> {
        let definition = self.folder.join(format!("{name}.def"));
        let mut text = format!("LIBRARY {name}.dll\nEXPORTS\n");
        for export in exports {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{export}");
        }
        fs::write(&definition, text)?;
        let mut command = Command::new(tools.dlltool);
        command.args(["-m", "i386:x86-64", "-d"]).arg(definition).arg("-l").arg(self.import(name));
        toolchain::run(&mut command)
    }

    fn start_object(&self, tools: &Toolchain) -> Result<()> {
        let mut command = Command::new(tools.clang);
        command.current_dir(&self.folder).args(COMPILE).arg(start_source()).args(["-o", "start.obj"]);
        toolchain::run(&mut command)
    }

    fn runtime_library(&self) -> Result<()> {
        let mut command = Command::new(tool(&["llvm-lib-19", "llvm-lib"])?);
        command.current_dir(&self.folder).args(["/nologo", "/out:msvcrt.lib", "start.obj"]);
        toolchain::run(command.args(RUNTIME.map(|name| format!("{name}.lib"))))
    }
}

fn start_source() -> PathBuf {
    workspace::testdata().join("msvc_abi").join("start.c")
}

fn dlls() -> Result<Vec<(&'static str, PathBuf)>> {
    let find = |name: &'static str| {
        let mut places = DLL_FOLDERS.iter().map(|folder| Path::new(folder).join(format!("{name}.dll")));
        let dll = places.find(|path| path.is_file());
        Ok((name, dll.with_context(|| format!("no {name}.dll in {}: is Wine here?", DLL_FOLDERS.join(" or ")))?))
    };
    DLLS.into_iter().map(find).collect()
}

/// The names that a DLL exports; those that it exports by number only are left out.
fn exports(dll: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(tool(&["llvm-readobj-19", "llvm-readobj"])?);
    let text = toolchain::output(command.arg("--coff-exports").arg(dll))?;
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("Name: "));
    let names: Vec<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    ensure!(!names.is_empty(), "{} exports nothing", dll.display());
    Ok(names)
}
