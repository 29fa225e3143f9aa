//! Writing entries of the own process while its threads run (`FORMAT.md` 2.4, *no stop*).
//!
//! The pages concerned are writable and executable at once for as long as that takes: whoever asks for it allows that. All that can
//! fail is tried before the first entry is written, and each entry is one locked compare-and-exchange, which fails where somebody else wrote at the
//! same instant. What is undone then is undone in the same way, but for the gaps: threads may be in those, and are stopped to look.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use windows_sys::Win32::System::Memory::PAGE_EXECUTE_READWRITE;
use windows_sys::Win32::System::Threading::FlushProcessWriteBuffers;

use super::edit::{Edit, Operation, Report, check_expected, perform};
use super::process::{Pages, Process};
use crate::link::{Linked, LinkedTrampoline};
use crate::target::memory::Memory;
use crate::target::zones::{Zone, Zones};
use crate::{Part, StopError};

const PAGE: u64 = 0x1000;
/// Bytes that a processor writes as one.
const WINDOW: u64 = 8;

/// An entry that lies in one window, which holds other code besides.
struct Store<'l> {
    window: u64,
    offset: usize,
    trampoline: &'l LinkedTrampoline,
}

impl<'l> Store<'l> {
    fn of(trampoline: &'l LinkedTrampoline) -> Store<'l> {
        let window = trampoline.entry & !(WINDOW - 1);
        Store { window, offset: (trampoline.entry - window) as usize, trampoline }
    }

    /// Replaces the old bytes by the jump.
    fn write(&self) -> bool {
        let written = self.trampoline.replacement.len();
        self.exchange(self.trampoline.expected.get(..written).unwrap_or_default(), &self.trampoline.replacement)
    }

    fn undo(&self) -> bool {
        let written = self.trampoline.replacement.len();
        self.exchange(&self.trampoline.replacement, self.trampoline.expected.get(..written).unwrap_or_default())
    }

    /// Only where exactly the old bytes are.
    fn exchange(&self, from: &[u8], to: &[u8]) -> bool {
        // SAFETY: eight aligned bytes of an image's code, which are writable now and which no Rust object lies in.
        let window = unsafe { AtomicU64::from_ptr(self.window as *mut u64) };
        let change = |before: u64| {
            let mut bytes = before.to_le_bytes();
            let place = bytes.get_mut(self.offset..self.offset.checked_add(from.len())?).filter(|p| **p == *from)?;
            place.copy_from_slice(to);
            Some(u64::from_le_bytes(bytes))
        };
        window.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change).is_ok()
    }
}

/// Pages that are writable and executable until this is dropped.
struct Opened<'p> {
    process: &'p Process,
    pages: Vec<Pages>,
}

