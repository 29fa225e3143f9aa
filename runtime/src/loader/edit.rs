//! Exchanging code under the feet of a process's threads: stop them all, look where they stand, compare, write, let them go.
//! Both directions are this one operation: redirecting puts a jump over an entry, rolling back puts the entry over the jump.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::GetLastError;
use windows_sys::Win32::System::Memory::PAGE_READWRITE;

use super::frames;
use super::journal::OpenJournal;
use super::own_stack;
use super::process::{PageState, Process};
use super::threads::{Fault as ThreadFault, InTheWay, Threads};
use super::write_routine::{Interrupted, Piece, WriteRoutine};
use crate::target::journal::{Pages, Phase};
use crate::target::memory::Memory;
use crate::target::record::{PROGRESS, state_code};
use crate::target::stack_walk::FunctionTable;
use crate::target::zones::{Zone, Zones};
use crate::{ApplyOptions, Part, PatchState, StopError};

const PAGE: u64 = 0x1000;

/// Bytes to exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// For messages.
    pub function: String,
    /// For messages.
    pub rva: u32,
    pub address: u64,
    /// What must be there. Not shorter than `replacement`.
    pub expected: Vec<u8>,
    pub replacement: Vec<u8>,
}

/// One operation. Edits rise by address and do not overlap.
pub(super) struct Operation<'a> {
    pub edits: &'a [Edit],
    /// Where no thread may be, nor return to.
    pub zones: &'a Zones,
    /// Variables to write, with room for what was there.
    pub assignments: &'a mut [Assignment],
    /// States of patches, written together with the edits to their records.
    pub marks: &'a [Mark],
    /// Ranges of addresses to look for in all threads, once the edits are made.
    pub watch: &'a [Range<u64>],
    /// How long to try when a thread is in the way.
    pub patience: Duration,
    /// See [`Threads::prepare`].
    pub own_stack: u64,
}

/// A variable to write while threads stand still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub address: u64,
    pub value: Vec<u8>,
    /// Where set, it is only written if this is there.
    pub only_if: Option<Vec<u8>>,
    /// Filled in: what was there. As long as `value`.
    pub before: Vec<u8>,
    /// Where that is kept, in writable memory of the loader's own.
    pub saved_at: Option<u64>,
}

/// A patch's state in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub address: u64,
    pub before: [u8; 4],
    pub after: [u8; 4],
}

impl Mark {
    /// For a patch whose region is there.
    pub fn new(region_base: u64, before: PatchState, after: PatchState) -> Mark {
        let code = |state| state_code(state).to_le_bytes();
        Mark { address: region_base + PROGRESS, before: code(before), after: code(after) }
    }
}

/// What an operation took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub threads: u32,
    pub stopped: Duration,
    /// A thread that has an address of a watched range, or may have one on a stack that is not known.
    pub watched: Option<u32>,
}

