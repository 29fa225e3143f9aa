//! From a change set to what a payload must carry: the changed functions, what they newly need, and where every reference goes.
//!
//! A reference whose destination is not proven refuses its function, with a reason; so does anything that this version cannot carry.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use hpgen_diff::atoms::{Atom, AtomIndex, AtomKind};
use hpgen_diff::change_set::{ChangeSet, FunctionStatus, Reason};
use hpgen_diff::compare::Comparison;
use hpgen_diff::exceptions::{Field, Item};
use hpgen_diff::image::Import;
use hpgen_diff::initialisers::initialisers;
use hpgen_diff::new_part::Removed;
use hpgen_diff::program::{DataFieldKind, Function, Location, Program};
use hpgen_diff::rtti;
use hpgen_diff::rva::Rva;
use hpgen_diff::tables::{DataTable, JumpTable};
use hpgen_diff::x64::{Named, Reference, ReferenceKind, Role};

use hpgen_runtime::format::HookKind;

use crate::correspondence::Correspondence;

use crate::exports;
use crate::gaps::Gaps;
use crate::hooks::{self, health_check, hooks};
use crate::initialisers::{Initialisers, PlannedInitialiser};
use crate::islands::Islands;
use crate::kept_entries;
use crate::own_tables;
use crate::readings::{self, Reading};
use crate::sites::{self, Site};
use crate::throws;
use crate::trampoline::{Entries, Ways};

/// Everything that goes into a payload, in the order of the new image.
#[derive(Debug, Default)]
pub struct Plan {
    /// Functions by their atom in the new program.
    pub functions: BTreeMap<AtomIndex, PlannedFunction>,
    /// Constants and new variables by their atom in the new program.
    pub data: BTreeMap<AtomIndex, PlannedData>,
    /// How old functions are redirected, by the function in the new program that replaces them.
    pub sites: BTreeMap<AtomIndex, Site>,
    /// Imports that the old image lacks.
    pub imports: BTreeSet<Import>,
    /// Stubs that throw what only the payload describes, by the throwing function in whose place they are called.
    pub throws: BTreeMap<AtomIndex, PlannedThrow>,
    /// Alignments that the payload's code needs of what it carries.
    pub alignments: BTreeMap<AtomIndex, u32>,
    /// New functions that the payloads for other images import by their names.
    pub exported: BTreeSet<AtomIndex>,
    /// The process may keep addresses in the region that no stack shows.
    pub stays: bool,
    /// Functions that the loader calls, in this order.
    pub hooks: Vec<(HookKind, AtomIndex)>,
    /// How the patch is watched once it is in.
    pub probation: Option<PlannedProbation>,
    /// Functions that give new variables their first values, in the order in which they are called.
    pub initialisers: Vec<PlannedInitialiser>,
    /// The change set's reasons without those that the plan answers.
    pub reasons: Vec<Reason>,
    /// Variables of the new program that get their new initial value, each with the old one.
    pub assignments: Vec<(AtomIndex, AtomIndex)>,
    /// Why the plan cannot be carried out; none when it can.
    pub refusals: Vec<Reason>,
    /// Unchanged functions that were asked for and cannot be carried, with the reason: the old ones stay.
    pub left_out: Vec<Reason>,
    /// Names that were asked for and that no function of both builds has.
    pub unknown_names: Vec<String>,
}

/// One function of the payload.
#[derive(Debug)]
pub struct PlannedFunction {
    /// The old function that it replaces.
    pub replaces: Option<AtomIndex>,
    /// Bytes of code, padding behind the last instruction left out.
    pub size: u32,
    /// The same with the tables behind the code.
    pub extent: u32,
    /// Long jumps that its short branches take.
    pub islands: Islands,
    /// Destination of each reference of the code, in the same order.
    pub references: Vec<Destination>,
    /// Its jump tables.
    pub tables: Vec<JumpTable>,
    /// Its tables of distances to data, each with what its entries count from and its destinations.
    pub data_tables: Vec<(DataTable, Vec<Destination>)>,
    /// Handlers of its unwind records, in the same order.
    pub handlers: Vec<Option<PlannedHandler>>,
    /// Instructions that are taken out, by offset.
    pub removed: BTreeMap<u32, Removed>,
}

/// A language handler with its tables.
#[derive(Debug)]
pub struct PlannedHandler {
    /// The handler.
    pub handler: Destination,
    /// Addresses in the new image of the tables' bytes; the first piece stands behind the unwind record.
    pub pieces: Vec<Range<Rva>>,
    /// Fields of the tables by address in the new image, and what they lead to.
    pub fields: Vec<(Rva, HandlerField)>,
}

/// A stub in the place of a throwing function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedThrow {
    /// The throwing function itself, for everything else.
    pub original: Destination,
    /// The import slot of `RaiseException`.
    pub raise: Destination,
}

/// What a field of exception tables leads to.
#[derive(Debug)]
pub enum HandlerField {
    /// An RVA, to code or data.
    To(Destination),
    /// An address of eight bytes, to data.
    Address(Destination),
    /// A distance from the field, to data.
    Distance(Destination),
    /// To another piece of the tables.
    Piece(Rva),
}

