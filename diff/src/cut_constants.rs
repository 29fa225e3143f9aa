//! Constants without a name that may go on behind a place which something else names.
//!
//! Without types (gcc's static tables, for one) such a constant is taken to end where the next address stands that something names: `&table[8]`
//! ends the table there. Who indexes the first piece without a bound that is known, or is given its address, may read what follows. Where that
//! is not the same in both builds, that function's code does not tell whether it is concerned.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::change_set::Reason;
use crate::compare::{Comparison, Outcome};
use crate::listing;
use crate::matching::{Claim, Match, Sides, Use};
use crate::program::{Function, Location, Program};
use crate::rva::Rva;
use crate::x64::{Reference, ReferenceKind};

/// Pieces that are looked at behind one address, so that damaged files do not take for ever.
const MAX_PIECES: u32 = 4096;

/// Functions that may read behind the first piece of a constant, where what stands there differs.
pub(crate) fn reasons(old: &Program, new: &Program, comparison: &Comparison) -> Vec<Reason> {
    let mut same: BTreeMap<AtomIndex, BTreeSet<AtomIndex>> = BTreeMap::new();
    for (a, b, _) in comparison.outcomes().filter(|(_, _, outcome)| **outcome == Outcome::Same) {
        if new.atom(b).is_some_and(|atom| atom.kind == AtomKind::ReadOnly && atom.names.is_empty()) {
            same.entry(b).or_default().insert(a);
        }
    }
    let pieces = Pieces { old: Cut::of(old), new: Cut::of(new), comparison, same };
    let mut reasons: Vec<Reason> = new.functions.iter().filter_map(|function| pieces.reason(function)).collect();
    reasons.sort();
    reasons.dedup();
    reasons
}

/// A program with its tables that functions jump by: compilers make those for that alone, and no constant goes on into one.
struct Cut<'a> {
    program: &'a Program,
    tables: BTreeSet<Rva>,
}

impl<'a> Cut<'a> {
    fn of(program: &'a Program) -> Cut<'a> {
        let tables = program.functions.iter().flat_map(|f| f.code.facts.tables.iter().map(|table| table.rva));
        Cut { program, tables: tables.collect() }
    }

    /// A constant without name or type that is no text, with what may be more of it: the pieces right behind it.
    fn pieces(&self, first: AtomIndex) -> Vec<&'a Atom> {
        let is_piece = |index: AtomIndex| {
            let is_text = || listing::text_from(self.program, index, 0).is_some_and(is_written);
            let atom = self.program.atom(index)?;
            let is_plain = atom.kind == AtomKind::ReadOnly
                && !atom.is_sized
                && (atom.names.is_empty() || index == first && has_plain_name(atom));
            (is_plain && !self.tables.contains(&atom.rva) && !is_text()).then_some(atom)
        };
        let own = |atom: &Atom| self.program.symbols.contribution_at(atom.rva).map(|c| c.range.start);
        let Some(start) = is_piece(first) else { return Vec::new() };
        let mut end = start.rva;
        (first.0..first.0.saturating_add(MAX_PIECES))
            .map_while(|index| is_piece(AtomIndex(index)))
            .take_while(|atom| {
                let is_next = atom.rva == end && own(atom) == own(start);
                end = atom.end();
                is_next
            })
            .collect()
    }

    /// The constant that a reference takes the address of in a way that does not tell how far it goes.
    fn open(&self, function: &Function, reference: &Reference) -> Option<AtomIndex> {
        let is_taken =
            matches!(reference.kind, ReferenceKind::Address | ReferenceKind::Absolute | ReferenceKind::ImageRelative);
        let Location::Atom { atom, offset } = self.program.locate(reference.target) else { return None };
        let size = self.program.atom(atom).filter(|atom| atom.kind == AtomKind::ReadOnly)?.size;
        let uses = function.code.facts.uses.get(&reference.target).copied().unwrap_or_default();
        let leaves = uses.indexed && !uses.is_indexed_within(size.saturating_sub(offset));
        let is_open = leaves || uses.compared || uses.escapes || uses.computed;
        (is_taken && reference.symbol.is_none() && is_open).then_some(atom)
    }
}

struct Pieces<'a> {
    old: Cut<'a>,
    new: Cut<'a>,
    comparison: &'a Comparison,
    /// Old constants that hold the same, by new one.
    same: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
}

