//! Functions that are redirected at their callers keep their old entries, and nothing leads on from there: what the payload brings must not name them.

use std::collections::BTreeMap;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Location, Program};
use hpgen_diff::rva::Rva;

use crate::plan::{Destination, HandlerField, Plan};
use crate::sites::Site;
use crate::trampoline::Refusal;

/// Those of the sites' functions that the plan names in the old image all the same, each with the reason to refuse it.
pub(crate) fn named_again(old: &Program, plan: &Plan, sites: &BTreeMap<AtomIndex, Site>) -> Vec<(AtomIndex, Refusal)> {
    let at_callers: BTreeMap<Rva, AtomIndex> =
        sites.iter().filter(|(_, site)| !site.callers.is_empty()).map(|(index, site)| (site.entry, *index)).collect();
    if at_callers.is_empty() {
        return Vec::new();
    }
    let entry = |rva: Rva| match old.locate(rva) {
        Location::Atom { atom, .. } => old.atom(atom).map(|atom| atom.rva),
        _ => None,
    };
    let named = destinations(plan).filter_map(|to| match to {
        Destination::Image(rva) => at_callers.get(&entry(*rva)?).copied(),
        _ => None,
    });
    let message = "the old function is too short for a jump, and the new build takes its address, which cannot be that of new code";
    named.map(|index| (index, ("function-too-short", message.to_owned()))).collect()
}

/// All that a plan's references lead to.
fn destinations(plan: &Plan) -> impl Iterator<Item = &Destination> {
    let functions = plan.functions.values().flat_map(|function| {
        let tables = function.data_tables.iter().flat_map(|(_, targets)| targets);
        let handlers = function.handlers.iter().flatten().flat_map(|handler| {
            let fields = handler.fields.iter().filter_map(|(_, field)| match field {
                HandlerField::To(to) | HandlerField::Address(to) | HandlerField::Distance(to) => Some(to),
                HandlerField::Piece(_) => None,
            });
            fields.chain([&handler.handler])
        });
        function.references.iter().chain(tables).chain(handlers)
    });
    let data = plan.data.values().flat_map(|data| data.pointers.iter().chain(&data.rvas).map(|(_, to)| to));
    let throws = plan.throws.values().flat_map(|throw| [&throw.original, &throw.raise]);
    functions.chain(data).chain(throws)
}
