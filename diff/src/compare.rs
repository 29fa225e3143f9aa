//! Compares paired atoms: functions instruction by instruction, data pointer by pointer.
//!
//! A comparison of two atoms says what differs, or which further claims it rests on: that two anonymous atoms are the same thing, or
//! that two constants hold the same. Claims are followed until none is new; then a difference spreads backwards to all
//! that rest on it. Cycles count as equal unless something in them differs.

mod accesses;
mod biased_bases;
mod data;
mod exceptions;
mod functions;
mod instruction_order;
mod nameless;
mod namesakes;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::contracts::{Apart, Contracts, Parted};
use crate::cosmetic::Traces;
use crate::error::Error;
use crate::identity;
use crate::matching::{Claim, Sides};
use crate::pairing::{How, Pairing, indexed};
use crate::program::{Function, Program, pointers_in};
pub(crate) use functions::masked_bytes;
use nameless::Nameless;
use walk::{Local, compare_atoms};

/// What is known of every pair of atoms.
#[derive(Debug)]
pub struct Comparison {
    /// The pairs, those included that were found by comparing.
    pub pairing: Pairing,
    /// Outcome for each compared pair.
    outcomes: BTreeMap<(AtomIndex, AtomIndex), Outcome>,
    /// Pairs whose content something else rests on.
    rested_on: BTreeSet<(AtomIndex, AtomIndex)>,
    /// Functions that names pair, and that are not called alike.
    apart: Parted,
}

/// How two paired atoms compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// They mean the same.
    Same,
    /// They differ in traces of the build only: line numbers, source paths, dates.
    Cosmetic(Difference),
    /// They do not.
    Different(Difference),
    /// A reference has more than one reading, and which one is meant cannot be told.
    Unresolved(Difference),
}

/// The first difference of two atoms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Offset in the old atom.
    pub old_offset: u32,
    /// Offset in the new atom.
    pub new_offset: u32,
    /// What differs, in words.
    pub what: String,
}

impl Comparison {
    /// Compares two programs.
    pub fn of(old: &Program, new: &Program) -> Comparison {
        let mut comparison = Comparison::with_apart(old, new, Parted::new());
        if !comparison.has_changed_functions(old) {
            return comparison;
        }
        let contracts = Contracts::of(old, new);
        loop {
            let mut apart = contracts.broken(&comparison);
            if apart.is_empty() {
                return comparison;
            }
            // What names one of them names another function now.
            apart.append(&mut comparison.apart);
            comparison = Comparison::with_apart(old, new, apart);
        }
    }

    fn has_changed_functions(&self, old: &Program) -> bool {
        let is_function = |index: AtomIndex| old.function(index).is_some();
        self.outcomes().any(|(a, _, outcome)| outcome.is_change() && is_function(a))
    }

    /// Why an old function is not the new one that it was compared with: they are not called alike.
    pub fn apart(&self) -> &BTreeMap<(AtomIndex, AtomIndex), Apart> {
        &self.apart
    }

