//! Tables of functions that the running process may hold on to: objects point to the table that their constructor or the code that opened them
//! stored, as those of C++ do to their table of virtual functions, whether or not the table has a name.
//!
//! New code uses the new table; what lives goes on with the old one: it misses the change, and where the table grew, new code calls through what
//! lies behind the old one. A table that is only indexed where it is named (a dispatch table) goes with the functions that name it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::compare::{Comparison, Outcome};
use crate::pairing::indexed;
use crate::program::{Location, Program, pointers_in};
use crate::rva::Rva;
use crate::x64::ReferenceKind;

/// A table that the old build's code hands out, and that another one replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplacedTable {
    /// In the old program.
    pub old: AtomIndex,
    /// In the new one.
    pub new: AtomIndex,
}

/// Offsets of the pointers to functions in a table, with the functions.
type Slots = Vec<(u32, AtomIndex)>;

/// All such tables, by the old one. Of those without a partner, those that hold the same as a table of the other program are left alone.
pub(crate) fn replaced(old: &Program, new: &Program, comparison: &Comparison) -> Vec<ReplacedTable> {
    let search = Search { old, new, comparison, same: same_content(comparison) };
    let pairs = search.paired();
    let (olds, news) = search.unpaired();
    if pairs.is_empty() && (olds.is_empty() || news.is_empty()) {
        return Vec::new();
    }
    let holders = Holders::of(old);
    let paired = pairs.into_iter().filter(|table| holders.is_held(table.old));
    let takers = if olds.is_empty() { BTreeMap::new() } else { named_by_functions(new, &news) };
    let by_function = Search::by_function(&news);
    let replaced = olds.iter().filter(|(index, _)| holders.is_held(**index)).filter_map(|(index, slots)| {
        let shared = slots.iter().flat_map(|(_, function)| comparison.pairing.new_of(*function));
        let sharing = shared.filter_map(|function| by_function.get(function)).flatten().copied();
        let users = holders.by_code.get(index).into_iter().flatten();
        let partners = users.flat_map(|user| comparison.pairing.new_of(*user));
        let in_its_place = partners.filter_map(|partner| takers.get(partner)).flatten().copied();
        // Two tables with names of their own are two tables, unless they share a function.
        let may_replace = |other: &AtomIndex| search.is_nameless(*index, *other);
        let candidates: BTreeSet<AtomIndex> = sharing.chain(in_its_place.filter(may_replace)).collect();
        let keeps = |other: &AtomIndex| news.get(other).is_some_and(|others| search.same_functions(slots, others));
        if candidates.iter().any(keeps) {
            return None;
        }
        let alike = |other: &AtomIndex| news.get(other).map_or(0, |others| search.in_common(slots, others));
        let other = candidates.into_iter().max_by_key(|other| (alike(other), Reverse(*other)))?;
        Some(ReplacedTable { old: *index, new: other })
    });
    paired.chain(replaced).collect()
}

impl ReplacedTable {
    /// What is the matter, in words.
    pub fn message(&self, old: &Program, new: &Program) -> String {
        const SHOWN: usize = 4;
        let functions = |program: &Program, table: AtomIndex| {
            let slots = slots(program, table).unwrap_or_default();
            let names = slots.iter().filter_map(|(_, function)| Some(program.display(program.atom(*function)?)));
            let more = if slots.len() > SHOWN { ", ..." } else { "" };
            format!("{}{more}", names.take(SHOWN).collect::<Vec<_>>().join(", "))
        };
        let (before, now) = (functions(old, self.old), functions(new, self.new));
        let now = if before == now { "at other places".to_owned() } else { now };
        format!(
            "the program hands out the address of this table of functions ({before}), and the new build has others in it ({now}): what of the running process points to the table goes on using the old one"
        )
    }
}

struct Search<'a> {
    old: &'a Program,
    new: &'a Program,
    comparison: &'a Comparison,
    /// Old atoms that some new one holds the same as, and the other way round.
    same: (BTreeSet<AtomIndex>, BTreeSet<AtomIndex>),
}

