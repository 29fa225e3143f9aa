//! Every byte of the region belongs to something that was looked at, or is filler.

use std::collections::{BTreeMap, BTreeSet};

use hpgen_diff::atoms::{AtomIndex, AtomKind};
use hpgen_runtime::format::{PAGE, Protection, RelocationKind};
use hpgen_runtime::link::LinkedSegment;

use crate::claims::{Occupied, Part};
use crate::code::extent;
use crate::facts::Facts;
use crate::process::Process;
use crate::report::Finding;

/// Between functions: a stray jump stops at once. Elsewhere gaps are zero.
const CODE_FILLER: u8 = 0xcc;

/// A part of the region, with whom it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Extent {
    range: Range64,
    is_constant: bool,
    what: String,
}

type Range64 = (u64, u64);

/// Checks extents, protections and gaps. `bound` holds region offsets of objects of the new program.
pub(crate) fn look(
    facts: &Facts<'_>,
    process: &Process,
    bound: &BTreeMap<AtomIndex, u32>,
    occupied: &BTreeSet<Occupied>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut extents: Vec<Extent> = Vec::new();
    let mut add = |offset: u32, size: u32, protection: Protection, is_constant: bool, what: String| {
        let range = (u64::from(offset), u64::from(offset) + u64::from(size));
        let in_memory = u32::try_from(range.1).ok().and_then(|end| process.protection(offset..end));
        if in_memory != Some(protection) {
            let found = in_memory.map_or("no segment".to_owned(), |other| format!("{other:?}"));
            findings.push(finding(&what, format!("memory with protection {protection:?}"), found));
        }
        extents.push(Extent { range, is_constant, what });
    };
    for (index, offset) in bound {
        let Some(atom) = facts.new.atom(*index) else { continue };
        let size = facts.new.function(*index).map_or(atom.size, extent);
        let protection = match atom.kind {
            AtomKind::Function(_) => Protection::ReadExecute,
            AtomKind::Writable => Protection::ReadWrite,
            AtomKind::ReadOnly | AtomKind::ImportSlot => Protection::Read,
        };
        add(*offset, size, protection, atom.kind == AtomKind::ReadOnly, facts.name(*index));
    }
    for part in occupied {
        let is_code = matches!(part.part, Part::Island(_) | Part::ThrowStub);
        let protection = if is_code { Protection::ReadExecute } else { Protection::Read };
        add(part.offset, part.size, protection, false, describe(facts, part.part));
    }
    findings.extend(unguarded(process));
    findings.extend(split_tables(facts, occupied));
    findings.extend(other_bases(facts, bound, occupied));
    extents.sort();
    extents.dedup();
    findings.extend(overlaps(&extents));
    findings.extend(gaps(process, &extents));
    findings.extend(stray_relocations(facts, &extents));
    findings
}

fn finding(what: &str, expected: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { function: Some(what.to_owned()), ..Finding::of_payload("region", expected, found) }
}

fn describe(facts: &Facts<'_>, part: Part) -> String {
    match part {
        Part::Table(function, rva) => format!("the table of {} from {rva}", facts.name(function)),
        Part::Island(function) => format!("a jump beside {}", facts.name(function)),
        Part::ThrowStub => "a throwing function".to_owned(),
        Part::ThrowBase => "the base of descriptions of what is thrown".to_owned(),
        Part::FunctionTable => "the function table".to_owned(),
        Part::UnwindRecord(number) => format!("unwind record {number}"),
        Part::ExceptionTable(rva) => format!("the exception table from {rva}"),
        Part::Value(index) => format!("the new value of {}", facts.name(index)),
        Part::ImportSlot(number) => format!("import slot {number}"),
    }
}

/// A page that nobody may touch stands between segments.
fn unguarded(process: &Process) -> Vec<Finding> {
    let pairs = process.linked.segments.windows(2).filter_map(|pair| match pair {
        [before, behind] => Some((before, behind)),
        _ => None,
    });
    let end = |segment: &LinkedSegment| u64::from(segment.offset) + u64::from(segment.size);
    let guarded = |from: u64| from.next_multiple_of(PAGE.into()) + u64::from(PAGE);
    let unguarded = pairs.filter(|(before, behind)| u64::from(behind.offset) < guarded(end(before)));
    unguarded
        .map(|(_, behind)| {
            let found = format!("none in front of region offset {:#x}", behind.offset);
            Finding::of_payload("region", "a page between segments that nobody may touch", found)
        })
        .collect()
}

