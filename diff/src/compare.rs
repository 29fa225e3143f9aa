//! Compares paired atoms: functions instruction by instruction, data pointer by pointer.
//!
//! A comparison of two atoms says what differs, or which further claims it rests on: that two anonymous atoms are the same thing, or
//! that two constants hold the same. Claims are followed until none is new; then a difference spreads backwards to all
//! that rest on it. Cycles count as equal unless something in them differs.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::atoms::{Atom, AtomIndex, AtomKind, MAX_BIAS};
use crate::error::Error;
use crate::exceptions::Item;
use crate::image::Image;
use crate::listing;
use crate::matching::{Claim, Match, Sides, Use};
use crate::pairing::{How, Pairing, indexed};
use crate::program::{DataField, DataFieldKind, Function, Location, Program};
use crate::rva::{Rva, span};
use crate::tables::JumpTable;
use crate::x64::{Code, Named, Reference, ReferenceKind, Role};

/// What is known of every pair of atoms.
#[derive(Debug)]
pub struct Comparison {
    /// The pairs, those included that were found by comparing.
    pub pairing: Pairing,
    /// Outcome for each compared pair.
    outcomes: BTreeMap<(AtomIndex, AtomIndex), Outcome>,
    /// Pairs whose content something else rests on.
    rested_on: BTreeSet<(AtomIndex, AtomIndex)>,
}

/// How two paired atoms compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// They mean the same.
    Same,
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

/// Outcome of looking at one pair alone.
struct Local {
    difference: Option<Outcome>,
    claims: BTreeSet<Claim>,
}

