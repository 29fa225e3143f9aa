//! Types whose layout changed: memory that the old code laid out would be misread by the new code.

use std::collections::{BTreeSet, HashMap};

use crate::symbols::{Member, Symbols, TypeLayout};

/// A type whose layout is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayoutChange {
    /// Unique name.
    pub key: String,
    /// Name in the source's terms.
    pub name: String,
    /// The first member that moved, came or went, or the size, in words.
    pub what: String,
}

/// Types that both builds define and whose layouts differ, by name.
pub fn changes(old: &Symbols, new: &Symbols) -> Vec<LayoutChange> {
    let mut changes: Vec<LayoutChange> = old
        .layouts
        .iter()
        .filter_map(|(key, old_layouts)| {
            let new_layouts = new.layouts.get(key)?;
            // A definition that only the new build has is a new type of that name; one that is gone was changed.
            let (first, second) = (first_without(old_layouts, new_layouts)?, first_without(new_layouts, old_layouts)?);
            let what =
                if first.is_enumeration { describe_enumeration(first, second)? } else { describe(first, second) };
            Some(LayoutChange { key: key.clone(), name: first.name.clone(), what })
        })
        .collect();
    changes.sort_by(|a, b| (&a.name, &a.what, &a.key).cmp(&(&b.name, &b.what, &b.key)));
    changes.dedup_by(|a, b| (&a.name, &a.what) == (&b.name, &b.what));
    changes
}

/// Enumerators may come and go: what a running process holds keeps its meaning as long as the others keep their values.
fn describe_enumeration(old: &TypeLayout, new: &TypeLayout) -> Option<String> {
    if old.size != new.size {
        return Some(format!("its size changed from {} to {} bytes", old.size, new.size));
    }
    let values: HashMap<&str, u64> = new.members.iter().map(|m| (m.name.as_str(), m.offset)).collect();
    old.members.iter().find_map(|member| {
        let value = values.get(member.name.as_str()).filter(|value| **value != member.offset)?;
        Some(format!("{} was {} and is {}", member.name, member.offset.cast_signed(), value.cast_signed()))
    })
}

/// Definitions of one name that a layout with a member of unknown size is compared with.
const MAX_DEFINITIONS: usize = 64;

/// The first layout that the other build does not have.
fn first_without<'a>(layouts: &'a BTreeSet<TypeLayout>, others: &BTreeSet<TypeLayout>) -> Option<&'a TypeLayout> {
    let is_known = |layout: &TypeLayout| {
        others.contains(layout) || others.iter().take(MAX_DEFINITIONS).any(|other| is_same(layout, other))
    };
    layouts.iter().find(|layout| !is_known(layout))
}

/// Whether two layouts agree in all that both builds know.
fn is_same(a: &TypeLayout, b: &TypeLayout) -> bool {
    let is_same_member =
        |(a, b): (&Member, &Member)| (&a.name, a.offset, a.bits) == (&b.name, b.offset, b.bits) && is_same_size(a, b);
    (&a.name, a.is_enumeration, a.size) == (&b.name, b.is_enumeration, b.size)
        && a.members.len() == b.members.len()
        && a.members.iter().zip(&b.members).all(is_same_member)
}

/// The definition of a member's type can be missing from a PDB. The offsets behind it and the size of the whole tell then.
fn is_same_size(a: &Member, b: &Member) -> bool {
    a.size.is_none() || b.size.is_none() || a.size == b.size
}

fn describe(old: &TypeLayout, new: &TypeLayout) -> String {
    let find = |layout: &TypeLayout, member: &Member| layout.members.iter().find(|m| m.name == member.name).cloned();
    for member in &new.members {
        match find(old, member) {
            None => {
                return format!("member {} was added at offset {}", member.name, member.offset);
            }
            Some(before) if before.offset != member.offset => {
                return format!("member {} moved from offset {} to {}", member.name, before.offset, member.offset);
            }
            Some(before) if !is_same_size(&before, member) || before.bits != member.bits => {
                return format!("member {} changed its size", member.name);
            }
            Some(_) => {}
        }
    }
    if let Some(lost) = old.members.iter().find(|member| find(new, member).is_none()) {
        return format!("member {} at offset {} was removed", lost.name, lost.offset);
    }
    if old.size != new.size {
        return format!("its size changed from {} to {} bytes", old.size, new.size);
    }
    "the order of its members changed".to_owned()
}

#[cfg(test)]
#[path = "layouts_tests.rs"]
mod tests;
