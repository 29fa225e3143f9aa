//! What the payload asks of the loader besides code: variables that the next payload takes over, functions to call, and values to assign.

use std::collections::BTreeMap;

use hpgen_diff::atoms::{AtomIndex, AtomKind};
use hpgen_diff::compare::{Comparison, Outcome};
use hpgen_diff::program::{Location, Program};
use hpgen_diff::rtti;
use hpgen_diff::rva::Rva;
use hpgen_runtime::format::{Assignment, HookKind, MAX_PROBATION_MS, Probation, Space, Variable};

use crate::facts::Facts;
use crate::report::Finding;

/// Every variable of the region is recorded with the name by which the next payload knows it. `bound` holds region offsets of
/// objects of the new program.
pub(crate) fn variables(facts: &Facts<'_>, bound: &BTreeMap<AtomIndex, u32>) -> Vec<Finding> {
    let expected = expected_variables(facts.new, bound);
    let describe = |variable: Option<&Variable>| {
        variable.map_or_else(
            || "none".to_owned(),
            |v| format!("{} of {} bytes at region offset {:#x}", v.name, v.size, v.offset),
        )
    };
    let found = &facts.payload.variables;
    (0..expected.len().max(found.len()))
        .map(|number| (expected.get(number), found.get(number)))
        .filter(|(expected, found)| expected != found)
        .map(|(expected, found)| {
            Finding::of_payload("variable", format!("the record of {}", describe(expected)), describe(found))
        })
        .collect()
}

/// Names are those of the linker; of what only one module sees, module and function come before. Of several of one name, the
/// order tells.
fn expected_variables(new: &Program, bound: &BTreeMap<AtomIndex, u32>) -> Vec<Variable> {
    let mut by_offset: Vec<(u32, AtomIndex)> = bound.iter().map(|(index, offset)| (*offset, *index)).collect();
    by_offset.sort_unstable();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut variables = Vec::new();
    for (offset, index) in by_offset {
        let Some(atom) = new.atom(index).filter(|atom| atom.kind == AtomKind::Writable && atom.size > 0) else {
            continue;
        };
        if rtti::is_type_descriptor(atom) {
            continue;
        }
        let Some(first) = atom.names.first() else { continue };
        let mut name = String::new();
        if let Some(local) = &first.local {
            for part in [Some(&local.module), local.scope.as_ref()].into_iter().flatten() {
                name.push_str(part);
                name.push('!');
            }
        }
        name.push_str(&first.key);
        let time = times.entry(name.clone()).or_default();
        *time += 1;
        if *time > 1 {
            name.push_str(&format!("#{time}"));
        }
        variables.push(Variable { offset, size: atom.size, name });
    }
    variables
}

/// The variables that get a new value: each with its counterpart in the new program, or what is wrong.
pub(crate) fn assigned(facts: &Facts<'_>) -> Vec<Result<(Assignment, AtomIndex), Finding>> {
    let one = |assignment: &Assignment| {
        let rva = Rva(assignment.rva);
        let old = match facts.old.locate(rva) {
            Location::Atom { atom, offset: 0 } => Some(atom),
            _ => None,
        };
        let old = old.and_then(|index| Some((index, facts.old.atom(index)?)));
        let old = old.filter(|(_, atom)| atom.kind == AtomKind::Writable);
        let new = old.and_then(|(index, old)| match facts.comparison.pairing.new_of(index) {
            &[new] => Some((old, new, facts.new.atom(new)?)),
            _ => None,
        });
        match new {
            Some((old, index, new)) if assignment.size == old.size.min(new.size) => Ok((*assignment, index)),
            Some((old, index, new)) => {
                let expected = format!("{} bytes of {}", old.size.min(new.size), facts.name(index));
                Err(Finding::of_payload("assignment", expected, assignment.size.to_string()))
            }
            None => Err(Finding::of_payload("assignment", "the start of a variable of both builds", format!("{rva}"))),
        }
    };
    facts.payload.assignments.iter().map(one).collect()
}

/// What names of hooks begin with, by kind. Nothing or `_` and anything may follow.
const HOOKS: [(HookKind, &str); 4] = [
    (HookKind::PreApply, "hpgen_pre_apply"),
    (HookKind::PostApply, "hpgen_post_apply"),
    (HookKind::PreRollback, "hpgen_pre_rollback"),
    (HookKind::PostRollback, "hpgen_post_rollback"),
];

