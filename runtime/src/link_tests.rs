//! Every formula of `FORMAT.md` 2.3, 2.4 and 2.7, checked against numbers worked out by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::format::*;

const IMAGE: u64 = 0x1_4000_0000;
const ABOVE: u64 = 0x1_5000_0000;
const BELOW: u64 = 0x1_3000_0000;

pub(crate) fn sample() -> Payload {
    let segment = |offset, protection| Segment { offset, size: 0x1000, protection, content: vec![0xcc; 0x100] };
    Payload {
        identity: Identity {
            guid: [1; 16],
            age: 1,
            timestamp: 2,
            size_of_image: 0x10_0000,
            entry_point: 0x1000,
            image_base: 0x1_8000_0000,
            image_name: "old.dll".into(),
            series: 1,
            stays: false,
        },
        segments: vec![segment(0x1000, Protection::ReadExecute), segment(0x2000, Protection::Read)],
        relocations: vec![],
        trampolines: vec![Trampoline {
            entry_rva: 0x4000,
            target: 0x1010,
            form: TrampolineForm::Jump32,
            demand: Demand::Entry,
            gap: None,
            callers: vec![],
            expected: vec![0x48, 0xb8, 0x44, 0x33, 0x22, 0x81, 1, 0, 0, 0],
            rebased_at: Some(2),
        }],
        functions: vec![Function {
            offset: 0x1010,
            size: 0x20,
            old_rva: Some(0x4000),
            name: "f".into(),
            exported: false,
        }],
        imports: vec![],
        unwind: Unwind::default(),
        variables: vec![],
        hooks: vec![],
        assignments: vec![],
        bodies: vec![Body::unchecked(0x4000, 0x4000, 0x20)],
        initialisers: vec![],
        probation: None,
    }
}

fn relocation(place: u32, kind: RelocationKind, space: Space, target: u32, addend: i32) -> Relocation {
    Relocation { place, kind, space, target, addend }
}

fn field(linked: &Linked, place: u32, width: usize) -> u64 {
    let segment = linked.segments.iter().rev().find(|s| s.offset <= place).unwrap();
    let start = (place - segment.offset) as usize;
    let mut value = [0; 8];
    value[..width].copy_from_slice(&segment.bytes[start..start + width]);
    u64::from_le_bytes(value)
}

#[test]
fn fields() {
    let mut payload = sample();
    payload.relocations = vec![
        relocation(0x1011, RelocationKind::Rel32, Space::Image, 0x5000, -4),
        relocation(0x1020, RelocationKind::Rel32, Space::Region, 0x2008, -5),
        relocation(0x2000, RelocationKind::Addr64, Space::Image, 0x5000, 7),
        relocation(0x2008, RelocationKind::Addr64, Space::Region, 0x1010, -16),
        relocation(0x2010, RelocationKind::Rva32, Space::Image, 0x5000, 0),
        relocation(0x2014, RelocationKind::Rva32, Space::Region, 0x1010, 1),
    ];
    let above = link(&payload, ABOVE, IMAGE, &[]).unwrap();
    let below = link(&payload, BELOW, IMAGE, &[]).unwrap();
    // T - P = (image + 0x5000 - 4) - (region + 0x1011)
    assert_eq!(field(&above, 0x1011, 4), u64::from((0x3feb_i32 - 0x1000_0000).cast_unsigned()));
    assert_eq!(field(&below, 0x1011, 4), 0x1000_3feb);
    assert_eq!(field(&above, 0x1020, 4), 0xfe3);
    assert_eq!(field(&above, 0x2000, 8), IMAGE + 0x5007);
    assert_eq!(field(&below, 0x2008, 8), BELOW + 0x1000);
    // The lower base counts.
    assert_eq!((field(&above, 0x2010, 4), field(&above, 0x2014, 4)), (0x5000, 0x1000_1011));
    assert_eq!((field(&below, 0x2010, 4), field(&below, 0x2014, 4)), (0x1000_5000, 0x1011));
    // All else is as it was.
    assert_eq!(above.segments[0].bytes[..0x11], [0xcc; 0x11]);
    assert_eq!(above.segments[1].bytes[0x18..], [0xcc; 0xe8]);
}

#[test]
fn distances_at_the_border() {
    let mut payload = sample();
    payload.trampolines.clear();
    payload.relocations = vec![relocation(0x1010, RelocationKind::Rel32, Space::Image, 0, 0)];
    let furthest = IMAGE + (1 << 31) - 0x1010;
    let linked = link(&payload, furthest, IMAGE, &[]).unwrap();
    assert_eq!(field(&linked, 0x1010, 4), 0x8000_0000);
    let error = link(&payload, furthest + 1, IMAGE, &[]).unwrap_err();
    assert!(matches!(error, LinkError::OutOfReach { place: 0x1010, ref function, .. } if function == "f"), "{error}");
    let furthest = IMAGE - 0x1010 - 0x7fff_ffff;
    assert_eq!(field(&link(&payload, furthest, IMAGE, &[]).unwrap(), 0x1010, 4), 0x7fff_ffff);
    link(&payload, furthest - 1, IMAGE, &[]).unwrap_err();

    payload.relocations = vec![relocation(0x1010, RelocationKind::Rva32, Space::Region, 0, 0)];
    link(&payload, IMAGE + u64::from(u32::MAX), IMAGE, &[]).unwrap();
    link(&payload, IMAGE + (1 << 32), IMAGE, &[]).unwrap_err();
    payload.relocations = vec![relocation(0x1010, RelocationKind::Rva32, Space::Image, 5, -6)];
    link(&payload, ABOVE, IMAGE, &[]).unwrap_err();
}

