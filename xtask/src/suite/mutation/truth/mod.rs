//! What a mutation changed, read from the object files alone: no line of hpgen's own code has a say in it.

pub mod contents;
pub mod link_map;
pub mod object_file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use contents::{Aliases, Build, Contents, Places};
use link_map::LinkMap;
use object_file::ObjectFile;

/// What the objects of one image define, and where it came.
#[derive(Debug)]
pub struct Truth {
    build: Build,
    modules: Modules,
    things: Things,
    /// What other objects and libraries bring because these objects ask for it; with an address where the map has one.
    outside: BTreeMap<String, Option<u32>>,
    /// The image's map.
    pub map: LinkMap,
}

/// By kind, name, and module of what only one module can see.
type Things = BTreeMap<Key, Vec<Thing>>;

type Key = (Kind, String, String);

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A function with its funclets.
    Function,
    /// Something that the program can write to.
    Variable,
    /// Something that it cannot.
    Constant,
    /// Something of another object or a library, which the linker took or left.
    Outside,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Thing {
    address: u32,
    digest: String,
    /// Without the lines and columns that panics name.
    digest_without_places: String,
}

/// One function, variable or constant that is not the same in both builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is.
    pub kind: Kind,
    /// Linkage name.
    pub name: String,
    /// Its address in the old image, and those of equal copies of the same name; none if it is not there.
    pub old: Vec<u32>,
    /// The same in the new image.
    pub new: Vec<u32>,
    /// Whether nothing differs but places in the source that panics name.
    pub is_cosmetic: bool,
}

/// Whether a module's own names can be told apart by their module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modules {
    /// C and C++: the same local name in two modules means two things.
    Sources,
    /// Rust: a module is a unit that the compiler cuts as it likes; local names say where they come from.
    Units,
}

impl Truth {
    /// Reads the objects of an image and its map.
    pub fn read(objects: &[PathBuf], map: &Path, modules: Modules) -> Result<Truth> {
        let objects: Vec<ObjectFile> = objects.iter().map(|path| ObjectFile::read(path)).collect::<Result<_>>()?;
        Ok(Self::of(objects, LinkMap::read(map)?, modules))
    }

    /// What these objects define of an image.
    pub fn of(objects: Vec<ObjectFile>, map: LinkMap, modules: Modules) -> Truth {
        let build = Build::new(objects);
        let outside = outside(&build.objects, &map);
        let mut truth = Truth { build, modules, outside, map, things: BTreeMap::new() };
        truth.things = truth.things(&Aliases::new());
        truth
    }

    fn things(&self, aliases: &Aliases) -> Things {
        let contents = Contents::new(&self.build, aliases, Places::Count);
        let without_places = Contents::new(&self.build, aliases, Places::DoNotCount);
        let mut things = Things::new();
        for (index, object) in self.build.objects.iter().enumerate() {
            // Of several local symbols of one name, each takes the next address of that name.
            let mut used: BTreeMap<&str, usize> = BTreeMap::new();
            let mut seen: BTreeSet<usize> = BTreeSet::new();
            for symbol in object.symbols.iter().filter(|symbol| !symbol.is_section) {
                let Some((section, offset)) = symbol.place else { continue };
                let Some(found) = object.sections.get(section) else { continue };
                let kind = match found.kind {
                    object_file::Kind::Code => Kind::Function,
                    object_file::Kind::Writable => Kind::Variable,
                    object_file::Kind::ReadOnly => Kind::Constant,
                    _ => continue,
                };
                // A section of code is one function; other names in it are labels and funclets.
                if kind == Kind::Function && (offset != 0 || !seen.insert(section)) {
                    continue;
                }
                let next = used.entry(&symbol.name).or_default();
                let Some(address) = self.map.addresses(&object.name, &symbol.name).get(*next).copied() else {
                    continue;
                };
                *next += 1;
                let piece = (index, section, offset);
                let digest_of = |contents: &Contents<'_>| match kind {
                    Kind::Function => contents.code(index, section),
                    _ => [vec![contents.data(piece)], contents.code_behind_labels(piece)].concat().join(" "),
                };
                let digest = digest_of(&contents);
                let digest_without_places = match self.modules {
                    Modules::Units => digest_of(&without_places),
                    Modules::Sources => digest.clone(),
                };
                let is_shared = symbol.is_external || self.modules == Modules::Units;
                let module = if is_shared { String::new() } else { object.name.clone() };
                let name = contents::stable(&symbol.name);
                let name = aliases.get(name).map_or(name, String::as_str).to_owned();
                things.entry((kind, name, module)).or_default().push(Thing { address, digest, digest_without_places });
            }
        }
        things
    }

    /// Everything that is not the same in `new`.
    pub fn changes(&self, new: &Truth) -> Vec<Change> {
        let mut aliases = Aliases::new();
        let mut things = new.things.clone();
        // Each round may find more: a function that calls a renamed one is the same only once that is known.
        loop {
            let more = renamed(&self.things, &things);
            if more.is_empty() {
                break;
            }
            aliases.extend(more);
            things = new.things(&aliases);
        }
        let mut changes = self.changes_outside(new);
        let keys: BTreeSet<&Key> = self.things.keys().chain(things.keys()).collect();
        for key in keys {
            let (gone, come) = unequal(&self.things, &things, key);
            for index in 0..gone.len().max(come.len()) {
                let (old, new) = (gone.get(index), come.get(index));
                let (kind, name, _) = key;
                changes.push(Change {
                    kind: *kind,
                    name: name.clone(),
                    old: equal_copies(&self.things, key, old),
                    new: equal_copies(&things, key, new),
                    is_cosmetic: old.zip(new).is_some_and(|(a, b)| a.digest_without_places == b.digest_without_places),
                });
            }
        }
        changes
    }

    fn changes_outside(&self, new: &Truth) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, address) in self.outside.iter().filter(|(name, _)| !new.outside.contains_key(*name)) {
            changes.push(outside_change(name, *address, None));
        }
        for (name, address) in new.outside.iter().filter(|(name, _)| !self.outside.contains_key(*name)) {
            changes.push(outside_change(name, None, *address));
        }
        changes
    }
}