impl Pieces<'_> {
    fn reason(&self, function: &Function) -> Option<Reason> {
        let piece = self.opened(function).into_iter().find(|piece| !self.go_on_alike(function, *piece))?;
        let atom = self.new.program.atom(function.atom)?;
        let constant = self.new.program.display(self.new.program.atom(piece)?);
        let message = format!(
            "it may read on behind {constant}, a constant of which no type tells the size: what stands there is not what it is in running processes"
        );
        Some(Reason { code: "constant-extent", symbol: self.new.program.linkage_name(atom), message })
    }

    /// The constants that either build's version of a function opens, in the new build.
    fn opened(&self, function: &Function) -> BTreeSet<AtomIndex> {
        let mut opened: BTreeSet<AtomIndex> =
            function.code.references.iter().filter_map(|reference| self.new.open(function, reference)).collect();
        let olds = self.comparison.pairing.old_of(function.atom).iter();
        for old in olds.filter_map(|old| self.old.program.function(*old)) {
            let references = &old.code.references;
            if references.len() == function.code.references.len() {
                let pairs = references.iter().zip(&function.code.references);
                opened.extend(pairs.filter(|(r, _)| self.old.open(old, r).is_some()).filter_map(|(_, r)| {
                    match self.new.program.locate(r.target) {
                        Location::Atom { atom, .. } => Some(atom),
                        _ => None,
                    }
                }));
            }
        }
        opened
    }

    /// Whether what stands behind a new constant stands behind each old one that is taken for it.
    fn go_on_alike(&self, function: &Function, piece: AtomIndex) -> bool {
        let news = self.new.pieces(piece);
        if news.is_empty() {
            return true;
        }
        let olds = self.same_as(function, piece);
        // What only the new build has goes along as far as it is known.
        if olds.is_empty() {
            return news.len() < 2;
        }
        olds.into_iter().all(|old| self.hold_the_same(&self.old.pieces(old), &news))
    }

    /// Old constants that hold the same as a new one, of those that the old version of the function names, if it names one.
    fn same_as(&self, function: &Function, piece: AtomIndex) -> BTreeSet<AtomIndex> {
        let Some(same) = self.same.get(&piece) else { return BTreeSet::new() };
        let olds = self.comparison.pairing.old_of(function.atom);
        let is_unchanged = |old: &AtomIndex| self.comparison.outcome(*old, function.atom) == Some(&Outcome::Same);
        let unchanged = olds.iter().filter(|old| is_unchanged(old)).filter_map(|old| self.old.program.function(*old));
        let named = unchanged.flat_map(|f| &f.code.references).filter_map(|r| self.old.program.atom_before(r.place()));
        let own: BTreeSet<AtomIndex> = named.filter(|named| same.contains(named)).collect();
        if own.is_empty() { same.clone() } else { own }
    }

    /// Byte by byte and pointer by pointer, as far as the longer of the two goes, but for zeros at its end.
    fn hold_the_same(&self, olds: &[&Atom], news: &[&Atom]) -> bool {
        let (Some(a), Some(b)) = (whole(olds), whole(news)) else { return olds.len() < 2 && news.len() < 2 };
        let (old, new) = (self.old.program, self.new.program);
        let (x, y) = (old.image.bytes_up_to(a.rva..a.end()), new.image.bytes_up_to(b.rva..b.end()));
        let (fields, others) = (old.data_fields(&a, a.size), new.data_fields(&b, b.size));
        let pointers: BTreeMap<u32, _> = fields.iter().map(|field| (field.offset, field)).collect();
        let is_pointer = |at: usize| {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            pointers.range(..=at).next_back().is_some_and(|(offset, field)| at < offset + field.kind.width())
        };
        let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
        let sides = Sides { old, new, pairing: &self.comparison.pairing };
        let leads_alike = |x, y| match sides.match_named(x, y, Use::Value) {
            Match::Same(Some(Claim::Content(a, b))) => self.comparison.outcome(a, b) == Some(&Outcome::Same),
            Match::Same(_) => true,
            Match::Different | Match::Ambiguous => false,
        };
        fields.len() == others.len()
            && fields
                .iter()
                .zip(&others)
                .all(|(x, y)| x.offset == y.offset && x.named.zip(y.named).is_some_and(|(x, y)| leads_alike(x, y)))
            && (0..x.len().max(y.len())).all(|at| byte(x, at) == byte(y, at) || is_pointer(at))
    }
}

/// Whether bytes look like letters of one byte, with a mark here and there, and not like the first of those in UTF-16 that are not Latin.
fn is_written(text: &[u8]) -> bool {
    let is_letter_of_two =
        |unit: &&[u8]| matches!(unit, [_, high] if (1..b' ').contains(high) && !matches!(high, 9 | 10 | 13));
    let units = text.chunks_exact(2);
    let count = units.len();
    units.filter(is_letter_of_two).count() < count.div_ceil(2).max(2)
}

/// A constant of C's. What C++ makes for itself (tables of virtual functions, type information) ends where that ends.
fn has_plain_name(atom: &Atom) -> bool {
    atom.names.iter().all(|name| !name.key.starts_with("_Z") && !name.key.starts_with('?'))
}

/// All pieces as one.
fn whole(pieces: &[&Atom]) -> Option<Atom> {
    let (first, last) = (pieces.first()?, pieces.last()?);
    Some(Atom { size: last.end().0.checked_sub(first.rva.0)?, ..(*first).clone() })
}

#[cfg(test)]
mod tests {
    use super::is_written;

    #[test]
    fn letters_of_two_bytes_are_no_text_of_bytes() {
        for text in [&b"one\0"[..], b"\x01\0", b"\x01host=\x01\0", b"\x1b[1m\0", b"a\tb\n\0"] {
            assert!(is_written(text), "{text:?}");
        }
        // The first letters of a Russian word and of a Greek one.
        for text in [&b"1\x042\x04"[..], b"\xb1\x03\xb2\x03\xb3\x03"] {
            assert!(!is_written(text), "{text:?}");
        }
    }
}
