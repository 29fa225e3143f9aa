//! Functions that one image of a payload brings for the others: what is marked so, and what is asked for.

use std::collections::BTreeMap;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Location, Program};
use hpgen_runtime::format::{Function, ImportSymbol, Payload};

use crate::facts::Facts;
use crate::report::Finding;

/// A function that is marked as exported is the one that the new build exports under its name, and the old image exports no such name.
pub(crate) fn look(facts: &Facts<'_>, functions: &BTreeMap<u32, AtomIndex>) -> Vec<Finding> {
    let is_right = |function: &&Function| {
        let exports = |program: &Program| program.image.exports.iter().find(|e| e.name == function.name).map(|e| e.rva);
        let place = exports(facts.new).map(|rva| facts.new.locate(rva));
        let is_own = matches!(place, Some(Location::Atom { atom, offset: 0 })
            if functions.get(&function.offset) == Some(&atom) && function.old_rva.is_none());
        is_own && exports(facts.old).is_none()
    };
    let exported = facts.payload.functions.iter().filter(|function| function.exported);
    let wrong = exported.filter(|function| !is_right(function));
    wrong
        .map(|function| {
            let found = format!("{} at region offset {:#x}", function.name, function.offset);
            Finding::of_payload("export", "a new function that the new build exports by its name", found)
        })
        .collect()
}

/// What the payloads of one file need of each other's images: an import that an image of the file has to satisfy is exported by it, in the old
/// build or by its payload. `images` holds each payload with its old image.
pub fn missing_exports(images: &[(&Payload, &Program)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for import in images.iter().flat_map(|(payload, _)| &payload.imports) {
        let named = images.iter().find(|(payload, _)| payload.identity.image_name.eq_ignore_ascii_case(&import.dll));
        let (Some((payload, old)), ImportSymbol::Name(name)) = (named, &import.symbol) else { continue };
        let brings = payload.functions.iter().any(|function| function.exported && function.name == *name);
        if !brings && !old.image.exports.iter().any(|export| export.name == *name) {
            let expected = format!("an export {name} of {}", import.dll);
            findings.push(Finding::of_payload("export", expected, "none, neither in the old image nor in its payload"));
        }
    }
    findings
}
