//! The payload file: what is written is read again, and whatever happens to a file, reading it is an error and never a panic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use hpgen_runtime::format::*;
use hpgen_runtime::link::link;

fn sample() -> Payload {
    let segment =
        |offset, size, protection, content: &[u8]| Segment { offset, size, protection, content: content.to_vec() };
    let relocation = |place, kind, space, target, addend| Relocation { place, kind, space, target, addend };
    Payload {
        identity: Identity {
            guid: *b"0123456789abcdef",
            age: 3,
            timestamp: 0x6000_0000,
            size_of_image: 0x8000,
            entry_point: 0x1000,
            image_base: 0x1_4000_0000,
            image_name: "prögram.exe".into(),
            series: 7,
            stays: true,
        },
        segments: vec![
            segment(0x1000, 0x1800, Protection::ReadExecute, &[&[0x90, 0, 0, 0, 0], [0x90; 59].as_slice()].concat()),
            segment(0x3000, 0x80, Protection::Read, &[0; 0x80]),
            segment(0x4000, 0x2000, Protection::ReadWrite, &[1, 2, 3]),
        ],
        relocations: vec![
            relocation(0x1001, RelocationKind::Rel32, Space::Image, 0x2000, -4),
            relocation(0x3000, RelocationKind::Rva32, Space::Region, 0x1000, 0),
            relocation(0x3004, RelocationKind::Rva32, Space::Region, 0x1020, 0),
            relocation(0x3008, RelocationKind::Rva32, Space::Region, 0x3010, 0),
            relocation(0x3020, RelocationKind::Addr64, Space::Region, 0x4000, 2),
        ],
        trampolines: vec![
            Trampoline {
                entry_rva: 0x1100,
                target: 0x1000,
                form: TrampolineForm::Jump32,
                demand: Demand::Entry,
                expected: vec![1, 2, 3, 4, 5],
                rebased_at: None,
                gap: None,
                callers: vec![],
            },
            Trampoline {
                entry_rva: 0x1200,
                target: 0x1020,
                form: TrampolineForm::Jump8,
                demand: Demand::Nothing,
                expected: vec![0x48, 0xb8, 0, 0, 0, 0x40, 1, 0, 0, 0],
                rebased_at: Some(2),
                gap: Some(Gap { rva: 0x1182, expected: [0xcc, 0xcc, 0x90, 0xcc, 0xcc] }),
                callers: vec![],
            },
        ],
        functions: vec![
            Function { offset: 0x1000, size: 0x20, old_rva: Some(0x1100), name: "first".into(), exported: false },
            Function { offset: 0x1020, size: 0x20, old_rva: Some(0x1200), name: "".into(), exported: false },
        ],
        imports: vec![
            Import { slot: 0x3040, dll: "kernel32.dll".into(), symbol: ImportSymbol::Name("Sleep".into()) },
            Import { slot: 0x3048, dll: "x.dll".into(), symbol: ImportSymbol::Ordinal(65535) },
        ],
        unwind: Unwind { table: 0x3000, count: 1 },
        variables: vec![
            Variable { offset: 0x4000, size: 8, name: "calls".into() },
            Variable { offset: 0x5ff0, size: 16, name: "main.obj!visit!count".into() },
        ],
        hooks: vec![
            Hook { kind: HookKind::PreApply, function: 0x1020 },
            Hook { kind: HookKind::PostRollback, function: 0x1020 },
        ],
        assignments: vec![
            Assignment { rva: 0x5000, value: 0x3050, size: 16 },
            Assignment { rva: 0x5010, value: 0x3050, size: 4 },
        ],
        bodies: vec![
            Body { checked: 0x1f, digest: *b"01234567", ..Body::unchecked(0x1100, 0x1100, 0x20) },
            Body::unchecked(0x1200, 0x1200, 0x30),
            Body::unchecked(0x1200, 0x1300, 0x10),
        ],
        initialisers: vec![
            Initialiser { function: Some(0x1020), variable: 0x4000, checked: false, at_exit: true },
            Initialiser { function: Some(0x1020), variable: 0x5ff0, checked: false, at_exit: true },
            Initialiser { function: Some(0x1000), variable: 0x4000, checked: true, at_exit: false },
            Initialiser { function: None, variable: 0x5ff0, checked: false, at_exit: false },
        ],
        probation: Some(Probation { window_ms: 30_000, interval_ms: 500, check: Some((Space::Region, 0x1020)) }),
    }
}