    /// Compares two programs of which some functions are not the same for all that their names say.
    fn with_apart(old: &Program, new: &Program, apart: Parted) -> Comparison {
        let mut pairing = Pairing::by_name(old, new);
        for (a, b) in apart.keys() {
            pairing.keep_apart(*a, *b);
        }
        let mut comparison = Comparison { pairing, outcomes: BTreeMap::new(), rested_on: BTreeSet::new(), apart };
        let mut rests_on: BTreeMap<(AtomIndex, AtomIndex), Vec<(AtomIndex, AtomIndex)>> = BTreeMap::new();
        let mut nameless = Nameless::default();
        let mut queue = comparison.pairing.pairs();
        let mut traces = Traces::of(old, new);
        // Pairs that differ in a number, which may be that of a source line.
        let mut asking = BTreeSet::new();
        let mut asked = BTreeSet::new();
        loop {
            if queue.is_empty() {
                comparison.separate_contested(&nameless);
                queue = comparison.pair_leftovers(old, new, &traces);
                if queue.is_empty() && !asking.is_empty() {
                    queue = std::mem::take(&mut asking).into_iter().collect();
                    traces.read_lines(&queue);
                }
                if queue.is_empty() {
                    queue = comparison.pair_namesakes(old, new);
                }
                if queue.is_empty() {
                    queue = comparison.equal_constants(old, new);
                }
                if queue.is_empty() {
                    break;
                }
            }
            let sides = Sides { old, new, pairing: &comparison.pairing };
            let locals: Vec<Local> = queue.par_iter().map(|(a, b)| compare_atoms(sides, &traces, *a, *b)).collect();
            traces.forget_lines();
            let mut next = BTreeSet::new();
            for (pair, local) in queue.drain(..).zip(locals) {
                let outcome = local.outcome;
                if local.asks_lines && asked.insert(pair) {
                    asking.insert(pair);
                }
                // What changed may name another variable in the place of one, also before its first difference.
                let is_witness = !outcome.is_change();
                let counts =
                    |claim: &Claim| is_witness || matches!(claim, Claim::Content(..)) || claim.is_of_functions(old);
                for claim in local.claims.into_iter().filter(counts) {
                    nameless.note(claim, pair);
                    match comparison.settle(claim, old) {
                        Settled::Follow(other) => {
                            rests_on.entry(other).or_default().push(pair);
                            next.insert(other);
                        }
                        Settled::FollowBoth(a, b) => {
                            let partners = comparison.pairing.new_of(a).iter().map(|partner| (a, *partner));
                            for other in partners.chain([(a, b)]) {
                                rests_on.entry(other).or_default().push(pair);
                            }
                            next.insert((a, b));
                        }
                        Settled::Identical(other) => {
                            next.insert(other);
                        }
                        Settled::Contested => {}
                    }
                }
                comparison.outcomes.insert(pair, outcome);
            }
            queue = next.into_iter().filter(|pair| !comparison.outcomes.contains_key(pair)).collect();
        }
        comparison.doubt_contested(old, &nameless, &mut rests_on);
        comparison.rested_on = rests_on.keys().copied().collect();
        comparison.spread(old, rests_on);
        comparison.separate_contested(&nameless);
        comparison.doubt_order(old, &nameless);
        comparison.doubt_biased_bases(old);
        comparison
    }

    /// Outcome of a pair; none where the two were never compared.
    pub fn outcome(&self, old: AtomIndex, new: AtomIndex) -> Option<&Outcome> {
        self.outcomes.get(&(old, new))
    }

    /// Refuses two images that are not two builds of one program: most functions of the old one have no counterpart.
    ///
    /// # Errors
    /// Says how many functions were found in both.
    pub fn check_related(&self, old: &Program, new: &Program) -> Result<(), Error> {
        let functions = old.functions.len();
        let paired = old.functions.iter().filter(|f| !self.pairing.new_of(f.atom).is_empty()).count();
        if functions > 0 && paired * 4 >= functions {
            return Ok(());
        }
        Err(Error::Incomparable {
            old: old.image.path().to_owned(),
            new: new.image.path().to_owned(),
            problem: format!(
                "of {functions} functions of the old image {paired} are in the new one; are these two builds of one program?"
            ),
        })
    }

    /// Whether anything that was compared uses what a pair holds.
    pub fn is_used(&self, old: AtomIndex, new: AtomIndex) -> bool {
        self.rested_on.contains(&(old, new))
    }

    /// All compared pairs in the order of the old program.
    pub fn outcomes(&self) -> impl Iterator<Item = (AtomIndex, AtomIndex, &Outcome)> {
        self.outcomes.iter().map(|((old, new), outcome)| (*old, *new, outcome))
    }

    /// Old atoms that were found to hold the same as a new one, and may stand for it.
    pub(crate) fn same_content(&self, old: &Program, new: &Program) -> BTreeMap<AtomIndex, AtomIndex> {
        let mut same = BTreeMap::new();
        for (x, y, outcome) in self.outcomes() {
            if *outcome == Outcome::Same && self.may_stand_for((old, x), (new, y)) {
                same.entry(y).or_insert(x);
            }
        }
        same
    }

