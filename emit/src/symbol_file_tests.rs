//! Side files that are written, read, and damaged.

use std::path::Path;

use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;

use super::*;
use crate::build;
use crate::plan::Include;

const SEAL: Seal = Seal([0x5a; 32]);

/// The symbols of a fixture's payload, and the new build that they are of.
fn of_fixture(name: &str) -> (ImageSymbols, Program, Plan) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(name);
    let load = |image| Program::load(&folder.join(image), None).unwrap();
    let (old, new) = (load("old.exe"), load("new.exe"));
    let comparison = Comparison::of(&old, &new);
    let changes = ChangeSet::of(&old, &new, &comparison);
    let plan = Plan::of(&old, &new, &comparison, &changes, &Include::default());
    let payload = build::payload(&old, &new, &plan).unwrap();
    let symbols = ImageSymbols::of(&old, &new, &plan).unwrap();
    let ours = symbols.functions.iter().map(|f| (f.offset, f.size, f.name.clone()));
    let theirs = payload.functions.iter().map(|f| (f.offset, f.size, f.name.clone()));
    assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{name}: the functions of the payload");
    (symbols, new, plan)
}

/// Every instruction reads as the new build's line table says, after the file was written and read.
#[test]
fn every_instruction_keeps_its_line() {
    let mut inlined = 0;
    for fixture in ["constant", "shared_inline", "new_function", "thunks"] {
        let (symbols, new, plan) = of_fixture(fixture);
        let file = SymbolFile::of(vec![symbols.clone()], &SEAL);
        let file = SymbolFile::decode(&file.encode().unwrap(), &SEAL).unwrap();
        let read = file.image(None).unwrap();
        assert_eq!(read, &symbols, "{fixture}");
        let lines = Lines::of(&new, plan.functions.keys().copied());
        for (index, function) in plan.functions.keys().zip(&symbols.functions) {
            for (offset, rva) in instructions(&new, *index, function.size) {
                let place = read.at(function.offset + offset).unwrap();
                assert_eq!((place.function, place.offset), (function, offset), "{fixture}");
                let found: Vec<_> = place
                    .frames
                    .iter()
                    .map(|f| (f.inlined.map(str::to_owned), f.source.map(|(file, line)| (file.to_owned(), line))))
                    .collect();
                let frames = lines.at(rva).into_iter();
                let wanted: Vec<_> = frames.map(|f| (f.inlined, f.source.map(|s| (s.file, s.line)))).collect();
                assert_eq!(found, wanted, "{fixture}: {} +{offset:#x}", function.name);
                inlined += usize::from(found.len() > 1);
            }
        }
    }
    assert!(inlined > 0, "some instruction was inlined");
}

#[test]
fn where_no_function_is_there_is_nothing() {
    let (symbols, ..) = of_fixture("constant");
    let [fee] = symbols.functions.as_slice() else { panic!("one function") };
    assert_eq!(symbols.at(fee.offset).unwrap().function.name, "fee");
    assert!(symbols.at(fee.offset + fee.size - 1).is_some());
    for offset in [0, fee.offset - 1, fee.offset + fee.size, u32::MAX] {
        assert!(symbols.at(offset).is_none(), "{offset:#x}");
    }
}

#[test]
fn files_of_other_payloads_and_versions_are_refused() {
    let (symbols, ..) = of_fixture("constant");
    let bytes = SymbolFile::of(vec![symbols], &SEAL).encode().unwrap();
    let other = SymbolFile::decode(&bytes, &Seal([0; 32]));
    assert!(matches!(other, Err(SymbolFileError::OtherPayload { .. })), "{other:?}");
    let text = String::from_utf8(bytes.clone()).unwrap();
    let older = SymbolFile::decode(text.replace(SCHEMA, "hpgen-symbols/1").as_bytes(), &SEAL);
    assert!(matches!(older, Err(SymbolFileError::Schema(_))), "{older:?}");
    let cut = SymbolFile::decode(&bytes[..bytes.len() / 2], &SEAL);
    assert!(matches!(cut, Err(SymbolFileError::Json(_))), "{cut:?}");
}

#[test]
fn contradictions_are_refused() {
    let frame = |file, caller| Frame { inlined: None, file, line: Some(1), caller };
    let function = |offset, rows| FunctionSymbols { offset, size: 4, name: "f".into(), display: "f".into(), rows };
    let file = |frames, functions| {
        let (image, files) = ("prog.exe".into(), vec!["f.c".into()]);
        SymbolFile::of(vec![ImageSymbols { image, files, inlined: Vec::new(), frames, functions }], &SEAL)
    };
    let sound = file(vec![frame(Some(0), None), frame(Some(0), Some(0))], vec![function(8, vec![(0, 1)])]);
    assert_eq!(
        SymbolFile::decode(&sound.encode().unwrap(), &SEAL).unwrap().image(None).unwrap().at(9).unwrap().frames.len(),
        2
    );
    for (what, damaged) in [
        ("a file", file(vec![frame(Some(1), None)], Vec::new())),
        ("its own caller", file(vec![frame(None, Some(0))], Vec::new())),
        ("a frame", file(Vec::new(), vec![function(8, vec![(0, 0)])])),
        ("overlap", file(Vec::new(), vec![function(8, Vec::new()), function(11, Vec::new())])),
        ("the end", file(Vec::new(), vec![function(u32::MAX, Vec::new())])),
        ("order", file(vec![frame(None, None)], vec![function(8, vec![(1, 0), (1, 0)])])),
        ("a row behind the end", file(vec![frame(None, None)], vec![function(8, vec![(4, 0)])])),
    ] {
        let read = SymbolFile::decode(&damaged.encode().unwrap(), &SEAL);
        assert!(matches!(read, Err(SymbolFileError::Damaged(_))), "{what}: {read:?}");
    }
}

/// Several images have regions of their own, so an offset alone says nothing.
#[test]
fn each_image_has_its_own_symbols() {
    let of = |image: &str| ImageSymbols { image: image.into(), ..of_fixture("constant").0 };
    let (exe, dll) = (of("prog.exe"), of("part.dll"));
    let both = SymbolFile::of(vec![exe.clone(), dll.clone()], &SEAL);
    assert_eq!(both.image(None), None);
    assert_eq!(both.image(Some("PART.dll")), Some(&dll));
    assert_eq!(both.image(Some("other.dll")), None);
    let one = SymbolFile::of(vec![exe.clone()], &SEAL);
    assert_eq!(one.image(None), Some(&exe));
    assert_eq!(one.image(Some("part.dll")), None);
}
