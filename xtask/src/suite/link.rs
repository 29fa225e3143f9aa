//! Links the objects of a program into one of its layouts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::digest::Inputs;
use crate::suite::compile::{Objects, Tools};
use crate::suite::subjects::Kind;
use crate::suite::variants::Layout;
use crate::toolchain;

/// The base address of the layouts that have another one than the linker's default, 0x140000000.
const OTHER_BASE: &str = "0x180000000";

const MSVC: [&str; 8] = [
    "/nologo",
    "/nodefaultlib",
    "/subsystem:console",
    "/debug",
    "/Brepro",
    "/pdbaltpath:%_PDB%",
    "/lldmap:program.map",
    "/demangle:no",
];

/// Links `objects`; returns the image. Its PDB is beside it.
pub fn link(tools: &Tools, objects: &Objects<'_>, layout: Layout) -> Result<PathBuf> {
    let Some(parent) = objects.folder().parent().map(Path::to_path_buf) else {
        bail!("no folder for the images");
    };
    let inputs = inputs(objects, layout)?;
    link_inputs(tools, objects.subject.kind, &inputs, layout, &parent.join(layout.to_string()))
}

/// What a layout is linked from, in its order.
pub fn inputs(objects: &Objects<'_>, layout: Layout) -> Result<Vec<PathBuf>> {
    let mut inputs = objects.objects()?;
    if let Some(seed) = layout.order {
        shuffle(&mut inputs, seed);
    }
    if layout.extra {
        inputs.insert(0, objects.extra());
    }
    Ok(inputs)
}

/// Links these objects in this order into a folder; returns the image. The PDB and the linker's map are beside it.
pub fn link_inputs(tools: &Tools, kind: Kind, inputs: &[PathBuf], layout: Layout, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let mut command = match kind {
        Kind::Mingw => mingw(tools, inputs, layout),
        kind => msvc(tools, kind, inputs, layout),
    };
    toolchain::run(command.current_dir(folder))?;
    Ok(folder.join("program.exe"))
}

/// The linker's map of an image: which section of which object came where.
pub fn map_of(image: &Path) -> PathBuf {
    image.with_extension("map")
}

/// Removes the image's whole folder.
pub fn remove(image: &Path) -> Result<()> {
    match image.parent() {
        Some(folder) if folder.exists() => fs::remove_dir_all(folder).map_err(Into::into),
        _ => Ok(()),
    }
}

fn mingw(tools: &Tools, inputs: &[PathBuf], layout: Layout) -> Command {
    let mut command = Command::new(tools.toolchain.clang);
    command.args(["--target=x86_64-w64-windows-gnu", &format!("-fuse-ld={}", tools.toolchain.linker_name)]);
    command.args(inputs).args(["-o", "program.exe", "-Wl,--pdb=program.pdb", "-Wl,--no-insert-timestamp"]);
    command.args(["-Wl,-Map=program.map", "-Wl,--no-demangle"]);
    command.arg(if layout.folded { "-Wl,--icf=all" } else { "-Wl,--icf=none" });
    if layout.other_base {
        command.arg(format!("-Wl,--image-base={OTHER_BASE}"));
    }
    command
}

fn msvc(tools: &Tools, kind: Kind, inputs: &[PathBuf], layout: Layout) -> Command {
    let mut command = Command::new(tools.toolchain.lld_link);
    command.args(MSVC).args(["/out:program.exe", "/pdb:program.pdb"]).args(inputs);
    command.arg(if layout.folded { "/opt:ref,icf" } else { "/opt:ref,noicf" });
    command.arg(if kind == Kind::Freestanding { "/entry:entry" } else { "/entry:mainCRTStartup" });
    match kind {
        Kind::Freestanding => command.arg(tools.msvc.import("kernel32")),
        _ => command.arg(tools.msvc.runtime()).args(tools.msvc.imports()),
    };
    if layout.other_base {
        command.arg(format!("/base:{OTHER_BASE}"));
    }
    command
}

/// Another order that depends on the seed and on the files' names alone.
fn shuffle(inputs: &mut [PathBuf], seed: u32) {
    inputs.sort_by_cached_key(|path| {
        let mut key = Inputs::default();
        key.add("seed", &seed.to_le_bytes());
        key.add("name", path.file_name().unwrap_or_default().as_encoded_bytes());
        key.hex()
    });
}
