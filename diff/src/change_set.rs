//! What differs between two programs, each item with a class and a reason, and the verdict that follows.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::closures;
use crate::compare::{Comparison, Outcome};
use crate::contracts::Apart;
use crate::cut_constants;
use crate::enumerators;
use crate::exchanged_variables;
use crate::explain::{self, Cause, Explanation};
use crate::exports;
use crate::held_tables;
use crate::initialisers::{Initialiser, InitialiserKind, initialisers, named_by_silent_data};
use crate::layouts;
use crate::linker_tables;
use crate::moved_imports;
use crate::ordinals::stable_name;
use crate::pairing::{How, indexed};
use crate::program::Program;
use crate::recognised;
use crate::replaced_callbacks::replaced_callbacks;
use crate::resources;
use crate::rva::Rva;
use crate::type_users::{self, TypeUsers};
use crate::undefined_types;
use crate::untyped_files;
use crate::variable_storage;
use crate::variable_types;
use crate::visible_users::VisibleUsers;

/// All differences of two programs.
#[derive(Debug)]
pub struct ChangeSet {
    /// Functions that are not simply unchanged, by name.
    pub functions: Vec<FunctionChange>,
    /// Data that is not simply unchanged, by name.
    pub data: Vec<DataChange>,
    /// Functions that mean the same in both programs.
    pub unchanged: usize,
    /// Why the changes cannot go into a running process; none when nothing stands against it so far.
    pub reasons: Vec<Reason>,
    /// Places in the source that made functions change, those with most effects first.
    pub causes: Vec<Cause>,
}

/// One function of the change set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionChange {
    /// Linkage name, or the procedure's name.
    pub name: String,
    /// Name in the source's terms.
    pub display: String,
    /// Where it was compiled.
    pub module: Option<String>,
    /// Linkage names of the functions that it is a funclet of (a catch block, a clean-up, a `__finally`): none for a function of its
    /// own, several where the linker folded the funclets of several functions into one body.
    pub funclet_of: Vec<String>,
    /// Class of the change.
    pub status: FunctionStatus,
    /// The function in the old program.
    pub old: Option<AtomIndex>,
    /// The function in the new program.
    pub new: Option<AtomIndex>,
    /// How the two were found to be the same function, where both programs have it.
    pub paired_by: Option<How>,
    /// The first difference, in words.
    pub why: String,
    /// Where it first does something else, for a function that both programs have.
    pub explanation: Option<Explanation>,
}

impl FunctionChange {
    /// Whether both programs have it, and what differs can be shown.
    pub fn is_explained(&self) -> bool {
        matches!(self.status, FunctionStatus::Changed | FunctionStatus::Unresolved | FunctionStatus::Cosmetic)
    }
}

/// Class of a function's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FunctionStatus {
    /// In both programs, with another meaning.
    Changed,
    /// Only in the new program.
    Added,
    /// Only in the old program.
    Removed,
    /// Something in it was not understood.
    Unresolved,
    /// In both programs, and different in traces of the build only: line numbers, source paths, dates. The old one stays.
    Cosmetic,
}

/// One data object of the change set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataChange {
    /// Linkage name, or the variable's name.
    pub name: String,
    /// Class of the change.
    pub status: DataStatus,
    /// Whether the program can write to it.
    pub writable: bool,
    /// What differs, in words.
    pub why: String,
}

/// Class of a data object's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataStatus {
    /// A constant or an initial value that changed. A constant's users change with it; a variable of a running process has
    /// its own value.
    Changed,
    /// Another size, in both programs.
    Resized,
    /// Only in the new program.
    Added,
    /// Only in the old program.
    Removed,
    /// A pointer in it has more than one reading, or which variable of the old build it is cannot be told.
    Unresolved,
    /// Differs in traces of the build only: line numbers, source paths, dates.
    Cosmetic,
}

/// Why something cannot be patched in memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reason {
    /// Stable identifier of the kind of reason.
    pub code: &'static str,
    /// The symbol or type concerned.
    pub symbol: String,
    /// What is the matter and what to do, in words.
    pub message: String,
}

