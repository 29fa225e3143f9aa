//! Which old atom and new atom are the same thing.

mod copies;
mod numbered;

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::atoms::{Atom, AtomIndex, AtomKind, Name};
use crate::ordinals::{is_guard, stable_name, without_ordinals};
use crate::program::Program;

/// How a pair was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// A name that the linker knows.
    LinkageName,
    /// A name inside one module, or inside one function of it.
    NameInModule,
    /// A name inside one module, of a constant that another function now holds.
    NameWithoutScope,
    /// One of several functions or constants of the same name in one module, or of several lambdas of one function, by order.
    Order,
    /// The only function or constant of its name in both programs, in another module or with another visibility.
    NameOnly,
    /// The same name but for a hash, counter or number that changes from build to build.
    NameWithoutHash,
    /// Copies of one Rust function in several units, with the same code.
    Copy,
    /// The same import.
    Import,
    /// Named by the same reference of paired atoms.
    Reference,
    /// Without a name, in the same module, doing the same.
    Content,
}

/// A relation between old and new atoms. Mostly one to one; folding makes one atom stand for several.
#[derive(Debug, Default)]
pub struct Pairing {
    to_new: HashMap<AtomIndex, Vec<AtomIndex>>,
    to_old: HashMap<AtomIndex, Vec<AtomIndex>>,
    how: HashMap<(AtomIndex, AtomIndex), How>,
    /// New atoms whose name old ones without a partner have, too: which is which, their names do not tell.
    ambiguous: HashSet<AtomIndex>,
    /// Old variables whose names left them without a partner.
    left: HashSet<AtomIndex>,
    /// The old variables that have an ambiguous new one's name, for each of its names.
    rivals: HashMap<AtomIndex, Vec<Arc<[AtomIndex]>>>,
    /// New variables among the ambiguous that references told apart.
    told_apart: HashSet<AtomIndex>,
    /// New functions that were paired by the number that the compiler gave them.
    numbered: HashMap<AtomIndex, numbered::Siblings>,
    /// Old and new functions that are kept apart, for all that their names and users say; true for old ones.
    apart: HashSet<(bool, AtomIndex)>,
}

impl Pairing {
    /// Pairs by name, module and order.
    pub fn by_name(old: &Program, new: &Program) -> Pairing {
        let mut pairing = Pairing::default();
        pairing.pair_imports(old, new);
        // From the most specific key to the least; each looks only at what the ones before it left.
        pairing.pair_by(old, new, How::LinkageName, |key, name| {
            name.local.is_none().then(|| (key, String::new(), String::new()))
        });
        pairing.pair_by(old, new, How::NameInModule, |key, name| {
            let local = name.local.as_ref()?;
            Some((key, local.module.clone(), local.scope.clone().unwrap_or_default()))
        });
        pairing.pair_by(old, new, How::NameWithoutScope, |key, name| {
            Some((key, name.local.as_ref()?.module.clone(), String::new()))
        });
        pairing.pair_by(old, new, How::NameOnly, |key, _| Some((key, String::new(), String::new())));
        // Names that hold a hash, a counter or a number, without it; last, so that the ones before it took what they could.
        pairing.pair_by(old, new, How::NameWithoutHash, |key, name| {
            let module = name.local.as_ref().map_or(String::new(), |local| local.module.clone());
            Some((stable_name(&key).into_owned(), module, String::new()))
        });
        pairing.pair_copies(old, new);
        pairing.find_numbered(old, new);
        pairing.find_ambiguous(old, new);
        pairing
    }

    /// New atoms paired with an old one.
    pub fn new_of(&self, old: AtomIndex) -> &[AtomIndex] {
        self.to_new.get(&old).map_or(&[], Vec::as_slice)
    }

    /// Old atoms paired with a new one.
    pub fn old_of(&self, new: AtomIndex) -> &[AtomIndex] {
        self.to_old.get(&new).map_or(&[], Vec::as_slice)
    }

    /// Whether the two are paired.
    pub fn is_pair(&self, old: AtomIndex, new: AtomIndex) -> bool {
        self.how.contains_key(&(old, new))
    }

    /// How the two were paired.
    pub fn how(&self, old: AtomIndex, new: AtomIndex) -> Option<How> {
        self.how.get(&(old, new)).copied()
    }

