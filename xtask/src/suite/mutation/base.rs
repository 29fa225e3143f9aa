//! A program before its mutations: compiled, linked and read once for each configuration.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hpgen_diff::program::Program;

use super::mutator::Mutation;
use super::plan::Group;
use super::sources::Sources;
use super::truth::{Modules, Truth};
use crate::digest::Inputs;
use crate::suite::compile::{self, Tools};
use crate::suite::link;
use crate::suite::subjects::Kind;
use crate::suite::variants::Layout;

/// The unchanged build of a group.
pub struct Base<'a> {
    /// What it is of.
    pub group: Group<'a>,
    /// Its sources.
    pub sources: Sources,
    /// Their mutations.
    pub mutations: Vec<(usize, Mutation)>,
    /// What its objects say.
    pub truth: Truth,
    /// With its objects on disk, and without.
    pub programs: [Program; 2],
    /// Everything of the group is below this folder.
    pub folder: PathBuf,
}

/// Everything of the suite is below this folder.
pub fn folder() -> PathBuf {
    compile::folder().join("mutation")
}

impl<'a> Base<'a> {
    /// Compiles what is not there, and reads it.
    pub fn make(tools: &Tools, group: Group<'a>) -> Result<Base<'a>> {
        let folder = folder().join(&group.subject.name).join(group.configuration.folder());
        let sources = Sources::read(group.subject)?;
        let objects = folder.join("base").join("obj");
        compile(tools, group, &sources, &objects)?;
        let mutations = sources.mutations(tools, group.subject, &objects)?;
        let kind = group.subject.kind;
        let image = link_in(tools, group, &objects, &objects.with_file_name("image"))?;
        // The same image again, whose PDB leads to objects that are gone by then.
        let away = objects.with_file_name("away");
        fs::rename(&objects, &away)?;
        let without = link_in(tools, group, &away, &objects.with_file_name("image-away"));
        fs::rename(&away, &objects)?;
        let truth = Truth::read(&own_objects(group, &objects)?, &link::map_of(&image), modules(kind))?;
        let programs = [Program::load(&image, None)?, Program::load(&without?, None)?];
        Ok(Base { group, sources, mutations, truth, programs, folder })
    }
}

/// How the names of a program's modules are told apart.
pub fn modules(kind: Kind) -> Modules {
    if kind == Kind::Rust { Modules::Units } else { Modules::Sources }
}

fn compile(tools: &Tools, group: Group<'_>, sources: &Sources, objects: &Path) -> Result<()> {
    let mut stamp = Inputs::default();
    stamp.add("tools", tools.described(group.subject.kind, group.configuration).as_bytes());
    for (name, bytes) in group.subject.inputs()? {
        stamp.add(&name, &bytes);
    }
    let stamp = stamp.hex();
    let stamp_file = objects.join("stamp");
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    for old in [objects, &objects.with_file_name("away")].into_iter().filter(|old| old.exists()) {
        fs::remove_dir_all(old).with_context(|| format!("cannot empty {}", old.display()))?;
    }
    sources.write(objects, None)?;
    if group.subject.kind == Kind::Rust {
        compile_crate(tools, group, objects)?;
    }
    for source in sources.files.iter().filter(|source| source.module.is_some()) {
        compile_source(tools, group, sources, objects, &source.name)?;
    }
    fs::write(stamp_file, stamp).map_err(Into::into)
}

/// Compiles the crate whose sources are below `src` in a folder.
pub fn compile_crate(tools: &Tools, group: Group<'_>, objects: &Path) -> Result<()> {
    let (module, _) = group.subject.modules.first().context("a crate without a source")?;
    let source = Path::new("src").join(format!("{module}.rs"));
    compile::compile_crate(tools, group.configuration, objects, &source)
}

/// Compiles one of the sources below `src` in a folder. The compiler gets the same names in every folder: some come back in symbols.
pub fn compile_source(tools: &Tools, group: Group<'_>, sources: &Sources, objects: &Path, name: &str) -> Result<()> {
    let source = Path::new("src").join(name);
    let module = source.file_stem().unwrap_or_default().to_string_lossy();
    let mut clang = compile::clang(tools, group.subject, objects);
    let object = compile::object_name(&module);
    compile::compile_module(&mut clang, group.configuration, &sources.includes, &source, &object)
}

/// All objects and libraries of a build, in link order.
fn inputs(group: Group<'_>, objects: &Path) -> Result<Vec<PathBuf>> {
    if group.subject.kind == Kind::Rust {
        return compile::listed_inputs(objects);
    }
    let modules = group.subject.modules.iter();
    Ok(modules.map(|(module, _)| objects.join(compile::object_name(module))).collect())
}

/// The objects that mutations change.
pub fn own_objects(group: Group<'_>, objects: &Path) -> Result<Vec<PathBuf>> {
    let mut inputs = inputs(group, objects)?;
    inputs.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
    Ok(inputs)
}

/// Links the objects of a folder into another.
pub fn link_in(tools: &Tools, group: Group<'_>, objects: &Path, folder: &Path) -> Result<PathBuf> {
    link::link_inputs(tools, group.subject.kind, &inputs(group, objects)?, Layout::default(), folder)
}