/// One data object of the payload.
#[derive(Debug, Default)]
pub struct PlannedData {
    /// Holds a variable.
    pub writable: bool,
    /// Offsets and destinations of its pointers.
    pub pointers: Vec<(u32, Destination)>,
    /// The same of its addresses that count from the image's base.
    pub rvas: Vec<(u32, Destination)>,
    /// Describes what is thrown: its addresses count from the base of the payload's unwind data.
    pub is_throw_record: bool,
}

/// Where a reference leads in the patched process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into the old image.
    Image(Rva),
    /// Into an atom of the new program that the payload carries, at an offset.
    Region(AtomIndex, i64),
    /// To the slot of a new import.
    Import(Import),
    /// To a jump table of the same function.
    JumpTable(Rva),
    /// To a table of distances of the same function.
    DataTable(Rva),
    /// To the stub in the place of a throwing function of the new program.
    Throw(AtomIndex),
    /// The instruction is taken out.
    Nothing,
}

/// Which functions go into a payload.
/// Those that changed, and these besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Include {
    /// Every function that both builds have.
    pub all: bool,
    /// Those that differ in line numbers, source paths and dates only.
    pub cosmetic: bool,
    /// These, by linkage or display name.
    pub names: BTreeSet<String>,
    /// Variables that get their new initial value, by the name that reasons give them.
    pub set: BTreeSet<String>,
    /// Functions that run before `main` whose variables stay as they are, by linkage name.
    pub keep: BTreeSet<String>,
    /// New exports that the payloads for other images of the release import.
    pub exported: BTreeSet<String>,
    /// How the patch is watched once it is in.
    pub probation: Option<ProbationRequest>,
}

/// How a patch is to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbationRequest {
    /// For how long, in milliseconds.
    pub window_ms: u32,
    /// How often the check is called, in milliseconds.
    pub interval_ms: u32,
    /// The function that returns 0 where all is well, by linkage or display name.
    pub check: Option<String>,
}

/// The same, with the function.
#[derive(Debug)]
pub struct PlannedProbation {
    /// For how long, in milliseconds.
    pub window_ms: u32,
    /// How often the check is called, in milliseconds.
    pub interval_ms: u32,
    /// The function: in the payload, or where it did not change in the old image. None where no function of this image is meant.
    pub check: Option<Destination>,
}

impl Plan {
    /// Plans a payload.
    pub fn of(old: &Program, new: &Program, comparison: &Comparison, changes: &ChangeSet, include: &Include) -> Plan {
        let with = |status| changes.functions.iter().filter(|f| f.status == status).filter_map(|f| f.new).collect();
        let programs = Correspondence::new(old, new, comparison);
        // A hook that the baseline has as well was for an earlier baseline.
        let (mut hooks, doubt) = match hooks(new) {
            Ok(hooks) => (hooks, None),
            Err(message) => (Vec::new(), Some(message)),
        };
        hooks.retain(|(_, index)| !programs.is_unchanged(*index));
        let mut planner = Planner {
            entries: Entries::of(old),
            gaps: Gaps::of(old),
            ways: BTreeMap::new(),
            before_main: initialisers(new).into_keys().collect(),
            initialisers: Initialisers::of(&programs, &include.keep),
            programs,
            assignments: assignments(old, new, comparison, changes, &include.set),
            hooks,
            health_check: include.probation.as_ref().and_then(|wanted| health_check(new, wanted.check.as_deref())),
            funclets: new.funclets(),
            plan: Plan::default(),
            changed: with(FunctionStatus::Changed),
            cosmetic: if include.cosmetic { with(FunctionStatus::Cosmetic) } else { BTreeSet::new() },
            replaced: BTreeSet::new(),
            left_out: BTreeMap::new(),
            queue: Vec::new(),
        };
        // Calls between functions of the payload are direct, so that leaving one out changes how the others are planned.
        let mut left_out = usize::MAX;
        while planner.left_out.len() != left_out {
            left_out = planner.left_out.len();
            planner.run(include);
        }
        let mut plan = planner.plan;
        plan.refusals.extend(doubt.map(|message| Reason {
            code: "not-supported",
            symbol: hooks::SECTION.to_owned(),
            message,
        }));
        plan.stays |= throws::outlive_the_call(new, &plan);
        plan.hooks = planner.hooks;
        plan.probation = include.probation.as_ref().map(|wanted| {
            let check = planner.health_check.and_then(|index| match plan.functions.contains_key(&index) {
                true => Some(Destination::Region(index, 0)),
                false => planner
                    .programs
                    .old_atom(index)
                    .and_then(|old_index| old.atom(old_index))
                    .map(|a| Destination::Image(a.rva)),
            });
            PlannedProbation { window_ms: wanted.window_ms, interval_ms: wanted.interval_ms, check }
        });
        plan.reasons = changes.reasons.clone();
        // Who asks for these is in the same payload.
        plan.reasons.retain(|reason| !(reason.code == exports::REASON && include.exported.contains(&reason.symbol)));
        for name in &include.exported {
            match exports::function(&planner.programs, name) {
                Ok(index) => drop(plan.exported.insert(index)),
                Err(message) => {
                    plan.refusals.push(Reason { code: "not-supported", symbol: name.clone(), message });
                }
            }
        }
        planner.initialisers.answer(&planner.programs, &mut plan.reasons);
        plan.initialisers = planner.initialisers.planned;
        for initialiser in &mut plan.initialisers {
            // What the author leaves as it is, the payload need not have.
            initialiser.variables.retain(|variable| initialiser.function.is_some() || plan.data.contains_key(variable));
        }
        for (index, _) in &planner.assignments {
            // The value is a constant that the loader copies from; the variable is the old one.
            if let Some(value) = plan.data.get_mut(index) {
                value.writable = false;
            }
        }
        plan.assignments = planner.assignments;
        plan.left_out = planner.left_out.into_values().collect();
        plan.unknown_names = unknown_names(new, comparison, include);
        plan.refusals.sort();
        plan.refusals.dedup();
        plan
    }
}

