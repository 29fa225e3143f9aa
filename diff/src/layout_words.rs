//! Says in words how two layouts differ.

use std::collections::HashMap;

use crate::discriminants::DISCRIMINANT;
use crate::shapes::Shapes;
use crate::symbols::{Member, TypeLayout};

/// Enumerators may come and go: what a running process holds keeps its meaning as long as the others keep their values, and no new
/// one has the value of one that went. None where the enumerations agree in that.
pub(crate) fn describe_enumeration(old: &TypeLayout, new: &TypeLayout) -> Option<String> {
    if old.size != new.size {
        return Some(format!("its size changed from {} to {} bytes", old.size, new.size));
    }
    let values: HashMap<&str, u64> = new.members.iter().map(|m| (m.name.as_str(), m.offset)).collect();
    let moved = old.members.iter().find_map(|member| {
        let value = values.get(member.name.as_str()).filter(|value| **value != member.offset)?;
        Some(format!("{} was {} and is {}", member.name, member.offset.cast_signed(), value.cast_signed()))
    });
    moved.or_else(|| describe_reuse(old, new, &values))
}

fn describe_reuse(old: &TypeLayout, new: &TypeLayout, values: &HashMap<&str, u64>) -> Option<String> {
    let before: HashMap<&str, u64> = old.members.iter().map(|m| (m.name.as_str(), m.offset)).collect();
    let kept: Vec<u64> =
        before.iter().filter(|(name, _)| values.contains_key(*name)).map(|(_, value)| *value).collect();
    let lost = old.members.iter().filter(|m| !values.contains_key(m.name.as_str()) && !kept.contains(&m.offset));
    let lost: HashMap<u64, &str> = lost.map(|m| (m.offset, m.name.as_str())).collect();
    new.members.iter().filter(|m| !before.contains_key(m.name.as_str())).find_map(|m| {
        let was = lost.get(&m.offset)?;
        Some(format!("{} is {}, which {was} was", m.name, m.offset.cast_signed()))
    })
}

/// The first member that differs, or the size.
pub(crate) fn describe(old: &TypeLayout, new: &TypeLayout, shapes: &mut Shapes<'_>) -> String {
    let by_name = |layout: &TypeLayout| -> HashMap<String, Member> {
        layout.members.iter().rev().map(|member| (member.name.clone(), member.clone())).collect()
    };
    let (olds, news) = (by_name(old), by_name(new));
    for member in &new.members {
        let Some(before) = olds.get(&member.name) else {
            if let Some(renamed) = old.members.iter().find(|m| m.offset == member.offset && m.bits == member.bits)
                && !news.contains_key(&renamed.name)
                && renamed.size == member.size
                && shapes.is_same(&renamed.shape, &member.shape)
            {
                return format!("member {} at offset {} is called {} now", renamed.name, member.offset, member.name);
            }
            return format!("member {} was added at offset {}", member.name, member.offset);
        };
        if let Some(what) = describe_member(before, member, shapes) {
            return what;
        }
    }
    if let Some(lost) = old.members.iter().find(|member| !news.contains_key(&member.name)) {
        return format!("member {} at offset {} was removed", lost.name, lost.offset);
    }
    if old.size != new.size {
        return format!("its size changed from {} to {} bytes", old.size, new.size);
    }
    "the order of its members changed".to_owned()
}

fn describe_member(old: &Member, new: &Member, shapes: &mut Shapes<'_>) -> Option<String> {
    let name = &new.name;
    if old.offset != new.offset {
        if name.starts_with(DISCRIMINANT) {
            return Some(format!("the number that stands for it was {} and is {}", old.offset, new.offset));
        }
        return Some(format!("member {name} moved from offset {} to {}", old.offset, new.offset));
    }
    if !is_same_size(old, new) || old.bits != new.bits {
        return Some(format!("member {name} changed its size"));
    }
    if shapes.is_same(&old.shape, &new.shape) {
        return None;
    }
    let (was, is) = shapes.describe(&old.shape, &new.shape);
    Some(if was == is {
        format!("member {name} has another type of the same name")
    } else {
        format!("member {name} was {was} and is {is}")
    })
}

/// The definition of a member's type can be missing from a PDB. The offsets behind it and the size of the whole tell then.
pub(crate) fn is_same_size(a: &Member, b: &Member) -> bool {
    a.size.is_none() || b.size.is_none() || a.size == b.size
}