impl Comparison {
    /// Compares two programs.
    pub fn of(old: &Program, new: &Program) -> Comparison {
        let mut comparison =
            Comparison { pairing: Pairing::by_name(old, new), outcomes: BTreeMap::new(), rested_on: BTreeSet::new() };
        let mut rests_on: BTreeMap<(AtomIndex, AtomIndex), Vec<(AtomIndex, AtomIndex)>> = BTreeMap::new();
        let mut queue = comparison.pairing.pairs();
        loop {
            if queue.is_empty() {
                queue = comparison.pair_leftovers(old, new);
                if queue.is_empty() {
                    queue = comparison.equal_constants(old, new);
                }
                if queue.is_empty() {
                    break;
                }
            }
            let sides = Sides { old, new, pairing: &comparison.pairing };
            let locals: Vec<Local> = queue.par_iter().map(|(a, b)| compare_atoms(sides, *a, *b)).collect();
            let mut next = BTreeSet::new();
            for (pair, local) in queue.drain(..).zip(locals) {
                let mut outcome = local.difference.unwrap_or(Outcome::Same);
                for claim in local.claims {
                    match comparison.settle(claim, old) {
                        Settled::Follow(other) => {
                            rests_on.entry(other).or_default().push(pair);
                            next.insert(other);
                        }
                        Settled::Identical(other) => {
                            next.insert(other);
                        }
                        Settled::Contradiction(other) if outcome == Outcome::Same => {
                            let name = |index| old.atom(index).map(|atom| old.display(atom)).unwrap_or_default();
                            outcome = Outcome::Different(Difference::at(
                                0,
                                0,
                                format!("uses another variable in place of {}", name(other)),
                            ));
                        }
                        Settled::Contradiction(_) => {}
                    }
                }
                comparison.outcomes.insert(pair, outcome);
            }
            queue = next.into_iter().filter(|pair| !comparison.outcomes.contains_key(pair)).collect();
        }
        comparison.rested_on = rests_on.keys().copied().collect();
        comparison.spread(old, rests_on);
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

    /// Old atoms that were found to hold the same as a new one.
    pub fn same_content(&self) -> BTreeMap<AtomIndex, AtomIndex> {
        let mut same = BTreeMap::new();
        for (old, new, outcome) in self.outcomes() {
            if *outcome == Outcome::Same {
                same.entry(new).or_insert(old);
            }
        }
        same
    }

    /// Pairs functions without a name that nothing compared so far names: those of one module that do the same, then, where
    /// as many are left on both sides, by order.
    fn pair_leftovers(&mut self, old: &Program, new: &Program) -> Vec<(AtomIndex, AtomIndex)> {
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
                match news.iter().take(MAX_LEFTOVERS).position(|b| compare_atoms(sides, a, *b).difference.is_none()) {
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
                function.code.references.iter().map(|r| r.target).chain(tables)
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
            Claim::Identity(a, b) => {
                if self.pairing.new_of(a).is_empty() && self.pairing.old_of(b).is_empty() {
                    self.pairing.add(a, b, How::Reference);
                }
                if self.pairing.is_pair(a, b) {
                    Settled::Identical((a, b))
                } else if old.atom(a).is_some_and(Atom::is_function) {
                    // Folded bodies: another partner is as good if it does the same.
                    Settled::Follow((a, b))
                } else {
                    Settled::Contradiction(a)
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
                let Some(outcome @ Outcome::Same) = self.outcomes.get_mut(dependent) else {
                    continue;
                };
                let name = old.atom(pair.0).map(|atom| old.display(atom)).unwrap_or_default();
                *outcome = match &cause {
                    Outcome::Unresolved(why) => Outcome::Unresolved(why.through(&name)),
                    Outcome::Different(why) => Outcome::Different(why.through(&name)),
                    Outcome::Same => continue,
                };
                queue.push(*dependent);
            }
        }
    }
}

/// A function that takes an address inside one constant may mean a biased base of another one nearby: that both builds agree on the
/// first does not show that it did not change with the second.
impl Comparison {
    fn doubt_biased_bases(&mut self, old: &Program) {
        let is_changed_constant = |(a, b): &(AtomIndex, AtomIndex), outcome: &Outcome| {
            *outcome != Outcome::Same
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
            .filter(|(_, outcome)| **outcome == Outcome::Same)
            .filter_map(|(pair, _)| Some((*pair, doubt(pair.0)?)))
            .collect();
        self.outcomes.extend(doubtful);
    }
}

/// Functions without a name that one such function is compared with.
const MAX_LEFTOVERS: usize = 64;

/// Copies of one constant that are worth looking at.
const MAX_EQUAL_CONSTANTS: usize = 16;

/// A constant's bytes without its pointers and the zeros at its end: equal for constants that may hold the same.
fn content_key(program: &Program, atom: &Atom) -> Vec<u8> {
    let mut bytes = program.image.bytes_up_to(atom.rva..atom.end()).to_vec();
    for (place, _) in crate::program::pointers_in(&program.image, atom.rva..atom.end()) {
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
    /// The same thing; whether its content changed is its own matter.
    Identical((AtomIndex, AtomIndex)),
    /// The old atom has another partner.
    Contradiction(AtomIndex),
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

fn compare_atoms(sides: Sides<'_>, old: AtomIndex, new: AtomIndex) -> Local {
    let mut walk = PairWalk { sides, old, new, claims: BTreeSet::new() };
    let result = match (sides.old.function(old), sides.new.function(new)) {
        (Some(a), Some(b)) => walk.functions(a, b),
        (None, None) => walk.data(),
        _ => Err(Outcome::Different(Difference::at(0, 0, "code here, data there"))),
    };
    Local { difference: result.err(), claims: walk.claims }
}

/// One pair being compared. Methods end with `Err` at the first difference.
struct PairWalk<'a> {
    sides: Sides<'a>,
    old: AtomIndex,
    new: AtomIndex,
    claims: BTreeSet<Claim>,
}

fn different<T>(old_offset: u32, new_offset: u32, what: impl Into<String>) -> Result<T, Outcome> {
    Err(Outcome::Different(Difference::at(old_offset, new_offset, what)))
}

impl<'a> PairWalk<'a> {
    fn functions(&mut self, a: &Function, b: &Function) -> Result<(), Outcome> {
        let (old_order, new_order) = (Order::of(&a.code), Order::of(&b.code));
        let (old_image, new_image) = (&self.sides.old.image, &self.sides.new.image);
        let (Some(old_atom), Some(new_atom)) = (self.sides.old.atom(self.old), self.sides.new.atom(self.new)) else {
            return different(0, 0, "not in the image");
        };
        for position in 0..old_order.indices.len().max(new_order.indices.len()) {
            let (i, j) = (old_order.indices.get(position), new_order.indices.get(position));
            let (Some(&i), Some(&j)) = (i, j) else {
                let offset = |index: Option<&usize>, code: &Code| {
                    index.and_then(|i| code.instructions.get(*i)).map_or(0, |i| i.offset)
                };
                let what = if i.is_none() {
                    "instructions were added at the end"
                } else {
                    "instructions were removed at the end"
                };
                return different(offset(i, &a.code), offset(j, &b.code), what);
            };
            let (Some(x), Some(y)) = (a.code.instructions.get(i), b.code.instructions.get(j)) else {
                continue;
            };
            let same = match (x.role, y.role) {
                (Role::Branch { mnemonic: m, target: t }, Role::Branch { mnemonic: n, target: u }) => {
                    m == n && old_order.position_of(&a.code, t) == new_order.position_of(&b.code, u)
                }
                (Role::Plain, Role::Plain) => {
                    let (refs, other_refs) = (a.code.references_of(i), b.code.references_of(j));
                    let bytes = masked_bytes(old_image, old_atom, x.offset, x.len, refs);
                    let other = masked_bytes(new_image, new_atom, y.offset, y.len, other_refs);
                    bytes.is_some() && bytes == other && same_forms(refs, x.offset, other_refs, y.offset)
                }
                _ => false,
            };
            if !same {
                return different(x.offset, y.offset, self.show(x.offset, y.offset));
            }
            for (r, s) in a.code.references_of(i).iter().zip(b.code.references_of(j)) {
                self.reference((a, &old_order, x.offset, r), (b, &new_order, y.offset, s))?;
            }
        }
        self.undecoded((a, old_atom), (b, new_atom))?;
        self.own_data((a, old_atom), (b, new_atom))?;
        self.unwind((a, &old_order, old_atom), (b, &new_order, new_atom))
    }

    /// Behind bytes that are no instruction nothing was decoded: what stands there is the same only where it is byte for byte.
    fn undecoded(&self, (a, old): (&Function, &Atom), (b, new): (&Function, &Atom)) -> Result<(), Outcome> {
        let start = |function: &Function| function.code.instructions.last().map_or(0, |i| i.offset + u32::from(i.len));
        let rest = |program: &'a Program, function: &Function, atom: &Atom| {
            let end = if function.code.data.is_empty() { atom.size } else { function.code.data.start };
            program.image.bytes_up_to(span(atom.rva, start(function)).end..span(atom.rva, end).end)
        };
        let (x, y) = (rest(self.sides.old, a, old), rest(self.sides.new, b, new));
        if x == y {
            return Ok(());
        }
        let what = format!("what stands behind +{:#x} could not be read as code, and it differs", start(a));
        Err(Outcome::Unresolved(Difference::at(start(a), start(b), what)))
    }

    /// Tables behind a function's own code: jump tables were compared by where they lead, the rest is compared as it stands.
    fn own_data(&self, (a, old): (&Function, &Atom), (b, new): (&Function, &Atom)) -> Result<(), Outcome> {
        let bytes = |program: &'a Program, function: &Function, atom: &Atom| {
            let data = &function.code.data;
            let start = Rva(atom.rva.0.saturating_add(data.start));
            let mut bytes = program.image.bytes_up_to(start..atom.end()).to_vec();
            if data.is_empty() {
                bytes.clear();
            }
            for table in &function.tables {
                let Ok(at) = usize::try_from(table.rva.distance_from(start)) else { continue };
                if let Some(entries) = bytes.get_mut(at..at + 4 * table.targets.len()) {
                    entries.fill(0);
                }
            }
            bytes
        };
        if bytes(self.sides.old, a, old) == bytes(self.sides.new, b, new) {
            return Ok(());
        }
        different(a.code.data.start, b.code.data.start, "a table behind its code changed")
    }

    fn show(&self, old_offset: u32, new_offset: u32) -> String {
        format!(
            "{} became {}",
            listing::instruction(self.sides.old, self.old, old_offset),
            listing::instruction(self.sides.new, self.new, new_offset)
        )
    }

    fn reference(
        &mut self,
        (a, old_order, x, r): (&Function, &Order, u32, &Reference),
        (b, new_order, y, s): (&Function, &Order, u32, &Reference),
    ) -> Result<(), Outcome> {
        if let (Some(t), Some(u)) = (a.table_at(r.target), b.table_at(s.target)) {
            let positions = |table: &JumpTable, code: &Code, order: &Order| -> Vec<Option<usize>> {
                table.targets.iter().map(|target| order.position_of(code, *target)).collect()
            };
            if positions(t, &a.code, old_order) == positions(u, &b.code, new_order) {
                return Ok(());
            }
            return different(x, y, "the jump table leads elsewhere");
        }
        if let (Some(t), Some(u)) = (a.data_table_at(r.target), b.data_table_at(s.target)) {
            if t.targets.len() != u.targets.len() {
                return different(x, y, "the table of distances has another length");
            }
            for (target, other) in t.targets.iter().zip(&u.targets) {
                self.address((x, (*target).into()), (y, (*other).into()), Use::Value)?;
            }
            return Ok(());
        }
        // The same place behind the code: what stands there is compared as a whole.
        let (old_place, new_place) =
            (own_data_place(a, self.sides.old.atom(self.old), r), own_data_place(b, self.sides.new.atom(self.new), s));
        if let (Some(old_place), Some(new_place)) = (old_place, new_place) {
            return if old_place == new_place { Ok(()) } else { different(x, y, self.show(x, y)) };
        }
        if self.same_constant(r, s) {
            return Ok(());
        }
        let usage = match r.kind {
            ReferenceKind::Address | ReferenceKind::Absolute => Use::Value,
            _ => Use::Direct,
        };
        self.address((x, r.named()), (y, s.named()), usage)
    }

    /// Both read as many bytes of constants without a name, and the same ones: how far those constants go on does not matter.
    fn same_constant(&self, r: &Reference, s: &Reference) -> bool {
        let read = |program: &'a Program, reference: &Reference| {
            let Location::Atom { atom, .. } = program.locate(reference.target) else { return None };
            let is_constant = program.atom(atom).is_some_and(|a| a.kind == AtomKind::ReadOnly && a.names.is_empty());
            let range = span(reference.target, u32::from(reference.accessed));
            let is_plain = program.image.base_relocations_in(range).is_empty();
            (is_constant && is_plain)
                .then(|| program.image.bytes(reference.target, u32::from(reference.accessed)))
                .flatten()
        };
        r.accessed > 0
            && r.accessed == s.accessed
            && read(self.sides.old, r).is_some_and(|bytes| Some(bytes) == read(self.sides.new, s))
    }

    /// Two addresses that the instructions at two offsets name.
    fn address(&mut self, (x, old): (u32, Named), (y, new): (u32, Named), usage: Use) -> Result<(), Outcome> {
        match self.match_named(old, new, usage) {
            Match::Same(_) => Ok(()),
            Match::Different => different(x, y, self.show(x, y)),
            Match::Ambiguous => Err(Outcome::Unresolved(Difference::at(
                x,
                y,
                format!("{}: the address has two readings, and the builds do not agree on one", self.show(x, y)),
            ))),
        }
    }

    fn match_address(&mut self, old: Rva, new: Rva, usage: Use) -> Match {
        self.match_named(old.into(), new.into(), usage)
    }

    fn match_named(&mut self, old: Named, new: Named, usage: Use) -> Match {
        // A function's references into itself are compared as places in its own code.
        let found = self.sides.match_named(old, new, usage);
        if let Match::Same(Some(claim)) = found
            && claim != Claim::Content(self.old, self.new)
        {
            self.claims.insert(claim);
        }
        found
    }

    fn unwind(
        &mut self,
        (a, old_order, old_atom): (&Function, &Order, &Atom),
        (b, new_order, new_atom): (&Function, &Order, &Atom),
    ) -> Result<(), Outcome> {
        if a.unwind.len() != b.unwind.len() {
            return different(0, 0, "the number of unwind records differs");
        }
        for ((entry, info), (other_entry, other_info)) in a.unwind.iter().zip(&b.unwind) {
            let place = |rva: Rva, atom: &Atom, code: &Code, order: &Order| {
                u32::try_from(rva.distance_from(atom.rva)).ok().map(|offset| order.end_position_of(code, offset))
            };
            let ends = |range: &std::ops::Range<Rva>, atom, code, order| {
                (place(range.start, atom, code, order), place(range.end, atom, code, order))
            };
            if ends(&entry.range, old_atom, &a.code, old_order)
                != ends(&other_entry.range, new_atom, &b.code, new_order)
                || info.codes != other_info.codes
                || info.flags != other_info.flags
            {
                return different(0, 0, "the unwind codes differ");
            }
            if let (Some((handler, data)), Some((other_handler, other_data))) = (info.handler, other_info.handler) {
                if !matches!(self.match_address(handler, other_handler, Use::Direct), Match::Same(_)) {
                    return different(0, 0, "the exception handler differs");
                }
                self.handler_data((handler, data, a, old_order, old_atom), (other_data, b, new_order, new_atom))?;
            }
        }
        Ok(())
    }

    /// The tables of a language handler, statement by statement.
    fn handler_data(
        &mut self,
        (handler, data, a, old_order, old_atom): (Rva, Rva, &Function, &Order, &Atom),
        (other_data, b, new_order, new_atom): (Rva, &Function, &Order, &Atom),
    ) -> Result<(), Outcome> {
        let name = self.sides.old.handler_name(handler);
        let read = |program: &Program, atom: &Atom, data: Rva| {
            program.exception_tables(&name, atom, data).map_err(|what| Outcome::Unresolved(Difference::at(0, 0, what)))
        };
        let old = read(self.sides.old, old_atom, data)?;
        let new = read(self.sides.new, new_atom, other_data)?;
        if old.items.len() != new.items.len() {
            return different(0, 0, "the exception tables differ in length");
        }
        let place = |rva: Rva, atom: &Atom, code: &Code, order: &Order| {
            u32::try_from(rva.distance_from(atom.rva))
                .ok()
                .filter(|offset| *offset <= atom.size)
                .map(|offset| order.end_position_of(code, offset))
        };
        for (x, y) in old.items.into_iter().zip(new.items) {
            let same = match (x, y) {
                (Item::Number(x), Item::Number(y)) => x == y,
                (Item::Code(x), Item::Code(y)) => {
                    match (place(x, old_atom, &a.code, old_order), place(y, new_atom, &b.code, new_order)) {
                        (Some(p), Some(q)) => p == q,
                        (None, None) => matches!(self.match_address(x, y, Use::Direct), Match::Same(_)),
                        _ => false,
                    }
                }
                (Item::Funclet(x), Item::Funclet(y)) => {
                    match (place(x, old_atom, &a.code, old_order), place(y, new_atom, &b.code, new_order)) {
                        (Some(p), Some(q)) => p == q,
                        (None, None) => self.funclet(x, y),
                        _ => false,
                    }
                }
                (Item::Data(x), Item::Data(y)) => matches!(self.match_address(x, y, Use::Direct), Match::Same(_)),
                _ => false,
            };
            if !same {
                return different(0, 0, "the exception tables differ");
            }
        }
        Ok(())
    }

    /// Of two extents that are guesses, the longer one goes on with nothing but zeros: alignment, or an object's last zeros.
    fn differ_by_padding(&self, a: &Atom, b: &Atom) -> bool {
        let (program, longer, shorter) = if a.size > b.size { (self.sides.old, a, b) } else { (self.sides.new, b, a) };
        let tail = Rva(longer.rva.0.saturating_add(shorter.size))..longer.end();
        program.image.bytes_up_to(tail.clone()).iter().all(|byte| *byte == 0)
            && program.image.base_relocations_in(tail).is_empty()
    }

    /// Funclets are parts of their function: what counts is what they do, whatever their names.
    fn funclet(&mut self, old: Rva, new: Rva) -> bool {
        match (self.sides.old.locate(old), self.sides.new.locate(new)) {
            (Location::Atom { atom: a, offset: 0 }, Location::Atom { atom: b, offset: 0 }) => {
                if (a, b) != (self.old, self.new) {
                    self.claims.insert(Claim::Content(a, b));
                }
                true
            }
            _ => false,
        }
    }

    fn data(&mut self) -> Result<(), Outcome> {
        let (Some(a), Some(b)) = (self.sides.old.atom(self.old), self.sides.new.atom(self.new)) else {
            return different(0, 0, "not in the image");
        };
        if a.kind == AtomKind::ImportSlot {
            return Ok(());
        }
        if let (Some(text), Some(other)) =
            (listing::text_constant(self.sides.old, a), listing::text_constant(self.sides.new, b))
        {
            // A string ends at its zero, whatever the gap behind it.
            if text == other {
                return Ok(());
            }
            return different(0, 0, format!("{} became {}", listing::quote(text), listing::quote(other)));
        }
        if a.size != b.size && a.is_sized && b.is_sized {
            return different(0, 0, format!("its size changed from {} to {} bytes", a.size, b.size));
        }
        // Where no type gives the extent, it is a guess from what else is named: where the guesses differ, what follows must
        // agree, for a variable as far as both go.
        let size = if a.kind == AtomKind::Writable || self.differ_by_padding(a, b) {
            a.size.min(b.size)
        } else {
            a.size.max(b.size)
        };
        let (old_bytes, new_bytes) =
            (continued_bytes(self.sides.old, a, size), continued_bytes(self.sides.new, b, size));
        let (old_fields, new_fields) = (self.sides.old.data_fields(a, size), self.sides.new.data_fields(b, size));
        let places = |fields: &[DataField]| fields.iter().map(|f| (f.offset, f.kind)).collect::<Vec<_>>();
        if places(&old_fields) != places(&new_fields) {
            return different(0, 0, "its pointers stand at other places");
        }
        let is_field = |offset: usize| {
            let next = old_fields.partition_point(|field| field.offset as usize <= offset);
            let field = next.checked_sub(1).and_then(|i| old_fields.get(i));
            field.is_some_and(|field| offset < (field.offset + field.kind.width()) as usize)
        };
        // What the file does not hold is zero in memory.
        let byte = |bytes: &[u8], offset: usize| bytes.get(offset).copied().unwrap_or(0);
        for offset in 0..old_bytes.len().max(new_bytes.len()) {
            if byte(old_bytes, offset) != byte(new_bytes, offset) && !is_field(offset) {
                let (x, y) = (byte(old_bytes, offset), byte(new_bytes, offset));
                let what = format!("byte {offset:#x} changed from {x:#04x} to {y:#04x}");
                return different(offset as u32, offset as u32, what);
            }
        }
        for (x, y) in old_fields.iter().zip(&new_fields) {
            self.data_field(x, y)?;
        }
        Ok(())
    }

    fn data_field(&mut self, x: &DataField, y: &DataField) -> Result<(), Outcome> {
        let place = x.offset;
        let (old, new) = match (x.named, y.named) {
            (Some(old), Some(new)) => (old, new),
            (None, None) if x.kind == DataFieldKind::Rva => return Ok(()),
            _ => return different(place, place, format!("the address at {place:#x} leads nowhere")),
        };
        let usage = if x.kind == DataFieldKind::Pointer { Use::Value } else { Use::Direct };
        match self.match_named(old, new, usage) {
            Match::Same(_) => Ok(()),
            Match::Different => {
                let what = format!(
                    "the pointer at {place:#x} leads to {} instead of {}",
                    listing::describe(self.sides.new, new.target),
                    listing::describe(self.sides.old, old.target)
                );
                different(place, place, what)
            }
            Match::Ambiguous => Err(Outcome::Unresolved(Difference::at(
                place,
                place,
                format!("the pointer at {place:#x} has two readings"),
            ))),
        }
    }
}

/// Initialised bytes of an atom; an anonymous one goes on up to `size`, but not beyond its contribution.
fn continued_bytes<'p>(program: &'p Program, atom: &Atom, size: u32) -> &'p [u8] {
    let limit = program.symbols.contribution_at(atom.rva).map_or(atom.end(), |c| c.range.end).max(atom.end());
    let end = Rva(atom.rva.0.saturating_add(size)).min(limit);
    program.image.bytes_up_to(atom.rva..end)
}

