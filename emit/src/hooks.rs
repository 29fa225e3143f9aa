//! Functions of the new build that the loader calls on the way in and out, known by their names or by a section that lists them.

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::{Location, Program};
use hpgen_runtime::format::HookKind;

/// What a hook's name begins with; a second hook of a kind goes on with `_` and anything.
fn prefix(kind: HookKind) -> &'static str {
    match kind {
        HookKind::PreApply => "hpgen_pre_apply",
        HookKind::PostApply => "hpgen_post_apply",
        HookKind::PreRollback => "hpgen_pre_rollback",
        HookKind::PostRollback => "hpgen_post_rollback",
    }
}

fn is_hook(name: &str, kind: HookKind) -> bool {
    name.strip_prefix(prefix(kind)).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The hooks of a build by kind, in the order in which they are called: those with a hook's name by name, then those that the section
/// names in its order.
///
/// # Errors
/// Says what in the section is not understood.
pub(crate) fn hooks(new: &Program) -> Result<Vec<(HookKind, AtomIndex)>, String> {
    let mut found: Vec<(HookKind, &str, AtomIndex)> = Vec::new();
    for function in &new.functions {
        let Some(atom) = new.atom(function.atom) else { continue };
        for kind in HookKind::ALL {
            let named = atom.names.iter().find(|name| is_hook(&name.key, kind));
            found.extend(named.map(|name| (kind, name.key.as_str(), function.atom)));
        }
    }
    found.sort();
    let mut hooks: Vec<(HookKind, AtomIndex)> = found.into_iter().map(|(kind, _, index)| (kind, index)).collect();
    for hook in section_hooks(new)? {
        if !hooks.contains(&hook) {
            hooks.push(hook);
        }
    }
    // Stable: the order within a kind stays.
    hooks.sort_by_key(|(kind, _)| *kind);
    Ok(hooks)
}

/// The section that `hpgen_hooks.h` puts records into: kind, mark, and address of the function. The linker may fill up with zeros.
pub(crate) const SECTION: &str = ".hpgen";
const MARK: u32 = 0x4b4f_4f48;
const RECORD: u32 = 16;
const ALIGNMENT: u32 = 8;

fn section_hooks(new: &Program) -> Result<Vec<(HookKind, AtomIndex)>, String> {
    let image = &new.image;
    let mut hooks = Vec::new();
    for section in image.sections.iter().filter(|section| section.name == SECTION) {
        let mut place = section.range.start;
        while place < section.range.end {
            let next = |bytes: u32| place.checked_add(bytes).ok_or("the section ends behind the image".to_owned());
            if image.u64_at(place).unwrap_or(0) == 0 {
                place = next(ALIGNMENT)?;
                continue;
            }
            let pointer = next(ALIGNMENT)?;
            let kind = image.u32_at(place).and_then(kind_of);
            let is_marked = next(4).ok().and_then(|at| image.u32_at(at)) == Some(MARK);
            let is_pointer = image.base_relocations_in(pointer..next(RECORD)?).contains(&pointer);
            let target = image.relocated_target(pointer).filter(|_| is_marked && is_pointer);
            let function = target.map(|target| new.locate(target));
            match (kind, function) {
                (Some(kind), Some(Location::Atom { atom, offset: 0 })) if new.function(atom).is_some() => {
                    hooks.push((kind, atom));
                }
                _ => return Err(format!("{place} is no record of a hook (hpgen_hooks.h)")),
            }
            place = next(RECORD)?;
        }
    }
    Ok(hooks)
}

fn kind_of(number: u32) -> Option<HookKind> {
    match number {
        1 => Some(HookKind::PreApply),
        2 => Some(HookKind::PostApply),
        3 => Some(HookKind::PreRollback),
        4 => Some(HookKind::PostRollback),
        _ => None,
    }
}

/// The function of that name, linkage or display; none where no function has it, or several have.
pub(crate) fn health_check(new: &Program, name: Option<&str>) -> Option<AtomIndex> {
    let name = name?;
    let is_meant = |index: &AtomIndex| {
        new.atom(*index)
            .is_some_and(|atom| atom.names.iter().any(|known| known.key == name) || new.display(atom) == name)
    };
    let mut found = new.functions.iter().map(|function| function.atom).filter(is_meant);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hooks() {
        for (name, expected) in [
            ("hpgen_pre_apply", Some(HookKind::PreApply)),
            ("hpgen_pre_apply_10_limits", Some(HookKind::PreApply)),
            ("hpgen_post_rollback", Some(HookKind::PostRollback)),
            ("hpgen_pre_applying", None),
            ("my_hpgen_pre_apply", None),
        ] {
            assert_eq!(HookKind::ALL.into_iter().find(|kind| is_hook(name, *kind)), expected, "{name}");
        }
    }
}
