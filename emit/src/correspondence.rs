//! Where things of the new program are in the old one.

use std::collections::BTreeMap;

use hpgen_diff::atoms::{Atom, AtomIndex, AtomKind, MAX_BIAS, NEIGHBOURS};
use hpgen_diff::compare::{Comparison, Outcome};
use hpgen_diff::listing;
use hpgen_diff::program::Program;
use hpgen_diff::rva::{Rva, span};

use crate::readings::Reading;

/// Two compared programs, seen from the new one.
pub(crate) struct Correspondence<'a> {
    pub old: &'a Program,
    pub new: &'a Program,
    pub comparison: &'a Comparison,
    /// Old atoms with the same content, by new atom.
    same_content: BTreeMap<AtomIndex, AtomIndex>,
}

impl<'a> Correspondence<'a> {
    pub fn new(old: &'a Program, new: &'a Program, comparison: &'a Comparison) -> Correspondence<'a> {
        let mut same_content = BTreeMap::new();
        for (a, b, outcome) in comparison.outcomes() {
            let may_stand = || holds_whole((old, a), (new, b)) && comparison.may_stand_for((old, a), (new, b));
            if *outcome == Outcome::Same && may_stand() {
                same_content.entry(b).or_insert(a);
            }
        }
        Correspondence { old, new, comparison, same_content }
    }

    /// The old atom that stands for a new one in the running process: for code and variables their partner, for constants one
    /// that holds the same.
    pub fn old_atom(&self, new: AtomIndex) -> Option<AtomIndex> {
        let is_constant = self.new.atom(new).is_some_and(|atom| atom.kind == AtomKind::ReadOnly);
        if is_constant {
            // Of several that hold the same, the one of the same name: the program can tell them apart by their addresses.
            let pairing = &self.comparison.pairing;
            let olds = pairing.old_of(new);
            let own = olds.iter().find(|old| self.comparison.outcome(**old, new) == Some(&Outcome::Same));
            let other =
                || self.same_content.get(&new).filter(|old| olds.is_empty() || pairing.new_of(**old).is_empty());
            return own.or_else(other).copied();
        }
        self.comparison.pairing.old_of(new).first().copied()
    }

    /// The two are the same thing, or hold the same.
    fn corresponds(&self, old: AtomIndex, new: AtomIndex) -> bool {
        self.comparison.pairing.is_pair(old, new) || self.comparison.outcome(old, new) == Some(&Outcome::Same)
    }

    /// Whether a function means the same in both programs.
    pub fn is_unchanged(&self, new: AtomIndex) -> bool {
        let olds = self.comparison.pairing.old_of(new);
        !olds.is_empty() && olds.iter().all(|old| self.comparison.outcome(*old, new) == Some(&Outcome::Same))
    }

    /// Readings that an old and a new address have in common: the same offset from corresponding objects.
    pub fn common_readings(&self, old_target: Rva, new_target: Rva) -> Vec<Reading> {
        let Some(nearest) = self.new.atom_before(new_target) else {
            return Vec::new();
        };
        let first = nearest.0.saturating_sub(NEIGHBOURS);
        let last = nearest.0.saturating_add(NEIGHBOURS);
        (first..=last)
            .map(AtomIndex)
            .filter_map(|index| {
                let atom = self.new.atom(index).filter(|atom| is_data(atom))?;
                let offset = new_target.distance_from(atom.rva);
                if offset.abs() > i64::from(MAX_BIAS.max(atom.size)) {
                    return None;
                }
                // The old object that the old address would be as far from.
                let old_start = old_target.checked_offset(-offset)?;
                let old = self
                    .old
                    .atom_before(old_start)
                    .filter(|old| self.old.atom(*old).is_some_and(|a| a.rva == old_start))?;
                self.corresponds(old, index).then_some(Reading { atom: index, offset })
            })
            .collect()
    }
}

/// Whether a place of the old image holds all of a new constant. That its last zeros may be padding is enough for the two to be
/// the same thing, but not for what may only hold the same.
fn holds_whole((old, a): (&Program, AtomIndex), (new, b): (&Program, AtomIndex)) -> bool {
    let (Some(a), Some(b)) = (old.atom(a), new.atom(b)) else { return false };
    if a.kind != AtomKind::ReadOnly || b.size <= a.size || listing::text_constant(new, b).is_some() {
        return true;
    }
    let behind = |atom: &Atom| span(atom.rva, b.size).end;
    let (tail, new_tail) = (a.end()..behind(a), span(b.rva, a.size).end..b.end());
    let is_free = !old.image.directories.iter().any(|taken| taken.start < tail.end && tail.start < taken.end);
    let bytes = old.image.bytes(tail.start, b.size - a.size);
    let is_plain =
        old.image.base_relocations_in(tail).is_empty() && new.image.base_relocations_in(new_tail.clone()).is_empty();
    is_free && is_plain && bytes.is_some() && bytes == new.image.bytes(new_tail.start, b.size - a.size)
}

fn is_data(atom: &Atom) -> bool {
    matches!(atom.kind, AtomKind::ReadOnly | AtomKind::Writable)
}
