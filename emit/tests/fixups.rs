//! PDBs with a stream of fixups. No linker that runs here writes one, so that they are made: of what the code shows, and, where that shows two
//! readings, of what the source says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use hpgen_diff::atoms::{AtomKind, Name};
use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::{Location, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::{Evidence, Reference, ReferenceKind};
use hpgen_emit::plan::{Include, Plan};
use ms_pdb::msf::Msf;
use tempfile::TempDir;

const VARIANTS: [&str; 2] = ["old", "new"];

/// `XFIXUP_DATA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    kind: u16,
    place: u32,
    base: u32,
}

impl Record {
    fn bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..2].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.place.to_le_bytes());
        bytes[8..].copy_from_slice(&self.base.to_le_bytes());
        bytes
    }
}

fn stream(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(|record| record.bytes()).collect()
}

/// The object that a function's reference means, where its address does not say.
type Meaning<'a> = dyn Fn(&str, &Reference) -> Option<Rva> + 'a;

/// What a linker would record: a fixup for each reference that leaves its contribution, and for each pointer.
fn records_of(program: &Program, means: &Meaning<'_>) -> Vec<Record> {
    let mut records = BTreeMap::new();
    for function in &program.functions {
        let start = program.atom(function.atom).unwrap().rva;
        let name = program.display(program.atom(function.atom).unwrap());
        let whole = program.symbols.contribution_at(start).map(|c| c.range.clone());
        for reference in &function.code.references {
            // The assembler has resolved what stays in its section.
            let is_resolved = reference.kind == ReferenceKind::ShortJump
                || reference.kind.is_branch() && whole.as_ref().is_some_and(|whole| whole.contains(&reference.target));
            if !is_resolved {
                let place = start.checked_add(reference.field).unwrap();
                let base = means(&name, reference).unwrap_or_else(|| tied_to(program, reference.target));
                records.insert(place, Record { kind: kind_of(reference), place: place.0, base: base.0 });
            }
        }
    }
    for table in program.functions.iter().flat_map(|function| &function.tables).filter(|table| table.base == Rva(0)) {
        for place in (table.rva.0..).step_by(4).take(table.targets.len()) {
            let base = tied_to(program, table.rva);
            records.insert(Rva(place), Record { kind: 3, place, base: base.0 });
        }
    }
    for place in &program.image.base_relocations {
        let target = program.image.relocated_target(*place).unwrap();
        records.insert(*place, Record { kind: 1, place: place.0, base: tied_to(program, target).0 });
    }
    records.into_values().collect()
}

/// `IMAGE_REL_AMD64_*`.
fn kind_of(reference: &Reference) -> u16 {
    match reference.kind {
        ReferenceKind::Absolute => 1,
        ReferenceKind::ImageRelative => 3,
        ReferenceKind::ThreadLocal => 11,
        // clang counts immediates behind the field into the addend, where Microsoft's compiler has a form for each of their sizes.
        _ => 4,
    }
}

/// The symbol at or before an address, or the section that was contributed where there is none.
fn tied_to(program: &Program, target: Rva) -> Rva {
    let Location::Atom { atom, .. } = program.locate(target) else { return target };
    let atom = program.atom(atom).unwrap();
    let is_symbol = !atom.names.is_empty() || matches!(atom.kind, AtomKind::ImportSlot);
    let section = || program.symbols.contribution_at(target).map_or(atom.rva, |c| c.range.start);
    if is_symbol { atom.rva } else { section() }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(name)
}

fn load(folder: &Path) -> [Program; 2] {
    VARIANTS.map(|variant| Program::load(&folder.join(variant).with_extension("exe"), None).unwrap())
}

/// A copy of a fixture whose PDBs have streams of fixups.
fn copy_with(name: &str, streams: [&[u8]; 2]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (variant, content) in VARIANTS.into_iter().zip(streams) {
        for file in ["exe", "pdb"].map(|extension| format!("{variant}.{extension}")) {
            fs::copy(fixture(name).join(&file), folder.path().join(&file)).unwrap();
        }
        add_stream(&folder.path().join(variant).with_extension("pdb"), content);
    }
    folder
}

