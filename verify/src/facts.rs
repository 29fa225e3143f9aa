//! What is known before any process is looked at.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::compare::{Comparison, Outcome};
use hpgen_diff::effects::{self, effects_of_part};
use hpgen_diff::image::ImportedSymbol;
use hpgen_diff::initialisers::{InitialiserKind, initialisers};
use hpgen_diff::new_part::{NewPart, new_part};
use hpgen_diff::program::{Function as NewFunction, Location, Program};
use hpgen_diff::rtti;
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::Reference;
use hpgen_runtime::format::{Function, HookKind, Payload, Space};

use crate::records;
use crate::report::Finding;

/// A payload, the two builds, and what follows from them alone.
pub(crate) struct Facts<'a> {
    pub payload: &'a Payload,
    pub old: &'a Program,
    pub new: &'a Program,
    pub comparison: &'a Comparison,
    /// Functions of the new program that run on another function's frame.
    pub funclets: BTreeSet<AtomIndex>,
    /// Region offsets of new bodies, by the old entry that is redirected to them.
    pub redirected: BTreeMap<Rva, u32>,
    /// Functions of the payload by region offset.
    pub functions_at: BTreeMap<u32, &'a Function>,
    /// Functions of the new program that the loader calls, in the order in which it does.
    pub hooks: Vec<(HookKind, AtomIndex)>,
    /// Functions of both programs that run before `main` and changed: with what is new in them, where that can be told.
    pub changed_initialisers: BTreeMap<AtomIndex, Option<NewPart>>,
    /// Instructions of new initialisers, and of what they call, that take addresses which are written at.
    pub taken: BTreeSet<effects::Place>,
    /// Functions of the new program by name.
    by_name: BTreeMap<String, Vec<AtomIndex>>,
}