    /// Whether a new atom may be one of several old ones that its name does not tell apart.
    pub fn is_ambiguous(&self, new: AtomIndex) -> bool {
        let is_open = |old: &AtomIndex| self.new_of(*old).is_empty();
        self.ambiguous.contains(&new)
            && !self.told_apart.contains(&new)
            // Once references told where each of the old ones is, what is left is new.
            && self.rivals.get(&new).is_none_or(|rivals| rivals.iter().any(|olds| olds.iter().any(is_open)))
    }

    /// Whether two variables are of those that names alone did not pair.
    pub(crate) fn are_namesakes(&self, old: AtomIndex, new: AtomIndex) -> bool {
        self.left.contains(&old) && self.ambiguous.contains(&new)
    }

    /// Whether an old variable's name left it without a partner.
    pub(crate) fn is_left(&self, old: AtomIndex) -> bool {
        self.left.contains(&old)
    }

    /// Whether old atoms without a partner have a name of a new one.
    pub(crate) fn shares_name(&self, new: AtomIndex) -> bool {
        self.ambiguous.contains(&new)
    }

    /// Adds a pair of variables that references tell apart from others.
    pub(crate) fn add_told_apart(&mut self, old: AtomIndex, new: AtomIndex) {
        self.add(old, new, How::Reference);
        self.told_apart.insert(new);
    }

    /// All pairs in the order of the old program.
    pub fn pairs(&self) -> Vec<(AtomIndex, AtomIndex)> {
        let mut pairs: Vec<_> = self.how.keys().copied().collect();
        pairs.sort_unstable();
        pairs
    }

    /// Adds a pair; adding it again changes nothing.
    pub(crate) fn add(&mut self, old: AtomIndex, new: AtomIndex, how: How) {
        if self.apart.contains(&(true, old)) || self.apart.contains(&(false, new)) {
            return;
        }
        if let Entry::Vacant(entry) = self.how.entry((old, new)) {
            entry.insert(how);
            self.to_new.entry(old).or_default().push(new);
            self.to_old.entry(new).or_default().push(old);
        }
    }

    /// Takes a pair apart whose names do not tell that they are one.
    pub(crate) fn separate(&mut self, old: AtomIndex, new: AtomIndex) {
        self.remove(old, new);
        self.ambiguous.insert(new);
    }

    /// Takes a pair apart for good: nothing that is found later pairs either with another one.
    pub(crate) fn keep_apart(&mut self, old: AtomIndex, new: AtomIndex) {
        self.remove(old, new);
        self.apart.extend([(true, old), (false, new)]);
    }

    /// Takes a pair apart.
    pub(crate) fn remove(&mut self, old: AtomIndex, new: AtomIndex) {
        if self.how.remove(&(old, new)).is_some() {
            self.to_new.entry(old).or_default().retain(|other| *other != new);
            self.to_old.entry(new).or_default().retain(|other| *other != old);
            self.told_apart.remove(&new);
        }
    }

    fn pair_imports(&mut self, old: &Program, new: &Program) {
        let slots = |program: &Program| -> HashMap<_, Vec<AtomIndex>> {
            let mut slots: HashMap<_, Vec<AtomIndex>> = HashMap::new();
            for (index, atom) in indexed(program).filter(|(_, a)| a.kind == AtomKind::ImportSlot) {
                if let Some(slot) = program.image.import_at(atom.rva) {
                    slots.entry(slot.import.clone()).or_default().push(index);
                }
            }
            slots
        };
        let new_slots = slots(new);
        for (import, olds) in slots(old) {
            // Several slots of one import hold the same address: each old one stands for each new one.
            for new_slot in new_slots.get(&import).into_iter().flatten() {
                for old_slot in &olds {
                    self.add(*old_slot, *new_slot, How::Import);
                }
            }
        }
    }