/// An instruction's bytes with its reference fields set to zero.
fn masked_bytes(image: &Image, atom: &Atom, offset: u32, len: u8, references: &[Reference]) -> Option<([u8; 15], u8)> {
    let mut bytes = [0; 15];
    let source = image.bytes(atom.rva.checked_add(offset)?, u32::from(len))?;
    bytes.get_mut(..source.len())?.copy_from_slice(source);
    for reference in references {
        let start = reference.field.checked_sub(offset)? as usize;
        bytes.get_mut(start..start + reference.kind.width() as usize)?.fill(0);
    }
    Some((bytes, len))
}

/// Where a reference leads among the tables behind its own function's code.
fn own_data_place(function: &Function, atom: Option<&Atom>, reference: &Reference) -> Option<u32> {
    let offset = reference.target.0.checked_sub(atom?.rva.0)?;
    let data = &function.code.data;
    data.contains(&offset).then(|| offset - data.start)
}

/// References at the same places of the instruction, of the same kinds.
fn same_forms(a: &[Reference], a_start: u32, b: &[Reference], b_start: u32) -> bool {
    let form = |r: &Reference, start: u32| (r.field.wrapping_sub(start), r.kind, r.to_end);
    a.len() == b.len() && a.iter().zip(b).all(|(r, s)| form(r, a_start) == form(s, b_start))
}

/// The instructions that count, in order: padding is left out.
struct Order {
    /// Indices into [`Code::instructions`].
    indices: Vec<usize>,
}

impl Order {
    fn of(code: &Code) -> Order {
        let is_real = |(_, i): &(usize, &crate::x64::Instruction)| i.role != Role::Padding;
        Order { indices: code.instructions.iter().enumerate().filter(is_real).map(|(index, _)| index).collect() }
    }

    /// Place of the first real instruction at or behind a branch target; none where no instruction starts at the target.
    fn position_of(&self, code: &Code, target: u32) -> Option<usize> {
        code.instruction_at(target)?;
        Some(self.end_position_of(code, target))
    }

    /// Number of real instructions before an offset.
    fn end_position_of(&self, code: &Code, offset: u32) -> usize {
        self.indices.partition_point(|i| code.instructions.get(*i).is_some_and(|x| x.offset < offset))
    }
}
