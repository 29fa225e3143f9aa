//! All or nothing, where the system refuses in the middle.
#![allow(clippy::unwrap_used, reason = "tests")]

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, MapViewOfFile, PAGE_EXECUTE_READ, PAGE_READONLY,
};

use super::*;

/// Two threads must not stop each other; outside tests the process's lock sees to it.
static NO_ZONES: std::sync::LazyLock<Zones> = std::sync::LazyLock::new(Zones::default);
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn edit(address: u64, expected: u8) -> Edit {
    Edit { function: "f".into(), rva: 0, address, expected: vec![expected; 6], replacement: vec![1, 2, 3, 4, 5] }
}

fn operation(edits: &[Edit]) -> Operation<'_> {
    // The own stack is full of these tests' addresses.
    let zones = &NO_ZONES;
    Operation {
        edits,
        zones,
        assignments: &mut [],
        marks: &[],
        watch: &[],
        patience: Duration::ZERO,
        own_stack: u64::MAX,
    }
}

/// Pages that cannot be made writable: a view of a read-only mapping.
fn stubborn_page() -> u64 {
    // SAFETY: a new mapping of the page file, which nobody else has.
    unsafe {
        let mapping =
            CreateFileMappingW(INVALID_HANDLE_VALUE, std::ptr::null(), PAGE_READONLY, 0, 0x1000, std::ptr::null());
        MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0x1000).Value as u64
    }
}

#[test]
fn a_failure_in_the_middle_is_undone() {
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    let process = Process::own();
    let stubborn = stubborn_page();
    assert_ne!(stubborn, 0);
    let page = process.allocate(0, 0x1000).unwrap();
    process.write(page, &[0xc3; 0x1000]).unwrap();
    process.protect(page, 0x1000, PAGE_EXECUTE_READ).unwrap();
    let mut edits = vec![edit(page + 5, 0xc3), edit(page + 0x800, 0xc3), edit(stubborn + 8, 0)];
    edits.sort_by_key(|edit| edit.address);
    let error = perform(&process, &mut operation(&edits)).unwrap_err();
    assert!(matches!(error, StopError::Write { address, .. } if address == stubborn), "{error}");
    assert_eq!(process.bytes(page, 0x1000).unwrap(), [0xc3; 0x1000]);
    assert_eq!(process.pages_at(page).unwrap().protection, PAGE_EXECUTE_READ);

    edits.retain(|edit| edit.address < page + 0x1000 && edit.address >= page);
    let record = process.allocate(0, 0x1000).unwrap();
    let marks = [record, stubborn].map(|address| Mark { address, before: [0; 4], after: [1; 4] });
    let mut marked = Operation { marks: &marks, ..operation(&edits) };
    let error = perform(&process, &mut marked).unwrap_err();
    assert!(matches!(error, StopError::Write { address, .. } if address == stubborn), "{error}");
    assert_eq!(process.bytes(page, 0x1000).unwrap(), [0xc3; 0x1000]);
    assert_eq!(process.bytes(record, 4).unwrap(), [0; 4], "the first record says again what it said");
    process.free(record).unwrap();

    perform(&process, &mut operation(&edits)).unwrap();
    let written = process.bytes(page, 0x1000).unwrap();
    assert_eq!(written[5..11], [1, 2, 3, 4, 5, 0xc3]);
    assert_eq!(written[0x800..0x805], [1, 2, 3, 4, 5]);
    assert_eq!(written.iter().filter(|byte| **byte != 0xc3).count(), 10);
    assert_eq!(process.pages_at(page).unwrap().protection, PAGE_EXECUTE_READ);
    let error = perform(&process, &mut operation(&edits)).unwrap_err();
    assert!(matches!(error, StopError::Mismatch { .. }), "{error}");
    process.free(page).unwrap();
}

#[test]
fn an_entry_across_two_pages() {
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    let process = Process::own();
    let pages = process.allocate(0, 0x2000).unwrap();
    process.protect(pages, 0x1000, PAGE_EXECUTE_READ).unwrap();
    process.protect(pages + 0x1000, 0x1000, PAGE_READONLY).unwrap();
    perform(&process, &mut operation(&[edit(pages + 0xffe, 0)])).unwrap();
    assert_eq!(process.bytes(pages + 0xffd, 8).unwrap(), [0, 1, 2, 3, 4, 5, 0, 0]);
    assert_eq!(process.pages_at(pages).unwrap().protection, PAGE_EXECUTE_READ);
    assert_eq!(process.pages_at(pages + 0x1000).unwrap().protection, PAGE_READONLY);
    process.free(pages).unwrap();
}

/// A rollback gives a variable back what it had, unless the process gave it something else; a failure leaves all as it was.
#[test]
fn variables_are_written_together_or_not_at_all() {
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    let process = Process::own();
    let page = process.allocate(0, 0x1000).unwrap();
    let (kept, at) = (page + 0x800, |index: u64| page + 8 * index);
    let assignment = |index: u64, value: u8, only_if: Option<u8>| Assignment {
        address: at(index),
        value: vec![value; 8],
        only_if: only_if.map(|byte| vec![byte; 8]),
        before: vec![0; 8],
        saved_at: only_if.is_none().then_some(kept + 8 * index),
    };
    process.write(page, &[1; 24]).unwrap();
    let mut assignments = [assignment(0, 2, None), assignment(1, 3, None)];
    perform(&process, &mut Operation { assignments: &mut assignments, ..operation(&[]) }).unwrap();
    assert_eq!(process.bytes(page, 24).unwrap(), [[2; 8], [3; 8], [1; 8]].concat());
    assert_eq!(process.bytes(kept, 16).unwrap(), [1; 16]);

    process.write(at(1), &[9; 8]).unwrap();
    let mut assignments = [assignment(0, 1, Some(2)), assignment(1, 1, Some(3))];
    perform(&process, &mut Operation { assignments: &mut assignments, ..operation(&[]) }).unwrap();
    assert_eq!(process.bytes(page, 24).unwrap(), [[1; 8], [9; 8], [1; 8]].concat());

    let unmapped = Assignment { address: 0x10, ..assignment(2, 5, None) };
    let mut assignments = [assignment(0, 7, None), unmapped];
    let failed = perform(&process, &mut Operation { assignments: &mut assignments, ..operation(&[]) }).unwrap_err();
    assert!(matches!(failed, StopError::Write { address: 0x10, .. }), "{failed}");
    let marks = [Mark { address: stubborn_page(), before: [0; 4], after: [1; 4] }];
    let mut assignments = [assignment(0, 7, None)];
    let mut marked = Operation { assignments: &mut assignments, marks: &marks, ..operation(&[]) };
    perform(&process, &mut marked).unwrap_err();
    assert_eq!(process.bytes(page, 24).unwrap(), [[1; 8], [9; 8], [1; 8]].concat());
    process.free(page).unwrap();
}
