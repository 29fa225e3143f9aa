//! Two constants with names of their own that hold the same: a program can tell them apart by their addresses (markers at the ends
//! of an array, `&a == &b`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;

use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_emit::build;
use hpgen_emit::plan::{Include, Plan};
use hpgen_runtime::format::Space;

/// The literals `"price "` and `"lost "` of the fixture `callee`, which its changed function names.
const LITERALS: [u32; 2] = [0x2000, 0x2007];

#[test]
fn each_keeps_its_own_address() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/callee");
    let folder = tempfile::tempdir().unwrap();
    let load = |build: &str| {
        let mut image = fs::read(fixture.join(build).with_extension("exe")).unwrap();
        let start = image.windows(12).position(|bytes| bytes == b"price \0lost ").expect("both literals");
        image[start..start + 12].copy_from_slice(b"ab\0\0\0\0\0ab\0\0\0");
        let path = folder.path().join(build).with_extension("exe");
        fs::write(&path, image).unwrap();
        fs::copy(fixture.join(build).with_extension("pdb"), path.with_extension("pdb")).unwrap();
        Program::load(&path, None).unwrap()
    };
    let (old, new) = (load("old"), load("new"));
    let comparison = Comparison::of(&old, &new);
    let changes = ChangeSet::of(&old, &new, &comparison);
    let plan = Plan::of(&old, &new, &comparison, &changes, &Include::default());
    let payload = build::payload(&old, &new, &plan).unwrap();
    for literal in LITERALS {
        let leads_there = |r: &&hpgen_runtime::format::Relocation| r.space == Space::Image && r.target == literal;
        assert_eq!(payload.relocations.iter().filter(leads_there).count(), 1, "{literal:#x}");
    }
}
