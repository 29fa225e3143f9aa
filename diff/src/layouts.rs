//! Types whose layout changed: memory that the old code laid out would be misread by the new code.

use std::collections::BTreeSet;

use crate::symbols::{Member, Symbols, TypeLayout};

/// A type whose layout is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayoutChange {
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
            let gone: BTreeSet<&TypeLayout> = old_layouts.difference(new_layouts).collect();
            let came: BTreeSet<&TypeLayout> = new_layouts.difference(old_layouts).collect();
            let (first, second) = (gone.first()?, came.first()?);
            Some(LayoutChange { name: first.name.clone(), what: describe(first, second) })
        })
        .collect();
    changes.sort();
    changes.dedup();
    changes
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
            Some(before) if before.size != member.size || before.bits != member.bits => {
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