/// The hooks of the new build by kind: by name, then those of the section. One that the old build has as well was for an earlier baseline.
pub(crate) fn hooks(old: &Program, new: &Program, comparison: &Comparison) -> Vec<(HookKind, AtomIndex)> {
    let is_unchanged = |index: AtomIndex| {
        let olds = comparison.pairing.old_of(index);
        let is_same = |old_index: &AtomIndex| comparison.outcome(*old_index, index) == Some(&Outcome::Same);
        olds.iter().any(|old_index| old.function(*old_index).is_some()) && olds.iter().all(is_same)
    };
    let listed = listed_hooks(new);
    let mut hooks = Vec::new();
    for (kind, prefix) in HOOKS {
        let is_hook =
            |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        let mut named: Vec<(&str, AtomIndex)> = Vec::new();
        for function in &new.functions {
            let names = new.atom(function.atom).map_or(&[][..], |atom| atom.names.as_slice());
            let found = names.iter().map(|name| name.key.as_str()).find(|name| is_hook(name));
            named.extend(found.map(|name| (name, function.atom)));
        }
        named.sort_unstable();
        let own = named.into_iter().map(|(_, index)| index);
        for index in own.chain(listed.iter().filter(|(listed, _)| *listed == kind).map(|(_, index)| *index)) {
            if !is_unchanged(index) && !hooks.contains(&(kind, index)) {
                hooks.push((kind, index));
            }
        }
    }
    hooks
}

/// What the section of hooks lists, up to what is no record: two numbers of 32 bits, the kind and a mark, and a pointer.
fn listed_hooks(new: &Program) -> Vec<(HookKind, AtomIndex)> {
    let mut listed = Vec::new();
    let Some(section) = new.image.sections.iter().find(|section| section.name == ".hpgen") else { return listed };
    // Base relocations are where the pointers are.
    for pointer in new.image.base_relocations_in(section.range.clone()) {
        let head = pointer.0.checked_sub(8).and_then(|head| new.image.u64_at(Rva(head)));
        let kind = head.filter(|head| head >> 32 == u64::from(u32::from_le_bytes(*b"HOOK")));
        let kind = kind.and_then(|head| usize::try_from(head & 0xffff_ffff).ok()?.checked_sub(1));
        let kind = kind.and_then(|number| HOOKS.get(number)).map(|(kind, _)| *kind);
        let target = new.image.relocated_target(*pointer).map(|target| new.locate(target));
        if let (Some(kind), Some(Location::Atom { atom, offset: 0 })) = (kind, target) {
            listed.push((kind, atom));
        }
    }
    listed
}

/// The loader calls the new build's hooks, each at its place in the region and in their order.
pub(crate) fn called_hooks(facts: &Facts<'_>, functions: &BTreeMap<u32, AtomIndex>) -> Vec<Finding> {
    let found: Vec<(HookKind, Option<AtomIndex>)> =
        facts.payload.hooks.iter().map(|hook| (hook.kind, functions.get(&hook.function).copied())).collect();
    let describe = |hook: Option<(HookKind, Option<AtomIndex>)>| match hook {
        Some((kind, Some(index))) => format!("{} ({})", facts.name(index), kind.name()),
        Some((kind, None)) => format!("no function of the new build ({})", kind.name()),
        None => "none".to_owned(),
    };
    (0..facts.hooks.len().max(found.len()))
        .map(|number| {
            let expected = facts.hooks.get(number).map(|(kind, index)| (*kind, Some(*index)));
            (expected, found.get(number).copied())
        })
        .filter(|(expected, found)| expected != found)
        .map(|(expected, found)| {
            Finding::of_payload("hook", format!("a call of {}", describe(expected)), describe(found))
        })
        .collect()
}

/// A patch is watched for a time, in which its check comes; and the check is a function of the payload, or one of the old image that means
/// the same in the new build or is redirected to it.
pub(crate) fn health_check(facts: &Facts<'_>) -> Vec<Finding> {
    let Some(probation) = facts.payload.probation else { return Vec::new() };
    let Probation { window_ms, interval_ms, check } = probation;
    let mut findings = Vec::new();
    if window_ms > MAX_PROBATION_MS || !(1..=window_ms).contains(&interval_ms) {
        let found = format!("{window_ms} ms, a check after each {interval_ms} ms");
        findings.push(Finding::of_payload("probation", "at most seven days, with a check in them", found));
    }
    let is_same = |rva: Rva, old: AtomIndex| {
        facts.redirected.contains_key(&rva)
            || facts.comparison.pairing.new_of(old).iter().any(|new| facts.is_unchanged(old, *new))
    };
    let is_function = |(space, place): (Space, u32)| match space {
        Space::Region => facts.functions_at.contains_key(&place),
        Space::Image => facts.old_function_at(Rva(place)).is_some_and(|old| is_same(Rva(place), old)),
    };
    if let Some((space, place)) = check.filter(|check| !is_function(*check)) {
        let expected = "the start of a function of the payload, or of one of both builds";
        findings.push(Finding::of_payload("health check", expected, format!("{space:?} {place:#x}")));
    }
    findings
}
