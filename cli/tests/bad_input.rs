//! Files that are missing, damaged or of another kind, and wrong usage: an error that names the file and what is wrong, the exit
//! code that scripts branch on, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "command/mod.rs"]
mod command;

use std::fs;
use std::path::Path;
use std::process::Command;

use command::{Ran, copy_of, hpgen};
use xtask::toolchain;

/// A small fixture; every table of an image that is read is in it or in [`WITH_RELOCATIONS`].
const FIXTURE: &str = "constant";
const WITH_RELOCATIONS: &str = "callee";

const COMPARING: [&[&str]; 3] = [
    &["diff", "old.exe", "new.exe"],
    &["check", "old.exe", "new.exe"],
    &["build", "old.exe", "new.exe", "-o", "fix.hpx"],
];

/// The run ended with an error that names `file` and says `what`.
#[track_caller]
fn assert_error(ran: &Ran, file: &str, what: &[&str]) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    for text in what.iter().chain([&file]) {
        assert!(ran.stderr.contains(text), "no {text:?} in {ran:?}");
    }
    assert_no_panic(ran);
}

#[track_caller]
fn assert_no_panic(ran: &Ran) {
    assert!(ran.code.is_some(), "ended by a signal: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
}

/// Nothing but what was there before.
#[track_caller]
fn assert_nothing_written(folder: &Path) {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|name| !["old.exe", "old.pdb", "new.exe", "new.pdb"].contains(&name.as_str()));
    assert_eq!(files, Vec::<String>::new());
}

/// Every command that compares says the same about a file that replaces one of a fixture's.
#[track_caller]
fn assert_refused(fixture: &str, file: &str, content: &[u8], what: &[&str]) {
    let folder = copy_of(fixture);
    fs::write(folder.path().join(file), content).unwrap();
    for arguments in COMPARING {
        assert_error(&hpgen(folder.path(), arguments), file, what);
    }
    assert_nothing_written(folder.path());
}

fn bytes_of(fixture: &str, file: &str) -> Vec<u8> {
    fs::read(command::fixture(fixture).join(file)).unwrap()
}

/// Where the PE signature is.
fn pe_header(image: &[u8]) -> usize {
    u32::from_le_bytes(image[0x3c..0x40].try_into().unwrap()) as usize
}

