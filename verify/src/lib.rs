//! Proves that a payload means what the new build means.
//!
//! It loads the payload onto the old image as the loader would, at several addresses, and then reads the *process*: every instruction
//! of every new function is decoded where it would run, and each address that comes out must be the place of the very object
//! that the new build's instruction names. Nothing is taken over from the emitter: what is shared with it is the pairing, which
//! defines what "the same object" is. The mistake that this crate prefers to make is to doubt a sound payload.
//!
//! Data flows one way: payload -> [`placement::Placement`] -> process -> walk (claims: which object stands where) ->
//! accounting (every byte of the region belongs to one of them) -> [`Report`].
#![forbid(unsafe_code)]

mod accounting;
mod bodies;
mod callers;
mod changes;
mod claims;
mod code;
mod data;
mod exports;
mod facts;
mod initialisers;
mod meaning;
pub mod placement;
mod process;
mod readings;
mod records;
mod report;
mod throws;
mod trampolines;
mod unwind;
mod walk;
mod without_new;

use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_runtime::format::Payload;
use rayon::prelude::*;

pub use exports::missing_exports;
pub use report::{Counts, Finding, Report};

use bodies::Pieces;
use facts::Facts;
use process::Process;
use trampolines::NamedPlaces;
use walk::Walked;

/// Checks a payload against the builds that it was made from.
pub fn verify(payload: &Payload, old: &Program, new: &Program, comparison: &Comparison) -> Report {
    let facts = Facts::of(payload, old, new, comparison);
    let mut report = Report::new(payload, &old.image);
    report.findings.extend(facts.identity_findings());
    let named = NamedPlaces::of(old);
    let pieces = Pieces::of(old);
    let placements = placement::placements(&old.image, payload);
    let walked: Vec<Result<Walked, String>> = placements
        .par_iter()
        .map(|placement| Ok(walk::walk(&facts, &Process::load(&facts, *placement)?, (&named, &pieces))))
        .collect();
    for (placement, walked) in placements.into_iter().zip(walked) {
        match walked {
            Ok(walked) => {
                report.placements.push(placement);
                report.counts.merge(walked.counts);
                report.findings.extend(walked.findings);
            }
            Err(problem) => {
                report.findings.push(Finding::of_payload(
                    "does-not-link",
                    "a payload that links at any address",
                    problem,
                ));
            }
        }
    }
    report.tidy();
    report
}

/// Checks what can be checked of a payload with the image alone that it is made for. The report says what was not.
pub fn verify_without_new(payload: &Payload, old: &Program) -> Report {
    without_new::verify(payload, old)
}
