//! Functions and variables without names are known by what refers to them alone: thunks of an incremental link, static functions and
//! variables of objects without debug information. So are variables with a name that others of their module have.
//!
//! Where every reference to one leads to the same one of the other build, the two are the same thing, which may have changed. Where references
//! disagree, at least one of them changed its target. Of functions, what they do tells which; of variables nothing does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Comparison, Difference, Outcome};
use crate::atoms::{Atom, AtomIndex};
use crate::matching::Claim;
use crate::ordinals::stable_name;
use crate::pairing::How;
use crate::program::Program;

type Pair = (AtomIndex, AtomIndex);

/// Who takes which old and new atom to be the same thing, where one of the two has no name.
#[derive(Debug, Default)]
pub(super) struct Nameless {
    claimed_by: BTreeMap<Pair, Vec<Pair>>,
    olds_of: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
    /// Pairs by order that something that did not change bears out.
    borne_out: BTreeSet<Pair>,
}

impl Nameless {
    /// Remembers a claim of a pair that was compared.
    pub fn note(&mut self, claim: Claim, by: Pair) {
        match claim {
            Claim::Identity(a, b) => {
                self.claimed_by.entry((a, b)).or_default().push(by);
                self.olds_of.entry(b).or_default().insert(a);
            }
            Claim::Order(a, b) => {
                self.borne_out.insert((a, b));
            }
            Claim::Content(..) => {}
        }
    }

    /// Another reference takes one of the two for something else.
    fn is_contested(&self, (a, b): Pair) -> bool {
        let first = (a, AtomIndex(u32::MIN));
        let last = (a, AtomIndex(u32::MAX));
        self.claimed_by.range(first..=last).any(|((_, other), _)| *other != b)
            || self.olds_of.get(&b).is_some_and(|olds| olds.iter().any(|other| *other != a))
    }

    /// Contested pairs with those who claim them.
    fn contested(&self) -> impl Iterator<Item = (Pair, &[Pair])> {
        self.claimed_by.iter().filter(|(pair, _)| self.is_contested(**pair)).map(|(pair, by)| (*pair, by.as_slice()))
    }
}

impl Comparison {
    /// Takes contested pairs apart that are not known to be the same, and pairs those functions that do the same.
    pub(super) fn separate_contested(&mut self, nameless: &Nameless) {
        for ((a, b), _) in nameless.contested() {
            if self.outcomes.get(&(a, b)).is_none_or(Outcome::is_change) {
                self.unpair_found(a, b);
            }
        }
        // Those that were paired by order, because references had taken their true partners.
        let by_order = self.pairing.pairs().into_iter().filter(|pair| nameless.is_contested(*pair));
        for (a, b) in by_order.collect::<Vec<_>>() {
            if self.outcomes.get(&(a, b)).is_some_and(Outcome::is_change) {
                self.unpair_found(a, b);
            }
        }
        for ((a, b), _) in nameless.contested() {
            let is_same = self.outcomes.get(&(a, b)).is_some_and(|outcome| !outcome.is_change());
            if is_same && self.pairing.new_of(a).is_empty() && self.pairing.old_of(b).is_empty() {
                self.pairing.add(a, b, How::Content);
            }
        }
    }

    /// Functions of one name, but for a number or hash, that were paired by order and changed: which is which is known only where something that did not
    /// change refers to them, or no other one of the name changed.
    pub(super) fn doubt_order(&mut self, old: &Program, nameless: &Nameless) {
        let is_doubtful = |(a, b): &Pair| {
            self.pairing.how(*a, *b) == Some(How::Order)
                && self.outcomes.get(&(*a, *b)).is_some_and(Outcome::is_change)
                && !nameless.borne_out.contains(&(*a, *b))
        };
        let mut by_name: BTreeMap<Cow<'_, str>, BTreeSet<Pair>> = BTreeMap::new();
        let mut unsure: BTreeSet<Pair> = BTreeSet::new();
        for pair in self.pairing.pairs().into_iter().filter(is_doubtful) {
            let siblings = self.pairing.siblings(pair.1);
            // Where one more came or went, all behind it have another number.
            if siblings.is_some_and(|siblings| !siblings.are_as_many) {
                unsure.insert(pair);
            }
            let names = old.atom(pair.0).into_iter().flat_map(|atom| &atom.names);
            let names = names.map(|name| stable_name(&name.key));
            for name in names.chain(siblings.map(|siblings| Cow::Borrowed(siblings.name.as_str()))) {
                by_name.entry(name).or_default().insert(pair);
            }
        }
        unsure.extend(by_name.into_values().filter(|pairs| pairs.len() > 1).flatten());
        for (a, b) in unsure {
            self.pairing.separate(a, b);
        }
    }

    /// Takes a pair apart that no name made.
    fn unpair_found(&mut self, a: AtomIndex, b: AtomIndex) {
        if matches!(self.pairing.how(a, b), Some(How::Reference | How::Order | How::Content)) {
            self.pairing.remove(a, b);
        }
    }

    /// Who claims a contested function rests on what it does; who claims a contested variable may mean another one.
    pub(super) fn doubt_contested(
        &mut self,
        old: &Program,
        nameless: &Nameless,
        rests_on: &mut BTreeMap<Pair, Vec<Pair>>,
    ) {
        for ((a, b), claimants) in nameless.contested() {
            let Some(atom) = old.atom(a) else { continue };
            if Atom::is_function(atom) {
                rests_on.entry((a, b)).or_default().extend(claimants);
                continue;
            }
            let what = format!(
                "uses {}, and references disagree about which variable that is in the new build",
                old.display(atom)
            );
            let doubt = Outcome::Unresolved(Difference::at(0, 0, what));
            for claimant in claimants {
                if let Some(outcome) = self.outcomes.get_mut(claimant).filter(|outcome| !outcome.is_change()) {
                    *outcome = doubt.clone();
                }
            }
            self.outcomes.insert((a, b), doubt.clone());
            self.unpair_found(a, b);
        }
    }
}
