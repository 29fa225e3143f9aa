//! The walk over everything that the payload brings, in one process.
//!
//! It starts at the functions that the payload names. What each of them rests on (claims) is looked at next, until nothing is left:
//! a claim that an object of the new build stands at a place of the region is made once, and every other claim about that object must
//! agree with it.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::rva::Rva;
use rayon::prelude::*;

use crate::accounting;
use crate::bodies::Pieces;
use crate::changes;
use crate::claims::{Claim, Looked, Occupied, Origin, Part};
use crate::code::CodeWalk;
use crate::data;
use crate::exports;
use crate::facts::Facts;
use crate::initialisers;
use crate::meaning::{Meaning, Use};
use crate::process::{Place, Process};
use crate::records;
use crate::report::{Counts, Finding, References};
use crate::throws::{self, Stub};
use crate::trampolines::{self, NamedPlaces};
use crate::unwind::FunctionTable;

/// What came of one process.
pub(crate) struct Walked {
    pub counts: Counts,
    pub findings: Vec<Finding>,
}

/// Walks one process.
pub(crate) fn walk(facts: &Facts<'_>, process: &Process, old: (&NamedPlaces, &Pieces)) -> Walked {
    let mut findings = Vec::new();
    let table = FunctionTable::read(process, &mut findings);
    let mut walk = Walk {
        meaning: Meaning { facts, process },
        table,
        bound: BTreeMap::new(),
        functions: BTreeMap::new(),
        equal: BTreeSet::new(),
        acting: BTreeMap::new(),
        throws: BTreeMap::new(),
        occupied: FunctionTable::occupied(process).into_iter().collect(),
        queue: Vec::new(),
        used_slots: BTreeSet::new(),
        references: References::default(),
        unwind_records: 0,
        findings,
    };
    walk.throwing_functions();
    walk.start();
    walk.values();
    walk.follow();
    walk.bind_the_rest();
    walk.finish(old)
}

/// Something to look at.
#[derive(Debug, Clone, Copy)]
enum Job {
    /// A function or object of the new program at a region offset.
    Region(AtomIndex, u32),
    /// So many bytes of a constant of the old image.
    Constant(AtomIndex, Rva, u32),
}

