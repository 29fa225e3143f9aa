//! The mistake that hpgen must not make: an image of which any byte that counts was changed is never "unchanged".
//!
//! Every byte of code, and every byte of data that something names, is changed in a copy of an image, which is then compared with
//! the image. What does nothing (padding) is left alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hpgen_diff::atoms::{AtomIndex, AtomKind};
use hpgen_diff::change_set::{ChangeSet, Verdict};
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::{Program, pointers_in};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::Role;

const FIXTURES: [&str; 7] =
    ["callee", "new_function", "rodata", "biased_base", "struct_layout", "atom_edges", "image_relative"];

#[test]
fn every_byte_counts() {
    let folder = tempfile::tempdir().unwrap();
    for fixture in FIXTURES {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture);
        let bytes = fs::read(source.join("new.exe")).unwrap();
        let (image, pdb) = (folder.path().join("copy.exe"), folder.path().join("copy.pdb"));
        fs::copy(source.join("new.pdb"), &pdb).unwrap();
        let old = Program::load(&source.join("new.exe"), None).unwrap();
        let compare = |content: &[u8]| {
            fs::write(&image, content).unwrap();
            // An image that is refused is not missed.
            let new = Program::load(&image, None).ok()?;
            let verdict = ChangeSet::of(&old, &new, &Comparison::of(&old, &new)).verdict(&[]);
            (verdict == Verdict::Unchanged).then_some(new)
        };
        assert!(compare(&bytes).is_some(), "{fixture}: nothing was changed");

        let places = counting_bytes(&old);
        assert!(places.len() > 400, "{fixture}: {} places", places.len());
        let mut missed = Vec::new();
        for (number, rva) in places.into_iter().enumerate() {
            let place = file_offset(&bytes, rva);
            let mut changed = bytes.clone();
            changed[place] ^= 1 << (number % 8);
            if compare(&changed).is_some_and(|new| !branches_to_padding(&new, rva)) {
                missed.push(rva);
            }
        }
        assert!(missed.is_empty(), "{fixture}: changes were missed at {missed:?}");
    }
}

/// Bytes of instructions that are not padding, and of data.
fn counting_bytes(program: &Program) -> Vec<Rva> {
    let mut places = Vec::new();
    for function in &program.functions {
        let start = program.atom(function.atom).unwrap().rva;
        for i in function.code.instructions.iter().filter(|i| i.role != Role::Padding) {
            places.extend((i.offset..i.offset + u32::from(i.len)).map(|offset| start.checked_add(offset).unwrap()));
        }
    }
    // What neither has a name nor is named by code or a pointer belongs to the linker, or fills a gap.
    let from_code = program.functions.iter().flat_map(|f| &f.code.references).map(|r| r.target);
    let whole_image = Rva(0)..Rva(u32::MAX);
    let pointers = pointers_in(&program.image, whole_image).filter_map(|(_, target)| target);
    let named: BTreeSet<AtomIndex> = from_code.chain(pointers).filter_map(|rva| program.atom_before(rva)).collect();
    for (index, atom) in (0..).map(AtomIndex).zip(&program.atoms) {
        let is_data = matches!(atom.kind, AtomKind::ReadOnly | AtomKind::Writable);
        if is_data && (!atom.names.is_empty() || named.contains(&index)) {
            let in_file = program.image.bytes_up_to(atom.rva..atom.end()).len() as u32;
            places.extend((0..in_file).map(|offset| atom.rva.checked_add(offset).unwrap()));
        }
    }
    places
}

/// A branch that now leads to the padding in front of where it led before means the same.
fn branches_to_padding(new: &Program, rva: Rva) -> bool {
    let Some(function) = new.atom_before(rva).and_then(|index| new.function(index)) else { return false };
    let offset = rva.distance_from(new.atom(function.atom).unwrap().rva) as u32;
    let instructions = &function.code.instructions;
    let role = |index: usize| instructions.get(index).map(|i| i.role);
    match role(instructions.partition_point(|i| i.offset <= offset) - 1) {
        Some(Role::Branch { target, .. }) => {
            function.code.instruction_at(target).and_then(role).is_some_and(|role| role == Role::Padding)
        }
        _ => false,
    }
}

/// Where an address is in the file, by the section table.
fn file_offset(image: &[u8], rva: Rva) -> usize {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(image[at..at + 2].try_into().unwrap()));
    let u32_at = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let header = u32_at(0x3c) as usize;
    let table = header + 24 + u16_at(header + 20);
    (0..u16_at(header + 6))
        .map(|index| table + index * 40)
        .find_map(|section| {
            let offset = rva.0.checked_sub(u32_at(section + 12))?;
            (offset < u32_at(section + 16)).then(|| (u32_at(section + 20) + offset) as usize)
        })
        .unwrap()
}
