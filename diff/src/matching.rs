//! Whether an old address and a new address name the same thing.
//!
//! An address has more than one reading: the start of one object is the end of the one before, and a biased base lies in a
//! neighbour. A reading counts when both programs agree on it; where the obvious reading names two things that
//! both exist elsewhere in the other program, agreement on a less obvious one proves nothing, and the reference is unresolved.

use crate::atoms::{Atom, AtomIndex, AtomKind, MAX_BIAS, NEIGHBOURS};
use crate::identity::{has_identity, may_stand_for};
use crate::listing;
use crate::ordinals::stable_name;
use crate::pairing::{How, Pairing};
use crate::program::{Location, Program};
use crate::rva::Rva;
use crate::x64::Named;

/// Two programs and what is known of their pairing.
#[derive(Clone, Copy)]
pub(crate) struct Sides<'a> {
    pub old: &'a Program,
    pub new: &'a Program,
    pub pairing: &'a Pairing,
}

/// What must hold besides for two references to mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Claim {
    /// The two atoms are the same thing, whatever they hold.
    Identity(AtomIndex, AtomIndex),
    /// The two atoms hold the same.
    Content(AtomIndex, AtomIndex),
    /// The two functions, paired by their order among others of their name, are the same thing: nothing more has to hold, it bears the pair out.
    Order(AtomIndex, AtomIndex),
}

impl Claim {
    /// Whether it says of two functions that they are the same thing.
    pub fn is_of_functions(self, old: &Program) -> bool {
        matches!(self, Claim::Identity(a, _) if old.atom(a).is_some_and(Atom::is_function))
    }
}

/// The outcome of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// The same, provided that the claim holds.
    Same(Option<Claim>),
    /// Not the same.
    Different,
    /// The readings contradict each other.
    Ambiguous,
}

/// How an address is used, which decides what readings it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Called, jumped to, read or written at: the object itself.
    Direct,
    /// Taken as a value: may be an end or a biased base.
    Value,
}

impl<'a> Sides<'a> {
    /// Compares an old and a new address.
    pub fn match_named(self, old: Named, new: Named, usage: Use) -> Match {
        // Where object files tell which object is meant on both sides, there is one reading.
        if let (Some(symbol), Some(other)) = (old.symbol, new.symbol)
            && let Location::Atom { atom: a, offset: x } = self.old.locate(symbol)
            && let Location::Atom { atom: b, offset: y } = self.new.locate(other)
        {
            let (x, y) =
                (i64::from(x) + old.target.distance_from(symbol), i64::from(y) + new.target.distance_from(other));
            return self.match_reading((a, x), (b, y)).map_or(Match::Different, Match::Same);
        }
        self.match_address(old.target, new.target, usage)
    }

    /// Compares an old and a new address of which no more is known.
    pub fn match_address(self, old: Rva, new: Rva, usage: Use) -> Match {
        let (old_atom, old_offset, new_atom, new_offset) = match (self.old.locate(old), self.new.locate(new)) {
            (Location::Headers(old), Location::Headers(new)) => {
                return if self.same_header_place(old, new) { Match::Same(None) } else { Match::Different };
            }
            (Location::Atom { atom: a, offset: x }, Location::Atom { atom: b, offset: y }) => (a, x, b, y),
            // Before or between sections there is nothing but the biased bases of objects behind.
            _ if usage == Use::Value => return self.match_neighbours(old, new).map_or(Match::Different, Match::Same),
            _ => return Match::Different,
        };
        if let Some(claim) = self.match_reading((old_atom, i64::from(old_offset)), (new_atom, i64::from(new_offset))) {
            return Match::Same(claim);
        }
        // An address at which a function begins in both is that function's: it stands as far from some constant only where little moved.
        if usage == Use::Direct || old_offset == 0 && new_offset == 0 && self.are_functions(old_atom, new_atom) {
            return Match::Different;
        }
        // Two places in texts are what stands there up to the zero, wherever things nearby are.
        if (old_offset, new_offset) != (0, 0)
            && let (Some(text), Some(other)) =
                (listing::text_from(self.old, old_atom, old_offset), listing::text_from(self.new, new_atom, new_offset))
        {
            return if text == other { Match::Same(None) } else { Match::Different };
        }
        match self.match_neighbours(old, new) {
            Some(_) if self.contradicts((old_atom, old_offset), (new_atom, new_offset)) => Match::Ambiguous,
            Some(claim) => Match::Same(claim),
            None => Match::Different,
        }
    }

