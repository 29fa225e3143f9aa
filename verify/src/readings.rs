//! What an address of the new build can mean, where it can mean more than one thing.
//!
//! A taken address can be the start of one object, the end of another, or a base that is biased by a constant index. A reading is
//! proven where an object file names the object, where the old version of the function takes an address with the same
//! reading, or where all that the function does with the address fits an object's own address only.

use hpgen_diff::atoms::{Atom, AtomIndex, AtomKind, MAX_BIAS, NEIGHBOURS};
use hpgen_diff::effects::Place;
use hpgen_diff::listing;
use hpgen_diff::passed_addresses;
use hpgen_diff::program::{Function, Location};
use hpgen_diff::rva::Rva;
use hpgen_diff::static_guards;
use hpgen_diff::x64::{Reference, ReferenceKind};

use crate::meaning::{Meaning, Meant, Use};
use crate::process;

/// Why a taken address need not be the object's own.
enum Doubt {
    /// By what is done with it.
    Use(String),
    /// It is also the end of this object, which the function names.
    Rival(AtomIndex, String),
}

/// An object of the new program and a distance from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub atom: AtomIndex,
    pub offset: i64,
}

impl Meaning<'_> {
    /// Whether `found` is what a reference of a function's code names. References to its own tables and code are not among them.
    pub fn is_referenced(self, function: &Function, reference: &Reference, found: u64) -> Meant {
        let new = self.facts.new;
        let usage = match reference.kind {
            kind if kind.is_branch() => Use::Branch,
            ReferenceKind::Access => Use::Access(reference.accessed.into()),
            _ => Use::Value,
        };
        // What is known of an object says nothing of what stands before or behind it.
        let symbol = reference.symbol.filter(|symbol| match (usage, new.locate(*symbol)) {
            (Use::Access(_), Location::Atom { atom, offset }) => {
                let inside = i64::from(offset) + reference.target.distance_from(*symbol);
                new.atom(atom).is_some_and(|atom| !is_data(atom) || (0..i64::from(atom.size)).contains(&inside))
            }
            _ => true,
        });
        if let Some(symbol) = symbol
            && let Location::Atom { atom, offset } = new.locate(symbol)
        {
            let offset = i64::from(offset) + reference.target.distance_from(symbol);
            let mut claims = self.is_place_of(atom, offset, found, usage)?;
            claims.extend(self.is_read_on(reference, found)?);
            return Ok(claims);
        }
        let plain = match new.locate(reference.target) {
            Location::Atom { atom, offset } => Reading { atom, offset: offset.into() },
            Location::Headers(rva) => return self.is_header(rva, found),
            Location::Nowhere => {
                return Err(format!("{} of the new image, which is in none of its sections", reference.target));
            }
        };
        let at = function.code.instructions.get(reference.instruction as usize).map(|found| found.offset);
        if at.is_some_and(|offset| self.facts.taken.contains(&Place { function: function.atom, offset })) {
            // Nothing is written at an end, or at a biased base.
            return self.is_place_of(plain.atom, plain.offset, found, usage);
        }
        let is_address = matches!(reference.kind, ReferenceKind::Address | ReferenceKind::Absolute);
        if is_address && new.atom(plain.atom).is_some_and(is_data) {
            return self.is_taken_address(function, reference, plain, found);
        }
        let mut claims = self.is_place_of(plain.atom, plain.offset, found, usage)?;
        claims.extend(self.is_read_on(reference, found)?);
        Ok(claims)
    }

    /// What an access reaches behind the end of what is known to be one object: each piece must be where the access finds it.
    fn is_read_on(self, reference: &Reference, found: u64) -> Meant {
        let new = self.facts.new;
        let mut claims = Vec::new();
        if reference.kind != ReferenceKind::Access {
            return Ok(claims);
        }
        let end = i64::from(reference.target.0) + i64::from(reference.accessed);
        let Location::Atom { atom: first, .. } = new.locate(reference.target) else { return Ok(claims) };
        let is_whole = |atom: &Atom| !is_data(atom) || atom.is_sized;
        if new.atom(first).is_none_or(is_whole) {
            return Ok(claims);
        }
        let pieces = (first.0.saturating_add(1)..).map(AtomIndex).map_while(|index| Some((index, new.atom(index)?)));
        for (index, atom) in pieces.take_while(|(_, atom)| i64::from(atom.rva.0) < end) {
            let distance = atom.rva.distance_from(reference.target);
            let bytes = u32::try_from(end - i64::from(atom.rva.0)).unwrap_or(u32::MAX).min(atom.size);
            let place = found.checked_add_signed(distance).ok_or_else(|| "the end of memory".to_owned())?;
            claims.extend(self.is_place_of(index, 0, place, Use::Access(bytes))?);
            if atom.is_sized {
                break;
            }
        }
        Ok(claims)
    }

    fn is_taken_address(self, function: &Function, reference: &Reference, plain: Reading, found: u64) -> Meant {
        let meant = self.is_place_of(plain.atom, plain.offset, found, Use::Value);
        let own = meant.as_ref().map(|_| self.only_own_address(function, reference, plain));
        if let Ok(Ok(())) = own {
            return meant;
        }
        let agreed = self.agreed_by_code(function, reference.target, plain);
        match own {
            Ok(Err(_)) if agreed.contains(&plain) => return meant,
            Ok(Err(Doubt::Use(doubt))) => return Err(doubt),
            // Where both are at one place, it does not matter which is meant.
            Ok(Err(Doubt::Rival(rival, doubt))) => {
                let size = self.facts.new.atom(rival).map_or(0, |atom| atom.size);
                let end = self.is_place_of(rival, size.into(), found, Use::Value).map_err(|_| doubt)?;
                return meant.map(|claims| claims.into_iter().chain(end).collect());
            }
            _ => {}
        }
        let others = agreed.into_iter().filter(|reading| *reading != plain && self.is_of_partner(*reading, found));
        let mut meanings = others.map(|r| self.is_place_of(r.atom, r.offset, found, Use::Value));
        meanings.find(Result::is_ok).unwrap_or(meant)
    }

    /// A neighbour from which an address counts is the old build's own, where that has it: what only holds the same is somewhere else.
    fn is_of_partner(self, reading: Reading, found: u64) -> bool {
        let olds = self.facts.comparison.pairing.old_of(reading.atom);
        match found.checked_add_signed(-reading.offset).map(|start| self.process.place(start)) {
            Some(process::Place::Image(rva)) if !olds.is_empty() => {
                olds.iter().any(|old| self.facts.old.atom(*old).is_some_and(|old| old.rva == rva))
            }
            _ => true,
        }
    }

    /// The function does nothing with the address that would fit a neighbour's end or a biased base.
    fn only_own_address(self, function: &Function, reference: &Reference, plain: Reading) -> Result<(), Doubt> {
        let (new, target) = (self.facts.new, reference.target);
        let name = || self.facts.name(plain.atom);
        let size = new.atom(plain.atom).map_or(0, |atom| atom.size);
        if plain.offset >= i64::from(size) {
            return Err(Doubt::Use(format!("an address that the old build shows to be the end of {}", name())));
        }
        // What is passed on as an object of its own is that, whatever else is done with it.
        if plain.offset == 0 && passed_addresses::passes_object(new, function, reference) {
            return Ok(());
        }
        let uses = function.code.facts.uses.get(&target).copied().unwrap_or_default();
        let room = u32::try_from(plain.offset).map_or(0, |offset| size.saturating_sub(offset));
        let leaves = uses.indexed && !uses.is_indexed_within(room);
        if leaves || uses.compared || uses.computed {
            let doubt = format!("{} in a use that no other object nearby fits, or that the old build shares", name());
            return Err(Doubt::Use(doubt));
        }
        // What is only read at, inside the object, is no end.
        let is_only_read = uses.indexed && !uses.direct && !uses.escapes;
        let before = plain.atom.0.checked_sub(1).map(AtomIndex).filter(|_| plain.offset == 0 && !is_only_read);
        let rival = before.filter(|before| {
            let is_named =
                |r: &Reference| matches!(new.locate(r.target), Location::Atom { atom, .. } if atom == *before);
            new.atom(*before).is_some_and(|atom| {
                let has_end = listing::text_constant(new, atom).is_none()
                    && !function.jumps_by_all_of(atom.rva..target)
                    && !static_guards::is_of_compiler(atom);
                is_data(atom) && atom.end() == target && has_end
            }) && function.code.references.iter().any(is_named)
        });
        match rival {
            Some(rival) => {
                let doubt =
                    format!("either {} or the end of {}, as the old build shows", name(), self.facts.name(rival));
                Err(Doubt::Rival(rival, doubt))
            }
            None => Ok(()),
        }
    }

    /// Readings of an address that the old version of the function shares.
    fn agreed_by_code(self, function: &Function, target: Rva, plain: Reading) -> Vec<Reading> {
        let olds = self.facts.comparison.pairing.old_of(function.atom);
        let references = olds.iter().filter_map(|old| self.facts.old.function(*old)).flat_map(|f| &f.code.references);
        let addresses = references.filter(|r| matches!(r.kind, ReferenceKind::Address | ReferenceKind::Absolute));
        let mut agreed: Vec<Reading> = addresses.flat_map(|r| self.agreed(r.target, target, plain)).collect();
        agreed.dedup();
        agreed
    }

    /// Readings that an old and a new address share: the same distance from objects that are the same. Two starts of objects, or places in
    /// texts, that are not the same share none, wherever their neighbours are.
    pub fn agreed(self, old_target: Rva, new_target: Rva, plain: Reading) -> Vec<Reading> {
        let (old, new) = (self.facts.old, self.facts.new);
        let near = plain.atom.0.saturating_sub(NEIGHBOURS)..=plain.atom.0.saturating_add(NEIGHBOURS);
        let shared: Vec<Reading> = near
            .map(AtomIndex)
            .filter_map(|index| {
                let atom = new.atom(index).filter(|atom| is_data(atom))?;
                let offset = new_target.distance_from(atom.rva);
                let is_near = offset.abs() <= i64::from(MAX_BIAS.max(atom.size));
                let start = old_target.checked_offset(-offset).filter(|_| is_near)?;
                let partner = old
                    .atom_before(start)
                    .filter(|old_index| old.atom(*old_index).is_some_and(|old| old.rva == start))?;
                self.facts.corresponds(partner, index).then_some(Reading { atom: index, offset })
            })
            .collect();
        let both_own = listing::is_place_of_its_own(old, old_target) && listing::is_place_of_its_own(new, new_target);
        if both_own && !shared.contains(&plain) { Vec::new() } else { shared }
    }
}

fn is_data(atom: &Atom) -> bool {
    matches!(atom.kind, AtomKind::ReadOnly | AtomKind::Writable)
}