    /// Whether an old atom may stand for a new one that does or holds the same.
    pub fn may_stand_for(&self, (old, x): (&Program, AtomIndex), (new, y): (&Program, AtomIndex)) -> bool {
        let (Some(a), Some(b)) = (old.atom(x), new.atom(y)) else { return false };
        b.kind != AtomKind::ReadOnly || identity::may_stand_for((old, new), &self.pairing, (x, a), (y, b))
    }

    /// Pairs functions without a name that nothing compared so far names: those of one module that do the same, then, where
    /// as many are left on both sides, by order.
    fn pair_leftovers(&mut self, old: &Program, new: &Program, traces: &Traces<'_>) -> Vec<(AtomIndex, AtomIndex)> {
        let by_module = |program: &Program, is_paired: &dyn Fn(AtomIndex) -> bool| {
            let mut left: BTreeMap<Option<String>, Vec<AtomIndex>> = BTreeMap::new();
            for (index, atom) in indexed(program) {
                if atom.is_function() && atom.names.is_empty() && !is_paired(index) {
                    left.entry(program.module_name(atom).map(str::to_owned)).or_default().push(index);
                }
            }
            left
        };
        let olds = by_module(old, &|index| !self.pairing.new_of(index).is_empty());
        let mut news = by_module(new, &|index| !self.pairing.old_of(index).is_empty());
        let mut found = Vec::new();
        for (module, olds) in olds {
            let Some(news) = news.get_mut(&module) else {
                continue;
            };
            let mut rest = Vec::new();
            for a in olds {
                let sides = Sides { old, new, pairing: &self.pairing };
                // Each is compared with few: modules with many such functions are paired by order.
                let is_same = |b: &AtomIndex| !compare_atoms(sides, traces, a, *b).outcome.is_change();
                match news.iter().take(MAX_LEFTOVERS).position(is_same) {
                    Some(position) => found.push((a, news.remove(position), How::Content)),
                    None => rest.push(a),
                }
            }
            if rest.len() == news.len() {
                found.extend(rest.into_iter().zip(news.drain(..)).map(|(a, b)| (a, b, How::Order)));
            }
        }
        for (a, b, how) in &found {
            self.pairing.add(*a, *b, *how);
        }
        found.into_iter().map(|(a, b, _)| (a, b)).filter(|pair| !self.outcomes.contains_key(pair)).collect()
    }

    /// Constants that changed or new functions name, each with the old constants that seem to hold the same. The walk through
    /// a pair ends at its first difference, so that what is named behind it was not looked at.
    fn equal_constants(&self, old: &Program, new: &Program) -> Vec<(AtomIndex, AtomIndex)> {
        let is_open = |function: &Function| {
            let olds = self.pairing.old_of(function.atom);
            olds.is_empty() || olds.iter().any(|old| self.outcome(*old, function.atom) != Some(&Outcome::Same))
        };
        let named: BTreeSet<AtomIndex> = new
            .functions
            .iter()
            .filter(|function| is_open(function))
            .flat_map(|function| {
                let tables = function.data_tables.iter().flat_map(|table| table.targets.iter().copied());
                function.code.references.iter().map(|r| r.place()).chain(tables)
            })
            .filter_map(|target| new.atom_before(target))
            .filter(|index| new.atom(*index).is_some_and(|atom| atom.kind == AtomKind::ReadOnly))
            .collect();
        if named.is_empty() {
            return Vec::new();
        }
        let mut known: BTreeMap<Vec<u8>, Vec<AtomIndex>> = BTreeMap::new();
        for (index, atom) in indexed(old).filter(|(_, atom)| atom.kind == AtomKind::ReadOnly) {
            known.entry(content_key(old, atom)).or_default().push(index);
        }
        named
            .into_iter()
            .filter_map(|index| Some((index, known.get(&content_key(new, new.atom(index)?))?)))
            .flat_map(|(index, olds)| olds.iter().take(MAX_EQUAL_CONSTANTS).map(move |old| (*old, index)))
            .filter(|pair| !self.outcomes.contains_key(pair))
            .collect()
    }