impl<'p> Opened<'p> {
    fn open(process: &'p Process, edits: &[Edit]) -> Result<Opened<'p>, StopError> {
        let mut opened = Opened { process, pages: Vec::new() };
        for edit in edits {
            let start = edit.address & !(PAGE - 1);
            let end = edit.address.saturating_add(edit.expected.len() as u64).next_multiple_of(PAGE);
            for mut pages in process.pages(start..end) {
                let pages_end = pages.base.saturating_add(pages.size).min(end);
                pages.base = pages.base.max(start);
                pages.size = pages_end - pages.base;
                if pages.protection == PAGE_EXECUTE_READWRITE {
                    continue;
                }
                if !process.try_protect(pages.base, pages.size, PAGE_EXECUTE_READWRITE) {
                    let error = io::Error::last_os_error();
                    return Err(StopError::Write { address: pages.base, call: "VirtualProtect", error });
                }
                opened.pages.push(pages);
            }
        }
        Ok(opened)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // Backwards: pages can be among them twice.
        for pages in self.pages.iter().rev() {
            // What could be changed a moment ago can be changed back now.
            let _ = self.process.try_protect(pages.base, pages.size, pages.protection);
            self.process.flush_code(pages.base, pages.size);
        }
    }
}

/// Writes gaps, then entries, then the patches' states; or leaves everything as it was.
pub(super) fn perform_running(
    process: &Process,
    linked: &[&Linked],
    operation: &Operation<'_>,
) -> Result<Report, StopError> {
    let opened = Opened::open(process, operation.edits)?;
    check_expected(process, operation.edits)?;
    let trampolines = linked.iter().flat_map(|linked| &linked.trampolines);
    let stores: Vec<Store<'_>> = trampolines.map(Store::of).collect();
    let is_gap = |edit: &&Edit| stores.iter().all(|store| store.trampoline.entry != edit.address);
    let gaps: Vec<&Edit> = operation.edits.iter().filter(is_gap).collect();
    write_gaps(process, &gaps)?;
    let Err(failure) = store_all(process, &stores, operation) else {
        drop(opened);
        return Ok(Report { threads: 0, stopped: Duration::ZERO, watched: None });
    };
    drop(opened);
    give_back(process, &gaps, operation)?;
    Err(failure)
}

fn write_gaps(process: &Process, gaps: &[&Edit]) -> Result<(), StopError> {
    for (index, gap) in gaps.iter().enumerate() {
        if !process.try_write(gap.address, &gap.replacement) {
            let error = io::Error::last_os_error();
            for done in gaps.iter().take(index) {
                // No entry leads there yet.
                let _ = process.try_write(done.address, &done.expected);
            }
            return Err(StopError::Write { address: gap.address, call: "WriteProcessMemory", error });
        }
        process.flush_code(gap.address, gap.replacement.len() as u64);
    }
    // Every processor sees the gaps before it can see an entry that leads there.
    // SAFETY: takes nothing.
    unsafe { FlushProcessWriteBuffers() };
    Ok(())
}

/// Entries and states; as before when it fails.
fn store_all(process: &Process, stores: &[Store<'_>], operation: &Operation<'_>) -> Result<(), StopError> {
    let undo = |count: usize| {
        for store in stores.iter().take(count) {
            // Who changed it since has it.
            let _ = store.undo();
        }
    };
    for (index, store) in stores.iter().enumerate() {
        if !store.write() {
            let expected = store.trampoline.expected.clone();
            let found = process.bytes(store.trampoline.entry, expected.len()).unwrap_or_default();
            undo(index);
            let (function, rva) = (store.trampoline.function.clone(), store.trampoline.entry_rva);
            return Err(StopError::Mismatch { function, rva, expected, found });
        }
    }
    for (index, mark) in operation.marks.iter().enumerate() {
        if !process.try_write(mark.address, &mark.after) {
            let error = io::Error::last_os_error();
            for done in operation.marks.iter().take(index) {
                // What could be written a moment ago can be written now.
                let _ = process.try_write(done.address, &done.before);
            }
            undo(stores.len());
            return Err(StopError::Write { address: mark.address, call: "WriteProcessMemory", error });
        }
    }
    Ok(())
}

/// Puts the padding back once no thread is in it.
fn give_back(process: &Process, gaps: &[&Edit], operation: &Operation<'_>) -> Result<(), StopError> {
    let back =
        |gap: &&Edit| Edit { expected: gap.replacement.clone(), replacement: gap.expected.clone(), ..Edit::clone(gap) };
    let zone = |gap: &&Edit| Zone {
        range: gap.address..gap.address + gap.replacement.len() as u64,
        function: gap.function.clone(),
        part: Part::Entry,
    };
    let mut restore = Operation {
        edits: &gaps.iter().map(back).collect::<Vec<_>>(),
        zones: &Zones::new(gaps.iter().map(zone).collect()),
        assignments: &mut [],
        marks: &[],
        watch: &[],
        patience: operation.patience,
        own_stack: operation.own_stack,
    };
    perform(process, &mut restore).map(drop)
}
