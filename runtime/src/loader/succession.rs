//! What a payload finds of earlier ones: those of a lower series it replaces in the same step, with their variables.

use std::ops::Range;

use super::edit::{Edit, Mark};
use crate::format::{Payload, Seal, TrampolineForm};
use crate::link::{TakenOver, trampoline_function};
use crate::target::image::LoadedImage;
use crate::target::record::{Record, RecordEntry, RecordVariable, Spot};
use crate::target::zones::Zone;
use crate::{ApplyError, Part, PatchState};

/// The patches that a payload takes the place of, and what it has from them.
#[derive(Debug, Default)]
pub(super) struct Succession<'r> {
    replaced: Vec<&'r Record>,
    /// What earlier attempts to apply the same payload left.
    attempts: Vec<&'r Record>,
}

impl<'r> Succession<'r> {
    /// Looks at the patches of the image: each is replaced, stands beside the payload, or stands against it.
    pub fn of(
        present: &'r [Record],
        payload: &Payload,
        seal: &Seal,
        image: &LoadedImage,
    ) -> Result<Succession<'r>, ApplyError> {
        let series = payload.identity.series;
        let mut replaced = Vec::new();
        let is_past = |record: &Record| matches!(record.state, PatchState::Retired | PatchState::Replaced);
        for record in present.iter().filter(|r| !is_past(r) && r.image_base == image.base) {
            let patch = record.seal.patch_id();
            if record.seal == *seal {
                return Err(ApplyError::AlreadyApplied(patch));
            }
            if record.series > series {
                return Err(ApplyError::Series { patch, present: record.series, series });
            }
            if record.series < series && record.state == PatchState::Applied {
                replaced.push(record);
                continue;
            }
            // New code of the one may call what the other redirects at its callers: nothing would lead such a call on.
            if let Some(function) = at_callers(payload).or_else(|| at_callers_of(record)) {
                return Err(ApplyError::Alone { function, patch });
            }
            if let Some((function, rva)) = overlap(payload, record) {
                return Err(ApplyError::AlreadyRedirected { function, rva, patch });
            }
        }
        let is_own = |record: &&Record| record.is_attempt() && record.seal == *seal && record.image_base == image.base;
        Ok(Succession { replaced, attempts: present.iter().filter(is_own).collect() })
    }

    /// A patch goes as a whole: what is replaced in one image must be replaced in all images that it changed.
    pub fn require_whole<'s>(
        present: &[Record],
        successions: impl Iterator<Item = &'s Succession<'r>>,
    ) -> Result<(), ApplyError>
    where
        'r: 's,
    {
        let replaced: Vec<&Record> = successions.flat_map(|succession| succession.replaced.iter().copied()).collect();
        let is_replaced = |record: &Record| replaced.iter().any(|other| other.region_base == record.region_base);
        let stays = |record: &&Record| {
            record.state == PatchState::Applied
                && replaced.iter().any(|other| other.sequence == record.sequence)
                && !is_replaced(record)
        };
        match present.iter().find(stays) {
            None => Ok(()),
            Some(record) => {
                Err(ApplyError::Partial { patch: record.seal.patch_id(), image: record.image_name.clone() })
            }
        }
    }

    /// The payload's variables that exist already.
    pub fn taken_over(&self, payload: &Payload) -> Result<Vec<TakenOver>, ApplyError> {
        let mut found = Vec::new();
        for variable in &payload.variables {
            let Some((record, earlier)) = self.variable(&variable.name) else { continue };
            if earlier.size != variable.size {
                return Err(ApplyError::Variable {
                    name: variable.name.clone(),
                    patch: record.seal.patch_id(),
                    before: earlier.size,
                    now: variable.size,
                });
            }
            found.push(TakenOver { offset: variable.offset, size: variable.size, address: earlier.address });
        }
        Ok(found)
    }

    /// The newest patch's idea of where a variable is counts.
    fn variable(&self, name: &str) -> Option<(&Record, &RecordVariable)> {
        let with = |record: &'_ Record| record.variables.iter().position(|v| v.name == name);
        let mut earlier = self.replaced.iter().rev().chain(&self.attempts).copied();
        earlier.find_map(|record| Some((record, record.variables.get(with(record)?)?)))
    }

    fn spots(&self) -> impl Iterator<Item = Spot<'_>> {
        self.replaced.iter().flat_map(|record| &record.entries).flat_map(RecordEntry::spots)
    }

    /// What is to be written: the payload's own edits, over those of replaced patches where these wrote the same bytes, and the old code
    /// where only the replaced ones wrote.
    pub fn edits(&self, mut edits: Vec<Edit>, image: &LoadedImage) -> Vec<Edit> {
        let covered = edits.iter().map(|edit| edit.rva..edit.rva + edit.expected.len() as u32).collect::<Vec<_>>();
        for edit in &mut edits {
            edit.over(self.spots());
        }
        for spot in self.spots() {
            let is_own = |rva: &u32| covered.iter().any(|range| range.contains(rva));
            let left: Vec<u32> = spot.range().filter(|rva| !is_own(rva)).collect();
            // Runs of bytes that the payload leaves alone.
            for run in left.chunk_by(|before, after| before + 1 == *after) {
                let part = |bytes: &[u8]| {
                    let byte = |rva: &u32| bytes.get((rva - spot.rva) as usize).copied();
                    run.iter().filter_map(byte).collect::<Vec<u8>>()
                };
                let Some(rva) = run.first().copied() else { continue };
                edits.push(Edit {
                    function: spot.function.to_owned(),
                    rva,
                    address: image.base + u64::from(rva),
                    expected: part(spot.replacement),
                    replacement: part(spot.original),
                });
            }
        }
        edits.sort_by_key(|edit| edit.address);
        edits
    }

    /// Whether it takes the place of no patch.
    pub fn replaces_none(&self) -> bool {
        self.replaced.is_empty()
    }

    /// Where no thread may be besides where the payload says so: in the jumps of replaced patches.
    pub fn zones(&self, image: &LoadedImage) -> impl Iterator<Item = Zone> {
        self.spots().map(|spot| Zone {
            range: spot.inside(image.base),
            function: spot.function.to_owned(),
            part: Part::Entry,
        })
    }

    /// What failed attempts left; its variables are taken over.
    pub fn attempts(&self) -> impl Iterator<Item = &Record> {
        self.attempts.iter().copied()
    }

    /// The replaced patches' states, written in the same step.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        let earlier = self.replaced.iter().chain(&self.attempts);
        earlier.map(|record| Mark::new(record.region_base, record.state, PatchState::Replaced))
    }
}

