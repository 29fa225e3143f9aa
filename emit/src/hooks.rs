//! Functions of the new build that the loader calls on the way in and out, known by their names.

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::program::Program;
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

/// The hooks of a build: by kind, then by name, which is the order in which they are called.
pub(crate) fn hooks(new: &Program) -> Vec<(HookKind, AtomIndex)> {
    let mut found: Vec<(HookKind, &str, AtomIndex)> = Vec::new();
    for function in &new.functions {
        let Some(atom) = new.atom(function.atom) else { continue };
        for kind in HookKind::ALL {
            let named = atom.names.iter().find(|name| is_hook(&name.key, kind));
            found.extend(named.map(|name| (kind, name.key.as_str(), function.atom)));
        }
    }
    found.sort();
    found.into_iter().map(|(kind, _, index)| (kind, index)).collect()
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