/// Adds a stream to a PDB and names it in the optional debug header, the last part of the DBI stream.
fn add_stream(pdb: &Path, content: &[u8]) {
    const DBI: u32 = 3;
    const FIXUPS: u32 = 2;
    let mut msf = Msf::modify(pdb).unwrap();
    let index = u16::try_from(msf.new_stream_data(content).unwrap()).unwrap();
    let dbi = msf.read_stream_to_vec(DBI).unwrap();
    // The header's fields with the sizes of the parts behind it, as far as the optional debug header: "The PDB DBI Stream", LLVM.
    let size = |at: usize| u32::from_le_bytes(dbi[at..at + 4].try_into().unwrap());
    let header = 64 + [24, 28, 32, 36, 40, 52].into_iter().map(size).sum::<u32>();
    assert!(size(48) > FIXUPS * 2, "an optional debug header with a place for fixups");
    let place = u64::from(header + FIXUPS * 2);
    msf.write_stream(DBI).unwrap().write_all_at_mut(&index.to_le_bytes(), place).unwrap();
    assert!(msf.commit().unwrap());
}

fn true_streams(name: &str) -> [Vec<u8>; 2] {
    load(&fixture(name)).map(|program| stream(&records_of(&program, &|_, _| None)))
}

fn functions_with(program: &Program, evidence: Evidence) -> usize {
    program.functions.iter().filter(|f| f.code.evidence == evidence).count()
}

/// What a comparison says, in words.
fn outcome(programs: &[Program; 2]) -> String {
    let [old, new] = programs;
    let changes = ChangeSet::of(old, new, &Comparison::of(old, new));
    let functions: Vec<_> = changes.functions.iter().map(|f| (f.status, &f.name, f.old, f.new, &f.why)).collect();
    let data: Vec<_> = changes.data.iter().map(|d| (d.status, &d.name, &d.why)).collect();
    format!("{functions:#?}\n{data:#?}\n{:#?}\n{}", changes.reasons, changes.unchanged)
}

const FORMS: [&str; 9] = [
    "callee",
    "delay_load",
    "gcc_code",
    "image_relative",
    "labels",
    "new_function",
    "relink",
    "thread_local",
    "thunks",
];

#[test]
fn functions_rest_on_fixups_and_mean_the_same() {
    for name in FORMS {
        let streams = true_streams(name);
        let folder = copy_with(name, [&streams[0], &streams[1]]);
        let (programs, analysed) = (load(folder.path()), load(&fixture(name)));
        for (program, analysed) in programs.iter().zip(&analysed) {
            assert_eq!(functions_with(analysed, Evidence::Analysis), analysed.functions.len(), "{name}");
            for function in &program.functions {
                let atom = program.atom(function.atom).unwrap();
                // Of its own thunks the linker records no checksum.
                let is_linkers =
                    program.module_name(atom) == Some("* Linker *") || atom.names.iter().any(is_late_thunk);
                let expected = if is_linkers { Evidence::Analysis } else { Evidence::Fixups };
                assert_eq!(function.code.evidence, expected, "{name}: {}", program.display(atom));
            }
        }
        assert_eq!(outcome(&programs), outcome(&analysed), "{name}");
    }
}

/// What lld makes for imports that are looked up late counts as the DLL's.
fn is_late_thunk(name: &Name) -> bool {
    name.key.starts_with("__imp___load_") || name.key.starts_with("__tailMerge_")
}

