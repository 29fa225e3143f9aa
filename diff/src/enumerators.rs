//! Enumerators that have another number, where no type tells: a C program that keeps its enumerators as `int` has no type for them in its PDB, but each
//! that its code names (`S_CONSTANT`).
//!
//! What the running process stored is the old number, which new code takes for another enumerator. The same goes for a number that is one's own
//! (a capacity): blocks of the heap may have been made by the old one. Which of them are stored, nobody can tell. Enumerations whose types both
//! builds have are compared as types ([`crate::layouts`]). Numbers of variables that the optimiser found never to be written look alike.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::change_set::Reason;
use crate::symbols::{Symbols, TypeLayout};

/// Enumerators that code names.
#[derive(Debug, Default)]
pub struct Constants {
    /// The numbers that they stand for; several where files disagree.
    numbers: BTreeMap<String, BTreeSet<i64>>,
    /// Those of which no type tells what enumeration they are of.
    plain: BTreeSet<String>,
}

impl Constants {
    /// Takes one, of a type of so many bytes.
    pub fn add(&mut self, name: String, number: i64, size: u64, is_plain: bool) {
        // What C++ puts into classes and namespaces are variables.
        if name.contains("::") {
            return;
        }
        if is_plain {
            self.plain.insert(name.clone());
        }
        self.numbers.entry(name).or_default().insert(signed(number, size));
    }
}

/// A name that has another number, or whose number another name has now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Moved<'a> {
    before: i64,
    name: &'a str,
    /// Its new number, or who has the old one.
    now: Now<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Now<'a> {
    Number(i64),
    Of(&'a str),
}

/// A reason for each group of such enumerators.
pub(crate) fn reasons(old: &Symbols, new: &Symbols) -> Vec<Reason> {
    let mut moved: Vec<Moved<'_>> = other_numbers(old, new).collect();
    moved.extend(reused(old, new));
    if moved.is_empty() {
        return Vec::new();
    }
    let judged = judged(old, new);
    let mut groups: BTreeMap<&str, BTreeSet<Moved<'_>>> = BTreeMap::new();
    for found in moved.into_iter().filter(|found| !judged.contains(&(found.name, found.before))) {
        groups.entry(family(found.name)).or_default().insert(found);
    }
    groups.values().filter_map(reason).collect()
}

fn reason(group: &BTreeSet<Moved<'_>>) -> Option<Reason> {
    const SHOWN: usize = 8;
    let first = group.first()?;
    let mut all = group.iter().take(SHOWN).map(Moved::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more) = group.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        all.push_str(&format!(", and {more} more"));
    }
    let message =
        format!("{all}: where the running process has stored such a number, new code takes it for something else");
    Some(Reason { code: "enumerator-renumbered", symbol: first.name.to_owned(), message })
}

impl std::fmt::Display for Moved<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.now {
            Now::Number(number) => write!(f, "{} was {} and is {number}", self.name, self.before),
            Now::Of(other) => write!(f, "{other} is {}, which {} was", self.before, self.name),
        }
    }
}

/// Names of both builds that each has a number for which the other one has not.
fn other_numbers<'a>(old: &'a Symbols, new: &'a Symbols) -> impl Iterator<Item = Moved<'a>> {
    old.constants.numbers.iter().filter_map(|(name, olds)| {
        let news = new.constants.numbers.get(name)?;
        let (before, now) = (*olds.difference(news).next()?, *news.difference(olds).next()?);
        Some(Moved { before, name, now: Now::Number(now) })
    })
}

/// Names that code uses no more, whose number a new name of the same family has; those of types, types tell.
fn reused<'a>(old: &'a Symbols, new: &'a Symbols) -> impl Iterator<Item = Moved<'a>> {
    let alone = |constants: &'a Constants, other: &'a Constants| {
        let alone = constants.plain.iter().filter(|name| !other.numbers.contains_key(*name));
        let numbers = |name: &String| constants.numbers.get(name).into_iter().flatten();
        alone.flat_map(move |name| numbers(name).map(move |number| (name.as_str(), *number)))
    };
    let come: BTreeMap<(&str, i64), &str> =
        alone(&new.constants, &old.constants).map(|(name, number)| ((family(name), number), name)).collect();
    alone(&old.constants, &new.constants).filter_map(move |(name, before)| {
        let other = come.get(&(family(name), before))?;
        Some(Moved { before, name, now: Now::Of(other) })
    })
}

/// What enumerators of one enumeration mostly have in common: their names up to the last underscore.
fn family(name: &str) -> &str {
    name.rfind('_').and_then(|end| name.get(..end)).unwrap_or("")
}

