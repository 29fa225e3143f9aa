//! Which functions that run before `main` a payload carries, to be called once as it goes in: new ones that write nothing but variables that
//! the payload brings.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::{AtomIndex, AtomKind};
use hpgen_diff::change_set::Reason;
use hpgen_diff::effects::effects;
use hpgen_diff::initialisers::{Initialiser, InitialiserKind, initialisers, named_by_silent_data};

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
}

/// What becomes of the new functions that run before `main`.
#[derive(Debug, Default)]
pub(crate) struct Initialisers {
    /// Those that are called, in their order, and those that the author answers for.
    pub planned: Vec<PlannedInitialiser>,
    /// Why the others are not, by linkage name.
    pub doubts: BTreeMap<String, String>,
}

impl Initialisers {
    /// Decides. `kept` holds the names that the author answers for.
    pub fn of(programs: &Correspondence<'_>, kept: &BTreeSet<String>) -> Initialisers {
        let new = programs.new;
        let mut found: Vec<(AtomIndex, Initialiser)> = initialisers(new).into_iter().collect();
        found.retain(|(index, _)| programs.comparison.pairing.old_of(*index).is_empty());
        // In the order in which start-up code calls them.
        found.sort_by_key(|(index, initialiser)| (initialiser.kind, initialiser.order, *index));
        let name = |index: AtomIndex| new.atom(index).map(|atom| new.linkage_name(atom)).unwrap_or_default();
        let mut decided = Initialisers::default();
        let has_order = found.len() == 1 || found.iter().all(|(_, initialiser)| initialiser.order.is_some());
        for (index, initialiser) in found {
            let planned = match plan(programs, index, initialiser) {
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
        let called: BTreeSet<AtomIndex> = self.functions().collect();
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
            }
        }
    }
}

/// What a call of the function now would do, if that is what it would have done before `main`.
fn plan(
    programs: &Correspondence<'_>,
    index: AtomIndex,
    initialiser: Initialiser,
) -> Result<PlannedInitialiser, String> {
    let new = programs.new;
    if initialiser.kind == InitialiserKind::ThreadCallback {
        return Err("it is called for every thread, and the threads are there already".to_owned());
    }
    let effects = effects(new, index).map_err(|doubt| doubt.describe(new))?;
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
    Ok(PlannedInitialiser {
        function: Some(index),
        variables: effects.written.into_keys().collect(),
        checked: initialiser.kind == InitialiserKind::Checked,
        at_exit: effects.registers_exit_function,
    })
}
