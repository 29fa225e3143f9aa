//! Types that a fix gave another name and more members with it: a type that is gone, all of whose members a new type has.

use std::collections::{BTreeSet, HashMap};

use crate::shapes::Layouts;
use crate::symbols::TypeLayout;

/// Types that share the name of one member and are looked through for another one's name.
const MAX_CANDIDATES: usize = 64;

/// Members by which a type is recognised.
const FEWEST_MEMBERS: usize = 2;

/// A type that only the old build has, with its key, and the type of the new build that has all of its members.
pub(crate) type RenamedType<'a> = (&'a str, &'a TypeLayout, &'a TypeLayout);

/// Finds them. Types that a template or a compiler makes come and go, and their members have the same names everywhere.
pub(crate) fn renamed<'a>(old: &'a Layouts, new: &'a Layouts) -> Vec<RenamedType<'a>> {
    let is_own = |layout: &&TypeLayout| {
        !layout.is_enumeration && layout.members.len() >= FEWEST_MEMBERS && !layout.name.contains(['<', '$', '{'])
    };
    let mut by_member: HashMap<&str, Vec<&TypeLayout>> = HashMap::new();
    for layout in only_in(new, old).map(|(_, layout)| layout).filter(is_own) {
        for member in &layout.members {
            let all = by_member.entry(&member.name).or_default();
            if all.len() < MAX_CANDIDATES {
                all.push(layout);
            }
        }
    }
    let mut found: Vec<RenamedType<'a>> = Vec::new();
    for (key, layout) in only_in(old, new).filter(|(_, layout)| is_own(layout)) {
        let candidates = layout.members.first().and_then(|member| by_member.get(member.name.as_str()));
        let other = candidates.into_iter().flatten().find(|other| has_all_members(layout, other));
        found.extend(other.map(|other| (key, layout, *other)));
    }
    found.sort();
    found
}

fn only_in<'a>(layouts: &'a Layouts, others: &'a Layouts) -> impl Iterator<Item = (&'a str, &'a TypeLayout)> {
    let own = layouts.iter().filter(|(key, _)| !others.contains_key(*key));
    own.flat_map(|(key, all)| all.iter().map(move |layout| (key.as_str(), layout)))
}

fn has_all_members(old: &TypeLayout, new: &TypeLayout) -> bool {
    let names: BTreeSet<&str> = new.members.iter().map(|member| member.name.as_str()).collect();
    old.members.iter().all(|member| names.contains(member.name.as_str()))
}
