//! Doubts about addresses that may be biased bases of a constant that changed or went.

use std::collections::BTreeMap;

use super::{Comparison, Difference, Outcome};
use crate::atoms::{Atom, AtomIndex, AtomKind, MAX_BIAS};
use crate::listing;
use crate::pairing::indexed;
use crate::program::{Location, Program};
use crate::rva::{Rva, span};
use crate::x64::ReferenceKind;

/// Constants that the new build has not, or not the same, by address.
type Changed<'a> = BTreeMap<Rva, &'a Atom>;

/// A function that takes an address inside one constant, or between sections, may mean a biased base of another constant nearby: that both builds
/// agree on the first does not show that it did not change with the second.
impl Comparison {
    pub(super) fn doubt_biased_bases(&mut self, old: &Program) {
        let changed = self.outcomes.iter().filter(|((a, b), o)| o.is_change() && self.pairing.is_pair(*a, *b));
        let changed = changed.filter_map(|((a, _), _)| old.atom(*a));
        let gone =
            indexed(old).filter(|(index, atom)| !atom.names.is_empty() && self.pairing.new_of(*index).is_empty());
        let constants: Changed<'_> = changed
            .chain(gone.map(|(_, atom)| atom))
            .filter(|atom| atom.kind == AtomKind::ReadOnly)
            .map(|atom| (atom.rva, atom))
            .collect();
        let is_open = |(_, outcome): &(&_, &Outcome)| !outcome.is_change();
        let doubtful = self.outcomes.iter().filter(is_open);
        let doubtful: Vec<_> =
            doubtful.filter_map(|(pair, _)| Some((*pair, doubt(old, pair.0, &constants)?))).collect();
        self.outcomes.extend(doubtful);
    }
}

/// The first address of a function that may be computed from one of the constants.
fn doubt(program: &Program, function: AtomIndex, changed: &Changed<'_>) -> Option<Outcome> {
    if changed.is_empty() {
        return None;
    }
    let code = &program.function(function)?.code;
    code.references.iter().filter(|r| r.kind == ReferenceKind::Address && r.symbol.is_none()).find_map(|r| {
        let is_data = match program.locate(r.target) {
            Location::Atom { atom, offset: offset @ 1.. } => {
                let is_in_text = || listing::text_from(program, atom, offset).is_some();
                program.atom(atom).is_some_and(|atom| !atom.is_function()) && !is_in_text()
            }
            Location::Nowhere => true,
            _ => false,
        };
        let other = changed
            .range(Rva(r.target.0.saturating_sub(MAX_BIAS))..span(r.target, MAX_BIAS).end)
            .map(|(_, other)| *other)
            .find(|other| !(other.rva..=other.end()).contains(&r.target))?;
        let uses = code.facts.uses.get(&r.target).copied().unwrap_or_default();
        let only_direct = uses.direct && !(uses.indexed || uses.compared || uses.escapes || uses.computed);
        let at = code.instructions.get(r.instruction as usize)?.offset;
        (is_data && !only_direct).then(|| {
            let text = listing::instruction(program, function, at);
            let what = format!("{text} may compute an address of {}, which changed", program.display(other));
            Outcome::Unresolved(Difference::at(at, at, what))
        })
    })
}
