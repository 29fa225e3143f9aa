//! Payloads with one thing wrong, looked at without the new build: what is found, and what only the new build can tell.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "common/mod.rs"]
mod common;

use hpgen_runtime::format::{Payload, Protection, Space};
use hpgen_verify::verify_without_new;

use common::Pair;

type Spoil = fn(&mut Payload);

fn code(payload: &mut Payload) -> &mut Vec<u8> {
    let segment = payload.segments.iter_mut().find(|segment| segment.protection == Protection::ReadExecute);
    &mut segment.unwrap().content
}

/// The codes of what is found in a spoiled payload.
fn found(pair: &Pair, payload: &Payload, spoil: Spoil) -> Vec<&'static str> {
    let mut spoiled = payload.clone();
    spoil(&mut spoiled);
    assert_ne!(&spoiled, payload, "nothing was spoiled");
    verify_without_new(&spoiled, &pair.old).findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn what_leads_nowhere_or_fits_another_image_is_found() {
    let pair = Pair::fixture("new_global");
    let payload = pair.payload(false).expect("hotpatchable");
    assert_eq!(verify_without_new(&payload, &pair.old).findings, []);
    let cases: [(&str, Spoil); 10] = [
        ("identity", |payload| payload.identity.age += 1),
        ("identity", |payload| payload.identity.timestamp ^= 1),
        ("trampoline", |payload| payload.trampolines[0].expected[0] ^= 1),
        ("trampoline", |payload| payload.trampolines[0].entry_rva += 1),
        ("trampoline", |payload| payload.functions[0].old_rva = None),
        ("code", |payload| code(payload)[0] = 0x06),
        ("reference", |payload| payload.relocations[0].target = 0x10_0000),
        ("reference", |payload| {
            // Calls of what is no function.
            let is_call = |r: &&mut hpgen_runtime::format::Relocation| r.space == Space::Image;
            payload.relocations.iter_mut().filter(is_call).for_each(|relocation| relocation.addend += 1);
        }),
        ("region", |payload| payload.functions[0].size += 0x1000),
        ("region", |payload| payload.variables[0].offset = payload.functions[0].offset),
    ];
    for (number, (code, spoil)) in cases.into_iter().enumerate() {
        let found = found(&pair, &payload, spoil);
        assert!(found.contains(&code) || found.contains(&"does-not-link"), "case {number}: {code} is not in {found:?}");
    }
}

#[test]
fn missing_unwind_data_is_found() {
    let program = |variant| xtask::workspace::program("lua_host", variant);
    if !program("old").is_file() || !program("new").is_file() {
        println!("skipped: lua_host is not built; `cargo xtask setup` builds it");
        return;
    }
    let pair = Pair::load(&program("old"), &program("new"));
    let payload = pair.payload(true).expect("hotpatchable");
    assert_eq!(verify_without_new(&payload, &pair.old).findings, []);
    assert!(payload.unwind.count > 0);
    assert!(found(&pair, &payload, |payload| payload.unwind.count = 0).contains(&"unwind"));
    assert!(found(&pair, &payload, |payload| payload.unwind.table += 4).contains(&"unwind"));
}

/// The limit: another function is called than the new build calls. It exists, so nothing is wrong that can be seen.
#[test]
fn what_the_code_means_is_not_found_and_that_is_said() {
    let pair = Pair::fixture("callee");
    let payload = pair.payload(false).expect("hotpatchable");
    let mut other = payload.clone();
    let functions: Vec<u32> = pair.old.functions.iter().map(|f| pair.old.atom(f.atom).unwrap().rva.0).collect();
    let calls = other.relocations.iter_mut().filter(|r| r.space == Space::Image && functions.contains(&r.target));
    let call = calls.last().expect("a call of an old function");
    call.target = *functions.iter().find(|rva| **rva != call.target).unwrap();
    let report = verify_without_new(&other, &pair.old);
    assert!(report.is_verified() && !report.unchecked.is_empty(), "{:?}", report.findings);
    assert_ne!(pair.verify(&other).findings, []);
}
