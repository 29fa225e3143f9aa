//! A function that takes its own address: the value must compare equal to those that old code and data hold.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;

use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_emit::build;
use hpgen_emit::plan::{Include, Plan};
use hpgen_runtime::format::Space;

/// `price` of the fixture `callee`, and where its `lea` holds the distance to a function.
const PRICE: u32 = 0x1020;
const FIELD: u32 = 0x1038;
/// Where the code section is in memory and in the file.
const TEXT: u32 = 0x1000;
const TEXT_IN_FILE: u32 = 0x400;

#[test]
fn a_functions_own_address_is_its_old_entry() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/callee");
    let folder = tempfile::tempdir().unwrap();
    let mut image = fs::read(fixture.join("new.exe")).unwrap();
    let field = (FIELD - TEXT + TEXT_IN_FILE) as usize;
    assert_eq!(image[field - 3..field - 1], [0x48, 0x8d], "a lea with a 64-bit register");
    let distance = PRICE.wrapping_sub(FIELD + 4);
    image[field..field + 4].copy_from_slice(&distance.to_le_bytes());
    fs::write(folder.path().join("new.exe"), image).unwrap();
    fs::copy(fixture.join("new.pdb"), folder.path().join("new.pdb")).unwrap();

    let old = Program::load(&fixture.join("old.exe"), None).unwrap();
    let new = Program::load(&folder.path().join("new.exe"), None).unwrap();
    let comparison = Comparison::of(&old, &new);
    let changes = ChangeSet::of(&old, &new, &comparison);
    let plan = Plan::of(&old, &new, &comparison, &changes, &Include::default());
    let payload = build::payload(&old, &new, &plan).unwrap();

    let price = payload.functions.iter().find(|function| function.old_rva == Some(PRICE)).unwrap();
    let place = price.offset + (FIELD - PRICE);
    let relocation = payload.relocations.iter().find(|relocation| relocation.place == place);
    let (space, target) = relocation.map(|r| (r.space, r.target)).expect("the address lies in the old image");
    assert_eq!((space, target), (Space::Image, PRICE));
}