struct Planner<'a> {
    programs: Correspondence<'a>,
    entries: Entries,
    gaps: Gaps,
    /// The ways to redirect old functions, by the function that replaces them.
    ways: BTreeMap<AtomIndex, Ways>,
    /// Variables that get their new initial value: new and old.
    assignments: Vec<(AtomIndex, AtomIndex)>,
    /// Functions that the loader calls.
    hooks: Vec<(HookKind, AtomIndex)>,
    /// The function that tells whether all is well.
    health_check: Option<AtomIndex>,
    /// Functions that run before `main`.
    before_main: BTreeSet<AtomIndex>,
    /// Those that are called as the payload goes in.
    initialisers: Initialisers,
    /// Pieces of functions that run on another function's frame. They go with their function, never on their own: frames of the
    /// old function need the old ones.
    funclets: BTreeSet<AtomIndex>,
    plan: Plan,
    /// New atoms of functions that changed: the payload is nothing without them.
    changed: BTreeSet<AtomIndex>,
    /// New atoms of functions that differ in traces of the build only, where those are asked for.
    cosmetic: BTreeSet<AtomIndex>,
    /// New atoms whose old entry is redirected.
    replaced: BTreeSet<AtomIndex>,
    /// Unchanged functions that were asked for and cannot be carried: their old version stays.
    left_out: BTreeMap<AtomIndex, Reason>,
    /// What is still to be added, with the replaced function that needs it.
    queue: Vec<(AtomIndex, AtomIndex)>,
}