/// For an EXE and one of its DLLs.
fn sample_file() -> PayloadFile {
    let mut dll = example();
    dll.identity.image_name = "part.dll".into();
    PayloadFile { payloads: vec![sample(), dll] }
}

fn seal(body: &[u8]) -> Vec<u8> {
    seal_file(MACHINE_X64, body.len() as u64, &compress(body))
}

/// Where the file keeps its seal.
const SEAL: std::ops::Range<usize> = 7..15;

/// Makes the seal right again, as somebody would who forges a file.
fn reseal(file: &mut [u8]) {
    use sha2::{Digest, Sha256};
    let seal = Sha256::new().chain_update(&file[..SEAL.start]).chain_update(&file[SEAL.end..]).finalize();
    file[SEAL].copy_from_slice(&seal[..SEAL.len()]);
}

/// A number as the format writes it.
fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A payload that was accepted must be usable without a panic, and be written as it was read.
fn use_it(file: &PayloadFile) {
    let again = file.encode_body().unwrap();
    assert_eq!(&PayloadFile::decode_body(&again).unwrap(), file);
    let regions = [0, 0x10_0000, 0x1_4001_0000, u64::MAX - 0x8000];
    for (payload, region) in file.payloads.iter().flat_map(|payload| regions.map(|region| (payload, region))) {
        let _ = link(payload, region, payload.identity.image_base, &vec![7; payload.imports.len()]);
    }
}

#[test]
fn round_trip() {
    let payload = sample_file();
    let body = payload.encode_body().unwrap();
    assert_eq!(body, payload.encode_body().unwrap());
    let file = seal(&body);
    let (decoded, found) = PayloadFile::decode(&file).unwrap();
    assert_eq!(decoded, payload);
    assert_eq!(found.0[..8], file[SEAL]);
    assert_eq!(found.patch_id().len(), 16);
    assert_eq!(unseal(&file).unwrap(), (body, found));
    use_it(&decoded);
}

#[test]
fn every_truncation_is_an_error() {
    let file = seal(&sample_file().encode_body().unwrap());
    for length in 0..file.len() {
        let cut = &file[..length];
        PayloadFile::decode(cut).unwrap_err();
    }
    let body = sample_file().encode_body().unwrap();
    let stored = compress(&body);
    for length in 0..stored.len() {
        // With a header and a seal that are right.
        PayloadFile::decode(&seal_file(MACHINE_X64, body.len() as u64, &stored[..length])).unwrap_err();
    }
    let mut longer = file.clone();
    longer.push(0);
    assert!(matches!(PayloadFile::decode(&longer), Err(FormatError::StoredSize { .. })));
}

#[test]
fn every_flipped_bit_is_an_error() {
    let file = seal(&sample_file().encode_body().unwrap());
    for (place, bit) in (0..file.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
        let mut flipped = file.clone();
        flipped[place] ^= 1 << bit;
        PayloadFile::decode(&flipped).unwrap_err();
        // With a right seal it may be another payload; it must not be a panic.
        reseal(&mut flipped);
        if let Ok((payload, _)) = PayloadFile::decode(&flipped) {
            use_it(&payload);
        }
    }
}

#[test]
fn every_flipped_byte_of_the_body() {
    let body = sample_file().encode_body().unwrap();
    for place in 0..body.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = body.clone();
            flipped[place] ^= mask;
            if let Ok(payload) = PayloadFile::decode_body(&flipped) {
                use_it(&payload);
            }
        }
    }
    for length in 0..body.len() {
        PayloadFile::decode_body(&body[..length]).unwrap_err();
    }
    PayloadFile::decode_body(&[body, vec![0]].concat()).unwrap_err();
}

/// Numbers at borders in place of bytes, several at a time. Deterministic.
#[test]
fn absurd_numbers_in_the_body() {
    let body = sample_file().encode_body().unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let words = [0, 1, 4, 0x1000, 0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_f000, u32::MAX];
    let longs = [1 << 32, 1 << 33, i64::MAX as u64, 1 << 63, u64::MAX];
    let values: Vec<u64> = words.into_iter().map(u64::from).chain(longs).collect();
    for _ in 0..40_000 {
        let mut changed = body.clone();
        for _ in 0..=random(3) {
            let place = random(changed.len());
            changed.splice(place..=place, number(values[random(values.len())]));
        }
        if let Ok(payload) = PayloadFile::decode_body(&changed) {
            use_it(&payload);
        }
    }
}

