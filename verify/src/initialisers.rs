//! New variables whose first value is computed: the function that does so is called, once, and does nothing else.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::{AtomIndex, AtomKind};
use hpgen_diff::effects::{Doubt, Effects, effects, effects_of_part};
use hpgen_diff::initialisers::{InitialiserKind, initialisers, parts_of_others};
use hpgen_runtime::format::Initialiser;

use crate::facts::Facts;
use crate::report::Finding;

/// Compares the payload's records with what start-up code of the new build would call. `bound` holds region offsets of objects,
/// `functions` the functions among them by region offset.
pub(crate) fn look(
    facts: &Facts<'_>,
    bound: &BTreeMap<AtomIndex, u32>,
    functions: &BTreeMap<u32, AtomIndex>,
) -> Vec<Finding> {
    let mut at_start = initialisers(facts.new);
    let parts = parts_of_others(facts.new, &at_start);
    at_start.retain(|index, _| !parts.contains_key(index));
    let mut findings = Vec::new();
    let mut last = None;
    let mut described: BTreeSet<u32> = BTreeSet::new();
    for (offset, records) in by_function(&facts.payload.initialisers) {
        let Some(index) = functions.get(&offset) else {
            findings.push(finding("a function of the new build", format!("region offset {offset:#x}")));
            continue;
        };
        let name = facts.name(*index);
        let Some(initialiser) = at_start.get(index).filter(|_| is_to_be_called(facts, *index)) else {
            findings.push(finding("a new function that runs before main", name));
            continue;
        };
        match written_now(facts, *index) {
            Ok(effects) => findings.extend(wrong_records(facts, bound, (*index, &effects), initialiser.kind, &records)),
            Err(doubt) => {
                findings.push(finding("a function that writes new variables only", doubt.describe(facts.new)));
            }
        }
        let place = (initialiser.kind, initialiser.order, *index);
        let is_ordered = last.is_none_or(|(kind, order, before)| {
            (kind, order, before) < place && (order.is_some() && initialiser.order.is_some())
        });
        if !is_ordered {
            findings.push(finding("calls in the order of the new build", format!("{name} behind what it precedes")));
        }
        last = Some(place);
        described.insert(offset);
    }
    findings.extend(forgotten(facts, bound, at_start.keys().copied(), &described));
    findings
}

fn finding(expected: &str, found: String) -> Finding {
    Finding::of_payload("initialiser", expected, found)
}

/// It is new, or something in it is.
fn is_to_be_called(facts: &Facts<'_>, index: AtomIndex) -> bool {
    facts.comparison.pairing.old_of(index).is_empty() || facts.part(index).is_some_and(|part| part.does_something)
}

/// What a call now would do.
fn written_now(facts: &Facts<'_>, index: AtomIndex) -> Result<Effects, Doubt> {
    match facts.part(index) {
        Some(part) => effects_of_part(facts.new, index, part),
        None => effects(facts.new, index),
    }
}

/// Runs of records of one function.
fn by_function(records: &[Initialiser]) -> Vec<(u32, Vec<Initialiser>)> {
    let mut groups: Vec<(u32, Vec<Initialiser>)> = Vec::new();
    for record in records {
        let Some(function) = record.function else { continue };
        match groups.last_mut().filter(|(last, _)| *last == function) {
            Some((_, group)) => group.push(*record),
            None => groups.push((function, vec![*record])),
        }
    }
    groups
}

/// All that the function writes are variables that the payload brings, and each has its record.
fn wrong_records(
    facts: &Facts<'_>,
    bound: &BTreeMap<AtomIndex, u32>,
    (index, effects): (AtomIndex, &Effects),
    kind: InitialiserKind,
    records: &[Initialiser],
) -> Vec<Finding> {
    let name = facts.name(index);
    let mut findings = Vec::new();
    let mut expected: Vec<u32> = Vec::new();
    for written in effects.written.keys() {
        let is_variable = facts.new.atom(*written).is_some_and(|atom| atom.kind == AtomKind::Writable);
        let is_new = facts.comparison.pairing.old_of(*written).is_empty();
        match bound.get(written).filter(|_| is_variable && is_new) {
            Some(offset) => expected.push(*offset),
            None => findings.push(finding(
                "a function that writes new variables only",
                format!("{name} writes to {}", facts.name(*written)),
            )),
        }
    }
    expected.sort_unstable();
    let found: Vec<u32> = records.iter().map(|record| record.variable).collect();
    if found != expected {
        findings.push(finding(&format!("{name} with the variables at {expected:x?}"), format!("those at {found:x?}")));
    }
    let flags = (kind == InitialiserKind::Checked, effects.registers_exit_function);
    let is_callable = kind != InitialiserKind::ThreadCallback;
    if !is_callable || records.iter().any(|record| (record.checked, record.at_exit) != flags) {
        let expected = format!("{name} with its result looked at: {}, and a function at exit: {}", flags.0, flags.1);
        findings.push(finding(&expected, "other flags".to_owned()));
    }
    findings
}

/// A variable that the payload brings has its first value, or its author says that it needs none.
fn forgotten(
    facts: &Facts<'_>,
    bound: &BTreeMap<AtomIndex, u32>,
    at_start: impl Iterator<Item = AtomIndex>,
    called: &BTreeSet<u32>,
) -> Vec<Finding> {
    let left: BTreeSet<u32> =
        facts.payload.initialisers.iter().filter(|r| r.function.is_none()).map(|r| r.variable).collect();
    let mut findings = Vec::new();
    let mut unjustified = left.clone();
    for index in at_start.filter(|index| is_to_be_called(facts, *index)) {
        if bound.get(&index).is_some_and(|offset| called.contains(offset)) {
            continue;
        }
        let Ok(effects) = written_now(facts, index) else { continue };
        for (variable, offset) in effects.written.keys().filter_map(|v| Some((v, bound.get(v)?))) {
            unjustified.remove(offset);
            let is_other = facts.new.atom(*variable).is_none_or(|atom| atom.kind != AtomKind::Writable);
            if !left.contains(offset) && !is_other {
                let expected = format!("a call of {}", facts.name(index));
                findings.push(finding(&expected, format!("{} without its first value", facts.name(*variable))));
            }
        }
    }
    let what = "a variable that start-up code would compute, and that nothing else does";
    findings.extend(unjustified.into_iter().map(|offset| finding(what, format!("region offset {offset:#x}"))));
    findings
}