/// The answer to "can this go into a running process?"
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing changed in meaning.
    Unchanged,
    /// Yes.
    Hotpatchable,
    /// No, for the reasons given.
    RestartRequired,
}

impl ChangeSet {
    /// Collects the differences that a comparison found.
    pub fn of(old: &Program, new: &Program, comparison: &Comparison) -> ChangeSet {
        let mut collector = Collector {
            old,
            new,
            comparison,
            functions: Vec::new(),
            data: Vec::new(),
            reasons: Vec::new(),
            unchanged: 0,
            initialisers: initialisers(new),
            visible_users: None,
            renamed: BTreeSet::new(),
            alike: BTreeSet::new(),
        };
        collector.paired();
        collector.unpaired();
        collector.diverging_folds();
        collector.kept_apart();
        collector.reasons.extend(variable_storage::reasons(old, new, comparison));
        collector.exports();
        collector.reasons.extend(linker_tables::reasons(old, new, comparison));
        collector.reasons.extend(exchanged_variables::reasons(old, new, comparison));
        if !collector.functions.is_empty() {
            collector.reasons.extend(moved_imports::reasons(&old.image, &new.image));
            collector.reasons.extend(untyped_files::reasons(old, new, &collector.functions));
            collector.reasons.extend(undefined_types::reasons(old, new, &collector.functions));
        }
        if collector.functions.iter().any(|function| function.status == FunctionStatus::Changed) {
            collector.reasons.extend(resources::reasons(&old.image, &new.image));
        }
        // A layout that changed where nothing else did has no users in this image.
        if !collector.functions.is_empty() || !collector.data.is_empty() {
            collector.reasons.extend(cut_constants::reasons(old, new, comparison));
            collector.held_tables();
            collector.recognised_constants();
            collector.layouts();
            collector.reasons.extend(enumerators::reasons(&old.symbols, &new.symbols));
            collector.variable_types();
        }
        let Collector { mut functions, mut data, unchanged, mut reasons, .. } = collector;
        functions.sort_by(|a, b| (a.status, &a.name, a.old, a.new).cmp(&(b.status, &b.name, b.old, b.new)));
        data.sort_by(|a, b| (a.status, &a.name).cmp(&(b.status, &b.name)));
        reasons.sort();
        reasons.dedup();
        name_parents(old, new, &mut functions);
        let causes = explain::explain(old, new, &mut functions);
        ChangeSet { functions, data, unchanged, reasons, causes }
    }

    /// The verdict, given reasons that later stages found besides.
    pub fn verdict(&self, further: &[Reason]) -> Verdict {
        if !self.reasons.is_empty() || !further.is_empty() {
            return Verdict::RestartRequired;
        }
        let changes = self.functions.iter().any(|f| f.status == FunctionStatus::Changed);
        if changes { Verdict::Hotpatchable } else { Verdict::Unchanged }
    }
}

struct Collector<'a> {
    old: &'a Program,
    new: &'a Program,
    comparison: &'a Comparison,
    functions: Vec<FunctionChange>,
    data: Vec<DataChange>,
    reasons: Vec<Reason>,
    unchanged: usize,
    /// Functions of the new program that run before `main`.
    initialisers: BTreeMap<AtomIndex, Initialiser>,
    /// Who names the old program's constants, once somebody asked.
    visible_users: Option<VisibleUsers>,
    /// Old and new string literals that differ in traces of the build, and so have other names; true for old ones.
    renamed: BTreeSet<(bool, AtomIndex)>,
    /// Old and new atoms that do or hold the same as one of the other program; true for old ones.
    alike: BTreeSet<(bool, AtomIndex)>,
}