    /// Pairs the atoms whose names give the same key, where both programs have the key equally often.
    fn pair_by<K: std::hash::Hash + Eq + Ord + Clone>(
        &mut self,
        old: &Program,
        new: &Program,
        how: How,
        key: impl Fn(String, &Name) -> Option<K>,
    ) {
        let collect = |program: &Program, is_taken: &dyn Fn(AtomIndex) -> bool| {
            let mut atoms: HashMap<(Family, K), Vec<AtomIndex>> = HashMap::new();
            for (index, atom) in indexed(program) {
                let Some(family) = Family::of(atom) else {
                    continue;
                };
                if is_taken(index) {
                    continue;
                }
                let keys = atom.names.iter().filter_map(|name| key(family.key_of(name)?.into_owned(), name));
                for key in keys {
                    atoms.entry((family, key)).or_default().push(index);
                }
            }
            atoms
        };
        // A whole name pairs folded atoms with each of their parts; a part of a name pairs only what is left.
        let is_whole = matches!(how, How::LinkageName | How::NameInModule);
        let olds = collect(old, &|index| !is_whole && self.to_new.contains_key(&index));
        let news = collect(new, &|index| !is_whole && self.to_old.contains_key(&index));
        let mut found: Vec<(AtomIndex, AtomIndex, How)> = Vec::new();
        for (key, olds) in &olds {
            let Some(news) = news.get(key).filter(|news| news.len() == olds.len()) else {
                continue;
            };
            // Which variable is which, their order does not tell: the process has a value in each. And one of another module or function is
            // another one, as far as its name tells: [`Comparison`](crate::compare::Comparison) looks who uses it.
            let is_variable = key.0 == Family::Writable;
            if (how == How::NameOnly || is_variable) && olds.len() != 1 || is_variable && !is_whole {
                continue;
            }
            let how = if olds.len() == 1 { how } else { How::Order };
            found.extend(olds.iter().zip(news).map(|(old, new)| (*old, *new, how)));
        }
        found.sort_unstable_by_key(|(old, new, _)| (*old, *new));
        for (old, new, how) in found {
            self.add(old, new, how);
        }
    }

    fn find_ambiguous(&mut self, old: &Program, new: &Program) {
        let is_left = |(index, atom): &(AtomIndex, &Atom)| {
            Family::of(atom) == Some(Family::Writable) && !self.to_new.contains_key(index)
        };
        self.left = indexed(old).filter(is_left).map(|(index, _)| index).collect();
        let mut known: HashMap<(Family, Cow<'_, str>), Vec<AtomIndex>> = HashMap::new();
        // Where all old atoms of a name have their partners, one more of that name is new.
        for (index, atom) in indexed(old).filter(|(index, _)| !self.to_new.contains_key(index)) {
            let Some(family) = Family::of(atom) else { continue };
            for name in &atom.names {
                known.entry((family, family.rival_name(name))).or_default().push(index);
            }
        }
        let known: HashMap<_, Arc<[AtomIndex]>> = known.into_iter().map(|(name, olds)| (name, olds.into())).collect();
        for (index, atom) in indexed(new).filter(|(index, _)| !self.to_old.contains_key(index)) {
            let Some(family) = Family::of(atom) else { continue };
            let names = atom.names.iter().map(|name| (family, family.rival_name(name)));
            let rivals: Vec<_> = names.filter_map(|name| known.get(&name).cloned()).collect();
            if !rivals.is_empty() {
                self.ambiguous.insert(index);
                if family == Family::Writable {
                    self.rivals.insert(index, rivals);
                }
            }
        }
    }
}

/// Atoms of different families are never the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Family {
    Code,
    ReadOnly,
    Writable,
}

impl Family {
    fn of(atom: &Atom) -> Option<Family> {
        match atom.kind {
            AtomKind::Function(_) => Some(Family::Code),
            AtomKind::ReadOnly => Some(Family::ReadOnly),
            AtomKind::Writable => Some(Family::Writable),
            AtomKind::ImportSlot => None,
        }
    }

    /// What names pair atoms of the family by. A variable's number tells nothing of what is in it, and what guards are called is nothing else.
    fn key_of(self, name: &Name) -> Option<Cow<'_, str>> {
        match self {
            Family::Writable => (!is_guard(&name.key)).then(|| stable_name(&name.key)),
            Family::Code | Family::ReadOnly => Some(Cow::Borrowed(&name.key)),
        }
    }

    /// What makes two atoms of the family candidates for being one. Hashes tell instances of a generic function apart; a variable must not
    /// start from anew because of one.
    fn rival_name(self, name: &Name) -> Cow<'_, str> {
        match self {
            Family::Writable => stable_name(&name.key),
            Family::Code => without_ordinals(&name.key),
            Family::ReadOnly => Cow::Borrowed(&name.key),
        }
    }
}

/// All atoms of a program with their indices.
pub(crate) fn indexed(program: &Program) -> impl Iterator<Item = (AtomIndex, &Atom)> {
    program.atoms.iter().enumerate().map(|(index, atom)| (AtomIndex(index as u32), atom))
}

#[cfg(test)]
#[path = "pairing_tests.rs"]
mod tests;