/// What went wrong while threads stood still: a plain value, turned into words when they run again.
enum Fault {
    Threads(ThreadFault),
    Busy(InTheWay),
    Fibers { thread: u32 },
    Mismatch { edit: usize },
    Unreadable { span: usize },
    Write { address: u64, call: &'static str, code: u32 },
    Broken { address: u64 },
    Journal { code: u32 },
}

/// A run of pages that edits lie on, with room for its content before and after.
struct Span {
    address: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Checks the edits' expected bytes without stopping anything.
pub(super) fn check_expected(process: &Process, edits: &[Edit]) -> Result<(), StopError> {
    for edit in edits {
        let found = process.bytes(edit.address, edit.expected.len());
        let found = found.ok_or_else(|| process.bad_memory(edit.address, "the function's entry cannot be read"))?;
        if found != edit.expected {
            return Err(mismatch(edit, found));
        }
    }
    Ok(())
}

fn mismatch(edit: &Edit, found: Vec<u8>) -> StopError {
    StopError::Mismatch { function: edit.function.clone(), rva: edit.rva, expected: edit.expected.clone(), found }
}

/// Whether a thread executes in these bytes, or has an address of them on its stack or in a register. What cannot be told counts as a use.
pub(super) fn is_in_use(process: &Process, range: Range<u64>) -> bool {
    let report = own_stack::above(|own_stack| {
        let mut look = Operation {
            edits: &[],
            zones: &Zones::default(),
            assignments: &mut [],
            marks: &[],
            watch: &[range],
            patience: ApplyOptions::default().patience,
            own_stack,
        };
        perform(process, &mut look)
    });
    !report.is_ok_and(|report| report.watched.is_none())
}

/// Does it, or leaves everything as it was.
pub(super) fn perform(process: &Process, operation: &mut Operation<'_>) -> Result<Report, StopError> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut room = 256;
    let mut scene = Scene::prepare(process, operation)?;
    // Read only where a thread seems to be in the way: most stacks hold nothing that looks like it.
    let mut tables: Option<Vec<FunctionTable>> = None;
    loop {
        let known = tables.as_deref().unwrap_or_default();
        let mut threads = Threads::prepare(process, room, operation.own_stack, known)?;
        let start = Instant::now();
        scene.tell(Phase::Stopping)?;
        let result = match threads.stop() {
            Ok(()) => scene.exchange(&mut threads, operation),
            Err(fault) => Err(Fault::Threads(fault)),
        };
        let count = threads.count() as u32;
        // If it cannot be said, the process has ended, or its memory is not what it was a moment ago.
        let _ = scene.tell(Phase::Resuming);
        threads.resume();
        let _ = scene.tell(Phase::Idle);
        let stopped = start.elapsed();
        // From here on everything is allowed again.
        drop(threads);
        match result {
            Ok(watched) => {
                return Ok(Report { threads: count, stopped, watched });
            }
            Err(Fault::Threads(ThreadFault::Full)) if room < 1 << 20 => {
                room *= 4;
                continue;
            }
            Err(Fault::Busy(InTheWay { returns: true, .. })) if tables.is_none() => {
                tables = Some(frames::all_tables(process));
                continue;
            }
            Err(Fault::Busy(found)) if begin.elapsed() < operation.patience => {
                if found.returns {
                    // Images may have come and gone while threads ran.
                    tables = Some(frames::all_tables(process));
                }
            }
            Err(fault) => return Err(scene.explain(fault, operation, begin.elapsed())),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// All memory that the work between stopping and resuming takes.
struct Scene<'p> {
    process: &'p Process,
    spans: Vec<Span>,
    /// Pieces with the spans' new content, and the same with the old one.
    forward: Vec<Piece>,
    back: Vec<Piece>,
    routine: Option<WriteRoutine>,
    /// For who comes after us, if we are killed.
    journal: Option<OpenJournal<'p>>,
}

impl<'p> Scene<'p> {
    fn prepare(process: &'p Process, operation: &Operation<'_>) -> Result<Scene<'p>, StopError> {
        let edits = operation.edits;
        let mut spans: Vec<Span> = Vec::new();
        for edit in edits {
            let start = edit.address & !(PAGE - 1);
            let end = edit.address.saturating_add(edit.expected.len() as u64).next_multiple_of(PAGE);
            match spans.last_mut() {
                Some(last) if start <= last.end() => last.grow(end.max(last.end()) - last.address),
                _ => {
                    let mut span = Span { address: start, before: Vec::new(), after: Vec::new() };
                    span.grow(end - start);
                    spans.push(span);
                }
            }
        }
        let (mut forward, mut back) = (Vec::new(), Vec::new());
        for span in &spans {
            for pages in process.pages(span.address..span.end()) {
                if matches!(pages.state, PageState::Free | PageState::Reserved) {
                    return Err(process.bad_memory(pages.base, "there is no code where it should be").into());
                }
                let address = pages.base.max(span.address);
                let size = pages.base.saturating_add(pages.size).min(span.end()) - address;
                let offset = (address - span.address) as usize;
                let piece = |content: &[u8]| Piece {
                    address,
                    size,
                    source: content.get(offset..).unwrap_or_default().as_ptr(),
                    protection: pages.protection.into(),
                };
                forward.push(piece(&span.after));
                back.push(piece(&span.before));
            }
        }
        let routine = if process.is_own() { Some(WriteRoutine::new()?) } else { None };
        let pages = forward.iter().map(|piece| Pages {
            address: piece.address,
            size: piece.size,
            protection: piece.protection as u32,
        });
        let journal = OpenJournal::begin(process, pages.collect(), edits, operation.assignments, operation.marks)?;
        Ok(Scene { process, spans, forward, back, routine, journal })
    }

    /// Says in the journal how far the change is.
    fn tell(&self, phase: Phase) -> Result<(), crate::ProcessError> {
        if self.journal.as_ref().is_none_or(|journal| journal.phase(phase)) {
            return Ok(());
        }
        Err(self.process.failed("WriteProcessMemory"))
    }

    /// Everything that happens while threads stand still. Allocates nothing.
    fn exchange(&mut self, threads: &mut Threads<'_>, operation: &mut Operation<'_>) -> Result<Option<u32>, Fault> {
        let edits = operation.edits;
        let zones = operation.zones;
        if let Some(thread) = zones.need_every_stack().then(|| threads.find_fiber()).flatten() {
            return Err(Fault::Fibers { thread });
        }
        if let Some(found) = threads.find_in(zones) {
            return Err(Fault::Busy(found));
        }
        for (index, span) in self.spans.iter_mut().enumerate() {
            self.process.read(span.address, &mut span.before).ok_or(Fault::Unreadable { span: index })?;
            span.after.copy_from_slice(&span.before);
        }
        for (index, edit) in edits.iter().enumerate() {
            let place = edit_place(&mut self.spans, edit).filter(|place| **place == edit.expected);
            let place = place.ok_or(Fault::Mismatch { edit: index })?;
            place.iter_mut().zip(&edit.replacement).for_each(|(to, from)| *to = *from);
        }
        if self.journal.as_ref().is_some_and(|journal| !journal.forget_values() || !journal.phase(Phase::Writing)) {
            return Err(Fault::Journal { code: last_error() });
        }
        self.assign(operation.assignments)?;
        if let Err(fault) = self.write() {
            self.unassign(operation.assignments);
            return Err(fault);
        }
        for (index, mark) in operation.marks.iter().enumerate() {
            if !self.process.try_write(mark.address, &mark.after) {
                let code = last_error();
                for done in operation.marks.iter().take(index) {
                    // What could be written a moment ago can be written now; if not, the next status shows the half-made state.
                    let _ = self.process.try_write(done.address, &done.before);
                }
                self.unassign(operation.assignments);
                self.write_back(self.back.len())?;
                return Err(Fault::Write { address: mark.address, call: "WriteProcessMemory", code });
            }
        }
        if operation.watch.is_empty() {
            return Ok(None);
        }
        let is_watched = |address| operation.watch.iter().any(|range| range.contains(&address)).then_some(());
        // A fiber that does not run now may return there as well.
        Ok(threads.find(is_watched).map(|(thread, ())| thread).or_else(|| threads.find_fiber()))
    }

    /// Writes the variables and keeps what was there, or leaves all as they were.
    fn assign(&self, assignments: &mut [Assignment]) -> Result<(), Fault> {
        for index in 0..assignments.len() {
            let Some(assignment) = assignments.get_mut(index) else { continue };
            let address = assignment.address;
            let is_read = self.process.read(address, &mut assignment.before).is_some();
            let is_other = assignment.only_if.as_ref().is_some_and(|value| *value != assignment.before);
            if is_read && is_other {
                continue;
            }
            let is_noted = self.journal.as_ref().is_none_or(|journal| journal.keep(index, &assignment.before));
            let is_kept = assignment.saved_at.is_none_or(|place| self.process.try_write(place, &assignment.before));
            if !is_read || !is_noted || !is_kept || !self.process.try_write(address, &assignment.value) {
                let code = last_error();
                self.unassign(assignments.get(..index).unwrap_or_default());
                return Err(Fault::Write { address, call: "WriteProcessMemory", code });
            }
        }
        Ok(())
    }

    /// Gives variables back what they had when the threads were stopped.
    fn unassign(&self, assignments: &[Assignment]) {
        for assignment in assignments {
            // What could be written a moment ago can be written now.
            let _ = self.process.try_write(assignment.address, &assignment.before);
        }
    }

    fn write(&self) -> Result<(), Fault> {
        let (Interrupted { touched, done }, call, code) = match self.write_pieces(&self.forward) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let address = self.forward.get(done).map_or(0, |piece| piece.address);
        self.write_back(touched)?;
        Err(Fault::Write { address, call, code })
    }

    /// Restores the first `count` pieces.
    fn write_back(&self, count: usize) -> Result<(), Fault> {
        let pieces = self.back.get(..count).unwrap_or(&self.back);
        self.write_pieces(pieces).map_err(|(interrupted, ..)| Fault::Broken {
            address: pieces.get(interrupted.done).map_or(0, |piece| piece.address),
        })
    }

    /// On failure: how far it came, the call that failed, and its error.
    fn write_pieces(&self, pieces: &[Piece]) -> Result<(), (Interrupted, &'static str, u32)> {
        let result = match &self.routine {
            Some(routine) => {
                // SAFETY: all other threads stand still; sources and pieces were made together; the target is an image
                // that `apply` does not refuse; the content is what was there, with the edits in it.
                unsafe { routine.write(pieces) }.map_err(|interrupted| (interrupted, "VirtualProtect", last_error()))
            }
            None => self.write_remote(pieces),
        };
        for piece in pieces {
            self.process.flush_code(piece.address, piece.size);
        }
        result
    }

    fn write_remote(&self, pieces: &[Piece]) -> Result<(), (Interrupted, &'static str, u32)> {
        for (done, piece) in pieces.iter().enumerate() {
            let (address, size) = (piece.address, piece.size);
            // SAFETY: made in `prepare` from a span's content, which is not touched now.
            let content = unsafe { std::slice::from_raw_parts(piece.source, size as usize) };
            if !self.process.try_protect(address, size, PAGE_READWRITE) {
                return Err((Interrupted { touched: done, done }, "VirtualProtectEx", last_error()));
            }
            let touched = done + 1;
            if !self.process.try_write(address, content) {
                return Err((Interrupted { touched, done }, "WriteProcessMemory", last_error()));
            }
            if !self.process.try_protect(address, size, piece.protection as u32) {
                return Err((Interrupted { touched, done }, "VirtualProtectEx", last_error()));
            }
        }
        Ok(())
    }

    /// In words, now that memory may be allocated.
    fn explain(&mut self, fault: Fault, operation: &Operation<'_>, waited: Duration) -> StopError {
        let edit = |index: usize| operation.edits.get(index);
        let error = |code: u32| io::Error::from_raw_os_error(code.cast_signed());
        match fault {
            Fault::Threads(ThreadFault::Full | ThreadFault::Flood) => StopError::ThreadFlood,
            Fault::Threads(ThreadFault::Thread { id, call, code }) => match self.process.exit_code() {
                Some(code) => crate::ProcessError::Exited { pid: self.process.pid(), code }.into(),
                None if code >= 0xc000_0000 => {
                    StopError::Thread { thread: id, call, error: io::Error::other(format!("NTSTATUS {code:#x}")) }
                }
                None => StopError::Thread { thread: id, call, error: error(code) },
            },
            Fault::Busy(InTheWay { thread, zone, .. }) => match operation.zones.get(zone) {
                Some(Zone { function, part, .. }) => {
                    StopError::Busy { thread, function: function.clone(), part: *part, waited }
                }
                None => StopError::ThreadFlood,
            },
            Fault::Fibers { thread } => {
                let mut all = (0..).map_while(|index| operation.zones.get(index));
                let function = all.find(|zone| zone.part != Part::Entry).map(|zone| zone.function.clone());
                StopError::Fibers { thread, function: function.unwrap_or_default() }
            }
            Fault::Mismatch { edit: index } => {
                let Some(edit) = edit(index) else {
                    return StopError::ThreadFlood;
                };
                let found = edit_place(&mut self.spans, edit).map(|place| place.to_vec()).unwrap_or_default();
                mismatch(edit, found)
            }
            Fault::Unreadable { span } => {
                let address = self.spans.get(span).map_or(0, |span| span.address);
                self.process.bad_memory(address, "the code cannot be read").into()
            }
            Fault::Write { address, call, code } => StopError::Write { address, call, error: error(code) },
            Fault::Broken { address } => StopError::Broken { address },
            Fault::Journal { code } => {
                crate::ProcessError::System { call: "WriteProcessMemory", error: error(code) }.into()
            }
        }
    }
}

impl Span {
    fn end(&self) -> u64 {
        self.address.saturating_add(self.before.len() as u64)
    }

    fn grow(&mut self, size: u64) {
        self.before.resize(size as usize, 0);
        self.after.resize(size as usize, 0);
    }
}

/// Where an edit's expected bytes are in the new content.
fn edit_place<'s>(spans: &'s mut [Span], edit: &Edit) -> Option<&'s mut [u8]> {
    let index = spans.partition_point(|span| span.address <= edit.address).checked_sub(1)?;
    let span = spans.get_mut(index)?;
    let start = (edit.address - span.address) as usize;
    span.after.get_mut(start..start + edit.expected.len())
}

fn last_error() -> u32 {
    // SAFETY: takes nothing.
    unsafe { GetLastError() }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