impl Collector<'_> {
    fn paired(&mut self) {
        for (old, new, outcome) in self.comparison.outcomes() {
            let (Some(a), Some(b)) = (self.old.atom(old), self.new.atom(new)) else {
                continue;
            };
            if *outcome == Outcome::Same && self.comparison.may_stand_for((self.old, old), (self.new, new)) {
                self.alike.extend([(true, old), (false, new)]);
            }
            if !self.comparison.pairing.is_pair(old, new) {
                // The name of a string literal is made of what it holds.
                if matches!(outcome, Outcome::Cosmetic(_)) && !b.is_function() && !b.names.is_empty() {
                    self.data((old, a), (new, b), outcome);
                    self.renamed.extend([(true, old), (false, new)]);
                }
                continue;
            }
            match a.kind {
                AtomKind::Function(_) => self.function(old, new, outcome),
                AtomKind::ReadOnly if a.is_loader_table() => {}
                AtomKind::Writable | AtomKind::ReadOnly => self.data((old, a), (new, b), outcome),
                AtomKind::ImportSlot => {}
            }
        }
    }

    fn function(&mut self, old: AtomIndex, new: AtomIndex, outcome: &Outcome) {
        let unresolved =
            [(self.old, old, "old"), (self.new, new, "new")].into_iter().find_map(|(program, index, which)| {
                let first = program.function(index)?.code.unresolved.first()?;
                let start = program.atom(index)?.rva;
                Some(format!("{which} {}+{:#x}: {}", start, first.offset, first.reason))
            });
        let (status, why) = match (outcome, unresolved) {
            (Outcome::Same, None) => {
                self.unchanged += 1;
                return;
            }
            (Outcome::Same | Outcome::Cosmetic(_), Some(why)) => (FunctionStatus::Unresolved, why),
            (Outcome::Cosmetic(difference), None) => (FunctionStatus::Cosmetic, difference.what.clone()),
            (Outcome::Different(difference), None) => (FunctionStatus::Changed, difference.what.clone()),
            (Outcome::Different(difference), Some(why)) => {
                (FunctionStatus::Unresolved, format!("{why}; and {}", difference.what))
            }
            (Outcome::Unresolved(difference), _) => (FunctionStatus::Unresolved, difference.what.clone()),
        };
        let change = self.describe(status, Some(old), Some(new), why);
        if status == FunctionStatus::Unresolved && outcome.is_change() {
            self.reasons.push(Reason {
                code: "unresolved-reference",
                symbol: change.name.clone(),
                message: format!("changed, and a reference in it is not understood: {}", change.why),
            });
        }
        let is_initialiser =
            self.initialisers.get(&new).is_some_and(|found| found.kind != InitialiserKind::ThreadCallback);
        if is_initialiser && change.status == FunctionStatus::Changed {
            self.reasons.push(Reason {
                code: "dynamic-initialiser",
                symbol: change.name.clone(),
                message: "this function runs before main, and changed; in a running process that time has passed"
                    .to_owned(),
            });
        }
        self.functions.push(change);
    }

    fn describe(
        &self,
        status: FunctionStatus,
        old: Option<AtomIndex>,
        new: Option<AtomIndex>,
        why: impl Into<String>,
    ) -> FunctionChange {
        let of = |program: &Program, index: AtomIndex| {
            program.atom(index).map(|atom| {
                (program.linkage_name(atom), program.display(atom), program.module_name(atom).map(str::to_owned))
            })
        };
        let (name, display, module) = new
            .and_then(|index| of(self.new, index))
            .or_else(|| old.and_then(|index| of(self.old, index)))
            .unwrap_or_default();
        let paired_by = old.zip(new).and_then(|(old, new)| self.comparison.pairing.how(old, new));
        FunctionChange {
            name,
            display,
            module,
            funclet_of: Vec::new(),
            status,
            old,
            new,
            paired_by,
            why: why.into(),
            explanation: None,
        }
    }

    fn data(&mut self, (old, a): (AtomIndex, &Atom), (new, b): (AtomIndex, &Atom), outcome: &Outcome) {
        let name = self.new.linkage_name(b);
        let writable = a.kind == AtomKind::Writable;
        let (status, why) = match outcome {
            Outcome::Same => return,
            Outcome::Cosmetic(d) => {
                let status = DataStatus::Cosmetic;
                return self.data.push(DataChange { name, status, writable, why: d.what.clone() });
            }
            Outcome::Different(d) if a.size != b.size && a.is_sized && b.is_sized => {
                (DataStatus::Resized, d.what.clone())
            }
            Outcome::Different(d) => (DataStatus::Changed, d.what.clone()),
            Outcome::Unresolved(d) => (DataStatus::Unresolved, d.what.clone()),
        };
        if writable {
            let (code, message) = if status == DataStatus::Resized {
                ("data-resized", format!("this variable lives in the running process, and {why}"))
            } else {
                (
                    "data-initialiser",
                    format!(
                        "the initial value of this variable changed ({why}); the running process keeps its own value, which the new code may not expect"
                    ),
                )
            };
            self.reasons.push(Reason { code, symbol: name.clone(), message });
        }
        if !writable && !self.comparison.is_used(old, new) && !self.is_named_by_changed_alone(old) {
            let message = format!(
                "this constant changed ({why}), and no function that uses it was found: who reads it would keep the old one"
            );
            self.reasons.push(Reason { code: "constant-without-user", symbol: name.clone(), message });
        }
        if b.is_vtable() {
            let message = format!(
                "this table of virtual functions changed ({why}); objects of the running process go on using the old one"
            );
            self.reasons.push(Reason { code: "vtable-changed", symbol: name.clone(), message });
        }
        self.data.push(DataChange { name, status, writable, why });
    }

    /// Whether code names an old constant, and all that does is replaced: a function whose comparison ended before it came there.
    fn is_named_by_changed_alone(&mut self, constant: AtomIndex) -> bool {
        let (old, new, comparison) = (self.old, self.new, self.comparison);
        let is_replaced = |function: &AtomIndex| match comparison.pairing.new_of(*function) {
            &[only] => {
                new.function(only).is_some()
                    && matches!(comparison.outcome(*function, only), Some(Outcome::Different(_)))
            }
            _ => false,
        };
        let users = self.visible_users.get_or_insert_with(|| VisibleUsers::of(old));
        users.functions(constant).is_some_and(|functions| functions.iter().all(is_replaced))
    }

    fn unpaired(&mut self) {
        let pairing = &self.comparison.pairing;
        let apart: BTreeMap<AtomIndex, &Apart> =
            self.comparison.apart().iter().map(|((_, new), apart)| (*new, apart)).collect();
        let initialisers = &self.initialisers;
        let silent = named_by_silent_data(self.new);
        let is_object =
            |atom: &Atom| matches!(atom.kind, AtomKind::ReadOnly | AtomKind::Writable) && !atom.names.is_empty();
        // One copy more or less of the same, where the linker folds or no longer folds.
        let is_copy = |is_old: bool, index: AtomIndex, atom: &Atom| {
            self.alike.contains(&(is_old, index))
                && (atom.kind == AtomKind::ReadOnly || atom.is_function() && atom.names.is_empty())
        };
        // Names of new variables that may be old ones.
        let mut open: BTreeSet<Cow<'_, str>> = BTreeSet::new();
        let news = indexed(self.new).filter(|(index, atom)| !is_copy(false, *index, atom));
        for (index, atom) in news.filter(|(index, _)| pairing.old_of(*index).is_empty()) {
            if atom.is_function() {
                let message = match silent.get(&index) {
                    _ if initialisers.contains_key(&index) => {
                        Some("this function runs before main; in a running process that time has passed".to_owned())
                    }
                    Some(place) => Some(format!(
                        "the data at {place} names this new function, and nothing in the program names that data: a table that start-up code walks through, probably"
                    )),
                    None => None,
                };
                if let Some(message) = message {
                    let symbol = self.new.linkage_name(atom);
                    self.reasons.push(Reason { code: "dynamic-initialiser", symbol, message });
                }
                let why = match apart.get(&index) {
                    Some(apart) => format!("{}; the old one stays for who calls it as before", apart.why),
                    None if pairing.is_ambiguous(index) => {
                        "one of several functions of this name, which cannot be told apart".to_owned()
                    }
                    None => "only in the new build".to_owned(),
                };
                self.functions.push(self.describe(FunctionStatus::Added, None, Some(index), why));
            } else if is_object(atom) && !self.renamed.contains(&(false, index)) {
                let is_open = atom.kind == AtomKind::Writable && pairing.is_ambiguous(index);
                if is_open {
                    open.extend(atom.names.iter().map(|name| stable_name(&name.key)));
                }
                let (status, why) = if is_open {
                    (DataStatus::Unresolved, "one of several variables of this name, which cannot be told apart")
                } else {
                    (DataStatus::Added, "only in the new build")
                };
                self.data.push(DataChange {
                    name: self.new.linkage_name(atom),
                    status,
                    writable: atom.kind == AtomKind::Writable,
                    why: why.to_owned(),
                });
            }
        }
        let olds = indexed(self.old).filter(|(index, atom)| !is_copy(true, *index, atom));
        for (index, atom) in olds.filter(|(index, _)| pairing.new_of(*index).is_empty()) {
            if atom.is_function() {
                let why = "only in the old build";
                self.functions.push(self.describe(FunctionStatus::Removed, Some(index), None, why));
            } else if atom.kind == AtomKind::Writable
                && atom.names.iter().any(|name| open.contains(&stable_name(&name.key)))
            {
                continue;
            } else if is_object(atom) && !self.renamed.contains(&(true, index)) {
                self.data.push(DataChange {
                    name: self.old.linkage_name(atom),
                    status: DataStatus::Removed,
                    writable: atom.kind == AtomKind::Writable,
                    why: "only in the old build".to_owned(),
                });
            }
        }
    }

    /// One old body that stands for several new ones which no longer agree: its entry can lead to one of them only. That of a
    /// funclet leads nowhere: each function brings its own.
    fn diverging_folds(&mut self) {
        let pairing = &self.comparison.pairing;
        let funclets = self.old.funclets();
        let apart: BTreeSet<AtomIndex> = self.comparison.apart().keys().map(|(old, _)| *old).collect();
        for (old, atom) in indexed(self.old).filter(|(_, atom)| atom.is_function()) {
            let news = pairing.new_of(old);
            let changed = |new: &AtomIndex| self.comparison.outcome(old, *new).is_none_or(Outcome::is_change);
            let is_of_several = news.len() > 1 || apart.contains(&old);
            if is_of_several && !funclets.contains(&old) && news.iter().any(changed) {
                let names: Vec<String> = atom.names.iter().map(|name| name.display.clone()).collect();
                self.reasons.push(Reason {
                    code: "folded-functions-diverge",
                    symbol: self.old.linkage_name(atom),
                    message: format!(
                        "the linker folded {} into one body at {}, and their new versions differ: one entry cannot lead to both; link the baseline with /OPT:NOICF",
                        names.join(", "),
                        atom.rva
                    ),
                });
            }
        }
    }

    /// Who holds a pointer to a function that is not called as before goes on with the old one.
    fn kept_apart(&mut self) {
        for ((old, _), apart) in self.comparison.apart().iter().filter(|(_, apart)| apart.is_stored) {
            let symbol = self.old_name(*old);
            let message = format!(
                "{}; pointers to it that the running process holds lead to the old version, which has to be called as before and lacks what changed",
                apart.why
            );
            self.reasons.push(Reason { code: "signature-changed", symbol, message });
        }
        for (old, new) in replaced_callbacks(self.old, self.new, self.comparison) {
            let symbol = self.old_name(old);
            let other = self.new.atom(new).map(|atom| self.new.display(atom)).unwrap_or_default();
            let message = format!(
                "the new build hands out {other} where the old one handed out this function; who was given it in the running process goes on calling it"
            );
            self.reasons.push(Reason { code: "callback-replaced", symbol, message });
        }
    }

    fn exports(&mut self) {
        for change in exports::changes(self.old, self.new, self.comparison) {
            let message =
                format!("{} {}; who asks the loader for it gets what the old image has", change.name, change.what);
            self.reasons.push(Reason { code: "export-changed", symbol: change.name, message });
        }
    }

    /// Linkage name of an atom of the old program.
    fn old_name(&self, index: AtomIndex) -> String {
        self.old.atom(index).map(|atom| self.old.linkage_name(atom)).unwrap_or_default()
    }

    fn recognised_constants(&mut self) {
        for constant in recognised::replaced(self.old, self.new, self.comparison) {
            let symbol = self.old_name(constant);
            let message = format!(
                "code compares addresses with that of {}, which changed: what the running process knows by the old address, new code would not recognise",
                self.old.atom(constant).map(|atom| self.old.display(atom)).unwrap_or_default()
            );
            self.reasons.push(Reason { code: "constant-identity", symbol, message });
        }
    }

    fn held_tables(&mut self) {
        for table in held_tables::replaced(self.old, self.new, self.comparison) {
            let (Some(a), Some(b)) = (self.old.atom(table.old), self.new.atom(table.new)) else { continue };
            if b.is_vtable() {
                continue;
            }
            let name = self.old.linkage_name(a);
            let message = table.message(self.old, self.new);
            self.reasons.push(Reason { code: "vtable-changed", symbol: name, message });
        }
    }

    fn variable_types(&mut self) {
        for change in variable_types::changes(self.old, self.new, &self.comparison.pairing) {
            let message = format!(
                "the type of this variable changed: {}; the running process has a value of the old type in it",
                change.what
            );
            self.reasons.push(Reason { code: "type-layout", symbol: change.name, message });
        }
    }

    /// Whether a function that changed is among the users.
    fn is_used_by_changed(&self, users: &TypeUsers) -> bool {
        let is_change = |f: &&FunctionChange| matches!(f.status, FunctionStatus::Changed | FunctionStatus::Unresolved);
        let changed = self.functions.iter().filter(is_change).filter_map(|f| self.old.atom(f.old?));
        let places: BTreeSet<Rva> = changed.map(|atom| atom.rva).collect();
        let mut procedures = self.old.symbols.procedures.iter();
        procedures.any(|p| places.contains(&p.rva) && users.functions.contains(&p.name))
    }

    fn layouts(&mut self) {
        let changes = layouts::changes(&self.old.symbols, &self.new.symbols);
        if changes.is_empty() {
            return;
        }
        let keys = changes.iter().map(|change| change.key.as_str()).take(MAX_TYPES).collect();
        let users = type_users::users(self.old, &keys);
        for change in &changes {
            let is_known = users.is_some() && keys.contains(change.key.as_str());
            let users = users.as_ref().and_then(|users| users.get(&change.key));
            let has_variables = users.is_some_and(|users| !users.variables.is_empty());
            if is_known && !has_variables && closures::is_inlined_closure(self.old, &change.key) {
                continue;
            }
            if is_known && !change.is_certain && !users.is_some_and(|users| self.is_used_by_changed(users)) {
                continue;
            }
            let who = users.map_or(String::new(), |users| format!(" ({})", describe_users(users)));
            let message = format!(
                "the layout of type {} changed: {}; objects of the running process{who} have the old layout",
                change.name, change.what
            );
            self.reasons.push(Reason { code: "type-layout", symbol: change.name.clone(), message });
        }
    }
}