    fn settle(&mut self, claim: Claim, old: &Program) -> Settled {
        match claim {
            Claim::Content(a, b) => Settled::Follow((a, b)),
            Claim::Order(a, b) => Settled::Identical((a, b)),
            Claim::Identity(a, b) => {
                if self.pairing.new_of(a).is_empty() && self.pairing.old_of(b).is_empty() {
                    if !claim.is_of_functions(old) {
                        self.pairing.add_told_apart(a, b);
                    } else {
                        self.pairing.add(a, b, How::Reference);
                    }
                }
                if self.pairing.is_pair(a, b) {
                    Settled::Identical((a, b))
                } else if old.atom(a).is_some_and(|atom| atom.is_function() && atom.names.is_empty()) {
                    // Who disagree about one without a name, [`Nameless`] knows.
                    Settled::Follow((a, b))
                } else if old.atom(a).is_some_and(Atom::is_function) {
                    // Folded bodies and copies: another partner is as good if it does the same, and the old one goes on doing so.
                    Settled::FollowBoth(a, b)
                } else {
                    Settled::Contested
                }
            }
        }
    }

    /// Makes different whatever rests on something different.
    fn spread(&mut self, old: &Program, rests_on: BTreeMap<(AtomIndex, AtomIndex), Vec<(AtomIndex, AtomIndex)>>) {
        let mut queue: Vec<_> =
            self.outcomes.iter().filter(|(_, o)| **o != Outcome::Same).map(|(pair, _)| *pair).collect();
        while let Some(pair) = queue.pop() {
            let Some(cause) = self.outcomes.get(&pair).cloned() else {
                continue;
            };
            for dependent in rests_on.get(&pair).into_iter().flatten() {
                let Some(outcome) = self.outcomes.get_mut(dependent) else { continue };
                if outcome.is_change() || *outcome != Outcome::Same && !cause.is_change() {
                    continue;
                }
                let name = old.atom(pair.0).map(|atom| old.display(atom)).unwrap_or_default();
                *outcome = match &cause {
                    Outcome::Unresolved(why) => Outcome::Unresolved(why.through(&name)),
                    Outcome::Different(why) => Outcome::Different(why.through(&name)),
                    Outcome::Cosmetic(why) => Outcome::Cosmetic(why.through(&name)),
                    Outcome::Same => continue,
                };
                queue.push(*dependent);
            }
        }
    }
}

/// Functions without a name that one such function is compared with.
const MAX_LEFTOVERS: usize = 64;

/// Copies of one constant that are worth looking at.
const MAX_EQUAL_CONSTANTS: usize = 16;

/// A constant's bytes without its pointers and the zeros at its end: equal for constants that may hold the same.
fn content_key(program: &Program, atom: &Atom) -> Vec<u8> {
    let mut bytes = program.image.bytes_up_to(atom.rva..atom.end()).to_vec();
    for (place, _) in pointers_in(&program.image, atom.rva..atom.end()) {
        let start = (place.0 - atom.rva.0) as usize;
        if let Some(pointer) = bytes.get_mut(start..start + 8) {
            pointer.fill(0);
        }
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

enum Settled {
    /// Equal if that pair is equal.
    Follow((AtomIndex, AtomIndex)),
    /// Equal if those two are equal and the old one's own partners are: where one of these changed, its entry leads elsewhere.
    FollowBoth(AtomIndex, AtomIndex),
    /// The same thing; whether its content changed is its own matter.
    Identical((AtomIndex, AtomIndex)),
    /// A variable that has another partner: [`Nameless`] knows who disagree.
    Contested,
}

impl Outcome {
    /// Whether the two do not mean the same, as far as is known.
    pub fn is_change(&self) -> bool {
        matches!(self, Outcome::Different(_) | Outcome::Unresolved(_))
    }
}

impl Difference {
    fn at(old_offset: u32, new_offset: u32, what: impl Into<String>) -> Difference {
        Difference { old_offset, new_offset, what: what.into() }
    }

    fn through(&self, name: &str) -> Difference {
        let what =
            if self.what.starts_with("uses ") { self.what.clone() } else { format!("uses {name}: {}", self.what) };
        Difference::at(0, 0, what)
    }
}