/// A reason without the code and symbol that are the same for a whole function.
type Refused<T> = Result<T, (&'static str, String)>;

fn unproven<T>(message: impl Into<String>) -> Refused<T> {
    Err(("unproven-reference", message.into()))
}

fn unsupported<T>(message: impl Into<String>) -> Refused<T> {
    Err(("not-supported", message.into()))
}

impl Planner<'_> {
    fn run(&mut self, include: &Include) {
        self.plan = Plan::default();
        self.select(include);
        while let Some((item, root)) = self.queue.pop() {
            self.add(item, root);
        }
        self.choose_sites();
    }

    fn select(&mut self, include: &Include) {
        let new = self.programs.new;
        let is_named = |atom: &Atom| {
            include.names.contains(&new.display(atom))
                || atom.names.iter().any(|name| include.names.contains(&name.key))
        };
        let is_wanted =
            |index: AtomIndex| include.all || self.cosmetic.contains(&index) || new.atom(index).is_some_and(is_named);
        let wanted = new
            .functions
            .iter()
            .map(|f| f.atom)
            .filter(|index| !self.programs.comparison.pairing.old_of(*index).is_empty() && is_wanted(*index));
        self.replaced = self.changed.iter().copied().chain(wanted).collect();
        self.replaced.retain(|index| !self.left_out.contains_key(index) && !self.funclets.contains(index));
        self.replaced.retain(|index| !self.initialisers.changed.contains(index));
        let hooks = self.hooks.iter().map(|(_, index)| *index);
        // An unchanged one stays where it is.
        let check = self.health_check.filter(|index| !self.programs.is_unchanged(*index));
        let assigned = self.assignments.iter().map(|(index, _)| *index);
        let initialisers = self.initialisers.functions();
        let exported: Vec<AtomIndex> =
            include.exported.iter().filter_map(|name| exports::function(&self.programs, name).ok()).collect();
        self.queue = self
            .replaced
            .iter()
            .copied()
            .chain(hooks)
            .chain(check)
            .chain(exported)
            .chain(initialisers)
            .chain(assigned)
            .map(|index| (index, index))
            .collect();
    }

    fn add(&mut self, index: AtomIndex, root: AtomIndex) {
        if self.plan.functions.contains_key(&index) || self.plan.data.contains_key(&index) {
            return;
        }
        let new = self.programs.new;
        let Some(atom) = new.atom(index) else { return };
        let queued = self.queue.len();
        let result = match new.function(index) {
            Some(function) => self
                .function(index, root, atom, function)
                .map(|planned| drop(self.plan.functions.insert(index, planned))),
            None => self.data(root, atom).map(|planned| drop(self.plan.data.insert(index, planned))),
        };
        if let Err((code, message)) = result {
            self.queue.truncate(queued);
            self.refuse(root, Reason { code, symbol: new.linkage_name(atom), message });
        }
    }

    /// A function that did not change can as well stay; any other refuses the payload.
    fn refuse(&mut self, root: AtomIndex, reason: Reason) {
        let is_assigned = self.assignments.iter().any(|(index, _)| *index == root);
        let is_initialiser = self.initialisers.functions().any(|function| function == root);
        // New functions: none of them is in the baseline.
        let is_new = self.programs.comparison.pairing.old_of(root).is_empty();
        if is_assigned
            || is_new
            || is_initialiser
            || self.changed.contains(&root)
            || self.hooks.iter().any(|(_, hook)| *hook == root)
            || self.health_check == Some(root)
        {
            self.plan.refusals.push(reason);
        } else {
            self.left_out.insert(root, reason);
        }
    }

    fn function(
        &mut self,
        index: AtomIndex,
        root: AtomIndex,
        atom: &Atom,
        function: &Function,
    ) -> Refused<PlannedFunction> {
        if let Some(unresolved) = function.code.unresolved.first() {
            return Err(("unresolved-reference", format!("+{:#x}: {}", unresolved.offset, unresolved.reason)));
        }
        let old = self.programs.comparison.pairing.old_of(index);
        let replaces = if self.replaced.contains(&index) {
            let &[old] = old else {
                return Err((
                    "folded-functions-diverge",
                    "it stands for several functions of the old build".to_owned(),
                ));
            };
            self.ways.insert(index, self.entries.ways(self.programs.old, old)?);
            Some(old)
        } else {
            None
        };
        let is_called = self.initialisers.functions().any(|function| function == index)
            || self.initialisers.parts.contains_key(&index);
        if self.before_main.contains(&index) && !is_called {
            return unsupported("runs before main; in a running process that has happened already");
        }
        let size = code_size(function);
        check_end(function)?;
        let extent =
            own_tables::extent(self.programs.new, atom, function, size).map_err(|what| ("not-supported", what))?;
        check_tables(function)?;
        let old = self.programs.comparison.pairing.old_of(index).first().copied();
        let removed = self.initialisers.part(index).cloned();
        let removed = removed.as_ref();
        let mut references = function
            .code
            .references
            .iter()
            .map(|reference| {
                if removed.is_some_and(|part| part.is_removed(reference.field)) {
                    return Ok(Destination::Nothing);
                }
                self.reference((index, root), old, function, reference).map_err(|(code, message)| {
                    let at = function.code.instructions.get(reference.instruction as usize).map_or(0, |i| i.offset);
                    (code, format!("+{at:#x}: {message}"))
                })
            })
            .collect::<Refused<Vec<_>>>()?;
        self.throws(atom, function, &mut references)?;
        let islands = islands(function, &references, extent)?;
        let data_tables = function
            .data_tables
            .iter()
            .map(|table| {
                let targets = table
                    .targets
                    .iter()
                    .map(|target| self.pointer(root, Named::from(*target)))
                    .collect::<Refused<Vec<_>>>()?;
                Ok((table.clone(), targets))
            })
            .collect::<Refused<Vec<_>>>()?;
        let handlers = function
            .unwind
            .iter()
            .map(|(_, info)| info.handler.map(|handler| self.handler((index, root), atom, handler)).transpose())
            .collect::<Refused<Vec<_>>>()?;
        Ok(PlannedFunction {
            replaces,
            size,
            extent,
            islands,
            references,
            tables: function.tables.clone(),
            data_tables,
            handlers,
            removed: removed.map(|part| part.removed.clone()).unwrap_or_default(),
        })
    }

    /// Leads calls that throw what the payload describes to the payload's own throwing function.
    fn throws(&mut self, atom: &Atom, function: &Function, references: &mut [Destination]) -> Refused<()> {
        let new = self.programs.new;
        let in_region = |to: &Destination| match to {
            Destination::Region(index, _) => Some(*index),
            _ => None,
        };
        let records: Vec<(usize, AtomIndex)> = references
            .iter()
            .enumerate()
            .filter_map(|(number, to)| Some((number, in_region(to).filter(|index| self.is_throw_record(*index))?)))
            .collect();
        for (number, record) in records {
            let is_whole = new.atom(record).is_some_and(is_throw_info);
            let reference = function.code.references.get(number).filter(|_| is_whole);
            let Some(reference) = reference else {
                return unsupported("names a part of the description of a new type that is thrown");
            };
            let call = throws::throwing_call(new, atom, function, reference).map_err(|what| ("not-supported", what))?;
            let Some(to) = references.get_mut(call.reference) else { continue };
            let original = std::mem::replace(to, Destination::Throw(call.callee));
            if original != Destination::Throw(call.callee) {
                let raise = self.raise_exception();
                self.plan.throws.insert(call.callee, PlannedThrow { original, raise });
                self.plan.stays = true;
            }
        }
        Ok(())
    }

    fn is_throw_record(&self, index: AtomIndex) -> bool {
        let is_record = |atom: &Atom| atom.names.iter().any(|name| rtti::is_throw_record(&name.key));
        self.programs.new.atom(index).is_some_and(is_record)
    }

    /// The import slot of `RaiseException`: the old image's own, or a new one.
    fn raise_exception(&mut self) -> Destination {
        let import = throws::raise_exception();
        match self.programs.old.image.imports.iter().find(|slot| slot.import == import) {
            Some(slot) => Destination::Image(slot.rva),
            None => {
                self.plan.imports.insert(import.clone());
                Destination::Import(import)
            }
        }
    }

    fn handler(
        &mut self,
        (index, root): (AtomIndex, AtomIndex),
        atom: &Atom,
        (handler, data): (Rva, Rva),
    ) -> Refused<PlannedHandler> {
        let new = self.programs.new;
        let name = new.handler_name(handler);
        let tables = new.exception_tables(&name, atom, data).map_err(|what| ("not-supported", what))?;
        let fields = tables
            .fields
            .into_iter()
            .map(|(place, field)| {
                let to = match field {
                    Field::Piece(rva) => HandlerField::Piece(rva),
                    Field::Item(Item::Data(rva)) => HandlerField::To(self.pointer(root, rva.into())?),
                    // A filter may stand right behind its function, where the last scope ends.
                    Field::Item(Item::Funclet(rva)) if rva == atom.end() => {
                        HandlerField::To(self.code_elsewhere(root, rva)?)
                    }
                    Field::Item(Item::Code(rva) | Item::Funclet(rva)) => {
                        HandlerField::To(self.exception_code((index, root), atom, rva)?)
                    }
                    Field::Address(Item::Data(rva)) => HandlerField::Address(self.type_descriptor(root, rva)?),
                    Field::Distance(Item::Data(rva)) => HandlerField::Distance(self.type_descriptor(root, rva)?),
                    Field::Item(Item::Number(_)) | Field::Address(_) | Field::Distance(_) => {
                        return unproven("a number among the addresses of exception tables");
                    }
                };
                Ok((place, to))
            })
            .collect::<Refused<Vec<_>>>()?;
        let handler = self.pointer(root, handler.into())?;
        Ok(PlannedHandler { handler, pieces: tables.pieces, fields })
    }

    /// A type that is caught. That of a DLL's is not known before the program starts: mingw's start-up code puts its address
    /// into the field, and into those of the image alone.
    fn type_descriptor(&mut self, root: AtomIndex, rva: Rva) -> Refused<Destination> {
        if self.programs.new.image.import_at(rva).is_some() {
            return unsupported("it catches a type of a DLL's, whose address the start-up code puts into the tables");
        }
        self.pointer(root, rva.into())
    }

    /// Code that exception tables name: places in the function, its funclets, destructors.
    fn exception_code(&mut self, (index, root): (AtomIndex, AtomIndex), own: &Atom, rva: Rva) -> Refused<Destination> {
        // The end of the last scope is the function's end.
        if (own.rva..=own.end()).contains(&rva) {
            return Ok(Destination::Region(index, rva.distance_from(own.rva)));
        }
        self.code_elsewhere(root, rva)
    }

    fn code_elsewhere(&mut self, root: AtomIndex, rva: Rva) -> Refused<Destination> {
        match self.programs.new.locate(rva) {
            Location::Atom { atom, offset } if self.funclets.contains(&atom) => {
                self.queue.push((atom, root));
                Ok(Destination::Region(atom, i64::from(offset)))
            }
            Location::Atom { atom, offset } if offset != 0 && self.programs.new.function(atom).is_some() => {
                // A funclet's tables are its function's: places in the function.
                Ok(Destination::Region(atom, i64::from(offset)))
            }
            _ => self.pointer(root, rva.into()),
        }
    }

    fn reference(
        &mut self,
        (index, root): (AtomIndex, AtomIndex),
        old_function: Option<AtomIndex>,
        function: &Function,
        reference: &Reference,
    ) -> Refused<Destination> {
        if let Some(table) = function.table_at(reference.target) {
            return Ok(Destination::JumpTable(table.rva));
        }
        if let Some(table) = function.data_table_at(reference.target) {
            return Ok(Destination::DataTable(table.rva));
        }
        // Where the object that is meant is known, the address may lie anywhere near it.
        let is_object = |symbol: &Rva| matches!(self.programs.new.locate(*symbol), Location::Atom { .. });
        let named = reference.symbol.filter(is_object).unwrap_or(reference.target);
        let (atom, offset) = match self.programs.new.locate(named) {
            Location::Atom { atom, offset } => (atom, offset),
            // The headers' own fields stand at the same places in every image.
            Location::Headers(rva) if is_header(self.programs.new, rva) => return Ok(Destination::Image(rva)),
            Location::Headers(rva) => {
                return unproven(format!("names {rva}, inside a table that belongs to the linker"));
            }
            Location::Nowhere => {
                return unproven(format!("names {}, which is outside the image's sections", reference.target));
            }
        };
        // The function's own address as a value is its old entry, like that of any other.
        let distance = i64::from(offset) + reference.target.distance_from(named);
        let is_place = reference.kind.is_branch() || distance != 0;
        let is_own_table = function.code.data.contains(&offset) && named == reference.target;
        if atom == index && is_place && (is_own_table || reference.kind != ReferenceKind::ImageRelative) {
            return Ok(Destination::Region(index, distance));
        }
        let at = function.code.instructions.get(reference.instruction as usize).map(|found| found.offset);
        let reading = match at.filter(|at| self.initialisers.takes_own_address(index, *at)) {
            Some(_) if reference.symbol.is_none() => Reading { atom, offset: offset.into() },
            _ => readings::of_reference(&self.programs, old_function, function, reference)
                .map_err(|message| ("unproven-reference", message))?,
        };
        let destination = self.destination(root, reading.atom, reading.offset, reference.kind.is_branch())?;
        let destination = self.aligned(root, function, reference, reading, destination)?;
        match (&destination, reference.kind) {
            // The field holds an RVA of the old image; the region has none.
            (Destination::Image(_), ReferenceKind::ImageRelative) => Ok(destination),
            // Nothing but a record of the linker tells a biased base from another object's address.
            (_, ReferenceKind::ImageRelative) if reference.symbol.is_none() => unsupported(
                "takes new data relative to the image's base, and neither fixups nor object files tell which",
            ),
            (_, ReferenceKind::ImageRelative) => Ok(destination),
            (Destination::Image(_), ReferenceKind::ThreadLocal) => Ok(destination),
            (_, ReferenceKind::ThreadLocal) => Err((
                "new-thread-local",
                "uses a new thread-local variable, which running threads do not have".to_owned(),
            )),
            _ => Ok(destination),
        }
    }

    /// A place that is aligned as the instructions need it that access what the reference names. A constant is carried where the old image's is
    /// not; a variable stays where it is.
    fn aligned(
        &mut self,
        root: AtomIndex,
        function: &Function,
        reference: &Reference,
        reading: Reading,
        to: Destination,
    ) -> Refused<Destination> {
        let Some(object) = self.programs.new.atom(reading.atom) else { return Ok(to) };
        let needed = self.programs.new.alignment_of(function, reference);
        match to {
            Destination::Image(rva) if !is_as_aligned(rva, reference.target, needed) => {
                if may_be_copied(function, reference, object) {
                    self.queue.push((reading.atom, root));
                    self.need_alignment(reading.atom, needed);
                    return Ok(Destination::Region(reading.atom, reading.offset));
                }
                let name = self.programs.new.display(object);
                unsupported(format!(
                    "needs {name} aligned to {needed} bytes, which the new build gives it; in running processes it is at {rva}"
                ))
            }
            Destination::Region(index, _) => {
                self.need_alignment(index, needed);
                Ok(to)
            }
            _ => Ok(to),
        }
    }

    fn need_alignment(&mut self, index: AtomIndex, needed: u32) {
        let known = self.plan.alignments.entry(index).or_insert(1);
        *known = needed.max(*known);
    }

    /// A pointer in data: it names an object's own address, unless an object file tells otherwise.
    fn pointer(&mut self, root: AtomIndex, named: Named) -> Refused<Destination> {
        let start = named.place();
        match self.programs.new.locate(start) {
            Location::Atom { atom, offset } => {
                let Some(object) = self.programs.new.atom(atom) else {
                    return unproven("a pointer to nothing");
                };
                if named.symbol.is_none() && offset >= object.size {
                    return unproven(format!("a pointer behind the end of {}", self.programs.new.display(object)));
                }
                let offset = i64::from(offset) + named.target.distance_from(start);
                let to = self.destination(root, atom, offset, false)?;
                // What stands outside an object does not go along with it.
                if matches!(to, Destination::Region(..)) && !(0..=i64::from(object.size)).contains(&offset) {
                    let name = self.programs.new.display(object);
                    return unproven(format!("a pointer to {name}{offset:+}, outside of what is known of it"));
                }
                Ok(to)
            }
            Location::Headers(Rva(0)) => Ok(Destination::Image(Rva(0))),
            _ => unproven(format!("a pointer to {start}, which is no object of the image")),
        }
    }

    /// Where an object of the new program is in the patched process; what the old image lacks is added to the payload.
    fn destination(&mut self, root: AtomIndex, atom: AtomIndex, offset: i64, is_branch: bool) -> Refused<Destination> {
        let new = self.programs.new;
        let Some(object) = new.atom(atom) else {
            return unproven("names nothing");
        };
        let name = new.display(object);
        let in_image = |old: AtomIndex| {
            let rva = self.programs.old.atom(old).and_then(|old| old.rva.checked_offset(offset));
            rva.map(Destination::Image)
                .ok_or(("unproven-reference", format!("{name}{offset:+} is outside the old image")))
        };
        if self.programs.comparison.pairing.is_ambiguous(atom) {
            return unproven(format!("{name} is one of several of that name, which cannot be told apart"));
        }
        match object.kind {
            AtomKind::Function(_) => {
                let olds = self.programs.comparison.pairing.old_of(atom);
                match olds {
                    _ if self.funclets.contains(&atom) => {
                        self.queue.push((atom, root));
                        Ok(Destination::Region(atom, offset))
                    }
                    [] => {
                        self.queue.push((atom, root));
                        Ok(Destination::Region(atom, offset))
                    }
                    _ if offset != 0 && self.replaced.contains(&atom) => Ok(Destination::Region(atom, offset)),
                    [_] if is_branch && self.replaced.contains(&atom) => Ok(Destination::Region(atom, offset)),
                    // Pointers to a function are its old entry, so that they compare equal wherever they come from.
                    [old] if offset == 0 || self.programs.is_unchanged(atom) => in_image(*old),
                    [_] => unproven(format!("leads into the middle of {name}, which changed")),
                    [old, ..] if is_branch && self.programs.is_unchanged(atom) => in_image(*old),
                    _ => unproven(format!("{name} stands for several functions of the old build")),
                }
            }
            AtomKind::ReadOnly => match self.programs.old_atom(atom) {
                Some(old) => in_image(old),
                None => {
                    self.queue.push((atom, root));
                    Ok(Destination::Region(atom, offset))
                }
            },
            AtomKind::Writable => match self.programs.old_atom(atom) {
                Some(old) => in_image(old),
                None if object.names.is_empty() => {
                    unproven(format!("{name} is a variable without a name that the old build has no counterpart for"))
                }
                None => {
                    self.queue.push((atom, root));
                    Ok(Destination::Region(atom, offset))
                }
            },
            AtomKind::ImportSlot => match self.programs.old_atom(atom) {
                Some(old) => in_image(old),
                None => {
                    let Some(slot) = new.image.import_at(object.rva) else {
                        return unproven("an unknown import slot");
                    };
                    if offset != 0 {
                        return unproven("reads from the middle of an import slot");
                    }
                    self.plan.imports.insert(slot.import.clone());
                    Ok(Destination::Import(slot.import.clone()))
                }
            },
        }
    }

    fn data(&mut self, root: AtomIndex, atom: &Atom) -> Refused<PlannedData> {
        let new = self.programs.new;
        let fields = new.data_fields(atom, atom.size);
        let is_throw_record = atom.names.iter().any(|name| rtti::is_throw_record(&name.key));
        if is_throw_record {
            check_throw_record(new, atom)?;
        }
        let writable = atom.kind == AtomKind::Writable;
        let mut planned = PlannedData { writable, is_throw_record, ..PlannedData::default() };
        for field in fields {
            let outside =
                || ("unproven-reference", format!("the address at +{:#x} leads outside the image", field.offset));
            match (field.kind, field.named) {
                (DataFieldKind::Distance, _) => {
                    return unsupported("holds addresses relative to itself, which this version does not carry");
                }
                (DataFieldKind::Pointer, named) => {
                    let named = named.ok_or_else(outside)?;
                    if new.image.import_at(named.place()).is_some() {
                        return unsupported(
                            "holds the address of a DLL's variable, which the start-up code puts there",
                        );
                    }
                    let to = self.pointer(root, named)?;
                    if let Destination::Region(index, _) = to
                        && self.is_throw_record(index)
                    {
                        return unsupported("holds the address of the description of a new type that is thrown");
                    }
                    planned.pointers.push((field.offset, to));
                }
                (DataFieldKind::Rva, Some(named)) => planned.rvas.push((field.offset, self.pointer(root, named)?)),
                // An RVA of zero stands for nothing.
                (DataFieldKind::Rva, None) => {
                    let place = atom.rva.checked_add(field.offset);
                    place.and_then(|place| new.image.u32_at(place)).filter(|rva| *rva == 0).ok_or_else(outside)?;
                }
            }
        }
        Ok(planned)
    }

    /// Settles how each replaced function is redirected, now that all of them are known.
    fn choose_sites(&mut self) {
        let old = self.programs.old;
        let olds: BTreeMap<AtomIndex, AtomIndex> =
            self.plan.functions.iter().filter_map(|(new, planned)| Some((*new, planned.replaces?))).collect();
        let ways = olds.keys().filter_map(|new| Some((*new, self.ways.get(new)?.clone()))).collect();
        let bodies = |new: AtomIndex| olds.get(&new).map(|index| self.entries.bodies(old, *index)).unwrap_or_default();
        let (sites, mut refused) = sites::choose(old, &ways, bodies, self.gaps.clone());
        refused.extend(kept_entries::named_again(old, &self.plan, &sites));
        self.plan.sites = sites;
        for (index, (code, message)) in refused {
            let symbol = self.programs.new.atom(index).map(|atom| self.programs.new.linkage_name(atom));
            self.refuse(index, Reason { code, symbol: symbol.unwrap_or_default(), message });
        }
    }
}

