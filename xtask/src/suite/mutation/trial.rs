//! One place of the plan: tries mutations until one makes another program, and judges what hpgen says of that.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;

use super::base::{self, Base};
use super::judge::{self, Judgement, Side};
use super::mutator::{Edit, Mutation};
use super::sources;
use super::truth::Truth;
use crate::suite::compile::{self, Tools};
use crate::suite::link;
use crate::suite::subjects::Kind;
use crate::suite::variants::Source;

/// Mutations that one place tries.
const MAX_TRIES: usize = 16;

/// What one place of the plan gave.
#[derive(Debug, Default)]
pub struct Trial {
    /// Mutations that do not compile.
    pub not_compiled: usize,
    /// Mutations that do not link.
    pub not_linked: usize,
    /// Mutations that make the same program.
    pub same: usize,
    /// The mutation that made another one.
    pub accepted: Option<Accepted>,
}

/// A mutation that made another program.
#[derive(Debug)]
pub struct Accepted {
    /// What it does.
    pub edit: Edit,
    /// File, line, before and after.
    pub what: String,
    /// With objects and without.
    pub judgements: Vec<(Source, Judgement)>,
    /// Where the images stay if something was found.
    pub folder: PathBuf,
}

enum Attempt {
    NotCompiled,
    NotLinked,
    Same,
    Other(Vec<(Source, Judgement)>),
}

/// Runs the trial of one place.
pub fn run(tools: &Tools, base: &Base<'_>, place: usize) -> Result<Trial> {
    let mut trial = Trial::default();
    let folder = base.folder.join(format!("mutation-{place}"));
    for choice in sources::choices(&base.mutations, &base.group, place).take(MAX_TRIES) {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let (file, mutation) = choice;
        let what = describe(base, *file, mutation);
        match attempt(tools, base, choice, &folder).with_context(|| what.clone())? {
            Attempt::NotCompiled => trial.not_compiled += 1,
            Attempt::NotLinked => trial.not_linked += 1,
            Attempt::Same => trial.same += 1,
            Attempt::Other(judgements) => {
                let is_clean =
                    |(_, judgement): &(_, Judgement)| judgement.misses.is_empty() && judgement.extras.is_empty();
                if judgements.iter().all(is_clean) {
                    fs::remove_dir_all(&folder)?;
                }
                trial.accepted = Some(Accepted { edit: mutation.edit, what, judgements, folder });
                return Ok(trial);
            }
        }
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    Ok(trial)
}

/// Characters of a mutation that are shown.
const MAX_SHOWN: usize = 60;

fn describe(base: &Base<'_>, file: usize, mutation: &Mutation) -> String {
    let Some(source) = base.sources.files.get(file) else { return String::new() };
    let shown = |text: &str| {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match words.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default()),
            None => words,
        }
    };
    let before = source.text.get(mutation.range.clone()).unwrap_or_default();
    let (name, line, after) = (&source.name, mutation.line(&source.text), &mutation.replacement);
    format!("{name}:{line}, {}: {} -> {}", mutation.edit, shown(before), shown(after))
}

fn attempt(tools: &Tools, base: &Base<'_>, choice: &(usize, Mutation), folder: &Path) -> Result<Attempt> {
    let objects = folder.join("obj");
    if !compile(tools, base, choice, &objects)? {
        return Ok(Attempt::NotCompiled);
    }
    let Ok(image) = base::link_in(tools, base.group, &objects, &folder.join("image")) else {
        return Ok(Attempt::NotLinked);
    };
    let own = base::own_objects(base.group, &objects)?;
    let truth = Truth::read(&own, &link::map_of(&image), base::modules(base.group.subject.kind))?;
    let changes = base.truth.changes(&truth);
    if changes.is_empty() {
        return Ok(Attempt::Same);
    }
    let mut judgements = Vec::new();
    for (source, old) in [Source::Objects, Source::Analysis].into_iter().zip(&base.programs) {
        if source == Source::Analysis {
            fs::rename(&objects, folder.join("objects"))?;
        }
        let new = Program::load(&image, None)?;
        let set = ChangeSet::of(old, &new, &Comparison::of(old, &new));
        let (old, new) = (Side { truth: &base.truth, program: old }, Side { truth: &truth, program: &new });
        judgements.push((source, judge::judge(&changes, source, old, new, &set)));
    }
    Ok(Attempt::Other(judgements))
}

/// Compiles what the mutation changes; takes the other objects from the base. False if it does not compile.
fn compile(tools: &Tools, base: &Base<'_>, choice: &(usize, Mutation), objects: &Path) -> Result<bool> {
    base.sources.write(objects, Some(choice))?;
    if base.group.subject.kind == Kind::Rust {
        return Ok(base::compile_crate(tools, base.group, objects).is_ok());
    }
    let changed = base.sources.files.get(choice.0).and_then(|source| source.module.as_ref());
    for source in &base.sources.files {
        let Some(module) = &source.module else { continue };
        if changed.is_some_and(|changed| changed != module) {
            let object = compile::object_name(module);
            fs::hard_link(base.folder.join("base").join("obj").join(&object), objects.join(&object))?;
        } else if base::compile_source(tools, base.group, &base.sources, objects, &source.name).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
