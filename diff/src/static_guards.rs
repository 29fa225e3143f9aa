//! Guards of variables in blocks (`static T t(f());`): what says whether such a variable is constructed. Outside of inline functions compilers
//! give a guard no name that reaches the PDB. What the code does with it tells whose it is: its address goes to the runtime's function that
//! begins a construction, and what is constructed before the runtime is told of the end is the variable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;

use crate::atoms::{Atom, AtomIndex, AtomKind, Name};
use crate::ordinals::{is_guard, surroundings};
use crate::passed_addresses::passed;
use crate::program::{Function, Location, Program};
use crate::rva::Rva;
use crate::x64::Reference;

/// Begin a construction, with the guard's address as their first argument (Itanium C++ ABI 3.3.3; Microsoft's `thread_safe_statics.cpp`).
const BEGIN: [&str; 2] = ["__cxa_guard_acquire", "_Init_thread_header"];
/// End one.
const END: [&str; 2] = ["__cxa_guard_release", "_Init_thread_footer"];
/// Take a beginning back.
const GIVE_UP: [&str; 2] = ["__cxa_guard_abort", "_Init_thread_abort"];

/// Whether a reference leads to a function of the runtime that takes a guard's address as its first argument.
pub(crate) fn takes_guard(program: &Program, callee: &Reference) -> bool {
    program.names_one_of(callee, &[BEGIN, END, GIVE_UP].concat())
}

/// What is given to guards, behind the name of their variable.
const GUARD: &str = "$guard";

/// Names for guards that have none: that of the variable, as what it is the guard of. Neither of two that guard one variable, nor one that
/// guards two, gets any.
pub(crate) fn names_of_guards(program: &Program) -> BTreeMap<AtomIndex, Vec<Name>> {
    let calls = Calls::of(program);
    let known: BTreeSet<_> = program.functions.par_iter().flat_map_iter(|f| guards_of(program, f, &calls)).collect();
    let count = |of: fn(&(AtomIndex, AtomIndex)) -> AtomIndex| {
        known.iter().fold(BTreeMap::<_, usize>::new(), |mut counts, pair| {
            *counts.entry(of(pair)).or_default() += 1;
            counts
        })
    };
    let (guards, variables) = (count(|(guard, _)| *guard), count(|(_, variable)| *variable));
    let is_only = |(guard, variable): &&(AtomIndex, AtomIndex)| {
        guards.get(guard) == Some(&1) && variables.get(variable) == Some(&1)
    };
    let name = |name: &Name| Name {
        key: format!("{}{GUARD}", name.key),
        local: name.local.clone(),
        display: format!("guard variable for {}", name.display),
    };
    let named = known.iter().filter(is_only).filter_map(|(guard, variable)| {
        let names = program.atom(*variable)?.names.iter().filter(|name| surroundings(name).is_some());
        Some((*guard, names.map(name).collect()))
    });
    named.collect()
}

/// Whether a variable is one that compilers use for variables in blocks and for thread-local ones, and that no source names: a guard, or the number of
/// the module's thread-local block. Nobody takes the end of it.
pub fn is_of_compiler(atom: &Atom) -> bool {
    let is_such = |name: &Name| {
        let key = name.key.as_str();
        key.ends_with(GUARD) || key.starts_with("_ZGV") || key == "_tls_index" || is_guard(key)
    };
    !atom.names.is_empty() && atom.names.iter().all(is_such)
}

/// Where calls of the runtime lead.
struct Calls {
    begin: BTreeSet<Rva>,
    end: BTreeSet<Rva>,
}

impl Calls {
    fn of(program: &Program) -> Calls {
        let targets = |wanted: &[&str]| {
            let is_wanted = |atom: &&Atom| atom.names.iter().any(|name| wanted.contains(&name.key.as_str()));
            let functions = program.atoms.iter().filter(|atom| atom.is_function()).filter(is_wanted);
            functions.map(|atom| atom.rva).collect()
        };
        Calls { begin: targets(&BEGIN), end: targets(&END) }
    }
}

/// Guards without names that a function uses, with the variables that it shows them to guard.
fn guards_of(program: &Program, function: &Function, calls: &Calls) -> Vec<(AtomIndex, AtomIndex)> {
    let leads_to = |number: usize, targets: &BTreeSet<Rva>| {
        function.code.references_of(number).iter().any(|reference| targets.contains(&reference.target))
    };
    if !function.code.references.iter().any(|reference| calls.begin.contains(&reference.target)) {
        return Vec::new();
    }
    let beginnings = function.code.references.iter().filter_map(|reference| {
        let guard = variable(program, reference)?;
        let is_nameless_at = |atom: &Atom| atom.names.is_empty() && atom.rva == reference.target;
        program.atom(guard).filter(|atom| is_nameless_at(atom))?;
        let passed = passed(program, function, reference)?;
        (passed.argument == 0 && leads_to(passed.call, &calls.begin)).then_some((guard, passed.call))
    });
    let guards = beginnings.filter_map(|(guard, call)| {
        let behind = call.saturating_add(1)..function.code.instructions.len();
        let mut stops = behind.clone().filter(|next| leads_to(*next, &calls.end) || leads_to(*next, &calls.begin));
        let end = stops.next().filter(|end| leads_to(*end, &calls.end))?;
        Some((guard, constructed(program, function, behind.start..end)?))
    });
    guards.collect()
}

/// The one variable of a block that these instructions name.
fn constructed(program: &Program, function: &Function, instructions: Range<usize>) -> Option<AtomIndex> {
    let named = instructions.flat_map(|next| function.code.references_of(next));
    let mut variables = named.filter_map(|reference| variable(program, reference));
    let is_of_block = |index: &AtomIndex| {
        let names = program.atom(*index).map_or(&[][..], |atom| atom.names.as_slice());
        names.iter().any(|name| surroundings(name).is_some())
    };
    let only = variables.find(is_of_block)?;
    variables.filter(is_of_block).all(|other| other == only).then_some(only)
}

/// The variable that a reference names.
fn variable(program: &Program, reference: &Reference) -> Option<AtomIndex> {
    let Location::Atom { atom, .. } = program.locate(reference.place()) else { return None };
    program.atom(atom).filter(|found| found.kind == AtomKind::Writable).map(|_| atom)
}