/// As far from the last so aligned address as in the new build.
fn is_as_aligned(rva: Rva, target: Rva, alignment: u32) -> bool {
    rva.distance_from(target) % i64::from(alignment.max(1)) == 0
}

/// Whether a constant may stand at another place than the one that the old image has it at: nothing looks at its address but to read there.
fn may_be_copied(function: &Function, reference: &Reference, object: &Atom) -> bool {
    let uses = function.code.facts.uses.get(&reference.target).copied().unwrap_or_default();
    let is_only_read = reference.kind == ReferenceKind::Access || !(uses.escapes || uses.compared || uses.computed);
    object.kind == AtomKind::ReadOnly && (is_only_read || object.names.is_empty())
}

fn is_throw_info(atom: &Atom) -> bool {
    atom.names.iter().any(|name| rtti::is_throw_info(&name.key))
}

/// Objects of other languages and of the Windows Runtime are thrown in ways that the payload's throwing function does not know.
fn check_throw_record(new: &Program, atom: &Atom) -> Refused<()> {
    let attributes = new.image.u32_at(atom.rva).filter(|_| is_throw_info(atom)).unwrap_or(0);
    if attributes & !rtti::QUALIFIERS != 0 || atom.kind != AtomKind::ReadOnly {
        return unsupported("describes what is thrown in a way that C++ alone does not");
    }
    Ok(())
}