impl Edit {
    /// Expects what replaced patches wrote, and puts back what they wrote beyond its own bytes.
    fn over<'r>(&mut self, spots: impl Iterator<Item = Spot<'r>>) {
        let own = self.replacement.len();
        let mut wanted = self.expected.clone();
        wanted.iter_mut().zip(&self.replacement).for_each(|(to, from)| *to = *from);
        for spot in spots {
            for (rva, byte) in spot.range().zip(spot.replacement) {
                let place = rva.checked_sub(self.rva).and_then(|offset| self.expected.get_mut(offset as usize));
                place.into_iter().for_each(|place| *place = *byte);
            }
        }
        let differs = wanted.iter().zip(&self.expected).rposition(|(wanted, there)| wanted != there);
        wanted.truncate(own.max(differs.map_or(0, |last| last + 1)));
        self.replacement = wanted;
    }
}

/// The first function of the payload that is redirected at its callers.
fn at_callers(payload: &Payload) -> Option<String> {
    let trampoline = payload.trampolines.iter().find(|trampoline| trampoline.form == TrampolineForm::Callers)?;
    Some(trampoline_function(payload, trampoline).to_owned())
}

/// The same of a patch.
fn at_callers_of(record: &Record) -> Option<String> {
    record.entries.iter().find(|entry| entry.form == TrampolineForm::Callers).map(|entry| entry.name.clone())
}

/// A function of the payload whose entry or gap another patch has written to, with the place.
fn overlap(payload: &Payload, record: &Record) -> Option<(String, u32)> {
    let taken: Vec<Range<u32>> = record.entries.iter().flat_map(RecordEntry::spots).map(|spot| spot.range()).collect();
    payload.trampolines.iter().find_map(|trampoline| {
        let mut own = trampoline.places().map(|(rva, size)| rva..rva + size);
        let range = own.find(|own| taken.iter().any(|other| other.start < own.end && own.start < other.end))?;
        Some((trampoline_function(payload, trampoline).to_owned(), range.start))
    })
}
