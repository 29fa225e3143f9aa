//! Variables whose storage in the running process is not what the new code takes it for: it holds another variable besides, it ends before
//! the new one does, or each thread has its own.

use std::collections::BTreeSet;

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::change_set::Reason;
use crate::compare::{Comparison, Outcome};
use crate::pairing::indexed;
use crate::program::{Location, Program};
use crate::rva::{Rva, span};

/// The largest alignment of arrays that compilers choose by themselves, and so the reason for a gap behind a variable.
const LARGEST_USUAL_ALIGNMENT: u32 = 32;

/// Why variables of both builds cannot stay what they are.
pub(crate) fn reasons(old: &Program, new: &Program, comparison: &Comparison) -> Vec<Reason> {
    let storage = Storage { old, new, comparison, named: named_by_new_code(new, comparison) };
    let mut reasons = storage.divided();
    for (old_index, new_index) in comparison.pairing.pairs() {
        let (Some(a), Some(b)) = (old.atom(old_index), new.atom(new_index)) else { continue };
        if a.kind != AtomKind::Writable || b.kind != AtomKind::Writable {
            continue;
        }
        let name = || new.linkage_name(b);
        if let Some(message) = storage.changed_hands(a, b) {
            reasons.push(Reason { code: "thread-local-changed", symbol: name(), message });
        } else if let Some(message) = storage.grown((old_index, a), (new_index, b)) {
            reasons.push(Reason { code: "variable-extent", symbol: name(), message });
        }
    }
    reasons
}

/// Variables that functions name which changed or are new.
fn named_by_new_code(new: &Program, comparison: &Comparison) -> BTreeSet<AtomIndex> {
    let is_open = |index: AtomIndex| {
        let olds = comparison.pairing.old_of(index);
        olds.is_empty() || olds.iter().any(|old| comparison.outcome(*old, index) != Some(&Outcome::Same))
    };
    let functions = new.functions.iter().filter(|function| is_open(function.atom));
    let references = functions.flat_map(|function| &function.code.references).filter(|r| !r.kind.is_branch());
    let named = references.filter_map(|r| match new.locate(r.place()) {
        Location::Atom { atom, .. } => Some(atom),
        Location::Headers(_) | Location::Nowhere => None,
    });
    named.filter(|index| new.atom(*index).is_some_and(|atom| atom.kind == AtomKind::Writable)).collect()
}

struct Storage<'a> {
    old: &'a Program,
    new: &'a Program,
    comparison: &'a Comparison,
    named: BTreeSet<AtomIndex>,
}

impl Storage<'_> {
    /// One variable of the one build that is several of the other (two names of one variable).
    fn divided(&self) -> Vec<Reason> {
        let pairing = &self.comparison.pairing;
        let is_variable = |atom: &Atom| atom.kind == AtomKind::Writable;
        let mut reasons = Vec::new();
        for (index, atom) in indexed(self.old).filter(|(_, atom)| is_variable(atom)) {
            let news = pairing.new_of(index);
            if news.len() > 1 && news.iter().any(|new| self.named.contains(new)) {
                let names = names_of(self.new, news);
                let message = format!("it is one variable in running processes, and {names} in the new build");
                reasons.push(Reason { code: "variables-diverge", symbol: self.old.linkage_name(atom), message });
            }
        }
        for (index, atom) in indexed(self.new).filter(|(_, atom)| is_variable(atom)) {
            let olds = pairing.old_of(index);
            if olds.len() > 1 && self.named.contains(&index) {
                let names = names_of(self.old, olds);
                let message = format!("it is one variable in the new build, and {names} in running processes");
                reasons.push(Reason { code: "variables-diverge", symbol: self.new.linkage_name(atom), message });
            }
        }
        reasons
    }

    /// Each thread has one in one build, and the whole program one in the other.
    fn changed_hands(&self, a: &Atom, b: &Atom) -> Option<String> {
        match (is_thread_local(self.old, a), is_thread_local(self.new, b)) {
            (true, false) => {
                Some("each thread has its own in running processes, and in the new build all share one".to_owned())
            }
            (false, true) => {
                Some("all threads share one in running processes, and in the new build each has its own".to_owned())
            }
            _ => None,
        }
    }

    /// The extents are not known by a type, and where the new one goes on, the old image has something else.
    fn grown(&self, (_, a): (AtomIndex, &Atom), (new_index, b): (AtomIndex, &Atom)) -> Option<String> {
        let by = b.size.checked_sub(a.size).filter(|_| !(a.is_sized && b.is_sized))?;
        let alignment = 1u32.checked_shl(b.end().0.trailing_zeros()).unwrap_or(LARGEST_USUAL_ALIGNMENT);
        // What follows may begin at its own alignment.
        if by < alignment.min(LARGEST_USUAL_ALIGNMENT) {
            return None;
        }
        let room = |program: &Program, atom: &Atom| {
            program.symbols.contribution_at(atom.rva).map(|found| found.range.end.distance_from(found.range.start))
        };
        let is_used = self.named.contains(&new_index) || room(self.old, a) != room(self.new, b);
        let other = self.other_at(a, span(a.rva, b.size).end).filter(|_| is_used)?;
        Some(format!(
            "it seems to have {} bytes in the new build, by what follows it, and in running processes {other} stands {} bytes behind its start",
            b.size, a.size
        ))
    }

    /// Another object of the old image in the bytes behind a variable.
    fn other_at(&self, a: &Atom, end: Rva) -> Option<String> {
        let first = self.old.atoms.partition_point(|atom| atom.rva < a.end());
        let behind = self.old.atoms.iter().enumerate().skip(first).take_while(|(_, atom)| atom.rva < end);
        let mut others = behind.filter(|(index, atom)| {
            let has_partner = !self.comparison.pairing.new_of(AtomIndex(*index as u32)).is_empty();
            !atom.names.is_empty() || has_partner || atom.kind != AtomKind::Writable
        });
        let section = self.old.image.section_at(a.rva).map_or(a.end(), |section| section.range.end);
        let is_out = end > section;
        others.next().map(|(_, atom)| self.old.display(atom)).or_else(|| is_out.then(|| "the section's end".to_owned()))
    }
}

fn is_thread_local(program: &Program, atom: &Atom) -> bool {
    program.image.thread_local_data.as_ref().is_some_and(|range| range.contains(&atom.rva))
}

fn names_of(program: &Program, atoms: &[AtomIndex]) -> String {
    let names: BTreeSet<String> =
        atoms.iter().filter_map(|index| program.atom(*index)).map(|atom| program.display(atom)).collect();
    names.into_iter().collect::<Vec<_>>().join(" and ")
}
