//! What must be in the payload: every function that changed is redirected to its new body.

use std::collections::BTreeMap;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::rva::Rva;
use hpgen_runtime::format::Function;

use crate::facts::Facts;
use crate::report::Finding;

/// Compares the payload's functions with the change set. `bound` holds the function of the new program by region offset.
pub(crate) fn look(facts: &Facts<'_>, bound: &BTreeMap<u32, AtomIndex>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut entries: BTreeMap<u32, Vec<Rva>> = BTreeMap::new();
    for (entry, target) in &facts.redirected {
        entries.entry(*target).or_default().push(*entry);
    }
    for function in &facts.payload.functions {
        let entries = entries.get(&function.offset).map_or(&[][..], Vec::as_slice);
        findings.extend(redirection(facts, function, entries, bound.get(&function.offset).copied()));
    }
    for (old, new, outcome) in facts.comparison.outcomes() {
        let is_function = facts.old.function(old).is_some() && facts.new.function(new).is_some();
        if !outcome.is_change()
            || !is_function
            || !facts.comparison.pairing.is_pair(old, new)
            || facts.funclets.contains(&new)
            || facts.changed_initialisers.contains_key(&new)
        {
            continue;
        }
        let entry = facts.old.atom(old).map(|atom| atom.rva);
        let target = entry.and_then(|entry| facts.redirected.get(&entry));
        if target.and_then(|offset| bound.get(offset)) != Some(&new) {
            let entry = entry.unwrap_or_default();
            findings.push(finding(facts, new, format!("its old entry {entry} redirected, since it changed"), "none"));
        }
    }
    findings
}

/// A function that replaces an old one has a trampoline at that one's entry; a new function has none.
fn redirection(facts: &Facts<'_>, function: &Function, entries: &[Rva], bound: Option<AtomIndex>) -> Option<Finding> {
    let wanted: Vec<Rva> = function.old_rva.map(Rva).into_iter().collect();
    let name = |index: Option<AtomIndex>| index.map_or_else(|| function.name.clone(), |index| facts.name(index));
    if entries != wanted {
        let (expected, found) = (format!("redirected entries {wanted:?}"), format!("{entries:?}"));
        return Some(Finding { function: Some(name(bound)), ..Finding::of_payload("redirection", expected, found) });
    }
    let old = wanted.first().map(|rva| facts.old_function_at(*rva));
    match (old, bound) {
        (Some(old), Some(new)) if old.is_none_or(|old| !facts.comparison.pairing.is_pair(old, new)) => {
            Some(finding(facts, new, "the entry of its own old version", format!("{wanted:?}")))
        }
        _ => None,
    }
}

fn finding(facts: &Facts<'_>, new: AtomIndex, expected: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { function: Some(facts.name(new)), ..Finding::of_payload("redirection", expected, found) }
}