#[test]
fn trampolines() {
    let linked = link(&sample(), ABOVE, IMAGE, &[]).unwrap();
    let trampoline = &linked.trampolines[0];
    assert_eq!((trampoline.entry, trampoline.target), (IMAGE + 0x4000, ABOVE + 0x1010));
    // (0x1_5000_1010) - (0x1_4000_4000 + 5)
    assert_eq!(trampoline.replacement, [0xe9, 0x0b, 0xd0, 0xff, 0x0f]);
    // 0x1_8122_3344 at 0x1_8000_0000 is 0x1_4122_3344 at 0x1_4000_0000.
    assert_eq!(trampoline.expected, [0x48, 0xb8, 0x44, 0x33, 0x22, 0x41, 1, 0, 0, 0]);
    assert_eq!(trampoline.function, "f");
    let error = link(&sample(), IMAGE + (1 << 32), IMAGE, &[]).unwrap_err();
    assert!(matches!(error, LinkError::Trampoline { rva: 0x4000, .. }), "{error}");
}

#[test]
fn a_short_jump_leads_to_the_gap_and_on() {
    let mut payload = sample();
    payload.trampolines[0].form = TrampolineForm::Jump8;
    payload.trampolines[0].gap = Some(Gap { rva: 0x3ff0, expected: [0xcc; 5] });
    let linked = link(&payload, ABOVE, IMAGE, &[]).unwrap();
    let trampoline = &linked.trampolines[0];
    // 0x3ff0 - (0x4000 + 2)
    assert_eq!(trampoline.replacement, [0xeb, 0xee]);
    let gap = trampoline.gap.unwrap();
    assert_eq!((gap.address, gap.expected), (IMAGE + 0x3ff0, [0xcc; 5]));
    // (0x1_5000_1010) - (0x1_4000_3ff0 + 5)
    assert_eq!(gap.replacement, [0xe9, 0x1b, 0xd0, 0xff, 0x0f]);
    payload.trampolines[0].gap = Some(Gap { rva: 0x4082, expected: [0xcc; 5] });
    link(&payload, ABOVE, IMAGE, &[]).unwrap_err();
    payload.trampolines[0].gap = None;
    link(&payload, ABOVE, IMAGE, &[]).unwrap_err();
}

#[test]
fn callers_lead_to_the_new_body() {
    let mut payload = sample();
    let trampoline = &mut payload.trampolines[0];
    trampoline.form = TrampolineForm::Callers;
    trampoline.rebased_at = None;
    trampoline.expected.clear();
    trampoline.callers = vec![0x3000, 0x5003];
    let linked = link(&payload, ABOVE, IMAGE, &[]).unwrap();
    let trampoline = &linked.trampolines[0];
    assert!(trampoline.replacement.is_empty() && trampoline.gap.is_none());
    // To the entry: 0x4000 - 0x3004, 0x4000 - 0x5007; to the new body: 0x1_5000_1010 - 0x1_4000_3004, and so on.
    let callers: Vec<_> = trampoline.callers.iter().map(|c| (c.address, c.expected, c.replacement)).collect();
    assert_eq!(
        callers,
        [
            (IMAGE + 0x3000, [0xfc, 0x0f, 0, 0], [0x0c, 0xe0, 0xff, 0x0f]),
            (IMAGE + 0x5003, [0xf9, 0xef, 0xff, 0xff], [0x09, 0xc0, 0xff, 0x0f]),
        ]
    );
    let error = link(&payload, IMAGE + (1 << 32), IMAGE, &[]).unwrap_err();
    assert!(matches!(error, LinkError::Trampoline { rva: 0x4000, .. }), "{error}");
}

#[test]
fn imports_and_function_table() {
    let mut payload = sample();
    let symbol = ImportSymbol::Ordinal(1);
    payload.imports = vec![Import { slot: 0x2010, dll: "a.dll".into(), symbol }];
    payload.unwind = Unwind { table: 0x2020, count: 3 };
    let linked = link(&payload, BELOW, IMAGE, &[0x1122_3344_5566_7788]).unwrap();
    assert_eq!(field(&linked, 0x2010, 8), 0x1122_3344_5566_7788);
    assert_eq!(linked.function_table, Some(FunctionTable { address: BELOW + 0x2020, count: 3, base: BELOW }));
    let linked = link(&payload, ABOVE, IMAGE, &[0]).unwrap();
    assert_eq!(linked.function_table.unwrap().base, IMAGE);
    link(&payload, ABOVE, IMAGE, &[]).unwrap_err();
}

#[test]
fn unsound_payloads_are_refused() {
    let breakages: [fn(&mut Payload); 7] = [
        |p| p.relocations = vec![relocation(0x10fd, RelocationKind::Rel32, Space::Image, 0, 0)],
        |p| p.relocations = vec![relocation(0, RelocationKind::Addr64, Space::Image, 0, 0)],
        |p| p.relocations = vec![relocation(u32::MAX, RelocationKind::Addr64, Space::Image, 0, 0)],
        |p| p.trampolines[0].expected.truncate(4),
        |p| p.trampolines[0].rebased_at = Some(3),
        |p| p.trampolines[0].rebased_at = Some(255),
        |p| p.unwind = Unwind { table: 0x2020, count: u32::MAX },
    ];
    for (index, breakage) in breakages.iter().enumerate() {
        let mut payload = sample();
        breakage(&mut payload);
        let error = link(&payload, ABOVE, IMAGE, &[]).unwrap_err();
        assert!(matches!(error, LinkError::Unsound { .. }), "{index}: {error}");
    }
    link(&sample(), u64::MAX - 5, IMAGE, &[]).unwrap_err();
    link(&sample(), ABOVE, u64::MAX - 5, &[]).unwrap_err();
}