    fn same_header_place(self, old: Rva, new: Rva) -> bool {
        let place = |program: &Program, rva: Rva| {
            let directory = program.image.directories.iter().position(|d| d.contains(&rva));
            let start = directory.and_then(|index| program.image.directories.get(index)).map_or(Rva(0), |d| d.start);
            (directory.is_some(), rva.distance_from(start), program.image.section_at(rva).map(|s| s.name.clone()))
        };
        place(self.old, old) == place(self.new, new)
    }

    /// One reading on each side: the same offset in the same atom. Gives what it depends on.
    fn match_reading(self, old: (AtomIndex, i64), new: (AtomIndex, i64)) -> Option<Option<Claim>> {
        if old.1 != new.1 {
            return None;
        }
        let (a, b) = (self.old.atom(old.0)?, self.new.atom(new.0)?);
        // What lies behind a function's end is not known to be the same because the function is.
        let behind = |atom: &Atom, offset: i64| atom.is_function() && offset >= i64::from(atom.size);
        if behind(a, old.1) || behind(b, new.1) {
            return None;
        }
        let is_pair = self.pairing.is_pair(old.0, new.0);
        match (a.kind, b.kind) {
            (AtomKind::Function(_), AtomKind::Function(_)) if old.1 == 0 => {
                // A body without a name is the other one only as far as all references agree on that; it may also have been folded
                // into one that has a name, or the other way round.
                let one_is_anonymous = a.names.is_empty() || b.names.is_empty();
                // Several units may hold copies of one function: each is as good as the other if both do the same.
                let is_copy = !is_pair && share_a_name(a, b);
                let by_order = self.pairing.how(old.0, new.0) == Some(How::Order);
                let claim = match () {
                    () if one_is_anonymous || is_copy => Some(Claim::Identity(old.0, new.0)),
                    () if by_order => Some(Claim::Order(old.0, new.0)),
                    () => None,
                };
                (is_pair || claim.is_some()).then_some(claim)
            }
            // Into the middle of a function: its code must be the same for the place to be.
            (AtomKind::Function(_), AtomKind::Function(_)) => {
                (is_pair || self.both_anonymous(a, b)).then_some(Some(Claim::Content(old.0, new.0)))
            }
            (AtomKind::Writable, AtomKind::Writable) => self.same_identity(a, b, old.0, new.0, is_pair),
            (AtomKind::ImportSlot, AtomKind::ImportSlot) => is_pair.then_some(None),
            (AtomKind::ReadOnly, AtomKind::ReadOnly) => {
                // Constants are what they hold, unless both have partners elsewhere.
                let apart = !self.pairing.new_of(old.0).is_empty() && !self.pairing.old_of(new.0).is_empty();
                let may_be_merged =
                    || !apart && may_stand_for((self.old, self.new), self.pairing, (old.0, a), (new.0, b));
                (is_pair || share_a_name(a, b) || may_be_merged()).then_some(Some(Claim::Content(old.0, new.0)))
            }
            _ => None,
        }
    }

    /// A variable without a name, or with one that others of its module have, is another one only as far as all references agree on that.
    fn same_identity(self, a: &Atom, b: &Atom, old: AtomIndex, new: AtomIndex, is_pair: bool) -> Option<Option<Claim>> {
        if self.both_anonymous(a, b) || self.pairing.are_namesakes(old, new) && share_a_name(a, b) {
            return Some(Some(Claim::Identity(old, new)));
        }
        is_pair.then_some(None)
    }

    fn are_functions(self, old: AtomIndex, new: AtomIndex) -> bool {
        self.old.atom(old).is_some_and(Atom::is_function) && self.new.atom(new).is_some_and(Atom::is_function)
    }

    fn both_anonymous(self, a: &Atom, b: &Atom) -> bool {
        a.names.is_empty() && b.names.is_empty()
    }

