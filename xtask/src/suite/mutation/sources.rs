//! The sources of a program that are mutated, and their mutations.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::active;
use super::lexer::Language;
use super::mutator::{self, Edit, Mutation};
use super::plan::Group;
use crate::digest;
use crate::suite::compile::{self, Tools};
use crate::suite::subjects::{Kind, Subject};

/// A source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// File name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The module that is compiled of it; none if it is a part of all modules.
    pub module: Option<String>,
}

/// The files of a program, as the compiler finds them below `src`.
#[derive(Debug)]
pub struct Sources {
    /// All of them.
    pub files: Vec<Source>,
    /// Folders of headers that are never mutated.
    pub includes: Vec<PathBuf>,
}

impl Sources {
    /// Reads the sources of a program.
    pub fn read(subject: &Subject) -> Result<Sources> {
        let mut files = Vec::new();
        let read = |path: &Path, module: Option<&String>| {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            anyhow::Ok(Source { name, text, module: module.cloned() })
        };
        // One unit of Rust is never compiled without the others.
        let is_whole = subject.kind == Kind::Rust;
        for (module, path) in &subject.modules {
            files.push(read(path, Some(module).filter(|_| !is_whole))?);
        }
        let known: Vec<&Path> = subject.modules.iter().map(|(_, path)| path.as_path()).collect();
        let endings: &[&str] = match subject.kind {
            // Headers of other people's C are macros and declarations.
            Kind::Mingw => &[],
            Kind::Msvc | Kind::Freestanding => &[".h"],
            Kind::Rust => &[".rs"],
        };
        for folder in &subject.includes {
            for ending in endings {
                for path in crate::suite::subjects::files(folder, ending)? {
                    if !known.contains(&path.as_path()) {
                        files.push(read(&path, None)?);
                    }
                }
            }
        }
        let includes = if subject.kind == Kind::Mingw { subject.includes.clone() } else { vec!["src".into()] };
        Ok(Sources { files, includes })
    }

    /// The mutations of one kind in all files, each with its file's index.
    pub fn mutations(&self, tools: &Tools, subject: &Subject, folder: &Path) -> Result<Vec<(usize, Mutation)>> {
        let mut found = Vec::new();
        for (index, source) in self.files.iter().enumerate() {
            // All fixtures share this file.
            if source.name.starts_with("support.") {
                continue;
            }
            let language = Language::of(&source.name);
            let text = match &source.module {
                Some(_) => {
                    let mut clang = compile::clang(tools, subject, folder);
                    for include in &self.includes {
                        clang.arg("-I").arg(include);
                    }
                    active::active(
                        &source.text,
                        &folder.join("src").join(format!("marked_{}", source.name)),
                        &mut clang,
                    )?
                }
                None => source.text.clone(),
            };
            found.extend(mutator::mutations(&text, language).into_iter().map(|mutation| (index, mutation)));
        }
        found.sort_by_cached_key(|(index, mutation)| {
            let name = self.files.get(*index).map_or("", |source| &source.name);
            digest::of(format!("{name} {:?} {}", mutation.edit, mutation.range.start).as_bytes())
        });
        Ok(found)
    }

    /// Writes the files that a module needs below `src` in a folder, with a mutation made.
    pub fn write(&self, folder: &Path, mutation: Option<&(usize, Mutation)>) -> Result<()> {
        let folder = folder.join("src");
        fs::create_dir_all(&folder)?;
        for (index, source) in self.files.iter().enumerate() {
            let text = match mutation {
                Some((of, mutation)) if *of == index => {
                    mutation.apply(&source.text).context("a mutation outside of its source")?
                }
                _ => source.text.clone(),
            };
            fs::write(folder.join(&source.name), text)?;
        }
        Ok(())
    }
}

/// The mutations that one place of a plan may take, in order: those of its own kind first. No two places share one.
pub fn choices<'m>(
    mutations: &'m [(usize, Mutation)],
    group: &Group<'_>,
    place: usize,
) -> impl Iterator<Item = &'m (usize, Mutation)> {
    let (places, first_edit) = (group.all, group.first_edit);
    let kinds = mutator::EDITS.len();
    let in_turn = (0..kinds).filter_map(move |turn| mutator::EDITS.get((first_edit + place + turn) % kinds).copied());
    in_turn.flat_map(move |edit: Edit| {
        mutations.iter().filter(move |(_, mutation)| mutation.edit == edit).skip(place).step_by(places.max(1))
    })
}