/// Whatever is stored, and however large its body is said to be: what is read is what would be written so.
#[test]
fn what_is_stored_is_the_stored_form_of_one_body() {
    let stored = compress(&sample_file().encode_body().unwrap());
    for length in [0, 1, 2, 3, 4, 5, 40, stored.len() - 1, stored.len()] {
        for size in [0, 1, 2, 5, 100, 1000, 10_000] {
            if let Ok((body, _)) = unseal(&seal_file(MACHINE_X64, size, &stored[..length])) {
                assert_eq!((body.len() as u64, compress(&body)), (size, stored[..length].to_vec()));
            }
        }
    }
    let runs: Vec<u8> = (0..3000u32).map(|at| if at % 1000 < 900 { 0 } else { (at * 7) as u8 }).collect();
    for body in [&[], &[0u8; 70_000][..], &[0xff; 300], &runs] {
        let file = seal(body);
        assert_eq!(unseal(&file).unwrap().0, body);
        assert!(file.len() < 200 + body.len() / 4, "{} of {}", file.len(), body.len());
    }
    // A few bytes that promise all that is allowed are at their end at once.
    let start = std::time::Instant::now();
    assert_eq!(unseal(&seal_file(MACHINE_X64, MAX_BODY, &[0x5a; 64])), Err(FormatError::Decompress(MAX_BODY)));
    assert_eq!(unseal(&seal_file(MACHINE_X64, MAX_BODY + 1, &[])), Err(FormatError::BodySize(MAX_BODY + 1)));
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn files_of_earlier_versions_are_told_from_other_files() {
    let earlier = |version: u16| [b"HPGENHPX".as_slice(), &version.to_le_bytes(), &[0; 54]].concat();
    assert_eq!(PayloadFile::decode(&earlier(2)), Err(FormatError::Version(2)));
    assert_eq!(PayloadFile::decode(b"MZ and so on"), Err(FormatError::Magic));
    assert_eq!(PayloadFile::decode(b"HPG"), Err(FormatError::Truncated(3)));
    let mut later = seal(&sample_file().encode_body().unwrap());
    later[4] = 4;
    assert_eq!(PayloadFile::decode(&later), Err(FormatError::Version(4)));
}

#[test]
fn a_file_is_for_one_to_sixty_four_images_of_different_names() {
    let of = |names: &[String]| {
        let payload = |name: &String| {
            let mut payload = example();
            payload.identity.image_name = name.clone();
            payload
        };
        PayloadFile { payloads: names.iter().map(payload).collect() }
    };
    let names: Vec<String> = (0..=MAX_IMAGES).map(|index| format!("part{index}.dll")).collect();
    let most = of(&names[1..]);
    assert_eq!(PayloadFile::decode_body(&most.encode_body().unwrap()).unwrap(), most);
    assert_eq!(of(&names).encode_body(), Err(EncodeError::Images(MAX_IMAGES + 1)));
    assert_eq!(of(&[]).encode_body(), Err(EncodeError::Images(0)));
    PayloadFile::decode(&seal(&[0; 4])).unwrap_err();
    let twice = of(&["a.dll".into(), "A.DLL".into()]).encode_body().unwrap();
    PayloadFile::decode(&seal(&twice)).unwrap_err();
}

/// The smallest payload that does something: `mov eax, 42; ret` in place of the function at RVA 0x1100.
fn example() -> Payload {
    let mut payload = sample();
    payload.identity.image_name = "prog.exe".into();
    payload.identity.series = 1;
    payload.segments = vec![Segment {
        offset: 0x1000,
        size: 6,
        protection: Protection::ReadExecute,
        content: vec![0xb8, 0x2a, 0, 0, 0, 0xc3],
    }];
    // The second is too short for a jump: its two callers are redirected.
    payload.segments[0].content.extend([0xb0, 1, 0xc3]);
    payload.segments[0].size = 9;
    let callers = Trampoline {
        entry_rva: 0x1120,
        target: 0x1006,
        form: TrampolineForm::Callers,
        demand: Demand::Nothing,
        expected: vec![],
        rebased_at: None,
        gap: None,
        callers: vec![0x1131, 0x1177],
    };
    payload.trampolines[1] = callers;
    let function = |offset, size, rva, name: &str| Function {
        offset,
        size,
        old_rva: Some(rva),
        name: name.into(),
        exported: false,
    };
    payload.functions = vec![function(0x1000, 6, 0x1100, "answer"), function(0x1006, 3, 0x1120, "ready")];
    payload.relocations.clear();
    payload.imports.clear();
    payload.unwind = Unwind::default();
    payload.variables.clear();
    payload.hooks.clear();
    payload.assignments.clear();
    payload.bodies.truncate(1);
    payload.bodies.push(Body { checked: 3, digest: *b"89abcdef", ..Body::unchecked(0x1120, 0x1120, 3) });
    payload.initialisers.clear();
    payload.probation = None;
    payload
}

/// What section 2.4 and 2.11 forbid, one thing each.
#[test]
fn trampolines_against_the_rules() {
    type Breakage = (&'static str, fn(&mut Payload));
    let breakages: [Breakage; 14] = [
        ("fewer bytes than written", |p| p.trampolines[0].expected.truncate(4)),
        ("a short jump without a gap", |p| p.trampolines[1].gap = None),
        ("a gap that is not used", |p| p.trampolines[0].gap = p.trampolines[1].gap.take()),
        ("a gap that is not padding", |p| p.trampolines[1].gap.as_mut().unwrap().expected[4] = 0),
        ("out of reach below", |p| p.trampolines[1].gap.as_mut().unwrap().rva = 0x1181),
        ("out of reach above", |p| p.trampolines[1].gap.as_mut().unwrap().rva = 0x1282),
        ("a gap in its own entry", |p| p.trampolines[1].gap.as_mut().unwrap().rva = 0x1209),
        ("a gap before its own entry", |p| p.trampolines[1].gap.as_mut().unwrap().rva = 0x11fc),
        ("no body", |p| p.bodies.truncate(1)),
        ("a body of nothing", |p| p.bodies[2].entry_rva = 0x1201),
        ("bodies that overlap", |p| p.bodies[2].start = 0x122f),
        ("more checked than there is", |p| p.bodies[0].checked = 0x21),
        ("nothing checked against something", |p| p.bodies[0].checked = 0),
        ("a body outside the image", |p| p.bodies[2].start = 0x7ff1),
    ];
    for (what, breakage) in breakages {
        let mut payload = sample();
        breakage(&mut payload);
        // It cannot be written, or it cannot be read.
        let error = match PayloadFile::from(payload).encode_body() {
            Err(error) => error.to_string(),
            Ok(body) => PayloadFile::decode(&seal(&body)).unwrap_err().to_string(),
        };
        assert!(error.contains("trampolines") || error.contains("bodies"), "{what}: {error}");
    }
    let at_callers: [Breakage; 11] = [
        ("no callers", |p| p.trampolines[1].callers.clear()),
        ("callers that do not rise", |p| p.trampolines[1].callers.reverse()),
        ("callers that overlap", |p| p.trampolines[1].callers[1] = 0x1134),
        ("a caller outside the image", |p| p.trampolines[1].callers[1] = 0x7ffd),
        ("no caller", |p| p.trampolines[1].callers[0] = 0),
        ("a caller in another one's entry", |p| p.trampolines[1].callers[0] = 0x1104),
        ("a demand", |p| p.trampolines[1].demand = Demand::Entry),
        ("bytes at the entry", |p| p.trampolines[1].expected.push(1)),
        ("a gap", |p| p.trampolines[1].gap = Some(Gap { rva: 0x1182, expected: [0xcc; 5] })),
        ("callers of a jump", |p| p.trampolines[0].callers.push(0x1150)),
        ("callers without their form", |p| p.trampolines[1].form = TrampolineForm::Jump32),
    ];
    for (what, breakage) in at_callers {
        let mut payload = example();
        breakage(&mut payload);
        let error = match PayloadFile::from(payload).encode_body() {
            Err(error) => error.to_string(),
            Ok(body) => PayloadFile::decode(&seal(&body)).unwrap_err().to_string(),
        };
        assert!(error.contains("trampolines"), "{what}: {error}");
    }
    assert!(!example().trampolines[1].is_no_stop());
    for rva in [0x1182, 0x11fb, 0x120a, 0x1281] {
        let mut payload = sample();
        payload.trampolines[1].gap.as_mut().unwrap().rva = rva;
        PayloadFile::decode(&seal(&PayloadFile::from(payload).encode_body().unwrap())).unwrap();
    }
    let mut crossing = sample();
    assert!(crossing.trampolines[1].is_no_stop());
    crossing.trampolines[1].entry_rva += 7;
    assert!(!crossing.trampolines[1].is_no_stop(), "two bytes in two windows");
    assert!(!sample().trampolines[0].is_no_stop(), "threads may stand in it");
}

/// What section 2.13 forbids, one thing each.
#[test]
fn probations_against_the_rules() {
    let of = |window_ms, interval_ms, check| {
        let mut payload = sample();
        payload.probation = Some(Probation { window_ms, interval_ms, check });
        let body = PayloadFile::from(payload).encode_body().map_err(|error| error.to_string())?;
        PayloadFile::decode(&seal(&body)).map_err(|error| error.to_string())
    };
    for (what, window, interval, check) in [
        ("no time", 0, 0, None),
        ("for ever", MAX_PROBATION_MS + 1, 500, None),
        ("no interval", 500, 0, None),
        ("an interval that never ends", 500, 501, None),
        ("outside of the image", 500, 500, Some((Space::Image, 0x8000))),
        ("the image's header", 500, 500, Some((Space::Image, 0))),
        ("in the middle of a function", 500, 500, Some((Space::Region, 0x1021))),
    ] {
        let error = of(window, interval, check).unwrap_err();
        assert!(error.contains("probation"), "{what}: {error}");
    }
    for check in [None, Some((Space::Image, 0x7fff)), Some((Space::Region, 0x1000))] {
        let (file, _) = of(MAX_PROBATION_MS, 1, check).unwrap();
        assert_eq!(file.payloads[0].probation.unwrap().check, check);
    }
}

fn dump(bytes: &[u8]) -> String {
    let line = |(index, row): (usize, &[u8])| {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = row.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
        format!("{:04x}  {:<47}  {text}\n", index * 16, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[test]
fn the_example_of_the_specification() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/FORMAT.md");
    let specification = std::fs::read_to_string(path).unwrap();
    let (before, rest) = specification.split_once("```text\n").unwrap();
    let (shown, after) = rest.split_once("```").unwrap();
    let body = PayloadFile::from(example()).encode_body().unwrap();
    if std::env::var_os("HPGEN_BLESS").is_some() {
        std::fs::write(path, format!("{before}```text\n{}```{after}", dump(&body))).unwrap();
        return;
    }
    assert_eq!(shown, dump(&body), "`cargo xtask bless` renews it");
    let bytes: Vec<u8> = shown
        .lines()
        .flat_map(|line| line[6..53].split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    assert_eq!(PayloadFile::decode(&seal(&bytes)).unwrap().0, example().into());
}

#[test]
fn the_primer_is_the_one_of_the_specification() {
    use sha2::{Digest, Sha256};
    let primer = include_bytes!("../src/format/primer.bin");
    let digest: String = Sha256::digest(primer).iter().map(|byte| format!("{byte:02x}")).collect();
    let specification = include_str!("../FORMAT.md");
    assert!(specification.contains(&digest) && specification.contains(&format!("the {} bytes of", primer.len())));
}

#[test]
fn signatures() {
    use ed25519_dalek::{Signer, SigningKey};
    let [ours, theirs] = [[1; 32], [2; 32]].map(|secret| SigningKey::from_bytes(&secret));
    let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
    let file = seal(&sample_file().encode_body().unwrap());
    let sign = |file: &[u8], key: &SigningKey| {
        let signature = key.sign(SigningMessage::of(file).unwrap().as_bytes()).to_bytes();
        append_signature(file, public(key), signature).unwrap()
    };
    let signed = sign(&file, &ours);
    assert_eq!(signed.len(), file.len() + 104);
    assert_eq!(
        PayloadFile::decode(&signed).unwrap(),
        PayloadFile::decode(&file).unwrap(),
        "the same payload, with the same id"
    );
    assert_eq!(PublicKey::of_signer(&signed, &[public(&theirs), public(&ours)]), Ok(public(&ours)));
    assert_eq!(PublicKey::of_signer(&signed, &[public(&theirs)]), Err(SignatureError::Untrusted(public(&ours))));
    assert_eq!(PublicKey::of_signer(&file, &[public(&ours)]), Err(SignatureError::Unsigned));
    assert_eq!(sign(&signed, &theirs).len(), signed.len(), "in place of the other signature");

    // Whatever is changed in a signed file, no key vouches for it any more.
    // Each takes a while without optimisation.
    for place in (0..signed.len()).step_by(7) {
        let mut forged = signed.clone();
        forged[place] ^= 1;
        PublicKey::of_signer(&forged, &[public(&ours)]).unwrap_err();
        if place >= SEAL.end && place < file.len() {
            // With a seal that is right again, too.
            let (body, signature) = forged.split_at(file.len());
            let mut body = body.to_vec();
            reseal(&mut body);
            let forged = [&body, signature].concat();
            let error = PublicKey::of_signer(&forged, &[public(&ours)]).unwrap_err();
            assert_eq!(error, SignatureError::Forged(public(&ours)), "byte {place}");
        }
    }
}
