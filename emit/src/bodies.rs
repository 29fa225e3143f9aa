//! Where the code of a function is: in one run, in funclets, in parts that the compiler put elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Location, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::ReferenceKind;

/// Which functions of a program are pieces of one.
pub(crate) struct Bodies {
    /// Functions that control goes between other than by calls and to entries: parts of one function, both ways.
    parts: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
    /// Funclets by the function that they are pieces of.
    funclets: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
    /// Jumps to the entry of a function, by that function: from where.
    jumps: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
}

impl Bodies {
    /// Looks through a program's jumps, unwind records and exception tables.
    pub fn of(program: &Program) -> Bodies {
        let mut bodies = Bodies { parts: BTreeMap::new(), funclets: BTreeMap::new(), jumps: BTreeMap::new() };
        for function in &program.functions {
            let own = function.atom;
            let jumps = function.code.references.iter();
            for jump in jumps.filter(|r| matches!(r.kind, ReferenceKind::Jump | ReferenceKind::ShortJump)) {
                match program.locate(jump.target) {
                    Location::Atom { atom, offset: 0 } if atom != own => {
                        bodies.jumps.entry(atom).or_default().insert(own);
                    }
                    Location::Atom { atom, .. } if atom != own => bodies.tie(own, atom),
                    _ => {}
                }
            }
            for (_, info) in &function.unwind {
                // A record that continues another one belongs to the same function, wherever its code is.
                let primary = info.chained.as_ref().map(|chained| program.locate(chained.range.start));
                if let Some(Location::Atom { atom, .. }) = primary
                    && atom != own
                {
                    bodies.tie(own, atom);
                }
            }
        }
        for (funclet, parents) in program.funclet_parents() {
            for parent in parents {
                bodies.funclets.entry(parent).or_default().insert(funclet);
            }
        }
        bodies
    }

    fn tie(&mut self, one: AtomIndex, other: AtomIndex) {
        self.parts.entry(one).or_default().insert(other);
        self.parts.entry(other).or_default().insert(one);
    }

    /// The function with all its parts and funclets.
    fn pieces(&self, function: AtomIndex) -> BTreeSet<AtomIndex> {
        let (mut pieces, mut open) = (BTreeSet::from([function]), vec![function]);
        while let Some(index) = open.pop() {
            let next = [&self.parts, &self.funclets].into_iter().filter_map(|map| map.get(&index)).flatten();
            open.extend(next.filter(|piece| pieces.insert(**piece)));
        }
        pieces
    }

    /// Its runs of code by rising address.
    pub fn runs(&self, program: &Program, function: AtomIndex) -> Vec<Range<Rva>> {
        let atoms = self.pieces(function).into_iter().filter_map(|index| program.atom(index));
        let mut runs: Vec<Range<Rva>> = atoms.map(|atom| atom.rva..atom.end()).collect();
        runs.sort_unstable_by_key(|run| (run.start, run.end));
        let mut free_from = Rva(0);
        runs.retain_mut(|run| {
            run.start = run.start.max(free_from);
            free_from = free_from.max(run.end);
            run.start < run.end
        });
        runs
    }

    /// Whether a part of the function elsewhere jumps to its entry: that is no call.
    pub fn part_jumps_to_entry(&self, function: AtomIndex) -> bool {
        let pieces = self.pieces(function);
        self.jumps
            .get(&function)
            .is_some_and(|from| from.iter().any(|index| *index != function && pieces.contains(index)))
    }
}