fn payload() -> Vec<u8> {
    let folder = copy_of("new_function");
    let ran = hpgen(folder.path(), &["build", "old.exe", "new.exe", "-o", "fix.hpx"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    fs::read(folder.path().join("fix.hpx")).unwrap()
}

#[test]
fn empty_files() {
    assert_refused(FIXTURE, "old.exe", b"", &["empty"]);
    assert_refused(FIXTURE, "new.exe", b"", &["empty"]);
    assert_refused(FIXTURE, "old.pdb", b"", &["empty"]);
    assert_refused(FIXTURE, "new.pdb", b"", &["empty"]);
}

#[test]
fn files_of_another_kind() {
    assert_refused(FIXTURE, "new.exe", b"This is a text, not a program.\n", &["not a PE image"]);
    assert_refused(FIXTURE, "new.exe", &bytes_of(FIXTURE, "new.pdb"), &["not a PE image"]);
    assert_refused(FIXTURE, "new.pdb", b"This is a text, not a database.\n", &["not a PDB"]);
    assert_refused(FIXTURE, "new.pdb", &bytes_of(FIXTURE, "new.exe"), &["not a PDB"]);
}

#[test]
fn images_for_other_machines() {
    let with = |machine: u16, magic: u16| {
        let mut image = bytes_of(FIXTURE, "old.exe");
        let header = pe_header(&image);
        image[header + 4..header + 6].copy_from_slice(&machine.to_le_bytes());
        image[header + 24..header + 26].copy_from_slice(&magic.to_le_bytes());
        image
    };
    assert_refused(FIXTURE, "old.exe", &with(0xaa64, 0x20b), &["ARM64", "0xaa64", "x64"]);
    assert_refused(FIXTURE, "old.exe", &with(0x014c, 0x20b), &["x86", "0x014c", "x64"]);
    assert_refused(FIXTURE, "old.exe", &with(0x014c, 0x10b), &["32-bit", "x86", "x64"]);
}

/// One that a compiler made.
#[test]
fn a_program_for_32_bit_x86() {
    let tools = (toolchain::tool(&["clang-19", "clang"]), toolchain::tool(&["lld-link-19", "lld-link"]));
    let (Ok(clang), Ok(link)) = tools else {
        println!("skipped: no clang here");
        return;
    };
    let folder = copy_of(FIXTURE);
    fs::write(folder.path().join("tiny.c"), "int start(void) { return 0; }\n").unwrap();
    let run = |tool: &str, arguments: &[&str]| {
        toolchain::run(Command::new(tool).current_dir(folder.path()).args(arguments)).unwrap();
    };
    run(clang, &["--target=i686-pc-windows-msvc", "-g", "-gcodeview", "-c", "tiny.c", "-o", "tiny.obj"]);
    let flags = ["/nologo", "/nodefaultlib", "/entry:start", "/subsystem:console", "/safeseh:no", "/debug"];
    run(link, &[&flags[..], &["/out:tiny.exe", "tiny.obj"]].concat());
    let image = fs::read(folder.path().join("tiny.exe")).unwrap();
    assert_refused(FIXTURE, "old.exe", &image, &["32-bit", "x86", "x64"]);
    assert_refused(FIXTURE, "new.exe", &image, &["32-bit", "x86", "x64"]);
}

#[test]
fn images_that_are_cut_off() {
    let image = bytes_of(WITH_RELOCATIONS, "new.exe");
    let header = pe_header(&image);
    let sections = usize::from(u16::from_le_bytes(image[header + 6..header + 8].try_into().unwrap()));
    let table = header + 24 + usize::from(u16::from_le_bytes(image[header + 20..header + 22].try_into().unwrap()));
    // Behind the last section's contents there is only filling up, which nothing needs.
    let needed = (0..sections)
        .map(|index| {
            let field = |offset: usize| {
                let at = table + index * 40 + offset;
                u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize
            };
            field(20) + field(8).min(field(16))
        })
        .max()
        .unwrap();
    assert!(0x400 < needed && needed < image.len(), "the fixture is not what this test takes it for");

    let folder = copy_of(WITH_RELOCATIONS);
    let check = |len: usize| {
        fs::write(folder.path().join("new.exe"), &image[..len]).unwrap();
        hpgen(folder.path(), &["check", "old.exe", "new.exe"])
    };
    for len in (1..needed).step_by(37).chain([table, table + 39, 0x400, needed - 1]) {
        assert_error(&check(len), "new.exe", &[]);
    }
    assert_error(&check(needed - 1), "new.exe", &["cut off", ".reloc"]);
    assert_eq!(check(needed).code, Some(0));
    assert_eq!(check(image.len()).code, Some(0));
}

/// Some bytes of the headers do not matter; none may do worse than be refused.
#[test]
fn images_with_flipped_headers() {
    let image = bytes_of(WITH_RELOCATIONS, "old.exe");
    let folder = copy_of(WITH_RELOCATIONS);
    let (mut refused, mut accepted) = (0, 0);
    for (place, mask) in (0..0x200).zip([0xff, 0x80, 0x01].into_iter().cycle()) {
        let mut flipped = image.clone();
        flipped[place] ^= mask;
        fs::write(folder.path().join("old.exe"), flipped).unwrap();
        let ran = hpgen(folder.path(), &["check", "old.exe", "new.exe"]);
        if ran.code == Some(1) {
            // A PDB that does not belong to the image any more is an error that names the PDB as well.
            assert_error(&ran, "old.", &[]);
            refused += 1;
        } else {
            assert!(matches!(ran.code, Some(0 | 3 | 4)), "byte {place:#x} ^ {mask:#x}: {ran:?}");
            assert_no_panic(&ran);
            accepted += 1;
        }
    }
    assert!(refused > 50 && accepted > 50, "{refused} refused, {accepted} accepted");
}

#[test]
fn missing_files() {
    for file in ["old.exe", "new.exe", "old.pdb", "new.pdb"] {
        let folder = copy_of(FIXTURE);
        fs::remove_file(folder.path().join(file)).unwrap();
        for arguments in COMPARING {
            let ran = hpgen(folder.path(), arguments);
            assert_error(&ran, file, &[]);
            if file.ends_with(".pdb") {
                assert_error(&ran, file, &["no PDB", "--old-pdb"]);
            } else {
                assert_error(&ran, file, &["No such file"]);
            }
        }
        assert_nothing_written(folder.path());
    }
    let folder = copy_of(FIXTURE);
    assert_error(&hpgen(folder.path(), &["check", ".", "new.exe"]), ".", &["a folder"]);
    assert_error(
        &hpgen(folder.path(), &["check", "old.exe", "new.exe", "--new-pdb", "no.pdb"]),
        "no.pdb",
        &["No such"],
    );
    assert_error(&hpgen(folder.path(), &["inspect", "no.hpx"]), "no.hpx", &["No such file"]);
}

/// One line for one problem: the cause is not said twice.
#[test]
fn errors_do_not_repeat_themselves() {
    let folder = copy_of(FIXTURE);
    for arguments in [["check", "no.exe", "new.exe"].as_slice(), &["inspect", "no.hpx"], &["inspect", "."]] {
        let ran = hpgen(folder.path(), arguments);
        let cause = ran.stderr.matches("os error").count();
        assert_eq!(cause, 1, "{ran:?}");
    }
}

#[test]
fn pdb_of_another_build() {
    let folder = copy_of(FIXTURE);
    let ran = hpgen(folder.path(), &["check", "old.exe", "new.exe", "--new-pdb", "old.pdb"]);
    assert_error(&ran, "old.pdb", &["another build", "new.exe", " age 1"]);
    let folder = copy_of(FIXTURE);
    fs::copy(folder.path().join("new.pdb"), folder.path().join("old.pdb")).unwrap();
    for arguments in COMPARING {
        assert_error(&hpgen(folder.path(), arguments), "old.pdb", &["another build"]);
    }
    assert_nothing_written(folder.path());
}

#[test]
fn pdbs_that_are_cut_off() {
    let pdb = bytes_of(FIXTURE, "new.pdb");
    let folder = copy_of(FIXTURE);
    for len in (1..pdb.len()).step_by(1777).chain([31, 32, 36, 55, 56, 4096, pdb.len() - 4096, pdb.len() - 1]) {
        fs::write(folder.path().join("new.pdb"), &pdb[..len]).unwrap();
        let ran = hpgen(folder.path(), &["build", "old.exe", "new.exe", "-o", "fix.hpx"]);
        assert_error(&ran, "new.pdb", if len >= 56 { &["cut off"] } else { &[] });
    }
    assert_nothing_written(folder.path());
}

#[test]
fn pdbs_with_an_absurd_superblock() {
    let pdb = bytes_of(FIXTURE, "new.pdb");
    // Page size, free page map, number of pages, directory size, and the page of the directory's page list.
    let superblocks = [
        (32, 0, "page size"),
        (32, 3, "page size"),
        (32, 0x8000_0000, "cut off"),
        (32, u32::MAX, "page size"),
        (36, u32::MAX, ""),
        (40, 0, ""),
        (40, u32::MAX, "cut off"),
        (44, u32::MAX, ""),
        (44, 0x7fff_ffff, ""),
        (52, u32::MAX, ""),
        (52, 0, ""),
    ];
    for (field, value, what) in superblocks {
        let mut changed = pdb.clone();
        changed[field..field + 4].copy_from_slice(&u32::to_le_bytes(value));
        if field == 36 {
            // Which free page map is in use does not matter for reading.
            let folder = copy_of(FIXTURE);
            fs::write(folder.path().join("new.pdb"), changed).unwrap();
            assert_no_panic(&hpgen(folder.path(), &["check", "old.exe", "new.exe"]));
        } else {
            assert_refused(FIXTURE, "new.pdb", &changed, &[what]);
        }
    }
}

#[test]
fn damaged_payloads() {
    let sound = payload();
    let folder = tempfile::tempdir().unwrap();
    let inspect = |content: &[u8]| {
        fs::write(folder.path().join("fix.hpx"), content).unwrap();
        hpgen(folder.path(), &["inspect", "fix.hpx"])
    };
    assert_eq!(inspect(&sound).code, Some(0));
    for len in 0..sound.len() {
        assert_error(&inspect(&sound[..len]), "fix.hpx", &[]);
    }
    for place in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[place] ^= 1 << (place % 8);
        assert_error(&inspect(&flipped), "fix.hpx", &[]);
    }
    assert_error(&inspect(&[&sound[..], &[0]].concat()), "fix.hpx", &[]);
    assert_error(
        &inspect(b"not a payload, but longer than the header of one would have been at least"),
        "fix.hpx",
        &["not an hpgen payload"],
    );
    assert_error(&inspect(&bytes_of(FIXTURE, "old.exe")), "fix.hpx", &["not an hpgen payload"]);
}

#[test]
fn the_baseline_of_another_payload() {
    let folder = copy_of("new_function");
    fs::write(folder.path().join("fix.hpx"), payload()).unwrap();
    let inspect = |old: &str| hpgen(folder.path(), &["inspect", "fix.hpx", "--asm", "--old", old]);
    assert_eq!(inspect("old.exe").code, Some(0));
    assert_error(&inspect("new.exe"), "new.exe", &["the payload is made for old.exe"]);
    assert_error(&inspect("no.exe"), "no.exe", &[]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = copy_of(FIXTURE);
    let build = |output: &str| hpgen(folder.path(), &["build", "old.exe", "new.exe", "-o", output]);
    assert_error(&build("no/such/folder/fix.hpx"), "no/such/folder/fix.hpx", &["cannot write"]);
    assert_nothing_written(folder.path());
    assert_error(&build("."), ".", &["cannot write"]);
    assert_nothing_written(folder.path());
    fs::create_dir(folder.path().join("taken")).unwrap();
    assert_error(&build("taken"), "taken", &["cannot write"]);
    fs::remove_dir(folder.path().join("taken")).unwrap();
    assert_nothing_written(folder.path());
    fs::create_dir(folder.path().join("fix.hpx.sym")).unwrap();
    assert_error(&build("fix.hpx"), "fix.hpx.sym", &["cannot write"]);
    fs::remove_dir(folder.path().join("fix.hpx.sym")).unwrap();
    assert_nothing_written(folder.path());
}

#[test]
fn symbols_that_are_missing_damaged_or_of_another_payload() {
    let folder = copy_of(FIXTURE);
    let side_file = folder.path().join("fix.hpx.sym");
    let symbolize = || hpgen(folder.path(), &["symbolize", "fix.hpx", "+0x1000"]);
    let build = |arguments: &[&str]| {
        let ran = hpgen(folder.path(), &[&["build", "old.exe", "new.exe", "-o", "fix.hpx"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        fs::read(&side_file).unwrap()
    };
    let of_series_2 = build(&["--series", "2"]);
    let sound = build(&[]);
    assert_eq!(symbolize().code, Some(0));
    fs::write(&side_file, of_series_2).unwrap();
    assert_error(&symbolize(), "fix.hpx.sym", &["belongs to another payload"]);
    for len in 0..sound.len() - 1 {
        fs::write(&side_file, &sound[..len]).unwrap();
        assert_error(&symbolize(), "fix.hpx.sym", &["is no symbol file of hpgen"]);
    }
    for place in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[place] ^= 1 << (place % 8);
        fs::write(&side_file, flipped).unwrap();
        assert_no_panic(&symbolize());
    }
    fs::remove_file(&side_file).unwrap();
    assert_error(&symbolize(), "fix.hpx.sym", &["cannot read", "--symbols"]);
    fs::write(folder.path().join("elsewhere"), &sound).unwrap();
    assert_eq!(hpgen(folder.path(), &["symbolize", "fix.hpx", "+0x1000", "--symbols", "elsewhere"]).code, Some(0));

    let ran = hpgen(folder.path(), &["symbolize", "fix.hpx", "0x7ff600001000", "--symbols", "elsewhere"]);
    assert_error(&ran, "0x7ff600001000", &["--region"]);
    let ran = hpgen(folder.path(), &["symbolize", "fix.hpx", "+main", "--symbols", "elsewhere"]);
    assert_error(&ran, "main", &["hexadecimal"]);
}

#[test]
fn wrong_usage() {
    let folder = copy_of(FIXTURE);
    let wrong: [&[&str]; 13] = [
        &[],
        &["frobnicate"],
        &["diff"],
        &["diff", "old.exe"],
        &["diff", "old.exe", "new.exe", "third.exe"],
        &["check", "old.exe", "new.exe", "--frobnicate"],
        &["diff", "old.exe", "new.exe", "--format", "prose"],
        &["build", "old.exe", "new.exe"],
        &["apply", "fix.hpx"],
        &["apply", "fix.hpx", "--pid", "1", "--image", "a.exe"],
        &["rollback", "--pid", "many"],
        &["symbolize", "fix.hpx"],
        &["inspect", "fix.hpx", "--old", "old.exe"],
    ];
    for arguments in wrong {
        let ran = hpgen(folder.path(), arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("Usage: hpgen") || ran.stderr.contains("--help"), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
    assert_nothing_written(folder.path());
    for asking in ["--help", "--version"] {
        let ran = hpgen(folder.path(), &[asking]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.contains("hpgen"));
    }
}
