//! Types whose layout changed: memory that the old code laid out would be misread by the new code.

use std::collections::{BTreeSet, HashSet};

use crate::layout_words::{describe, describe_enumeration, is_same_size};
use crate::renamed_types;
use crate::shapes::Shapes;
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
    /// Both builds have a definition of the name that the other one has not. Else it can be that of a type that came or went: it
    /// counts where functions that use the name changed.
    pub is_certain: bool,
}

/// Types that both builds define and whose layouts differ, and types that got another name with another layout, by name.
pub fn changes(old: &Symbols, new: &Symbols) -> Vec<LayoutChange> {
    let mut shapes = Shapes::new(&old.layouts, &new.layouts);
    let mut changes: Vec<LayoutChange> = Vec::new();
    for (key, olds) in &old.layouts {
        let Some(news) = new.layouts.get(key) else { continue };
        changes.extend(change_of(key, olds, news, &mut shapes));
    }
    for (key, before, after) in renamed_types::renamed(&old.layouts, &new.layouts) {
        if !is_same(before, after, &mut shapes) {
            let what = format!("it is called {} now, and {}", after.name, describe(before, after, &mut shapes));
            let (key, name) = (key.to_owned(), before.name.clone());
            changes.push(LayoutChange { key, name, what, is_certain: false });
        }
    }
    changes.sort_by(|a, b| (&a.name, &a.what, &a.key).cmp(&(&b.name, &b.what, &b.key)));
    changes.dedup_by(|a, b| (&a.name, &a.what) == (&b.name, &b.what));
    changes
}

fn change_of(
    key: &str,
    olds: &BTreeSet<TypeLayout>,
    news: &BTreeSet<TypeLayout>,
    shapes: &mut Shapes<'_>,
) -> Option<LayoutChange> {
    if olds == news {
        return None;
    }
    let lost: Vec<_> = olds.iter().filter(|old| !is_among(old, news, |new| is_same(old, new, shapes))).collect();
    let come: Vec<_> = news.iter().filter(|new| !is_among(new, olds, |old| is_same(old, new, shapes))).collect();
    let is_certain = !lost.is_empty() && !come.is_empty();
    // A number that a compiler gives by order is no name: one such type more or less says nothing of the others.
    if !is_certain && is_numbered(key) {
        return None;
    }
    // One file's type became what another file's of that name is, or no longer is: one of the known ones changed.
    let lost = if lost.is_empty() && !come.is_empty() { olds.iter().collect() } else { lost };
    let come = if come.is_empty() && !lost.is_empty() { news.iter().collect() } else { come };
    let (before, what) = lost.iter().take(MAX_DEFINITIONS).find_map(|before| {
        let after = closest(before, &come)?;
        let what =
            if before.is_enumeration { describe_enumeration(before, after)? } else { describe(before, after, shapes) };
        Some((before, what))
    })?;
    Some(LayoutChange { key: key.to_owned(), name: before.name.clone(), what, is_certain })
}

/// Of several definitions, the one with most members of the same names; only such for an enumeration.
fn closest<'a>(before: &TypeLayout, others: &[&'a TypeLayout]) -> Option<&'a TypeLayout> {
    let names: HashSet<&str> = before.members.iter().map(|member| member.name.as_str()).collect();
    let shared = |other: &TypeLayout| other.members.iter().filter(|m| names.contains(m.name.as_str())).count();
    let all = others.iter().take(MAX_DEFINITIONS).filter(|other| other.is_enumeration == before.is_enumeration);
    let is_known = |other: &&&TypeLayout| others.len() == 1 || !before.is_enumeration || shared(other) > 0;
    all.filter(is_known).copied().max_by_key(|other| shared(other))
}

/// Definitions of one name that a layout with a member of unknown size is compared with.
const MAX_DEFINITIONS: usize = 64;

/// Whether a key stands for all types that differ in a number alone.
fn is_numbered(key: &str) -> bool {
    ["<lambda", "<unnamed-", "closure_env$", "async_fn_env$", "async_block_env$", "@???", "Ut_"]
        .iter()
        .any(|marker| key.contains(marker))
}

/// Whether the other build has a layout, or one that `is_same`.
fn is_among(layout: &TypeLayout, others: &BTreeSet<TypeLayout>, is_same: impl FnMut(&TypeLayout) -> bool) -> bool {
    others.contains(layout) || others.iter().take(MAX_DEFINITIONS).any(is_same)
}

/// Whether two layouts agree in all that both builds know.
fn is_same(old: &TypeLayout, new: &TypeLayout, shapes: &mut Shapes<'_>) -> bool {
    let mut is_same_member = |(a, b): (&Member, &Member)| {
        (&a.name, a.offset, a.bits) == (&b.name, b.offset, b.bits)
            && is_same_size(a, b)
            && shapes.is_same(&a.shape, &b.shape)
    };
    (old.is_enumeration, old.size) == (new.is_enumeration, new.size)
        && old.members.len() == new.members.len()
        && old.members.iter().zip(&new.members).all(&mut is_same_member)
}

#[cfg(test)]
#[path = "layouts_tests.rs"]
mod tests;