fn outside_change(name: &str, old: Option<u32>, new: Option<u32>) -> Change {
    let (old, new) = (old.into_iter().collect(), new.into_iter().collect());
    Change { kind: Kind::Outside, name: name.to_owned(), old, new, is_cosmetic: false }
}

/// A thing's address and those of its equals. Which of them became something else, nobody can tell.
fn equal_copies(things: &Things, key: &Key, thing: Option<&Thing>) -> Vec<u32> {
    let copies = things.get(key).into_iter().flatten();
    let equal = copies.filter(|copy| thing.is_some_and(|thing| thing.digest == copy.digest));
    equal.map(|copy| copy.address).collect()
}

/// The old and new things of a name, without those that are the same. A copy more or less of something that stays is no change.
fn unequal(olds: &Things, news: &Things, key: &Key) -> (Vec<Thing>, Vec<Thing>) {
    let of = |things: &Things| things.get(key).cloned().unwrap_or_default();
    let without = |mut things: Vec<Thing>, others: &[Thing]| {
        things.retain(|thing| others.iter().all(|other| other.digest != thing.digest));
        things
    };
    (without(of(olds), &of(news)), without(of(news), &of(olds)))
}

/// Functions that came in place of others that say the same: new name, old name. LLVM merges equal functions, and which of
/// the names stays depends on the rest of the unit.
fn renamed(olds: &Things, news: &Things) -> Aliases {
    let only = |here: &Things, there: &Things| {
        let only = here
            .iter()
            .filter(|(key, things)| key.0 == Kind::Function && things.len() == 1 && !there.contains_key(*key));
        only.map(|((_, name, _), things)| (name.clone(), things.clone())).collect::<Vec<_>>()
    };
    let mut gone = only(olds, news);
    let mut aliases = Aliases::new();
    for (name, new) in only(news, olds) {
        if let Some(place) = gone.iter().position(|(_, old)| old.iter().zip(&new).all(|(a, b)| a.digest == b.digest)) {
            let (old_name, _) = gone.remove(place);
            aliases.insert(name, old_name);
        }
    }
    aliases
}

/// Names that these objects ask for and do not define, and all that the map has of other objects.
fn outside(objects: &[ObjectFile], map: &LinkMap) -> BTreeMap<String, Option<u32>> {
    let own: BTreeSet<&str> = objects.iter().map(|object| object.name.as_str()).collect();
    let symbols = objects.iter().flat_map(|object| &object.symbols).filter(|symbol| symbol.is_external);
    let (defined, undefined): (Vec<_>, Vec<_>) = symbols.partition(|symbol| symbol.place.is_some());
    let defined: BTreeSet<&str> = defined.into_iter().map(|symbol| symbol.name.as_str()).collect();
    let undefined = undefined.into_iter().filter(|symbol| !defined.contains(symbol.name.as_str()));
    let mut outside: BTreeMap<String, Option<u32>> = undefined.map(|symbol| (symbol.name.clone(), None)).collect();
    for (_, symbol, address) in map.symbols().filter(|(object, ..)| !own.contains(object)) {
        outside.insert(symbol.to_owned(), Some(address));
    }
    outside
}
