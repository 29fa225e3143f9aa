//! Which functions that run before `main` a payload carries, to be called once as it goes in: new ones that write nothing but variables that
//! the payload brings; and of those that the old build has, too, the part that is new and does so.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::{AtomIndex, AtomKind};
use hpgen_diff::change_set::Reason;
use hpgen_diff::compare::Outcome;
use hpgen_diff::effects::{Place, effects_of_part};
use hpgen_diff::initialisers::{Initialiser, InitialiserKind, initialisers, named_by_silent_data, parts_of_others};
use hpgen_diff::new_part::{NewPart, new_part};
use hpgen_diff::program::Location;

use crate::correspondence::Correspondence;

/// The code of reasons about functions that run before `main`.
pub const REASON: &str = "dynamic-initialiser";

/// A function that is called as the payload goes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedInitialiser {
    /// The function; none where the author leaves the variables as they are.
    pub function: Option<AtomIndex>,
    /// The variables that get their first values from it.
    pub variables: BTreeSet<AtomIndex>,
    /// Another result than 0 says that it failed.
    pub checked: bool,
    /// It registers a function for the end of the process.
    pub at_exit: bool,
    /// What is taken out of it: what the old build did.
    pub part: NewPart,
    /// Instructions that take addresses which are written at.
    pub taken: BTreeSet<Place>,
}

/// What becomes of the new functions that run before `main`.
#[derive(Debug, Default)]
pub(crate) struct Initialisers {
    /// Those that are called, in their order, and those that the author answers for.
    pub planned: Vec<PlannedInitialiser>,
    /// Why the others are not, by linkage name.
    pub doubts: BTreeMap<String, String>,
    /// Functions of both builds that changed: to redirect them is of no use, they do not run again.
    pub changed: BTreeSet<AtomIndex>,
    /// Of these, those that do what they did, in another form.
    same: BTreeSet<AtomIndex>,
    /// New functions that are called by others that run before `main`, which these are parts of.
    pub parts: BTreeMap<AtomIndex, BTreeSet<AtomIndex>>,
}

impl Initialisers {
    /// Decides. `kept` holds the names that the author answers for.
    pub fn of(programs: &Correspondence<'_>, kept: &BTreeSet<String>) -> Initialisers {
        let new = programs.new;
        let all = initialisers(new);
        let parts = parts_of_others(new, &all);
        let is_changed = |index: AtomIndex| {
            let olds = programs.comparison.pairing.old_of(index);
            olds.iter().any(|old| matches!(programs.comparison.outcome(*old, index), Some(Outcome::Different(_))))
        };
        let mut found: Vec<(AtomIndex, Initialiser)> =
            all.into_iter().filter(|(index, _)| !parts.contains_key(index)).collect();
        found.retain(|(index, _)| programs.comparison.pairing.old_of(*index).is_empty() || is_changed(*index));
        // In the order in which start-up code calls them.
        found.sort_by_key(|(index, initialiser)| (initialiser.kind, initialiser.order, *index));
        let name = |index: AtomIndex| new.atom(index).map(|atom| new.linkage_name(atom)).unwrap_or_default();
        let once = |found: &&(AtomIndex, Initialiser)| found.1.kind != InitialiserKind::ThreadCallback;
        let of_both = |index: &AtomIndex| !programs.comparison.pairing.old_of(*index).is_empty();
        let changed = found.iter().filter(once).map(|(index, _)| *index).filter(of_both).collect();
        let mut decided = Initialisers { changed, parts, ..Initialisers::default() };
        let mut planned = Vec::new();
        for (index, initialiser) in found {
            match plan(programs, index, initialiser) {
                Ok(None) => drop(decided.same.insert(index)),
                Ok(Some(found)) => planned.push((index, initialiser, Ok(found))),
                Err(doubt) => planned.push((index, initialiser, Err(doubt))),
            }
        }
        let found = planned;
        let has_order = found.len() == 1 || found.iter().all(|(_, initialiser, _)| initialiser.order.is_some());
        for (index, _, planned) in found {
            let planned = match planned {
                Ok(_) if !has_order => Err("the order in which several such functions run is not known".to_owned()),
                planned => planned,
            };
            match planned {
                Ok(planned) if kept.contains(&name(index)) => {
                    decided.planned.push(PlannedInitialiser {
                        function: None,
                        checked: false,
                        at_exit: false,
                        ..planned
                    });
                    decided.doubts.insert(name(index), "a rule leaves its variables as they are".to_owned());
                }
                Ok(planned) => decided.planned.push(planned),
                Err(doubt) => drop(decided.doubts.insert(name(index), doubt)),
            }
        }
        decided
    }

    /// The functions that are called.
    pub fn functions(&self) -> impl Iterator<Item = AtomIndex> {
        self.planned.iter().filter_map(|planned| planned.function)
    }