/// The old enumerators of types that both builds have, with their numbers.
fn judged<'a>(old: &'a Symbols, new: &Symbols) -> HashSet<(&'a str, i64)> {
    let of_both = old.layouts.iter().filter(|(key, _)| new.layouts.contains_key(*key));
    let enumerations = of_both.flat_map(|(_, layouts)| layouts).filter(|layout| layout.is_enumeration);
    let numbers = |layout: &'a TypeLayout| {
        let (members, size) = (layout.members.iter(), layout.size);
        members.map(move |member| (member.name.as_str(), signed(member.offset.cast_signed(), size)))
    };
    enumerations.flat_map(numbers).collect()
}

/// A number of so many bytes. Whether it has a sign, records of one enumerator disagree about.
fn signed(number: i64, size: u64) -> i64 {
    if size == 4 { i64::from(number as i32) } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::Shape;
    use crate::symbols::Member;

    fn symbols(constants: &[(&str, i64)]) -> Symbols {
        let mut symbols = Symbols::default();
        for (name, number) in constants {
            symbols.constants.add((*name).to_owned(), *number, 4, true);
        }
        symbols
    }

    fn found(old: &[(&str, i64)], new: &[(&str, i64)]) -> Vec<(String, String)> {
        reasons(&symbols(old), &symbols(new))
            .into_iter()
            .map(|reason| (reason.symbol, reason.message.split(':').next().unwrap().to_owned()))
            .collect()
    }

    fn one(symbol: &str, what: &str) -> Vec<(String, String)> {
        vec![(symbol.to_owned(), what.to_owned())]
    }

    #[test]
    fn enumerators_that_come_within_others_move_them() {
        let old = [("ST_IDLE", 0), ("ST_OPEN", 1), ("ST_CLOSED", 2)];
        let new = [("ST_IDLE", 0), ("ST_AUTH", 1), ("ST_OPEN", 2), ("ST_CLOSED", 3)];
        assert_eq!(found(&old, &new), one("ST_OPEN", "ST_OPEN was 1 and is 2, ST_CLOSED was 2 and is 3"));
        // Names that start otherwise are told by themselves.
        assert_eq!(found(&[("ST_OPEN", 1), ("UP", 1)], &[("ST_OPEN", 2), ("UP", 3)]).len(), 2);
    }

    #[test]
    fn a_number_that_goes_to_another_name() {
        assert_eq!(found(&[("ST_OPEN", 1)], &[("ST_AUTH", 1)]), one("ST_OPEN", "ST_AUTH is 1, which ST_OPEN was"));
        // Another enumeration's, to all appearance.
        assert_eq!(found(&[("ST_OPEN", 1)], &[("MODE_READ", 1)]), []);
        let typed = |name: &str| {
            let mut symbols = Symbols::default();
            symbols.constants.add(name.to_owned(), 1, 4, false);
            symbols
        };
        assert_eq!(reasons(&typed("ST_OPEN"), &typed("ST_AUTH")), []);
    }

    #[test]
    fn enumerators_come_and_go() {
        let old = [("ST_IDLE", 0), ("ST_OPEN", 1)];
        assert_eq!(found(&old, &[("ST_IDLE", 0), ("ST_OPEN", 1), ("ST_LOST", 2)]), []);
        assert_eq!(found(&old, &[("ST_IDLE", 0)]), []);
        // Another file's enumeration has an enumerator of the same name.
        assert_eq!(found(&old, &[("ST_IDLE", 0), ("ST_OPEN", 1), ("ST_OPEN", 7)]), []);
        assert_eq!(found(&[("ST_OPEN", 1), ("ST_OPEN", 7)], &[("ST_OPEN", 1), ("ST_OPEN", 8)]).len(), 1);
    }

    #[test]
    fn enumerations_that_have_types_are_compared_as_types() {
        let with_type = |number: u64| {
            let member =
                Member { name: "ST_OPEN".into(), offset: number, size: None, shape: Shape::Opaque, bits: None };
            let layout = TypeLayout { name: "state".into(), is_enumeration: true, size: 4, members: vec![member] };
            let mut symbols = symbols(&[("ST_OPEN", number.cast_signed())]);
            symbols.layouts.insert("state".to_owned(), BTreeSet::from([layout]));
            symbols
        };
        assert_eq!(reasons(&with_type(1), &with_type(2)), []);
        assert_eq!(reasons(&with_type(1), &symbols(&[("ST_OPEN", 2)])).len(), 1);
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..12).map(|n| format!("OP_{n}")).collect();
        let numbered = |by: i64| (0..).map(move |n: i64| n + by);
        let old: Vec<_> = names.iter().map(String::as_str).zip(numbered(0)).collect();
        let new: Vec<_> = names.iter().map(String::as_str).zip(numbered(1)).collect();
        let found = found(&old, &new);
        assert!(found[0].1.ends_with("OP_7 was 7 and is 8, and 4 more"), "{found:?}");
    }
}
