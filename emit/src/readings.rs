//! What an address in new code means, where it can mean more than one thing.
//!
//! A RIP-relative `lea` may take the start of an object, the end of the one before it, or a base that is biased by a constant
//! index. A wrong reading would make the payload point at another object, so each reading needs a reason: the old version of
//! the function takes the same address, or the way in which the new one uses it leaves no other.

use hpgen_diff::atoms::{Atom, AtomIndex, AtomKind};
use hpgen_diff::listing;
use hpgen_diff::passed_addresses;
use hpgen_diff::program::{Function, Location, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::static_guards;
use hpgen_diff::x64::{Reference, ReferenceKind};

use crate::correspondence::Correspondence;

/// A place in the new program, named by the object that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub atom: AtomIndex,
    /// May be negative (a biased base) or the object's size (its end).
    pub offset: i64,
}

/// Finds the reading of a reference that names data.
pub(crate) fn of_reference(
    programs: &Correspondence<'_>,
    old_function: Option<AtomIndex>,
    function: &Function,
    reference: &Reference,
) -> Result<Reading, String> {
    let new = programs.new;
    // The object file tells which object is meant; where the access leaves what is known of it, that says nothing of what stands there.
    let leaves = reference.kind == ReferenceKind::Access && new.is_outside(reference.named());
    if let Some(symbol) = reference.symbol.filter(|_| !leaves)
        && let Location::Atom { atom, offset } = new.locate(symbol)
    {
        check_extent(programs, reference)?;
        return Ok(Reading { atom, offset: i64::from(offset) + reference.target.distance_from(symbol) });
    }
    let (atom, offset) = match new.locate(reference.target) {
        Location::Atom { atom, offset } => (atom, offset),
        _ => return Err("an address outside all objects".to_owned()),
    };
    let plain = Reading { atom, offset: i64::from(offset) };
    let Some(object) = new.atom(atom) else {
        return Err("an address outside all objects".to_owned());
    };
    let is_data = matches!(object.kind, AtomKind::ReadOnly | AtomKind::Writable);
    if !is_data || !matches!(reference.kind, ReferenceKind::Address | ReferenceKind::Absolute) {
        if offset >= object.size {
            return Err(format!("accesses {} behind its end", new.display(object)));
        }
        return check_extent(programs, reference).map(|()| plain);
    }
    let agreed = old_function.map(|old| agreed_readings(programs, old, reference.target, plain)).unwrap_or_default();
    if let [only] = agreed.as_slice() {
        return Ok(*only);
    }
    let name = new.display(object);
    if offset >= object.size {
        return Err(format!(
            "takes an address behind the end of {name}, and the old build does not tell what it means"
        ));
    }
    // What reads or constructs at an address in any case gets that of an object, whatever else is done with it.
    if offset == 0 && passed_addresses::passes_object(new, function, reference) {
        return Ok(plain);
    }
    // A base of indexed accesses may be an end or biased, unless none can leave the object, and so may what is compared or
    // computed with. An address that is
    // read at directly, passed on or stored is the object's own, unless the function also has the array that ends here. The end of a string
    // literal is never taken, since code that knows its length counts, nor that of a table that the function jumps by, nor of
    // what no source names.
    let uses = function.code.facts.uses.get(&reference.target).copied().unwrap_or_default();
    let leaves = uses.indexed && !uses.is_indexed_within(object.size.saturating_sub(offset));
    if leaves || uses.compared || uses.computed {
        return Err(format!("computes with the address {name}+{offset:#x}, which may stand for another object nearby"));
    }
    // Nothing is read at an end, and where it can only be reads inside the object, no end is meant.
    let is_only_read = uses.indexed && !uses.direct && !uses.escapes;
    let rival =
        before(new, atom).filter(|before| offset == 0 && !is_only_read && is_referenced(new, function, *before));
    let has_end = |atom: &Atom| {
        listing::text_constant(new, atom).is_none()
            && !function.jumps_by_all_of(atom.rva..atom.end())
            && !static_guards::is_of_compiler(atom)
    };
    let Some((index, before)) = rival.and_then(|index| Some((index, new.atom(index).filter(|atom| has_end(atom))?)))
    else {
        return Ok(plain);
    };
    if stand_together(programs, (index, before), object) {
        return Ok(Reading { atom: index, offset: before.size.into() });
    }
    let before = new.display(before);
    Err(format!("takes an address that is both the start of {name} and the end of {before}"))
}

