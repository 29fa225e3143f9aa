//! Programs of the suites in two layouts, to be run: live tests replace every function of one by that of the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::binaries;
use crate::digest;
use crate::suite::compile::{Objects, Tools};
use crate::suite::configuration::Configuration;
use crate::suite::link;
use crate::suite::subjects::{self, Kind, Subject};
use crate::suite::variants::Layout;

/// As programs are shipped.
const CONFIGURATION: Configuration = Configuration { optimisation: "2", sections: true };

/// Where else the linker puts the objects: in another order, at another base.
const RELINKED: Layout = Layout { order: Some(3), other_base: true, folded: false, extra: false, prepended: false };

/// Builds the program called `name`, if it is not up to date, in two layouts of the same objects. It is ready to be run.
///
/// # Errors
/// When there is no such program, or it cannot be built.
pub fn build(name: &str) -> Result<[PathBuf; 2]> {
    let subject = subjects::all()?.into_iter().find(|subject| subject.name == name);
    let subject = subject.with_context(|| format!("no program is called {name}"))?;
    build_pair([&subject, &subject])
}

/// As [`build`], of a program whose old and new build are compiled differently.
///
/// # Errors
/// When it cannot be built.
pub fn build_pair(pair: [&Subject; 2]) -> Result<[PathBuf; 2]> {
    // Tests that run at the same time share libraries, and may want the same program.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let tools = Tools::find()?;
    let link = |subject, folder, layout| {
        let objects = Objects { subject, configuration: CONFIGURATION, prepended: false };
        objects.make(&tools)?;
        link_once(&tools, &objects, layout, folder)
    };
    let [old, new] = pair;
    Ok([link(old, "live-old", Layout::default())?, link(new, "live-relinked", RELINKED)?])
}

/// The image in a folder of its own, which no suite empties. Linked anew only where the objects are others.
fn link_once(tools: &Tools, objects: &Objects<'_>, layout: Layout, folder: &str) -> Result<PathBuf> {
    let parent = objects.folder().parent().map(Path::to_path_buf).context("the objects are in no folder")?;
    let folder = parent.join(folder);
    let stamp = stamp(tools, objects, layout)?;
    let (image, stamp_file) = (folder.join("program.exe"), folder.join("stamp"));
    if !(image.is_file() && fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp)) {
        let inputs = link::inputs(objects, layout)?;
        link::link_inputs(tools, objects.subject.kind, &inputs, layout, &folder)?;
        fs::write(stamp_file, stamp)?;
    }
    place_needed(objects.subject, &folder)?;
    Ok(image)
}

fn stamp(tools: &Tools, objects: &Objects<'_>, layout: Layout) -> Result<String> {
    let mut stamp = format!("{layout}\n");
    for input in objects.objects()?.into_iter().chain([tools.msvc.runtime()]) {
        stamp.push_str(&digest::of(&fs::read(&input)?));
        stamp.push('\n');
    }
    Ok(stamp)
}

fn place_needed(subject: &Subject, folder: &Path) -> Result<()> {
    if subject.kind == Kind::Rust { binaries::place_process_prng(folder) } else { Ok(()) }
}
