//! Payloads that hpgen makes: nothing is found wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::time::Instant;

use hpgen_diff::compare::Comparison;
use hpgen_runtime::format::THROW_STUB;

use common::{Pair, fixtures};

#[test]
fn payloads_of_all_fixtures_are_sound() {
    let mut payloads = 0;
    for name in fixture_names() {
        let pair = Pair::fixture(&name);
        for all in [false, true] {
            let Some(payload) = pair.payload(all) else { continue };
            let report = pair.verify(&payload);
            assert_eq!(report.findings, [], "{name}, all: {all}");
            assert!(report.is_verified(), "{name}");
            assert_eq!(report.placements.len(), 4, "{name}");
            // What the payload throws with is looked at by itself: it is no function of the new build.
            let of_the_build = payload.functions.iter().filter(|function| function.name != THROW_STUB).count();
            assert_eq!(report.counts.functions, of_the_build, "{name}");
            payloads += 1;
        }
    }
    assert!(payloads >= 28, "only {payloads} payloads");
}

/// What needs no new build is right as well, and the report says that this is not all.
#[test]
fn payloads_of_all_fixtures_fit_the_old_image() {
    let mut payloads = 0;
    for name in fixture_names() {
        let pair = Pair::fixture(&name);
        for all in [false, true] {
            let Some(payload) = pair.payload(all) else { continue };
            let report = hpgen_verify::verify_without_new(&payload, &pair.old);
            assert_eq!(report.findings, [], "{name}, all: {all}");
            assert!(report.is_verified() && report.unchecked.len() == 4, "{name}");
            assert_eq!(report.counts.functions, payload.functions.len(), "{name}");
            assert!(payload.relocations.is_empty() || report.counts.references.total() > 0, "{name}");
            payloads += 1;
        }
    }
    assert!(payloads >= 28, "only {payloads} payloads");
}

/// Every function of real programs, against a changed build and against the same objects in another order at another base.
#[test]
fn payloads_of_whole_programs_are_sound() {
    for program in ["lua_host", "sqlite_host"] {
        for variant in ["new", "relinked"] {
            let image = |variant| xtask::workspace::program(program, variant);
            if !image("old").is_file() || !image(variant).is_file() {
                println!("skipped: {program} is not built; `cargo xtask setup` builds it");
                continue;
            }
            let pair = Pair::load(&image("old"), &image(variant));
            let payload = pair.payload(true).expect("hotpatchable");
            let start = Instant::now();
            let comparison = Comparison::of(&pair.old, &pair.new);
            let compared = start.elapsed();
            let report = hpgen_verify::verify(&payload, &pair.old, &pair.new, &comparison);
            println!(
                "{program} {variant}: {:?}; compared in {compared:.1?}, verified in {:.1?}",
                report.counts,
                start.elapsed() - compared
            );
            assert_eq!(report.findings, [], "{program} {variant}");
            let alone = hpgen_verify::verify_without_new(&payload, &pair.old);
            assert_eq!(alone.findings, [], "{program} {variant}, without the new build");
            assert_eq!(alone.counts.unwind_records, report.counts.unwind_records, "{program} {variant}");
            assert!(report.counts.functions > 800 && report.counts.unwind_records > 600, "{program} {variant}");
        }
    }
}

/// Names of all fixtures.
fn fixture_names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().join("old.exe").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