/// Types whose users are searched for; where more changed, it is another program.
const MAX_TYPES: usize = 64;

/// The first users of a type, variables before functions.
fn describe_users(users: &TypeUsers) -> String {
    const SHOWN: usize = 3;
    let variables = users.variables.iter().map(|name| format!("variable {name}"));
    let all: Vec<String> = variables.chain(users.functions.iter().map(|name| format!("used in {name}"))).collect();
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(rest) => format!("{shown} and {rest} more"),
    }
}

/// Says which functions the funclets among the changes belong to, in the new program where it has them.
fn name_parents(old: &Program, new: &Program, functions: &mut [FunctionChange]) {
    if functions.is_empty() {
        return;
    }
    let (in_old, in_new) = (old.funclet_parents(), new.funclet_parents());
    for change in functions {
        let of = |program: &Program, parents: Option<&BTreeSet<AtomIndex>>| -> Vec<String> {
            let atoms = parents.into_iter().flatten().filter_map(|parent| program.atom(*parent));
            atoms.map(|atom| program.linkage_name(atom)).collect()
        };
        change.funclet_of = match (change.new, change.old) {
            (Some(index), _) => of(new, in_new.get(&index)),
            (None, Some(index)) => of(old, in_old.get(&index)),
            (None, None) => Vec::new(),
        };
    }
}

/// An address and size for reports.
pub fn extent(program: &Program, index: Option<AtomIndex>) -> (Option<Rva>, Option<u32>) {
    let atom = index.and_then(|index| program.atom(index));
    (atom.map(|a| a.rva), atom.map(|a| a.size))
}