impl<'a> Facts<'a> {
    pub fn of(payload: &'a Payload, old: &'a Program, new: &'a Program, comparison: &'a Comparison) -> Facts<'a> {
        let mut by_name: BTreeMap<String, Vec<AtomIndex>> = BTreeMap::new();
        let wanted: BTreeSet<&str> = payload.functions.iter().map(|function| function.name.as_str()).collect();
        for function in &new.functions {
            let name = new.atom(function.atom).map(|atom| new.linkage_name(atom));
            if let Some(name) = name.filter(|name| wanted.contains(name.as_str())) {
                by_name.entry(name).or_default().push(function.atom);
            }
        }
        let changed_initialisers = changed_initialisers(old, new, comparison);
        Facts {
            taken: taken(new, comparison, &changed_initialisers),
            payload,
            old,
            new,
            comparison,
            funclets: new.funclets(),
            redirected: payload.trampolines.iter().map(|t| (Rva(t.entry_rva), t.target)).collect(),
            functions_at: payload.functions.iter().map(|function| (function.offset, function)).collect(),
            hooks: records::hooks(old, new, comparison),
            changed_initialisers,
            by_name,
        }
    }

    /// The payload must be for the old image and no other (section 2.1). The name only serves to find the module.
    pub fn identity_findings(&self) -> Vec<Finding> {
        let (ours, image) = (&self.payload.identity, &self.old.image.identity);
        let fields = [
            ("PDB GUID", format!("{:02x?}", image.guid), format!("{:02x?}", ours.guid)),
            ("PDB age", image.age.to_string(), ours.age.to_string()),
            ("time stamp", format!("{:#x}", image.timestamp), format!("{:#x}", ours.timestamp)),
            ("size of image", format!("{:#x}", image.size_of_image), format!("{:#x}", ours.size_of_image)),
            ("entry point", image.entry_point.to_string(), Rva(ours.entry_point).to_string()),
            ("preferred base", format!("{:#x}", image.image_base), format!("{:#x}", ours.image_base)),
        ];
        fields
            .into_iter()
            .filter(|(_, image, ours)| image != ours)
            .map(|(what, image, ours)| {
                Finding::of_payload("identity", format!("the old image's {what} {image}"), format!("{what} {ours}"))
            })
            .collect()
    }

    /// Functions of the new program that a record of the payload may mean: by its name, and by the old entry that it gives.
    pub fn candidates(&self, function: &Function) -> Vec<AtomIndex> {
        let named = self.by_name.get(&function.name).map_or(&[][..], Vec::as_slice);
        let replaces = function.old_rva.map(|rva| self.old_function_at(Rva(rva)));
        let fits = |index: &AtomIndex| match replaces {
            Some(Some(old)) => self.comparison.pairing.is_pair(old, *index) && !self.funclets.contains(index),
            Some(None) => false,
            None => {
                let is_hook = || self.hooks.iter().any(|(_, hook)| hook == index) || self.is_health_check(function);
                self.comparison.pairing.old_of(*index).is_empty()
                    || self.funclets.contains(index)
                    || self.changed_initialisers.contains_key(index)
                    || is_hook()
            }
        };
        named.iter().copied().filter(fits).collect()
    }

    /// What is taken out of a function.
    pub fn part(&self, index: AtomIndex) -> Option<&NewPart> {
        self.changed_initialisers.get(&index).and_then(Option::as_ref)
    }

    fn is_health_check(&self, function: &Function) -> bool {
        self.payload.probation.is_some_and(|probation| probation.check == Some((Space::Region, function.offset)))
    }

    /// The function of the old program that begins at an address.
    pub fn old_function_at(&self, rva: Rva) -> Option<AtomIndex> {
        match self.old.locate(rva) {
            Location::Atom { atom, offset: 0 } => self.old.function(atom).map(|_| atom),
            _ => None,
        }
    }

    /// The two are the same thing, or do or hold the same.
    pub fn corresponds(&self, old: AtomIndex, new: AtomIndex) -> bool {
        self.comparison.pairing.is_pair(old, new) || self.comparison.outcome(old, new) == Some(&Outcome::Same)
    }

    /// The old function does what the new one does, as far as meaning goes.
    pub fn is_unchanged(&self, old: AtomIndex, new: AtomIndex) -> bool {
        self.comparison.outcome(old, new).is_some_and(|outcome| !outcome.is_change())
    }

    /// The new program's function that throws, or a thunk of it.
    pub fn is_throwing(&self, index: AtomIndex) -> bool {
        let is_named = |atom: &Atom| atom.names.iter().any(|name| name.key == rtti::THROW_FUNCTION);
        let is_import = |reference: &Reference| {
            let slot = self.new.image.import_at(reference.target);
            slot.is_some_and(|slot| slot.import.symbol == ImportedSymbol::Name(rtti::THROW_FUNCTION.to_owned()))
        };
        let is_thunk = |function: &NewFunction| {
            function.code.instructions.len() == 1
                && matches!(function.code.references.as_slice(), [only] if is_import(only))
        };
        self.new.atom(index).is_some_and(is_named) || self.new.function(index).is_some_and(is_thunk)
    }

    /// The `type_info` of a type, in the Itanium ABI.
    pub fn is_itanium_type(&self, index: AtomIndex) -> bool {
        self.new.atom(index).is_some_and(|atom| atom.names.iter().any(|name| name.key.starts_with("_ZTI")))
    }

    /// A function that throws, in the Itanium ABI.
    pub fn throws_as_itanium(&self, index: AtomIndex) -> bool {
        const THROW: &str = "__cxa_throw";
        let is_throw = |reference: &Reference| {
            let slot = self.new.image.import_at(reference.target);
            let is_import = slot.is_some_and(|slot| slot.import.symbol == ImportedSymbol::Name(THROW.to_owned()));
            let is_function = |atom: AtomIndex| {
                self.new.atom(atom).is_some_and(|atom| atom.names.iter().any(|name| name.key == THROW))
            };
            is_import
                || matches!(self.new.locate(reference.target), Location::Atom { atom, offset: 0 } if is_function(atom))
        };
        self.new.function(index).is_some_and(|function| function.code.references.iter().any(is_throw))
    }

    /// It describes what is thrown, or a part of that.
    pub fn is_throw_record(&self, index: AtomIndex) -> bool {
        let is_record = |atom: &Atom| atom.names.iter().any(|name| rtti::is_throw_record(&name.key));
        self.new.atom(index).is_some_and(is_record)
    }

    /// A name for messages.
    pub fn name(&self, index: AtomIndex) -> String {
        self.new.atom(index).map(|atom| self.new.display(atom)).unwrap_or_default()
    }
}

/// They ran long ago: none of them is redirected.
fn changed_initialisers(old: &Program, new: &Program, comparison: &Comparison) -> BTreeMap<AtomIndex, Option<NewPart>> {
    let all = initialisers(new).into_iter().filter(|(_, found)| found.kind != InitialiserKind::ThreadCallback);
    let changed = all.filter_map(|(index, _)| {
        let olds = comparison.pairing.old_of(index);
        let is_changed = |old: &AtomIndex| matches!(comparison.outcome(*old, index), Some(Outcome::Different(_)));
        olds.iter().any(is_changed).then_some((index, olds))
    });
    changed
        .map(|(index, olds)| {
            let part = match olds {
                [only] => new_part((old, *only), (new, index), comparison).ok(),
                _ => None,
            };
            (index, part)
        })
        .collect()
}

fn taken(
    new: &Program,
    comparison: &Comparison,
    changed: &BTreeMap<AtomIndex, Option<NewPart>>,
) -> BTreeSet<effects::Place> {
    let whole = NewPart::default();
    let all = initialisers(new).into_keys().filter_map(|index| match changed.get(&index) {
        Some(part) => Some((index, part.as_ref()?)),
        None => comparison.pairing.old_of(index).is_empty().then_some((index, &whole)),
    });
    all.filter_map(|(index, part)| effects_of_part(new, index, part).ok()).flat_map(|found| found.taken).collect()
}