    /// Takes away the reasons that the payload answers, and says of the others why it does not.
    pub fn answer(&self, programs: &Correspondence<'_>, reasons: &mut Vec<Reason>) {
        let new = programs.new;
        let name = |index: AtomIndex| new.atom(index).map(|atom| new.linkage_name(atom)).unwrap_or_default();
        let mut called: BTreeSet<AtomIndex> = self.functions().chain(self.same.iter().copied()).collect();
        // A part goes with what calls it.
        for (part, callers) in &self.parts {
            if programs.comparison.pairing.old_of(*part).is_empty() && callers.is_subset(&called) {
                called.insert(*part);
            }
        }
        let mut answered: BTreeSet<String> = called.iter().map(|index| name(*index)).collect();
        // Of several of one name, all must be.
        for index in named_by_silent_data(new).into_keys().filter(|index| !called.contains(index)) {
            answered.remove(&name(index));
        }
        answered.retain(|name| !self.doubts.contains_key(name));
        reasons.retain(|reason| reason.code != REASON || !answered.contains(&reason.symbol));
        for reason in reasons.iter_mut().filter(|reason| reason.code == REASON) {
            if let Some(doubt) = self.doubts.get(&reason.symbol) {
                reason.message.push_str(&format!("; it cannot be called now: {doubt}"));
                if let Some(index) = self.changed.iter().find(|index| name(**index) == reason.symbol) {
                    reason.message.push_str(&advice(programs, *index));
                }
            }
        }
    }
}

/// What a call of the function now would do, if that is what it would have done before `main`; nothing where the process has all of that.
fn plan(
    programs: &Correspondence<'_>,
    index: AtomIndex,
    initialiser: Initialiser,
) -> Result<Option<PlannedInitialiser>, String> {
    let new = programs.new;
    if initialiser.kind == InitialiserKind::ThreadCallback {
        return Err("it is called for every thread, and the threads are there already".to_owned());
    }
    let part = match programs.comparison.pairing.old_of(index) {
        [] => NewPart { does_something: true, ..NewPart::default() },
        [old] => new_part((programs.old, *old), (new, index), programs.comparison)
            .map_err(|doubt| format!("which part of it is new cannot be told, since {doubt}"))?,
        _ => return Err("it stands for several functions of the old build".to_owned()),
    };
    if !part.does_something {
        return Ok(None);
    }
    let effects = effects_of_part(new, index, &part).map_err(|doubt| doubt.describe(new))?;
    for (written, place) in &effects.written {
        let Some(atom) = new.atom(*written) else { continue };
        let is_new = atom.kind == AtomKind::Writable && programs.old_atom(*written).is_none();
        if !is_new || atom.names.is_empty() {
            let writer = new.atom(place.function).map(|atom| new.display(atom)).unwrap_or_default();
            let what = if atom.names.is_empty() { "has no name" } else { "the process has, with a value of its own" };
            return Err(format!("{writer}+{:#x} writes to {}, which {what}", place.offset, new.display(atom)));
        }
    }
    if effects.written.is_empty() {
        return Err("it writes to no variable, so that nothing tells whether it was called before".to_owned());
    }
    Ok(Some(PlannedInitialiser {
        function: Some(index),
        variables: effects.written.into_keys().collect(),
        checked: initialiser.kind == InitialiserKind::Checked,
        at_exit: effects.registers_exit_function,
        part,
        taken: effects.taken,
    }))
}

impl Initialisers {
    /// An instruction takes an object's own address, since something is written at it.
    pub fn takes_own_address(&self, function: AtomIndex, offset: u32) -> bool {
        self.planned.iter().any(|planned| planned.taken.contains(&Place { function, offset }))
    }

    /// What is taken out of a function.
    pub fn part(&self, index: AtomIndex) -> Option<&NewPart> {
        self.planned.iter().find(|planned| planned.function == Some(index)).map(|planned| &planned.part)
    }
}

/// Which new variables would be without their first values, and what their author can do.
fn advice(programs: &Correspondence<'_>, index: AtomIndex) -> String {
    const SHOWN: usize = 3;
    let new = programs.new;
    let is_new_variable = |target| match new.locate(target) {
        Location::Atom { atom, .. } => new
            .atom(atom)
            .filter(|found| found.kind == AtomKind::Writable && programs.old_atom(atom).is_none())
            .map(|found| new.display(found)),
        _ => None,
    };
    let named: BTreeSet<String> = new
        .function(index)
        .into_iter()
        .flat_map(|function| &function.code.references)
        .filter_map(|reference| is_new_variable(reference.place()))
        .collect();
    if named.is_empty() {
        return "; a rule (keep or hook) leaves the process the values that it has".to_owned();
    }
    let shown = named.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = match named.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "; {shown}{more} would be without a first value: put new variables into a source file of their own, or make them static in the functions that use them"
    )
}