/// A function and its funclets share their exception tables: there is one of each.
fn split_tables(facts: &Facts<'_>, occupied: &BTreeSet<Occupied>) -> Vec<Finding> {
    let mut places: BTreeMap<Part, u32> = BTreeMap::new();
    let mut is_elsewhere = |part: &&Occupied| {
        matches!(part.part, Part::ExceptionTable(_)) && *places.entry(part.part).or_insert(part.offset) != part.offset
    };
    let twice = occupied.iter().filter(|part| is_elsewhere(part));
    twice
        .map(|part| finding(&describe(facts, part.part), "one place", format!("another at {:#x}", part.offset)))
        .collect()
}

/// Unwind data counts from the base that its table is registered with, which is the image's only where the region is above it (2.7). So do
/// descriptions of what is thrown.
fn other_bases(facts: &Facts<'_>, bound: &BTreeMap<AtomIndex, u32>, occupied: &BTreeSet<Occupied>) -> Vec<Finding> {
    let is_unwind = |part: &Part| {
        matches!(part, Part::FunctionTable | Part::UnwindRecord(_) | Part::ExceptionTable(_) | Part::ThrowBase)
    };
    let parts = occupied.iter().filter(|part| is_unwind(&part.part));
    let parts = parts.map(|part| (part.offset, part.size, describe(facts, part.part)));
    let records = bound.iter().filter(|(index, _)| facts.is_throw_record(**index));
    let records = records.map(|(index, offset)| {
        let size = facts.new.atom(*index).map_or(0, |atom| atom.size);
        (*offset, size, facts.name(*index))
    });
    let relocations = &facts.payload.relocations;
    let mut findings = Vec::new();
    for (offset, size, what) in parts.chain(records) {
        let first = relocations.partition_point(|r| r.place < offset);
        let end = offset.saturating_add(size);
        let own = relocations.iter().skip(first).take_while(|r| r.place < end);
        for relocation in own.filter(|r| r.kind == RelocationKind::Image32) {
            let found = format!("{:?} at {:#x}", relocation.kind, relocation.place);
            findings.push(finding(&what, "fields that count from the function table base", found));
        }
    }
    findings
}

/// Only constants may share bytes: each was compared with what is there.
fn overlaps(extents: &[Extent]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut farthest: Option<&Extent> = None;
    for extent in extents {
        if let Some(before) = farthest.filter(|before| extent.range.0 < before.range.1)
            && !(before.is_constant && extent.is_constant)
        {
            findings.push(finding(&extent.what, "a place of its own", format!("an overlap with {}", before.what)));
        }
        if farthest.is_none_or(|before| before.range.1 < extent.range.1) {
            farthest = Some(extent);
        }
    }
    findings
}

/// What belongs to nothing is filler.
fn gaps(process: &Process, extents: &[Extent]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for segment in &process.linked.segments {
        let filler = if segment.protection == Protection::ReadExecute { CODE_FILLER } else { 0 };
        let (start, end) = (u64::from(segment.offset), u64::from(segment.offset) + segment.bytes.len() as u64);
        let first = extents.partition_point(|extent| extent.range.1 <= start);
        let mut place = start;
        let inside = extents.iter().skip(first).map(|extent| extent.range).take_while(|range| range.0 < end);
        for (next, behind) in inside.chain([(end, end)]) {
            let gap = (place.saturating_sub(start) as usize)..(next.min(end).saturating_sub(start) as usize);
            let bytes = segment.bytes.get(gap.clone()).unwrap_or(&[]);
            if let Some(at) = bytes.iter().position(|byte| *byte != filler) {
                let at = place.saturating_add(at as u64);
                findings.push(Finding::of_payload(
                    "region",
                    "filler between what the new build has",
                    format!("bytes at region offset {at:#x} that belong to nothing"),
                ));
            }
            place = place.max(behind);
        }
    }
    findings
}

/// Every field that the loader fills in belongs to something.
fn stray_relocations(facts: &Facts<'_>, extents: &[Extent]) -> Vec<Finding> {
    let mut farthest = 0;
    let reach: Vec<u64> = extents
        .iter()
        .map(|extent| {
            farthest = extent.range.1.max(farthest);
            farthest
        })
        .collect();
    let is_stray = |place: u32| {
        let before = extents.partition_point(|extent| extent.range.0 <= u64::from(place)).checked_sub(1);
        before.and_then(|index| reach.get(index)).is_none_or(|end| *end <= u64::from(place))
    };
    let relocations = facts.payload.relocations.iter().filter(|relocation| is_stray(relocation.place));
    relocations
        .map(|relocation| {
            let found = format!("one at region offset {:#x}, which belongs to nothing", relocation.place);
            Finding::of_payload("region", "relocations of what the new build has", found)
        })
        .collect()
}
