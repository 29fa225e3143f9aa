//! What a payload finds of earlier ones: those of a lower series it replaces in the same step, with their variables.

use super::edit::{Edit, Mark};
use crate::format::{Payload, Seal};
use crate::link::{TakenOver, trampoline_function};
use crate::target::image::LoadedImage;
use crate::target::record::{Record, RecordEntry, RecordVariable};
use crate::{ApplyError, PatchState};

/// The patches that a payload takes the place of, and what it has from them.
#[derive(Debug, Default)]
pub(super) struct Succession {
    replaced: Vec<Record>,
}

impl Succession {
    /// Looks at the patches of the image: each is replaced, stands beside the payload, or stands against it.
    pub fn of(
        present: &[Record],
        payload: &Payload,
        seal: &Seal,
        image: &LoadedImage,
    ) -> Result<Succession, ApplyError> {
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
                replaced.push(record.clone());
                continue;
            }
            for trampoline in &payload.trampolines {
                let (start, end) = (trampoline.entry_rva, trampoline.entry_rva + trampoline.expected.len() as u32);
                if record.entries.iter().any(|e| e.rva < end && start < e.rva + e.original.len() as u32) {
                    return Err(ApplyError::AlreadyRedirected {
                        function: trampoline_function(payload, trampoline).to_owned(),
                        rva: start,
                        patch,
                    });
                }
            }
        }
        Ok(Succession { replaced })
    }

    /// A patch goes as a whole: what is replaced in one image must be replaced in all images that it changed.
    pub fn require_whole<'s>(
        present: &[Record],
        successions: impl Iterator<Item = &'s Succession>,
    ) -> Result<(), ApplyError> {
        let replaced: Vec<&Record> = successions.flat_map(|succession| &succession.replaced).collect();
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
        self.replaced.iter().rev().find_map(|record| Some((record, record.variables.get(with(record)?)?)))
    }

    fn entries(&self) -> impl Iterator<Item = &RecordEntry> {
        self.replaced.iter().flat_map(|record| &record.entries)
    }

    /// What is to be written: the payload's own edits, over those of replaced patches where they have the same entry, and the old code
    /// where only the replaced ones had theirs.
    pub fn edits(&self, mut edits: Vec<Edit>, image: &LoadedImage) -> Vec<Edit> {
        let restored: Vec<Edit> = self
            .entries()
            .filter(|entry| !edits.iter().any(|edit| edit.rva == entry.rva))
            .map(|entry| Edit {
                function: entry.name.clone(),
                rva: entry.rva,
                address: image.base + u64::from(entry.rva),
                expected: entry.replacement.clone(),
                replacement: entry.original.clone(),
            })
            .collect();
        for edit in &mut edits {
            // Where a replaced patch redirected the same entry, its jump stands there.
            if let Some(entry) = self.entries().find(|entry| entry.rva == edit.rva) {
                edit.expected.iter_mut().zip(&entry.replacement).for_each(|(to, from)| *to = *from);
            }
        }
        edits.extend(restored);
        edits.sort_by_key(|edit| edit.address);
        edits
    }

    /// The replaced patches' states, written in the same step.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.replaced.iter().map(|record| Mark::new(record.region_base, PatchState::Applied, PatchState::Replaced))
    }
}
