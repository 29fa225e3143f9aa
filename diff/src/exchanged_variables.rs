//! Variables that may go on under another name: renamed ones, or those that the compiler split, shrank or gave another linkage name.
//!
//! Where changed functions of a module use a variable no longer that the new build does not have, and one that the old build does not have,
//! nothing tells whether these are one. If they are, the patched process would go on with the variable's first value.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::AtomIndex;
use crate::change_set::Reason;
use crate::compare::{Comparison, Outcome};
use crate::program::{Function, Program};

/// Names at most that a reason lists.
const MAX_NAMES: usize = 3;

/// A reason for each new variable that an old one may go on in.
pub(crate) fn reasons(old: &Program, new: &Program, comparison: &Comparison) -> Vec<Reason> {
    let pairing = &comparison.pairing;
    let is_changed = |a: AtomIndex, b: AtomIndex| comparison.outcome(a, b).is_none_or(Outcome::is_change);
    let lost = by_module(
        old,
        |function| pairing.new_of(function.atom).iter().any(|partner| is_changed(function.atom, *partner)),
        |variable| pairing.new_of(variable).is_empty(),
    );
    if lost.is_empty() {
        return Vec::new();
    }
    let gained = by_module(
        new,
        // New functions are those that a changed one may have left a part of its work to.
        |function| {
            let olds = pairing.old_of(function.atom);
            olds.is_empty() || olds.iter().any(|partner| is_changed(*partner, function.atom))
        },
        // What has no name, or one that is not clear, is never taken for new.
        |variable| {
            let is_named = new.atom(variable).is_some_and(|atom| !atom.names.is_empty());
            is_named && pairing.old_of(variable).is_empty() && !pairing.is_ambiguous(variable)
        },
    );
    let mut reasons = Vec::new();
    for (module, gained) in gained {
        let Some(lost) = lost.get(&module) else { continue };
        let names = lost.iter().filter_map(|index| old.atom(*index)).map(|atom| old.display(atom)).collect::<Vec<_>>();
        let more = names.len().saturating_sub(MAX_NAMES);
        let shown = names.into_iter().take(MAX_NAMES).collect::<Vec<_>>().join(", ");
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        for atom in gained.iter().filter_map(|index| new.atom(*index)) {
            reasons.push(Reason {
                code: "variable-exchanged",
                symbol: new.linkage_name(atom),
                message: format!(
                    "the new build uses {} where the old one used {shown}{more}: if that is the same variable under another name, it would start with its first value",
                    new.display(atom)
                ),
            });
        }
    }
    reasons
}

/// The variables that functions of interest use, by the name of the functions' module.
fn by_module(
    program: &Program,
    is_of_interest: impl Fn(&Function) -> bool,
    is_unpaired: impl Fn(AtomIndex) -> bool,
) -> BTreeMap<String, BTreeSet<AtomIndex>> {
    let mut variables: BTreeMap<String, BTreeSet<AtomIndex>> = BTreeMap::new();
    for function in program.functions.iter().filter(|function| is_of_interest(function)) {
        let used = program.variables_of(function).into_iter().filter(|index| is_unpaired(*index));
        let used: BTreeSet<AtomIndex> = used.collect();
        if !used.is_empty() {
            let module = program.atom(function.atom).and_then(|atom| program.module_name(atom)).unwrap_or_default();
            variables.entry(module.to_owned()).or_default().extend(used);
        }
    }
    variables
}