/// An access that goes on behind what is known to be one object: the old image must have all that it reaches, as far apart. What is put
/// into the region is put there piece by piece.
fn check_extent(programs: &Correspondence<'_>, reference: &Reference) -> Result<(), String> {
    let new = programs.new;
    if reference.kind != ReferenceKind::Access {
        return Ok(());
    }
    let place = |target: Rva| match new.locate(target) {
        Location::Atom { atom, offset } => {
            programs.old.atom(programs.old_atom(atom)?)?.rva.checked_offset(i64::from(offset))
        }
        _ => None,
    };
    let (mut target, mut left) = (reference.target, reference.accessed);
    while let Some(known) = new.end_of_access(target, left) {
        let next = target.checked_add(known);
        let is_one_in_old = || Some(place(next?)?.distance_from(place(target)?) == i64::from(known));
        if is_one_in_old() != Some(true) {
            return Err(format!(
                "reads or writes {} bytes at {}, of which only the first {known} are known to be one object",
                left,
                listing::describe(new, target)
            ));
        }
        let Some(next) = next else { break };
        left = left.saturating_sub(u8::try_from(known).unwrap_or(u8::MAX));
        target = next;
    }
    Ok(())
}

/// Whether the old image has two constants, one right behind the other, that hold the same as these two: where the one ends and the
/// other begins is one address there, whichever of the two is meant.
fn stand_together(programs: &Correspondence<'_>, (before, first): (AtomIndex, &Atom), second: &Atom) -> bool {
    let (old, new) = (programs.old, programs.new);
    let start = (first.kind == AtomKind::ReadOnly && second.kind == AtomKind::ReadOnly)
        .then(|| old.atom(programs.old_atom(before)?)?.rva.checked_add(first.size));
    let Some(Some(start)) = start else {
        return false;
    };
    let Location::Atom { atom, offset: 0 } = old.locate(start) else {
        return false;
    };
    let is_plain = |program: &Program, atom: &Atom| {
        atom.kind == AtomKind::ReadOnly && atom.names.is_empty() && program.data_fields(atom, atom.size).is_empty()
    };
    old.atom(atom).is_some_and(|atom| {
        let bytes = |program: &Program, atom: &Atom| program.image.bytes_up_to(atom.rva..atom.end()).to_vec();
        is_plain(old, atom) && is_plain(new, second) && bytes(old, atom) == bytes(new, second)
    })
}

/// The data atom that ends exactly where this one starts.
fn before(new: &Program, atom: AtomIndex) -> Option<AtomIndex> {
    let index = AtomIndex(atom.0.checked_sub(1)?);
    let (before, this) = (new.atom(index)?, new.atom(atom)?);
    let is_data = matches!(before.kind, AtomKind::ReadOnly | AtomKind::Writable);
    (is_data && before.end() == this.rva).then_some(index)
}

/// Whether the function names an object otherwise.
fn is_referenced(new: &Program, function: &Function, atom: AtomIndex) -> bool {
    function.code.references.iter().any(|r| matches!(new.locate(r.target), Location::Atom { atom: a, .. } if a == atom))
}

/// Readings of a new address that the old version of the function has, too.
fn agreed_readings(
    programs: &Correspondence<'_>,
    old_function: AtomIndex,
    target: Rva,
    plain: Reading,
) -> Vec<Reading> {
    let Some(old_function) = programs.old.function(old_function) else {
        return Vec::new();
    };
    let addresses = old_function
        .code
        .references
        .iter()
        .filter(|r| matches!(r.kind, ReferenceKind::Address | ReferenceKind::Absolute));
    let mut found: Vec<Reading> = Vec::new();
    for reference in addresses {
        let readings = programs.common_readings(reference.target, target);
        let reading = if readings.contains(&plain) {
            Some(plain)
        } else if listing::is_place_of_its_own(programs.new, target)
            && listing::is_place_of_its_own(programs.old, reference.target)
        {
            // Both are starts of objects, or places in texts, that do not correspond: that their neighbours do proves nothing.
            None
        } else {
            readings.first().copied()
        };
        found.extend(reading.filter(|reading| !found.contains(reading)));
    }
    found
}
