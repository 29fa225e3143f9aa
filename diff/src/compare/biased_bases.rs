//! Doubts about addresses that may be biased bases of a constant that changed.

use std::collections::BTreeMap;

use super::{Comparison, Difference, Outcome};
use crate::atoms::{Atom, AtomIndex, AtomKind, MAX_BIAS};
use crate::listing;
use crate::program::{Location, Program};
use crate::rva::{Rva, span};
use crate::x64::ReferenceKind;

/// A function that takes an address inside one constant may mean a biased base of another one nearby: that both builds agree on the
/// first does not show that it did not change with the second.
impl Comparison {
    pub(super) fn doubt_biased_bases(&mut self, old: &Program) {
        let is_changed_constant = |(a, b): &(AtomIndex, AtomIndex), outcome: &Outcome| {
            outcome.is_change()
                && self.pairing.is_pair(*a, *b)
                && old.atom(*a).is_some_and(|atom| atom.kind == AtomKind::ReadOnly)
        };
        let changed: BTreeMap<Rva, &Atom> = self
            .outcomes
            .iter()
            .filter(|(pair, outcome)| is_changed_constant(pair, outcome))
            .filter_map(|((a, _), _)| old.atom(*a))
            .map(|atom| (atom.rva, atom))
            .collect();
        if changed.is_empty() {
            return;
        }
        let doubt = |function: AtomIndex| {
            let code = &old.function(function)?.code;
            code.references.iter().filter(|r| r.kind == ReferenceKind::Address && r.symbol.is_none()).find_map(|r| {
                let Location::Atom { atom, offset: 1.. } = old.locate(r.target) else { return None };
                let other = changed
                    .range(Rva(r.target.0.saturating_sub(MAX_BIAS))..span(r.target, MAX_BIAS).end)
                    .map(|(_, other)| *other)
                    .find(|other| !(other.rva..=other.end()).contains(&r.target))?;
                let uses = code.facts.uses.get(&r.target).copied().unwrap_or_default();
                let only_direct = uses.direct && !(uses.indexed || uses.compared || uses.escapes || uses.computed);
                let is_data = old.atom(atom).is_some_and(|atom| !atom.is_function());
                let at = code.instructions.get(r.instruction as usize)?.offset;
                (is_data && !only_direct).then(|| {
                    let text = listing::instruction(old, function, at);
                    let what = format!("{text} may compute an address of {}, which changed", old.display(other));
                    Outcome::Unresolved(Difference::at(at, at, what))
                })
            })
        };
        let doubtful: Vec<_> = self
            .outcomes
            .iter()
            .filter(|(_, outcome)| !outcome.is_change())
            .filter_map(|(pair, _)| Some((*pair, doubt(pair.0)?)))
            .collect();
        self.outcomes.extend(doubtful);
    }
}
