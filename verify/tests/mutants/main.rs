//! Payloads with one thing wrong: each must be found.
//!
//! What is excluded is counted, and each by a rule:
//! * *without effect*: the mutant gives the same bytes in region and image at every placement as the payload itself;
//! * *stricter*: more expected bytes than needed, which end at an instruction's end.
//!
//! `HPGEN_VERIFY_PAIR="OLD NEW" HPGEN_MUTATIONS=20000 cargo test --release -p hpgen-verify --test mutants larger` looks at another pair.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod change;
#[path = "../common/mod.rs"]
mod common;

use std::path::PathBuf;

use hpgen_emit::plan::{Include, ProbationRequest};
use hpgen_runtime::format::Payload;
use hpgen_runtime::link::{LinkError, Linked};
use hpgen_verify::placement;
use rayon::prelude::*;

use change::Mutation;
use common::Pair;

/// Parts of a payload that say what is in it, and do not change what it makes of a process.
const RECORDS: [&str; 7] = ["function", "identity", "import", "variable", "hook", "assignment", "probation"];

#[test]
fn every_mutant_of_a_fixture_is_found() {
    let mut counted = Counted::default();
    for (fixture, all) in [
        ("callee", true),
        ("string", false),
        ("new_function", false),
        ("new_global", true),
        ("new_import", true),
        ("rodata", true),
        ("biased_base", true),
        ("local_static", true),
        ("lto_statics", true),
        ("block_numbers", true),
        ("hooks", false),
        ("hook_section", false),
        ("constructor", false),
        ("new_object", false),
        ("grown_constructor", false),
        ("dispatch", false),
        ("table_from_one", true),
        ("image_relative", true),
        ("short_branches", false),
        ("cpp_tables", false),
        ("short_function", true),
    ] {
        let pair = Pair::fixture(fixture);
        let payload = pair.payload(all).expect("hotpatchable");
        counted.add(judge(fixture, &pair, &payload, &change::all(&pair.old, &payload)));
    }
    for (fixture, check) in [("hooks", "fixture_round"), ("new_function", "print")] {
        let pair = Pair::fixture(fixture);
        let check = Some(check.to_owned());
        let probation = Some(ProbationRequest { window_ms: 20_000, interval_ms: 500, check });
        let payload = pair.payload_with(&Include { probation, ..Include::default() }).expect("hotpatchable");
        assert!(payload.probation.is_some_and(|probation| probation.check.is_some()), "{fixture}: no health check");
        let mutations = change::probation(&payload);
        counted.add(judge(&format!("{fixture} on probation"), &pair, &payload, &mutations));
    }
    let pair = Pair::fixture("data_init");
    let set = Include { set: ["limit".to_owned()].into(), all: true, ..Include::default() };
    let payload = pair.payload_with(&set).expect("the rule takes away what is against it");
    assert_eq!(payload.assignments.len(), 1);
    counted.add(judge("data_init", &pair, &payload, &change::all(&pair.old, &payload)));
    counted.report("fixtures");
    assert!(counted.found > 10_000, "fewer mutants than there should be: {counted:?}");
}

/// A program with unwind data and exception handlers, which the fixtures lack.
#[test]
fn mutants_of_a_larger_program_are_found() {
    let (pair, wanted) = match std::env::var("HPGEN_VERIFY_PAIR") {
        Ok(pair) => {
            let (old, new) = pair.split_once(' ').expect("HPGEN_VERIFY_PAIR is OLD and NEW");
            (Pair::load(&PathBuf::from(old), &PathBuf::from(new)), "HPGEN_VERIFY_PAIR")
        }
        Err(_) => {
            let program = |variant| xtask::workspace::program("lua_host", variant);
            if !program("old").is_file() {
                println!("skipped: lua_host is not built; `cargo xtask setup` builds it");
                return;
            }
            (Pair::load(&program("old"), &program("new")), "lua_host")
        }
    };
    let payload = pair.payload(true).expect("hotpatchable");
    assert!(payload.unwind.count > 0, "no unwind data");
    let limit = std::env::var("HPGEN_MUTATIONS").ok().and_then(|number| number.parse().ok()).unwrap_or(60);
    let all = change::all(&pair.old, &payload);
    let step = (all.len() / limit).max(1);
    // An odd step meets every kind of mutation in turn.
    let some: Vec<Mutation> = all.into_iter().step_by(step | 1).collect();
    let counted = judge(wanted, &pair, &payload, &some);
    counted.report(wanted);
    assert!(counted.found * 2 > some.len(), "fewer mutants than there should be: {counted:?}");
}

#[derive(Debug, Default)]
struct Counted {
    found: usize,
    without_effect: usize,
    stricter: usize,
    missed: Vec<String>,
}

impl Counted {
    fn add(&mut self, other: Counted) {
        self.found += other.found;
        self.without_effect += other.without_effect;
        self.stricter += other.stricter;
        self.missed.extend(other.missed);
    }

    fn report(&self, what: &str) {
        println!(
            "{what}: {} mutants found, {} without effect, {} stricter, {} missed",
            self.found,
            self.without_effect,
            self.stricter,
            self.missed.len()
        );
        let shown: Vec<&str> = self.missed.iter().take(40).map(String::as_str).collect();
        assert!(self.missed.is_empty(), "{} missed:\n{}", self.missed.len(), shown.join("\n"));
    }
}

/// Verifies all mutants.
fn judge(name: &str, pair: &Pair, payload: &Payload, mutations: &[Mutation]) -> Counted {
    assert_eq!(pair.verify(payload).findings, [], "{name}: the payload itself");
    let original = linked(pair, payload);
    let is_record = |what: &str| RECORDS.iter().any(|record| what.starts_with(record));
    let judged = mutations.par_iter().filter_map(|mutation| {
        let mut counted = Counted::default();
        let mutant = mutation.of(payload)?;
        if !pair.verify(&mutant).findings.is_empty() {
            counted.found = 1;
        } else if !is_record(&mutation.what) && linked(pair, &mutant) == original {
            counted.without_effect = 1;
        } else if mutation.what.contains("longer") {
            counted.stricter = 1;
        } else {
            counted.missed.push(format!("{name}: {}", mutation.what));
        }
        Some(counted)
    });
    judged.reduce(Counted::default, |mut sum, counted| {
        sum.add(counted);
        sum
    })
}

/// What the payload makes of a process at each placement.
fn linked(pair: &Pair, payload: &Payload) -> Vec<Result<Linked, LinkError>> {
    let imports: Vec<u64> = (1..=payload.imports.len() as u64).map(|number| number << 40).collect();
    placement::placements(&pair.old.image, payload)
        .into_iter()
        .map(|placement| placement.link(payload, &imports))
        .collect()
}