/// Before the first section: the DOS and PE headers, not a table.
fn is_header(program: &Program, rva: Rva) -> bool {
    program.image.sections.first().is_some_and(|section| rva < section.range.start)
}

/// Names to include that no function has which is in both builds.
/// The variables among the change set's reasons that are to be set.
fn assignments(
    old: &Program,
    new: &Program,
    comparison: &Comparison,
    changes: &ChangeSet,
    names: &BTreeSet<String>,
) -> Vec<(AtomIndex, AtomIndex)> {
    let is_wanted = |name: &String| {
        names.contains(name) && changes.reasons.iter().any(|r| r.code == "data-initialiser" && r.symbol == *name)
    };
    let pairs = comparison.outcomes().filter(|(old, new, _)| comparison.pairing.is_pair(*old, *new));
    pairs
        .filter(|(_, _, outcome)| outcome.is_change())
        .filter(|(old_index, new_index, _)| {
            let is_writable =
                |program: &Program, index| program.atom(index).is_some_and(|atom| atom.kind == AtomKind::Writable);
            is_writable(old, *old_index)
                && is_writable(new, *new_index)
                && new.atom(*new_index).is_some_and(|atom| is_wanted(&new.linkage_name(atom)))
        })
        .map(|(old_index, new_index, _)| (new_index, old_index))
        .collect()
}