/// Ends and biased bases, which analysis refuses where the two builds do not settle them.
#[test]
fn fixups_settle_what_addresses_do_not() {
    let variable = |program: &Program, name: &str| program.symbols.publics.iter().find(|p| p.name == name).unwrap().rva;
    let analysed = load(&fixture("operands"));
    let streams: Vec<_> = analysed
        .iter()
        .zip([["few", "tens"], ["more", "twenties"]])
        .map(|(program, [summed, read])| {
            let meant = |function: &str| match function {
                "end_kept" => Some("few"),
                "biased_kept" => Some("tens"),
                "end_changed" => Some(summed),
                "biased_changed" => Some(read),
                _ => None,
            };
            let is_address = |reference: &Reference| reference.kind == ReferenceKind::Address;
            stream(&records_of(program, &|function, reference| {
                meant(function).filter(|_| is_address(reference)).map(|name| variable(program, name))
            }))
        })
        .collect();
    let folder = copy_with("operands", [&streams[0], &streams[1]]);
    assert_eq!(
        refusals(&analysed),
        ["unproven-reference biased_changed", "unproven-reference end_changed"],
        "without fixups"
    );
    assert_eq!(refusals(&load(folder.path())), [] as [&str; 0], "with fixups");
}

/// Why a payload cannot be made.
fn refusals([old, new]: &[Program; 2]) -> Vec<String> {
    let comparison = Comparison::of(old, new);
    let changes = ChangeSet::of(old, new, &comparison);
    let plan = Plan::of(old, new, &comparison, &changes, &Include::default());
    let reasons = changes.reasons.iter().chain(&plan.refusals);
    reasons.map(|reason| format!("{} {}", reason.code, reason.symbol)).collect()
}

/// What becomes of a true record.
type Lie = dyn Fn(Record) -> Option<Record>;

/// A record that is wrong, or one that is missing, costs the trust in its contribution and nothing else.
#[test]
fn lies_are_not_believed() {
    let name = "labels";
    let analysed = outcome(&load(&fixture(name)));
    let streams = load(&fixture(name)).map(|program| records_of(&program, &|_, _| None));
    let all = load(copy_with(name, [&stream(&streams[0]), &stream(&streams[1])]).path());
    let believed =
        |programs: &[Program; 2]| programs.iter().map(|p| functions_with(p, Evidence::Fixups)).sum::<usize>();
    let in_code = |record: &Record| all[1].image.section_at(Rva(record.place)).is_some_and(|s| s.is_executable());
    let lies: [(&str, &Lie); 6] = [
        ("missing", &|_| None),
        ("another form", &|r| Some(Record { kind: if r.kind == 3 { 4 } else { 3 }, ..r })),
        ("unknown form", &|r| Some(Record { kind: 99, ..r })),
        ("another object", &|r| Some(Record { base: r.base.wrapping_add(8), ..r })),
        ("another place", &|r| Some(Record { place: r.place - 1, ..r })),
        ("outside the image", &|r| Some(Record { base: 0xffff_fff0, ..r })),
    ];
    let victims: Vec<usize> = (0..streams[1].len()).filter(|index| in_code(&streams[1][*index])).collect();
    assert!(victims.len() > 20, "{} records", victims.len());
    for (what, lie) in lies {
        for victim in victims.iter().step_by(5) {
            let mut records = streams[1].clone();
            let liar = records.remove(*victim);
            records.extend(lie(liar));
            let programs = load(copy_with(name, [&stream(&streams[0]), &stream(&records)]).path());
            assert_eq!(outcome(&programs), analysed, "{what}: {liar:x?}");
            assert!(believed(&programs) < believed(&all), "{what}: {liar:x?} cost nothing");
        }
    }
}

/// Whatever the stream holds: no panic, and no other outcome than without it.
#[test]
fn damaged_streams_are_none() {
    let name = "callee";
    let analysed = outcome(&load(&fixture(name)));
    let [old, new] = true_streams(name);
    let mut rng = Rng::with_seed(11);
    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), vec![0; 12], vec![0xff; 12 * 64], new[..new.len() - 5].to_vec()];
    for _ in 0..60 {
        let mut content = new.clone();
        for _ in 0..rng.usize(1..8) {
            let at = rng.usize(..content.len());
            content[at] = rng.u8(..);
        }
        content.truncate(rng.usize(..=content.len()));
        damaged.push(content);
        damaged.push((0..rng.usize(..400)).map(|_| rng.u8(..)).collect());
    }
    for content in damaged {
        let programs = load(copy_with(name, [&old, &content]).path());
        assert_eq!(outcome(&programs), analysed, "{content:x?}");
    }
}
