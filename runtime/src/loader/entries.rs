//! A payload's entries, gaps and callers: what must stand there, what is written, and where no thread may be then.

use super::edit::Edit;
use crate::format::{Demand, Payload};
use crate::link::{LinkError, Linked, LinkedCaller, LinkedTrampoline, rebased_expected, trampoline_function};
use crate::target::image::LoadedImage;
use crate::target::zones::Zone;
use crate::{Consistency, Part};

/// The entries, gaps and callers as they must be, for a look before anything is touched.
pub(super) fn checks(payload: &Payload, image: &LoadedImage) -> Result<Vec<Edit>, LinkError> {
    let mut checks = Vec::new();
    for trampoline in &payload.trampolines {
        let mut check = |rva: u32, expected: Vec<u8>| {
            checks.push(Edit {
                function: trampoline_function(payload, trampoline).to_owned(),
                rva,
                address: image.base + u64::from(rva),
                expected,
                replacement: Vec::new(),
            });
        };
        if !trampoline.expected.is_empty() {
            check(trampoline.entry_rva, rebased_expected(payload, trampoline, image.base)?);
        }
        if let Some(gap) = trampoline.gap {
            check(gap.rva, gap.expected.to_vec());
        }
        for field in &trampoline.callers {
            check(*field, trampoline.distance_from(*field).to_vec());
        }
    }
    Ok(checks)
}

/// What is written.
pub(super) fn edits(linked: &Linked) -> Vec<Edit> {
    let all = |t: &LinkedTrampoline| {
        let entry = (!t.replacement.is_empty()).then(|| Edit {
            function: t.function.clone(),
            rva: t.entry_rva,
            address: t.entry,
            expected: t.expected.clone(),
            replacement: t.replacement.clone(),
        });
        let gap = t.gap.map(|gap| Edit {
            function: t.function.clone(),
            rva: gap.rva,
            address: gap.address,
            expected: gap.expected.to_vec(),
            replacement: gap.replacement.to_vec(),
        });
        let caller = |caller: &LinkedCaller| Edit {
            function: t.function.clone(),
            rva: caller.rva,
            address: caller.address,
            expected: caller.expected.to_vec(),
            replacement: caller.replacement.to_vec(),
        };
        let callers = t.callers.iter().map(caller);
        entry.into_iter().chain(gap).chain(callers).collect::<Vec<_>>()
    };
    linked.trampolines.iter().flat_map(all).collect()
}

/// Where no thread may be when it is written.
pub(super) fn zones(payload: &Payload, linked: &Linked, image: &LoadedImage, consistency: Consistency) -> Vec<Zone> {
    let mut zones = Vec::new();
    for trampoline in &linked.trampolines {
        let mut zone = |range, part| zones.push(Zone { range, function: trampoline.function.clone(), part });
        if consistency == Consistency::Quiescent || trampoline.demand == Demand::Body {
            for body in payload.bodies.iter().filter(|body| body.entry_rva == trampoline.entry_rva) {
                let start = image.base + u64::from(body.start);
                zone(start..start + u64::from(body.size), Part::Body);
            }
        }
        if trampoline.demand != Demand::Nothing {
            // At the first byte a thread has not begun.
            zone(trampoline.entry + 1..trampoline.entry + trampoline.replacement.len() as u64, Part::Entry);
        }
    }
    zones
}