struct Walk<'a> {
    meaning: Meaning<'a>,
    table: FunctionTable,
    /// Objects of the new program in the region.
    bound: BTreeMap<AtomIndex, u32>,
    /// The functions among them by region offset.
    functions: BTreeMap<u32, AtomIndex>,
    equal: BTreeSet<(AtomIndex, Rva, u32)>,
    /// Old and new functions with the region offset that the old one is redirected to, and who says that it is as good as the new one.
    acting: BTreeMap<(AtomIndex, AtomIndex, u32), Origin>,
    /// The payload's throwing functions by region offset, with those of the new program in whose place they are called.
    throws: BTreeMap<u32, (Stub, BTreeSet<AtomIndex>)>,
    occupied: BTreeSet<Occupied>,
    queue: Vec<Job>,
    used_slots: BTreeSet<u32>,
    references: References,
    unwind_records: usize,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    /// Binds the payload's functions that can be only one of the new program, and takes note of the import slots.
    fn start(&mut self) {
        let facts = self.meaning.facts;
        for function in facts.payload.functions.iter().filter(|function| !throws::is_stub(function)) {
            match facts.candidates(function).as_slice() {
                [] => {
                    let found = format!("{} at region offset {:#x}", function.name, function.offset);
                    let expected = "functions of the new build with their old entries";
                    self.findings.push(Finding::of_payload("function", expected, found));
                }
                [only] => self.bind(*only, function.offset, Origin { atom: *only, offset: 0 }),
                // Which one it is, its callers tell.
                _ => {}
            }
        }
        for (number, import) in facts.payload.imports.iter().enumerate() {
            self.occupied.insert(Occupied { offset: import.slot, size: 8, part: Part::ImportSlot(number) });
        }
    }

    /// Reads the payload's own throwing functions.
    fn throwing_functions(&mut self) {
        let Meaning { facts, process } = self.meaning;
        for function in facts.payload.functions.iter().filter(|function| throws::is_stub(function)) {
            match throws::read(process, &self.table, function) {
                Ok(stub) => {
                    self.occupied.extend(&stub.occupied);
                    if let Place::Region(slot) = process.place(stub.slot) {
                        self.used_slots.insert(slot);
                    }
                    self.unwind_records += 1;
                    self.throws.insert(function.offset, (stub, BTreeSet::new()));
                }
                Err(finding) => self.findings.push(finding),
            }
        }
    }

    /// Called in the place of a throwing function of the new build: everything but the payload's own goes on to that.
    fn throws_as(&mut self, atom: AtomIndex, offset: u32, origin: Origin) {
        let Some((stub, instead_of)) = self.throws.get_mut(&offset) else {
            return self.disagreement(origin, "a throwing function of the payload".to_owned(), offset);
        };
        if !instead_of.insert(atom) {
            return;
        }
        match self.meaning.is_place_of(atom, 0, stub.original, Use::Branch) {
            Ok(claims) => claims.into_iter().for_each(|claim| self.claim(claim, origin)),
            Err(expected) => self.disagreement(origin, format!("one that goes on to {expected}"), offset),
        }
    }

    /// Descriptions in the region are raised by the payload's own functions, each of which is of use; and they stay.
    fn thrown(&self) -> Vec<Finding> {
        let facts = self.meaning.facts;
        let mut findings = Vec::new();
        let descriptions = self.bound.iter().filter(|(index, _)| facts.is_throw_record(**index));
        let addresses: Vec<u64> = descriptions.map(|(_, offset)| self.meaning.process.in_region(*offset)).collect();
        for (offset, (stub, instead_of)) in &self.throws {
            if instead_of.is_empty() || !addresses.iter().all(|address| stub.raises.contains(address)) {
                let expected = "a throwing function that is called, and raises all that the region describes";
                findings.push(Finding::of_payload("throw", expected, format!("another at region offset {offset:#x}")));
            }
        }
        let bound = || self.bound.keys().copied();
        let carries_type = bound().any(|index| facts.is_itanium_type(index));
        let outlive = !addresses.is_empty() || carries_type && bound().any(|index| facts.throws_as_itanium(index));
        if outlive && !facts.payload.identity.stays {
            let expected = "a region that is never given back, since objects thrown from it are described there";
            findings.push(Finding::of_payload("throw", expected, "one that is"));
        }
        findings
    }

    /// The values that variables of the old image get are those of the new build.
    fn values(&mut self) {
        for assigned in records::assigned(self.meaning.facts) {
            match assigned {
                Ok((assignment, index)) => {
                    let size = self.meaning.facts.new.atom(index).map_or(0, |atom| atom.size);
                    self.occupied.insert(Occupied { offset: assignment.value, size, part: Part::Value(index) });
                    self.queue.push(Job::Region(index, assignment.value));
                }
                Err(finding) => self.findings.push(finding),
            }
        }
    }

    /// Looks at what is queued until nothing new comes of it.
    fn follow(&mut self) {
        while !self.queue.is_empty() {
            let jobs = std::mem::take(&mut self.queue);
            let (meaning, table) = (self.meaning, &self.table);
            let found: Vec<Looked> = jobs.into_par_iter().map(|job| look(meaning, table, job)).collect();
            for looked in found {
                self.findings.extend(looked.findings);
                self.occupied.extend(looked.occupied);
                self.used_slots.extend(looked.used_slots);
                self.references.extend(looked.references);
                self.unwind_records += looked.unwind_records;
                for (claim, origin) in looked.claims {
                    self.claim(claim, origin);
                }
            }
        }
    }

    fn claim(&mut self, claim: Claim, origin: Origin) {
        match claim {
            Claim::Stands { atom, offset } => {
                let facts = self.meaning.facts;
                let is_code = facts.new.function(origin.atom).is_some();
                if facts.is_throw_record(atom) && !is_code && !facts.is_throw_record(origin.atom) {
                    self.disagreement(origin, "no address of what only a throw may be given".to_owned(), offset);
                }
                self.bind(atom, offset, origin);
            }
            Claim::ActsAs { old, atom, offset } => {
                self.acting.insert((old, atom, offset), origin);
            }
            Claim::Throws { atom, offset } => self.throws_as(atom, offset, origin),
            Claim::Equal { atom, rva, bytes } => {
                if self.equal.insert((atom, rva, bytes)) {
                    self.queue.push(Job::Constant(atom, rva, bytes));
                }
            }
        }
    }

    fn bind(&mut self, atom: AtomIndex, offset: u32, origin: Origin) {
        match self.bound.get(&atom) {
            Some(known) if *known == offset => {}
            Some(known) => {
                let expected = format!("{} at region offset {known:#x}, as elsewhere", self.meaning.facts.name(atom));
                self.disagreement(origin, expected, offset);
            }
            None => {
                let facts = self.meaning.facts;
                if facts.new.function(atom).is_some() {
                    let is_function = facts.functions_at.contains_key(&offset);
                    if !is_function || self.functions.contains_key(&offset) {
                        let expected = format!("a function of the payload that is {}", facts.name(atom));
                        return self.disagreement(origin, expected, offset);
                    }
                    self.functions.insert(offset, atom);
                }
                self.bound.insert(atom, offset);
                self.queue.push(Job::Region(atom, offset));
            }
        }
    }

    fn disagreement(&mut self, origin: Origin, expected: String, offset: u32) {
        let found = self.meaning.describe(self.meaning.process.in_region(offset));
        self.findings.push(Finding {
            code: "reference",
            function: Some(self.meaning.facts.name(origin.atom)),
            offset: Some(origin.offset),
            instruction: None,
            expected,
            found,
        });
    }

    /// Functions that share their name with others, and that nothing calls: the first of that name that it can be.
    fn bind_the_rest(&mut self) {
        let facts = self.meaning.facts;
        for function in facts.payload.functions.iter().filter(|function| !throws::is_stub(function)) {
            if self.functions.contains_key(&function.offset) {
                continue;
            }
            let free: Vec<AtomIndex> =
                facts.candidates(function).into_iter().filter(|index| !self.bound.contains_key(index)).collect();
            let is_sound = |index: &AtomIndex| {
                look(self.meaning, &self.table, Job::Region(*index, function.offset)).findings.is_empty()
            };
            if let Some(index) = free.iter().copied().find(is_sound).or(free.first().copied()) {
                self.bind(index, function.offset, Origin { atom: index, offset: 0 });
                self.follow();
            }
        }
    }

    /// A redirected entry leads to the function that is meant; or, where folding made one old function of several that did not change, to
    /// another one of these.
    fn redirected_elsewhere(&mut self) {
        let facts = self.meaning.facts;
        for ((old, atom, offset), origin) in std::mem::take(&mut self.acting) {
            let target = self.functions.get(&offset).copied();
            let does_the_same = |target: AtomIndex| facts.is_unchanged(old, target) && facts.is_unchanged(old, atom);
            if target != Some(atom) && !target.is_some_and(does_the_same) {
                let expected = format!("an entry that leads to {}", facts.name(atom));
                self.disagreement(origin, expected, offset);
            }
        }
    }

    fn finish(mut self, (named, pieces): (&NamedPlaces, &Pieces)) -> Walked {
        let Meaning { facts, process } = self.meaning;
        self.redirected_elsewhere();
        self.findings.extend(trampolines::look(facts, process, named, pieces));
        self.findings.extend(changes::look(facts, &self.functions));
        self.findings.extend(records::variables(facts, &self.bound));
        self.findings.extend(records::called_hooks(facts, &self.functions));
        self.findings.extend(records::health_check(facts));
        self.findings.extend(exports::look(facts, &self.functions));
        self.findings.extend(initialisers::look(facts, &self.bound, &self.functions));
        self.findings.extend(accounting::look(facts, process, &self.bound, &self.occupied));
        self.findings.extend(self.unwind_entries());
        self.findings.extend(self.unused_slots());
        self.findings.extend(self.thrown());
        let counts = Counts {
            functions: self.functions.len(),
            references: self.references,
            objects: self.bound.len() - self.functions.len(),
            old_constants: self.equal.iter().map(|(_, rva, _)| rva).collect::<BTreeSet<_>>().len(),
            unwind_records: self.unwind_records,
            ..Counts::default()
        };
        Walked { counts, findings: self.findings }
    }

    /// Every entry of the function table belongs to one function.
    fn unwind_entries(&self) -> Option<Finding> {
        let records = self.table.entries.len();
        (records != self.unwind_records).then(|| {
            let expected = format!("{} unwind records, those of the functions", self.unwind_records);
            Finding::of_payload("unwind", expected, format!("{records} in the function table"))
        })
    }

    fn unused_slots(&self) -> Vec<Finding> {
        let imports = self.meaning.facts.payload.imports.iter();
        let unused = imports.filter(|import| !self.used_slots.contains(&import.slot));
        unused
            .map(|import| {
                let found =
                    format!("a slot for {} at region offset {:#x}, which nothing names", import.dll, import.slot);
                Finding::of_payload("import", "imports that the new code uses", found)
            })
            .collect()
    }
}

fn look(meaning: Meaning<'_>, table: &FunctionTable, job: Job) -> Looked {
    match job {
        Job::Region(index, offset) => match CodeWalk::of(meaning, index, offset) {
            Some(mut walk) => {
                walk.code();
                walk.unwind(table);
                walk.looked
            }
            None => {
                let size = meaning.facts.new.atom(index).map_or(0, |atom| atom.size);
                data::look(meaning, index, meaning.process.in_region(offset), size)
            }
        },
        Job::Constant(index, rva, bytes) => data::look(meaning, index, meaning.process.in_image(rva), bytes),
    }
}
