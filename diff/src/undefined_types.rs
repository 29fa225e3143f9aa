//! Types that a build's PDB announces and defines nowhere, while functions that look into them changed.
//!
//! clang leaves the definition of a class to the files that construct it, and of other types to those that look into them: where these have no
//! types, all others have the name alone. A type that nobody looks into is announced just so (a handle, what a library keeps to itself), so that
//! only two kinds count: classes that a function which changed is a member of, or one that it inlined, and what the other build defines and
//! functions that changed use.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::AtomIndex;
use crate::change_set::{FunctionChange, FunctionStatus, Reason};
use crate::memory_reach::Reach;
use crate::program::Program;
use crate::rva::Rva;
use crate::type_information::{TypeInformation, UndefinedClass};
use crate::type_users;

/// Names at most that a reason lists.
const MAX_NAMES: usize = 3;

/// Types whose users are searched for.
const MAX_TYPES: usize = 64;

/// A reason for each type whose layout cannot be compared.
pub(crate) fn reasons<'a>(old: &'a Program, new: &'a Program, functions: &'a [FunctionChange]) -> Vec<Reason> {
    let reached: Vec<&FunctionChange> = functions.iter().filter(|change| looks_at_objects(old, new, change)).collect();
    if reached.is_empty() {
        return Vec::new();
    }
    let (mut old, mut new) =
        (Side::of(old, &reached, |change| change.old), Side::of(new, &reached, |change| change.new));
    // Those without types are told with their files.
    let is_known = |change: &&FunctionChange| old.has_types(change) && new.has_types(change);
    let known: Vec<&FunctionChange> = reached.into_iter().filter(is_known).collect();
    old.name(&known);
    new.name(&known);
    let of_members = old.members().into_iter().chain(new.members());
    let of_users = old.users_of(&old.undefined_in(&new)).into_iter().chain(new.users_of(&new.undefined_in(&old)));
    let mut users: BTreeMap<UndefinedClass, BTreeSet<&str>> = BTreeMap::new();
    for (class, function) in of_members.chain(of_users) {
        users.entry(class).or_default().insert(function);
    }
    users.into_iter().map(|(class, users)| reason(&old, &new, class, &users)).collect()
}

/// Whether both builds have a function that changed, and it goes where pointers lead, in another way than before.
fn looks_at_objects(old: &Program, new: &Program, change: &FunctionChange) -> bool {
    let (FunctionStatus::Changed, Some(before), Some(after)) = (change.status, change.old, change.new) else {
        return false;
    };
    let (Some(a), Some(b)) = (Reach::of(old, before), Reach::of(new, after)) else { return true };
    !a.has_instructions_of(b) && (a.follows_pointers() || b.follows_pointers())
}

fn reason(old: &Side<'_>, new: &Side<'_>, class: UndefinedClass, users: &BTreeSet<&str>) -> Reason {
    let has = |side: &Side<'_>| side.program.symbols.layouts.contains_key(&class.key);
    let who = match (has(old), has(new)) {
        (true, false) => "the new build does not say what this type consists of",
        (false, true) => "the old build does not say what this type consists of",
        _ => "neither build says what this type consists of",
    };
    let shown = users.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    let more = users.len().saturating_sub(MAX_NAMES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Reason {
        code: "types-unknown",
        symbol: class.name,
        message: format!(
            "{who}: nothing tells whether functions that changed and use it ({shown}{more}) and the running process have the same layout of it; compile the files that construct it or look into it with types (-g -gcodeview, or -fstandalone-debug), or answer for it"
        ),
    }
}

/// One of the programs, with the functions that count and what they are called in reports.
struct Side<'a> {
    program: &'a Program,
    types: TypeInformation,
    index: fn(&FunctionChange) -> Option<AtomIndex>,
    functions: BTreeMap<AtomIndex, &'a str>,
}

impl<'a> Side<'a> {
    fn of(
        program: &'a Program,
        changes: &[&FunctionChange],
        index: fn(&FunctionChange) -> Option<AtomIndex>,
    ) -> Side<'a> {
        let types = TypeInformation::of(program, changes.iter().filter_map(|change| index(change)));
        Side { program, types, index, functions: BTreeMap::new() }
    }

    fn has_types(&self, change: &FunctionChange) -> bool {
        let atom = (self.index)(change).and_then(|index| self.program.atom(index));
        atom.is_some_and(|atom| self.types.has_types(self.program, atom))
    }

    /// Says which functions count.
    fn name(&mut self, changes: &[&'a FunctionChange]) {
        let index = self.index;
        self.functions = changes.iter().filter_map(|change| Some((index(change)?, change.display.as_str()))).collect();
    }

    /// Classes without a definition, with the functions that are members of them or inlined some.
    fn members(&self) -> Vec<(UndefinedClass, &'a str)> {
        let atoms = self.functions.iter().filter_map(|(index, name)| Some((self.program.atom(*index)?, *name)));
        atoms
            .flat_map(|(atom, name)| self.types.undefined_classes(atom).map(move |class| (class.clone(), name)))
            .collect()
    }

    /// Types that this build defines and another one only announces.
    fn undefined_in(&self, other: &Side<'_>) -> BTreeSet<UndefinedClass> {
        let theirs = &other.program.symbols;
        let lost = theirs.announced.keys().filter(|key| self.program.symbols.layouts.contains_key(*key));
        lost.filter_map(|key| UndefinedClass::of(theirs, key)).collect()
    }

    /// Some types with the functions that use them. Where very many are gone, the first ones say enough.
    fn users_of(&self, types: &BTreeSet<UndefinedClass>) -> Vec<(UndefinedClass, &'a str)> {
        if types.is_empty() {
            return Vec::new();
        }
        let keys = types.iter().take(MAX_TYPES).map(|class| class.key.as_str()).collect();
        let users = type_users::users(self.program, &keys).unwrap_or_default();
        let atoms = self.functions.iter().filter_map(|(index, name)| Some((self.program.atom(*index)?.rva, *name)));
        let names: BTreeMap<Rva, &'a str> = atoms.collect();
        let mut found = Vec::new();
        for procedure in &self.program.symbols.procedures {
            let Some(name) = names.get(&procedure.rva) else { continue };
            let is_used =
                |class: &&UndefinedClass| users.get(&class.key).is_some_and(|u| u.functions.contains(&procedure.name));
            found.extend(types.iter().filter(is_used).map(|class| (class.clone(), *name)));
        }
        found
    }
}