    /// Ends and biased bases: any paired data atom nearby that both addresses are equally far from.
    fn match_neighbours(self, old: Rva, new: Rva) -> Option<Option<Claim>> {
        let nearest = self.old.atom_before(old)?.0;
        let first = nearest.saturating_sub(NEIGHBOURS);
        let mut candidates: Vec<(i64, AtomIndex)> = (first..=nearest.saturating_add(NEIGHBOURS))
            .filter_map(|index| {
                let index = AtomIndex(index);
                let atom = self.old.atom(index)?;
                let offset = old.distance_from(atom.rva);
                let is_data = matches!(atom.kind, AtomKind::ReadOnly | AtomKind::Writable);
                (is_data && offset.abs() <= i64::from(MAX_BIAS.max(atom.size))).then_some((offset, index))
            })
            .collect();
        // The nearest first; the end of an object before the start of the next.
        candidates.sort_by_key(|(offset, index)| (offset.abs(), *index));
        candidates.into_iter().find_map(|(offset, old_atom)| {
            self.pairing.new_of(old_atom).iter().find_map(|new_atom| {
                let start = self.new.atom(*new_atom)?.rva;
                (new.distance_from(start) == offset)
                    .then(|| self.match_reading((old_atom, offset), (*new_atom, offset)))
                    .flatten()
            })
        })
    }

    /// Both addresses are exact starts of atoms that have their own, other partners, or of an object of its own that one build lacks.
    fn contradicts(self, old: (AtomIndex, u32), new: (AtomIndex, u32)) -> bool {
        let is_lone = |program: &Program, index| program.atom(index).is_some_and(has_identity);
        let is_known = !self.pairing.new_of(old.0).is_empty() || is_lone(self.old, old.0);
        let is_known_too = !self.pairing.old_of(new.0).is_empty() || is_lone(self.new, new.0);
        old.1 == 0 && new.1 == 0 && is_known && is_known_too
    }
}

/// Whether a name of the one is a name of the other but for what changes from build to build, in whatever modules.
pub(crate) fn share_a_name(a: &Atom, b: &Atom) -> bool {
    let is_same = |name: &str, other: &str| name == other || stable_name(name) == stable_name(other);
    a.names.iter().any(|name| b.names.iter().any(|other| is_same(&name.key, &other.key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atoms::{Local, Name};
    use crate::rva::Rva;

    fn named(key: &str, module: Option<&str>) -> Atom {
        let local = module.map(|module| Local { module: module.to_owned(), scope: None });
        let names = vec![Name { key: key.to_owned(), local, display: key.to_owned() }];
        Atom { rva: Rva(0x1000), size: 1, is_sized: true, kind: AtomKind::Function(0), names, module: None }
    }

    #[test]
    fn copies_share_their_name_whatever_their_unit() {
        let (a, b) = (named("drop<String>", Some("app-cgu.0.rcgu.o")), named("drop<String>", Some("app-cgu.1.rcgu.o")));
        assert!(share_a_name(&a, &b));
        assert!(share_a_name(&named("_RNvC1a1f.llvm.123", None), &named("_RNvC1a1f.llvm.456", None)));
        assert!(!share_a_name(&a, &named("drop<Error>", Some("app-cgu.0.rcgu.o"))));
    }

    /// All data is as far from a function's start in both builds where nothing moved.
    #[test]
    fn another_function_at_the_same_address_is_no_biased_base() {
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/constant/old.exe");
        let load = || Program::load(&fixture, None).unwrap();
        let (old, mut new) = (load(), load());
        let function = new.atoms.iter_mut().find(|atom| atom.is_function() && !atom.names.is_empty()).unwrap();
        function.names = vec![Name { key: "other".to_owned(), local: None, display: "other".to_owned() }];
        let rva = function.rva;
        let pairing = Pairing::by_name(&old, &new);
        let sides = Sides { old: &old, new: &new, pairing: &pairing };
        assert!(sides.match_neighbours(rva, rva).is_some(), "the test is about nothing else");
        assert_eq!(sides.match_address(rva, rva, Use::Value), Match::Different);
    }

    #[test]
    fn nothing_is_shared_without_a_name() {
        let nameless = Atom { names: Vec::new(), ..named("f", None) };
        assert!(!share_a_name(&nameless, &nameless));
    }
}
