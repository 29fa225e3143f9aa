//! Where the code of old functions is, found anew: what the payload says of it must be that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Location, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::ReferenceKind;

/// Functions of the old program that are pieces of each other.
pub(crate) struct Pieces {
    /// A piece and what it is tied to.
    ties: BTreeMap<AtomIndex, Vec<AtomIndex>>,
    /// Who jumps to the first byte of a function other than itself.
    jumpers: BTreeMap<AtomIndex, Vec<AtomIndex>>,
}

impl Pieces {
    pub fn of(old: &Program) -> Pieces {
        let mut pieces = Pieces { ties: BTreeMap::new(), jumpers: BTreeMap::new() };
        let piece_at = |rva: Rva| match old.locate(rva) {
            Location::Atom { atom, offset } => Some((atom, offset)),
            _ => None,
        };
        for function in &old.functions {
            let leaves = |kind| matches!(kind, ReferenceKind::Jump | ReferenceKind::ShortJump);
            for reference in function.code.references.iter().filter(|r| leaves(r.kind)) {
                match piece_at(reference.target) {
                    Some((atom, _)) if atom == function.atom => {}
                    Some((atom, 0)) => pieces.jumpers.entry(atom).or_default().push(function.atom),
                    Some((atom, _)) => pieces.tie_both(function.atom, atom),
                    None => {}
                }
            }
            let continued = function.unwind.iter().filter_map(|(_, info)| info.chained.as_ref());
            for (atom, _) in continued.filter_map(|primary| piece_at(primary.range.start)) {
                pieces.tie_both(function.atom, atom);
            }
        }
        // A funclet may serve several functions; these are no pieces of each other.
        for (funclet, functions) in old.funclet_parents() {
            for function in functions {
                pieces.ties.entry(function).or_default().push(funclet);
            }
        }
        pieces
    }

    fn tie_both(&mut self, one: AtomIndex, other: AtomIndex) {
        self.ties.entry(one).or_default().push(other);
        self.ties.entry(other).or_default().push(one);
    }

    fn all_of(&self, function: AtomIndex) -> BTreeSet<AtomIndex> {
        let mut all = BTreeSet::from([function]);
        loop {
            let tied: Vec<AtomIndex> = all.iter().filter_map(|piece| self.ties.get(piece)).flatten().copied().collect();
            let before = all.len();
            all.extend(tied);
            if all.len() == before {
                return all;
            }
        }
    }

    /// Every address of the function's code, as runs.
    pub fn runs(&self, old: &Program, function: AtomIndex) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        // Atoms are numbered by address.
        for atom in self.all_of(function).into_iter().filter_map(|piece| old.atom(piece)) {
            let start = atom.rva.0.max(runs.last().map_or(0, |run| run.end));
            if start < atom.end().0 {
                runs.push(start..atom.end().0);
            }
        }
        runs
    }

    /// Whether a piece elsewhere goes on at the function's first byte.
    pub fn comes_back(&self, function: AtomIndex) -> bool {
        let all = self.all_of(function);
        let jumpers = self.jumpers.get(&function);
        jumpers.is_some_and(|jumpers| jumpers.iter().any(|piece| *piece != function && all.contains(piece)))
    }
}