impl Search<'_> {
    /// Tables that both programs have, with other functions in them.
    fn paired(&self) -> Vec<ReplacedTable> {
        let pairs = self
            .comparison
            .outcomes()
            .filter(|(a, b, outcome)| outcome.is_change() && self.comparison.pairing.is_pair(*a, *b));
        let tables = pairs.filter(|(a, b, _)| {
            let (Some(slots), Some(others)) = (slots(self.old, *a), slots(self.new, *b)) else { return false };
            let is_known = |atom: &Atom| has_start_up_name(atom);
            !self.same_functions(&slots, &others) && !self.old.atom(*a).is_some_and(is_known)
        });
        tables.map(|(old, new, _)| ReplacedTable { old, new }).collect()
    }

    /// Old and new tables that have no partner.
    fn unpaired(&self) -> (BTreeMap<AtomIndex, Slots>, BTreeMap<AtomIndex, Slots>) {
        let collect = |program: &Program, is_known: &dyn Fn(AtomIndex) -> bool| {
            let open = indexed(program).filter(|(index, _)| !is_known(*index));
            let start_up = start_up_ranges(program);
            let is_start_up =
                |atom: &Atom| has_start_up_name(atom) || start_up.iter().any(|range| range.contains(&atom.rva));
            let tables = open.filter_map(|(index, atom)| Some((index, atom, slots(program, index)?)));
            let tables = tables.filter(|(_, atom, slots)| !slots.is_empty() && !is_start_up(atom));
            tables.map(|(index, _, slots)| (index, slots)).collect()
        };
        let pairing = &self.comparison.pairing;
        (
            collect(self.old, &|index| !pairing.new_of(index).is_empty() || self.same.0.contains(&index)),
            collect(self.new, &|index| !pairing.old_of(index).is_empty() || self.same.1.contains(&index)),
        )
    }

    fn by_function(tables: &BTreeMap<AtomIndex, Slots>) -> BTreeMap<AtomIndex, BTreeSet<AtomIndex>> {
        let mut found: BTreeMap<AtomIndex, BTreeSet<AtomIndex>> = BTreeMap::new();
        for (table, slots) in tables {
            for (_, function) in slots {
                found.entry(*function).or_default().insert(*table);
            }
        }
        found
    }

    /// The same functions in the same slots.
    fn same_functions(&self, slots: &Slots, others: &Slots) -> bool {
        slots.len() == others.len() && self.in_common(slots, others) == slots.len()
    }

    /// Slots at the same place of a list that hold the same function.
    fn in_common(&self, slots: &Slots, others: &Slots) -> usize {
        let is_same = |a: AtomIndex, b: AtomIndex| {
            self.comparison.pairing.is_pair(a, b) || self.comparison.outcome(a, b) == Some(&Outcome::Same)
        };
        slots.iter().zip(others).filter(|((x, a), (y, b))| x == y && is_same(*a, *b)).count()
    }

    fn is_nameless(&self, old: AtomIndex, new: AtomIndex) -> bool {
        let is_nameless = |program: &Program, index| program.atom(index).is_some_and(|atom| atom.names.is_empty());
        is_nameless(self.old, old) || is_nameless(self.new, new)
    }
}

fn same_content(comparison: &Comparison) -> (BTreeSet<AtomIndex>, BTreeSet<AtomIndex>) {
    comparison.outcomes().filter(|(_, _, outcome)| !outcome.is_change()).map(|(old, new, _)| (old, new)).unzip()
}

/// The functions that a constant points to; none for what is no constant of the program's own.
fn slots(program: &Program, index: AtomIndex) -> Option<Slots> {
    let atom = program.atom(index).filter(|atom| atom.kind == AtomKind::ReadOnly)?;
    let slots =
        pointers_in(&program.image, atom.rva..atom.end()).filter_map(|(place, target)| match program.locate(target?) {
            Location::Atom { atom: function, offset: 0 } if program.function(function).is_some() => {
                Some((place.0.checked_sub(atom.rva.0)?, function))
            }
            _ => None,
        });
    Some(slots.collect())
}

/// Where start-up code or the loader walks through tables of functions; what is new or gone there has reasons of its own.
fn start_up_ranges(program: &Program) -> Vec<Range<Rva>> {
    const GROUPS: [&str; 3] = [".CRT$", ".ctors", ".dtors"];
    let is_start_up = |name: &str| GROUPS.iter().any(|prefix| name.starts_with(prefix));
    program.symbols.groups.iter().filter(|group| is_start_up(&group.name)).map(|group| group.range.clone()).collect()
}

/// The same, where the linker does not say.
fn has_start_up_name(atom: &Atom) -> bool {
    const NAMES: [&str; 5] = ["__xc_", "__xi_", "__xl_", "__CTOR_LIST__", "__DTOR_LIST__"];
    atom.is_loader_table() || atom.names.iter().any(|name| NAMES.iter().any(|prefix| name.key.starts_with(prefix)))
}

/// Who hands out the address of a constant.
struct Holders {
    /// The functions that take it.
    by_code: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
    /// What a function stores, passes on, returns, or computes with in a way that is not followed; and what data points to.
    held: BTreeSet<AtomIndex>,
}

impl Holders {
    fn of(program: &Program) -> Holders {
        let mut holders = Holders { by_code: BTreeMap::new(), held: BTreeSet::new() };
        let constant_at = |target: Rva| match program.locate(target) {
            Location::Atom { atom, .. } if program.atom(atom)?.kind == AtomKind::ReadOnly => Some(atom),
            _ => None,
        };
        for function in &program.functions {
            let values = function.code.references.iter();
            for reference in values.filter(|r| matches!(r.kind, ReferenceKind::Address | ReferenceKind::Absolute)) {
                let Some(constant) = constant_at(reference.place()) else { continue };
                holders.by_code.entry(constant).or_default().insert(function.atom);
                let uses = function.code.facts.uses.get(&reference.target).copied().unwrap_or_default();
                let is_read_only = uses.direct || uses.indexed;
                if uses.kept || !is_read_only && !uses.compared {
                    holders.held.insert(constant);
                }
            }
        }
        for section in &program.image.sections {
            for (place, target) in pointers_in(&program.image, section.range.clone()) {
                let holder = program.atom_before(place);
                holders.held.extend(target.and_then(constant_at).filter(|constant| Some(*constant) != holder));
            }
        }
        holders
    }

    fn is_held(&self, constant: AtomIndex) -> bool {
        self.held.contains(&constant)
    }
}

/// The tables that each function takes the address of.
fn named_by_functions(
    program: &Program,
    tables: &BTreeMap<AtomIndex, Slots>,
) -> BTreeMap<AtomIndex, BTreeSet<AtomIndex>> {
    let mut found: BTreeMap<AtomIndex, BTreeSet<AtomIndex>> = BTreeMap::new();
    for function in &program.functions {
        for reference in &function.code.references {
            if let Location::Atom { atom, .. } = program.locate(reference.place())
                && tables.contains_key(&atom)
            {
                found.entry(function.atom).or_default().insert(atom);
            }
        }
    }
    found
}