fn unknown_names(new: &Program, comparison: &Comparison, include: &Include) -> Vec<String> {
    let names = &include.names;
    if names.is_empty() {
        return Vec::new();
    }
    let known: BTreeSet<String> = new
        .functions
        .iter()
        .filter(|function| !comparison.pairing.old_of(function.atom).is_empty())
        .filter_map(|function| new.atom(function.atom))
        .flat_map(|atom| atom.names.iter().map(|name| name.key.clone()).chain([new.display(atom)]))
        .collect();
    names.difference(&known).cloned().collect()
}

/// Code up to the end of the last instruction that is not padding.
fn code_size(function: &Function) -> u32 {
    let last = function.code.instructions.iter().rev().find(|i| i.role != Role::Padding);
    last.map_or(0, |i| i.offset + u32::from(i.len))
}

/// Long jumps beside a function for its short branches.
fn islands(function: &Function, references: &[Destination], extent: u32) -> Refused<Islands> {
    let mut islands = Islands::default();
    for (reference, to) in function.code.references.iter().zip(references) {
        if reference.kind == ReferenceKind::ShortJump && *to != Destination::Nothing {
            let end = reference.field + u32::from(reference.to_end);
            islands.lead(extent, end, to).map_err(|what| ("not-supported", what))?;
        }
    }
    Ok(islands)
}

/// Tables count from themselves or from the image's base, and there is one at each place.
fn check_tables(function: &Function) -> Refused<()> {
    let jumps = function.tables.iter().map(|table| (table.rva, table.base));
    let all: Vec<(Rva, Rva)> = jumps.chain(function.data_tables.iter().map(|t| (t.rva, t.base))).collect();
    for (number, (rva, base)) in all.iter().enumerate() {
        if base != rva && *base != Rva(0) {
            return unsupported(format!("its table at {rva} counts from {base}"));
        }
        if all.iter().take(number).any(|(other, _)| other == rva) {
            return unsupported(format!("its table at {rva} is read in two ways"));
        }
    }
    Ok(())
}

/// Control must not run on into whatever follows in the new image.
fn check_end(function: &Function) -> Refused<()> {
    let Some(last) = function.code.instructions.iter().rev().find(|i| i.role != Role::Padding) else {
        return unsupported("has no instructions");
    };
    if function.code.falls_through {
        return unsupported(format!("control runs on into the next function behind +{:#x}", last.offset));
    }
    Ok(())
}
