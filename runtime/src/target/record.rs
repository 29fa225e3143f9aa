//! What the loader leaves in a process about each patch, so that any later hpgen finds it again: to report, and to roll back.
//!
//! A region is one allocation: the *header* page below, the payload's segments from offset 4096 on, and behind them the
//! *tables* (one entry for each trampoline or, where its callers are redirected, for each of them; then the names). Nothing else in the process leads to it: it is found by its
//! magic at the start of a private allocation, holds its own address, and a digest covers all that does not change. It is read from
//! memory that the process may have overwritten: everything is checked, and nothing is taken for granted.

use sha2::{Digest, Sha256};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::{
    CALLER_LEN, Demand, HookKind, JUMP32_LEN, MAX_ASSIGNED, PAGE, Payload, Seal, Trampoline, TrampolineForm,
};
use crate::link::{Linked, LinkedGap, LinkedTrampoline, trampoline_function};
use crate::patch::PatchState;
use crate::target::memory::Memory;

/// At the start of every region. The last byte is the version of this layout.
pub(crate) const MAGIC: [u8; 16] = *b"HPGEN-PATCH-REC\x06";
/// Larger tables are not believed.
const MAX_TABLES: u64 = 256 << 20;
/// Bytes that a trampoline entry can hold.
const MAX_CODE: usize = 20;

/// The part of the record that never changes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    magic: [u8; 16],
    region_base: U64,
    region_size: U64,
    tables: U64,
    tables_size: U64,
    trampolines: U32,
    image_timestamp: U32,
    image_base: U64,
    image_size: U32,
    image_name: NameRef,
    table_count: U32,
    table_address: U64,
    sequence: U64,
    series: U32,
    variables: U32,
    hooks: U32,
    assignments: U32,
    functions: U32,
    stays: U32,
    /// Milliseconds; 0 where the patch is not watched.
    probation_window: U32,
    probation_interval: U32,
    /// 0 where there is none.
    health_check: U64,
    seal: [u8; 32],
}

/// When a patch was applied that never was: its variables were computed, then it did not go in.
pub(crate) const NEVER_IN: u64 = 0;

/// The part that changes, behind the digest.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Progress {
    state: U32,
    pub threads_stopped: U32,
    /// 100 ns steps since 1601.
    pub applied_at: U64,
    pub stopped_micros: U64,
    /// As `applied_at`; 0 when the patch is not on probation.
    pub probation_until: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    fixed: Fixed,
    digest: [u8; 32],
    progress: Progress,
}

/// Offset and length in the names.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NameRef {
    offset: U32,
    length: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    rva: U32,
    target: U64,
    length: u8,
    original: [u8; MAX_CODE],
    replacement: [u8; MAX_CODE],
    form: u8,
    demand: u8,
    no_stop: u8,
    gap: U32,
    gap_original: [u8; JUMP32_LEN],
    gap_replacement: [u8; JUMP32_LEN],
    name: NameRef,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VariableEntry {
    address: U64,
    size: U32,
    name: NameRef,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HookEntry {
    kind: U32,
    address: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AssignmentEntry {
    address: U64,
    size: U32,
    value: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FunctionEntry {
    offset: U32,
    size: U32,
    name: NameRef,
}

/// Offset in the region, behind the header, of the old values of variables that the patch assigned, one behind the other.
pub(crate) const SAVED: u64 = (PAGE - MAX_ASSIGNED) as u64;

const _: () = assert!(size_of::<Header>() as u64 <= SAVED);
/// The state of a patch that went with its image: as `Retired`, but it holds no reference to an image any more.
pub(crate) const ORPHANED: u32 = 5;
/// Offset of the progress part in the region; its first four bytes are the state.
pub(crate) const PROGRESS: u64 = core::mem::offset_of!(Header, progress) as u64;
/// Of the time until which the patch is on probation.
pub(crate) const PROBATION: u64 = PROGRESS + core::mem::offset_of!(Progress, probation_until) as u64;

/// A patch in a process, as its record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub region_base: u64,
    pub region_size: u64,
    pub seal: Seal,
    pub state: PatchState,
    /// Whether it has a reference to its image, which keeps that loaded (an EXE needs none).
    pub holds_image: bool,
    pub sequence: u64,
    pub image_name: String,
    pub image_base: u64,
    pub image_size: u32,
    pub image_timestamp: u32,
    /// Address and number of entries of the registered function table; none when the count is 0.
    pub function_table: Option<(u64, u32)>,
    /// Place among the payloads of the image.
    pub series: u32,
    pub entries: Vec<RecordEntry>,
    /// The payload's variables, those included that an earlier payload brought.
    pub variables: Vec<RecordVariable>,
    /// Addresses of functions to call, each with when.
    pub hooks: Vec<(HookKind, u64)>,
    /// Variables of the image that got a value.
    pub assignments: Vec<RecordAssignment>,
    /// The code in the region, by rising offset.
    pub functions: Vec<RecordFunction>,
    /// The process may use the region until it ends, as no stack shows: the memory is never given back.
    pub stays: bool,
    pub threads_stopped: u32,
    pub applied_at: u64,
    pub stopped_micros: u64,
    pub probation: Option<RecordProbation>,
    /// 0 when it is not on probation (any more).
    pub probation_until: u64,
}

/// How a patch is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordProbation {
    pub window_ms: u32,
    pub interval_ms: u32,
    /// Address of the health check, in the region or the image.
    pub check: Option<u64>,
}

/// One redirected entry, or one caller that leads past it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordEntry {
    pub name: String,
    pub rva: u32,
    pub target: u64,
    pub original: Vec<u8>,
    pub replacement: Vec<u8>,
    pub form: TrampolineForm,
    pub demand: Demand,
    /// Whether it could be written while threads run.
    pub is_no_stop: bool,
    pub gap: Option<RecordGap>,
}

/// A long jump in the padding between functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordGap {
    pub rva: u32,
    pub original: [u8; JUMP32_LEN],
    pub replacement: [u8; JUMP32_LEN],
}

/// Where a variable of a payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordVariable {
    pub name: String,
    pub address: u64,
    pub size: u32,
}

/// A variable of the image, and where its new value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordAssignment {
    pub address: u64,
    pub size: u32,
    pub value: u64,
}

/// A function in the region, to name what threads execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordFunction {
    /// From the region's start.
    pub offset: u32,
    pub size: u32,
    pub name: String,
}

impl Record {
    /// Whether it is what an attempt left that failed when all its variables had their first values: nobody has used them, and another
    /// attempt need not compute them again.
    pub fn is_attempt(&self) -> bool {
        self.stays && self.state == PatchState::Retired && self.applied_at == NEVER_IN
    }
}

impl RecordFunction {
    /// Those of a payload.
    pub fn of(payload: &Payload) -> Vec<RecordFunction> {
        let function =
            |f: &crate::format::Function| RecordFunction { offset: f.offset, size: f.size, name: f.name.clone() };
        let mut functions: Vec<_> = payload.functions.iter().map(function).collect();
        functions.sort_by_key(|function| function.offset);
        functions
    }
}

pub(crate) fn state_code(state: PatchState) -> u32 {
    match state {
        PatchState::Prepared => 1,
        PatchState::Applied => 2,
        PatchState::Retired => 3,
        PatchState::Replaced => 4,
    }
}

impl Progress {
    pub fn new(state: PatchState, threads_stopped: u32, applied_at: u64, stopped_micros: u64) -> Progress {
        Progress {
            state: state_code(state).into(),
            threads_stopped: threads_stopped.into(),
            applied_at: applied_at.into(),
            stopped_micros: stopped_micros.into(),
            probation_until: U64::ZERO,
        }
    }

    /// With the time until which it is on probation.
    pub fn on_probation(self, until: u64) -> Progress {
        Progress { probation_until: until.into(), ..self }
    }
}

/// Bytes of the image that a patch wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot<'r> {
    pub function: &'r str,
    pub rva: u32,
    pub original: &'r [u8],
    pub replacement: &'r [u8],
    kind: SpotKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpotKind {
    Entry,
    Gap,
    Caller,
}

impl Spot<'_> {
    pub fn range(&self) -> std::ops::Range<u32> {
        self.rva..self.rva.saturating_add(self.original.len() as u32)
    }

    /// Where a thread may be in the middle of the jump, in an image at this base. At the first byte of an entry it has not begun; that of a gap is
    /// behind the entry; no instruction begins inside a caller's distance.
    pub fn inside(&self, image_base: u64) -> std::ops::Range<u64> {
        let end = image_base + u64::from(self.range().end);
        let start = image_base + u64::from(self.rva);
        match self.kind {
            SpotKind::Entry => start + 1..end,
            SpotKind::Gap => start..end,
            SpotKind::Caller => end..end,
        }
    }
}

impl RecordEntry {
    /// Its entry, and its gap where it has one.
    pub fn spots(&self) -> impl Iterator<Item = Spot<'_>> {
        let (function, original, replacement) = (self.name.as_str(), &self.original[..], &self.replacement[..]);
        let kind = if self.form == TrampolineForm::Callers { SpotKind::Caller } else { SpotKind::Entry };
        let entry = Spot { function, rva: self.rva, original, replacement, kind };
        let gap = self.gap.as_ref().map(|RecordGap { rva, original, replacement }| Spot {
            function,
            rva: *rva,
            original,
            replacement,
            kind: SpotKind::Gap,
        });
        std::iter::once(entry).chain(gap)
    }

    /// RVA of the function's entry: a caller's old distance leads there.
    pub fn function_rva(&self) -> u32 {
        match (self.form, self.original.first_chunk()) {
            (TrampolineForm::Callers, Some(distance)) => {
                self.rva.wrapping_add(CALLER_LEN as u32).wrapping_add(u32::from_le_bytes(*distance))
            }
            _ => self.rva,
        }
    }

    /// What a linked payload's trampolines put into the record.
    pub fn from_linked(linked: &Linked) -> Vec<RecordEntry> {
        let entry = |t: &LinkedTrampoline, rva: u32, original: &[u8], replacement: &[u8]| RecordEntry {
            name: t.function.clone(),
            rva,
            target: t.target,
            original: original.to_vec(),
            replacement: replacement.to_vec(),
            form: t.form,
            demand: t.demand,
            is_no_stop: t.is_no_stop,
            gap: t.gap.map(|LinkedGap { rva, expected, replacement, .. }| RecordGap {
                rva,
                original: expected,
                replacement,
            }),
        };
        let mut entries: Vec<RecordEntry> = Vec::new();
        let mut add =
            |entry: RecordEntry| entries.insert(entries.partition_point(|other| other.rva < entry.rva), entry);
        for t in &linked.trampolines {
            if !t.replacement.is_empty() {
                add(entry(t, t.entry_rva, t.expected.get(..t.replacement.len()).unwrap_or_default(), &t.replacement));
            }
            t.callers.iter().for_each(|caller| add(entry(t, caller.rva, &caller.expected, &caller.replacement)));
        }
        entries
    }
}

/// Bytes of the tables for a payload.
pub(crate) fn tables_size(payload: &Payload) -> u64 {
    let entries =
        |t: &Trampoline| t.callers.len().max(1) * (size_of::<Entry>() + trampoline_function(payload, t).len());
    let entries: usize = payload.trampolines.iter().map(entries).sum();
    let variables: usize = payload.variables.iter().map(|v| size_of::<VariableEntry>() + v.name.len()).sum();
    let hooks = payload.hooks.len() * size_of::<HookEntry>();
    let assignments = payload.assignments.len() * size_of::<AssignmentEntry>();
    let code: usize = payload.functions.iter().map(|f| size_of::<FunctionEntry>() + f.name.len()).sum();
    (payload.identity.image_name.len() + entries + variables + hooks + assignments + code) as u64
}

impl Record {
    /// The bytes of header and tables; the latter stand at region offset `tables`.
    pub fn encode(&self, tables: u64) -> (Vec<u8>, Vec<u8>) {
        let mut names = Vec::new();
        let mut add = |name: &str| {
            let reference = NameRef { offset: (names.len() as u32).into(), length: (name.len() as u32).into() };
            names.extend_from_slice(name.as_bytes());
            reference
        };
        let image_name = add(&self.image_name);
        let mut content = Vec::new();
        for entry in &self.entries {
            let padded = |bytes: &[u8]| {
                let mut code = [0; MAX_CODE];
                code.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                code
            };
            let entry = Entry {
                rva: entry.rva.into(),
                target: entry.target.into(),
                length: entry.original.len().min(MAX_CODE) as u8,
                original: padded(&entry.original),
                replacement: padded(&entry.replacement),
                form: entry.form.code(),
                demand: entry.demand.code(),
                no_stop: entry.is_no_stop.into(),
                gap: entry.gap.map_or(0, |gap| gap.rva).into(),
                gap_original: entry.gap.map_or([0; JUMP32_LEN], |gap| gap.original),
                gap_replacement: entry.gap.map_or([0; JUMP32_LEN], |gap| gap.replacement),
                name: add(&entry.name),
            };
            content.extend_from_slice(entry.as_bytes());
        }
        for variable in &self.variables {
            let (address, size) = (variable.address.into(), variable.size.into());
            let entry = VariableEntry { address, size, name: add(&variable.name) };
            content.extend_from_slice(entry.as_bytes());
        }
        for (kind, address) in &self.hooks {
            let entry = HookEntry { kind: kind.code().into(), address: (*address).into() };
            content.extend_from_slice(entry.as_bytes());
        }
        for assignment in &self.assignments {
            let RecordAssignment { address, size, value } = *assignment;
            let entry = AssignmentEntry { address: address.into(), size: size.into(), value: value.into() };
            content.extend_from_slice(entry.as_bytes());
        }
        for RecordFunction { offset, size, name } in &self.functions {
            let entry = FunctionEntry { offset: (*offset).into(), size: (*size).into(), name: add(name) };
            content.extend_from_slice(entry.as_bytes());
        }
        content.append(&mut names);
        let (table_address, table_count) = self.function_table.unwrap_or((0, 0));
        let fixed = Fixed {
            magic: MAGIC,
            region_base: self.region_base.into(),
            region_size: self.region_size.into(),
            tables: tables.into(),
            tables_size: (content.len() as u64).into(),
            trampolines: (self.entries.len() as u32).into(),
            image_timestamp: self.image_timestamp.into(),
            image_base: self.image_base.into(),
            image_size: self.image_size.into(),
            image_name,
            table_count: table_count.into(),
            table_address: table_address.into(),
            sequence: self.sequence.into(),
            series: self.series.into(),
            variables: (self.variables.len() as u32).into(),
            hooks: (self.hooks.len() as u32).into(),
            assignments: (self.assignments.len() as u32).into(),
            functions: (self.functions.len() as u32).into(),
            stays: u32::from(self.stays).into(),
            probation_window: self.probation.map_or(0, |probation| probation.window_ms).into(),
            probation_interval: self.probation.map_or(0, |probation| probation.interval_ms).into(),
            health_check: self.probation.and_then(|probation| probation.check).unwrap_or(0).into(),
            seal: self.seal.0,
        };
        let header = Header {
            fixed,
            digest: digest(&fixed, &content),
            progress: Progress::new(self.state, self.threads_stopped, self.applied_at, self.stopped_micros)
                .on_probation(self.probation_until),
        };
        (header.as_bytes().to_vec(), content)
    }

    /// Reads the record of a region, if there is a sound one at `base` in an allocation of `size` bytes.
    pub fn read(memory: &impl Memory, base: u64, size: u64) -> Option<Record> {
        let header: Header = memory.record(base)?;
        let fixed = header.fixed;
        let (tables, tables_size) = (fixed.tables.get(), fixed.tables_size.get());
        let fits = fixed.magic == MAGIC
            && fixed.region_base.get() == base
            && fixed.region_size.get() == size
            && tables >= u64::from(PAGE)
            && tables_size <= MAX_TABLES
            && tables.checked_add(tables_size).is_some_and(|end| end <= size);
        if !fits {
            return None;
        }
        let content = memory.bytes(base.checked_add(tables)?, usize::try_from(tables_size).ok()?)?;
        if header.digest != digest(&fixed, &content) {
            return None;
        }
        let (entries, rest) = <[Entry]>::ref_from_prefix_with_elems(&content, fixed.trampolines.get() as usize).ok()?;
        let (variables, rest) =
            <[VariableEntry]>::ref_from_prefix_with_elems(rest, fixed.variables.get() as usize).ok()?;
        let (hooks, rest) = <[HookEntry]>::ref_from_prefix_with_elems(rest, fixed.hooks.get() as usize).ok()?;
        let (assignments, rest) =
            <[AssignmentEntry]>::ref_from_prefix_with_elems(rest, fixed.assignments.get() as usize).ok()?;
        let (functions, names) =
            <[FunctionEntry]>::ref_from_prefix_with_elems(rest, fixed.functions.get() as usize).ok()?;
        let name = |reference: NameRef| {
            let start = reference.offset.get() as usize;
            let text = names.get(start..start.checked_add(reference.length.get() as usize)?)?;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        let image_size = fixed.image_size.get();
        fixed.image_base.get().checked_add(image_size.into())?;
        let entry = |entry: &Entry| {
            let (rva, length) = (entry.rva.get(), usize::from(entry.length));
            let end = rva.checked_add(u32::from(entry.length))?;
            (end <= image_size && length > 0).then_some(())?;
            let form = TrampolineForm::from_code(entry.form)?;
            let gap = match form {
                TrampolineForm::Jump32 | TrampolineForm::Callers => None,
                TrampolineForm::Jump8 => Some(RecordGap {
                    rva: entry.gap.get(),
                    original: entry.gap_original,
                    replacement: entry.gap_replacement,
                }),
            };
            let gap_end = gap.map_or(Some(0), |gap| gap.rva.checked_add(JUMP32_LEN as u32))?;
            (gap_end <= image_size).then_some(())?;
            Some(RecordEntry {
                name: name(entry.name)?,
                rva,
                target: entry.target.get(),
                original: entry.original.get(..length)?.to_vec(),
                replacement: entry.replacement.get(..length)?.to_vec(),
                form,
                demand: Demand::from_code(entry.demand)?,
                is_no_stop: entry.no_stop == 1,
                gap,
            })
        };
        let (table_address, table_count) = (fixed.table_address.get(), fixed.table_count.get());
        if table_count != 0 && (table_address < base || table_address - base >= size) {
            return None;
        }
        let entries = entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
        let variable = |entry: &VariableEntry| {
            let (address, size) = (entry.address.get(), entry.size.get());
            address.checked_add(size.into())?;
            Some(RecordVariable { name: name(entry.name)?, address, size })
        };
        let variables = variables.iter().map(variable).collect::<Option<Vec<_>>>()?;
        let hook = |entry: &HookEntry| {
            let address = entry.address.get();
            let is_inside = address >= base && address - base < size;
            Some((HookKind::from_code(entry.kind.get())?, address)).filter(|_| is_inside)
        };
        let hooks = hooks.iter().map(hook).collect::<Option<Vec<_>>>()?;
        let (mut assigned, image) = (0u32, fixed.image_base.get());
        let assignment = |entry: &AssignmentEntry| {
            let (address, length, value) = (entry.address.get(), entry.size.get(), entry.value.get());
            assigned = assigned.checked_add(length).filter(|sum| *sum <= MAX_ASSIGNED)?;
            let end = address.checked_add(length.into())?;
            let in_image = address >= image && end - image <= u64::from(image_size);
            let in_region = value >= base && value.checked_add(length.into())? - base <= size;
            (in_image && in_region).then_some(RecordAssignment { address, size: length, value })
        };
        let assignments = assignments.iter().map(assignment).collect::<Option<Vec<_>>>()?;
        let function = |entry: &FunctionEntry| {
            let (offset, length) = (entry.offset.get(), entry.size.get());
            let is_inside = u64::from(offset.checked_add(length)?) <= tables;
            Some(RecordFunction { offset, size: length, name: name(entry.name)? }).filter(|_| is_inside)
        };
        let functions = functions.iter().map(function).collect::<Option<Vec<_>>>()?;
        if !entries.is_sorted_by(|a, b| a.rva + a.original.len() as u32 <= b.rva) {
            return None;
        }
        Some(Record {
            region_base: base,
            region_size: size,
            seal: Seal(fixed.seal),
            state: match header.progress.state.get() {
                1 => PatchState::Prepared,
                2 => PatchState::Applied,
                3 | ORPHANED => PatchState::Retired,
                4 => PatchState::Replaced,
                _ => return None,
            },
            holds_image: header.progress.state.get() != ORPHANED,
            sequence: fixed.sequence.get(),
            image_name: name(fixed.image_name)?,
            image_base: fixed.image_base.get(),
            image_size,
            image_timestamp: fixed.image_timestamp.get(),
            function_table: (table_count != 0).then_some((table_address, table_count)),
            series: fixed.series.get(),
            entries,
            variables,
            hooks,
            assignments,
            functions,
            stays: fixed.stays.get() != 0,
            threads_stopped: header.progress.threads_stopped.get(),
            applied_at: header.progress.applied_at.get(),
            stopped_micros: header.progress.stopped_micros.get(),
            probation: probation(&fixed, base, size)?,
            probation_until: header.progress.probation_until.get(),
        })
    }
}

/// What the record says of it; nothing at all where it lies.
fn probation(fixed: &Fixed, base: u64, size: u64) -> Option<Option<RecordProbation>> {
    let image = fixed.image_base.get();
    let is_known = |check: &u64| {
        let is_in = |start: u64, size: u64| *check >= start && *check - start < size;
        *check == 0 || is_in(base, size) || is_in(image, fixed.image_size.get().into())
    };
    let check = Some(fixed.health_check.get()).filter(is_known)?;
    let (window_ms, interval_ms) = (fixed.probation_window.get(), fixed.probation_interval.get());
    let check = Some(check).filter(|check| *check != 0);
    Some((window_ms != 0).then_some(RecordProbation { window_ms, interval_ms, check }))
}

fn digest(fixed: &Fixed, tables: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(fixed.as_bytes());
    hash.update(tables);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::memory::Bytes;

    const BASE: u64 = 0x1_4002_0000;

    fn sample() -> (Record, Bytes) {
        let entry = |name: &str, rva| RecordEntry {
            name: name.into(),
            rva,
            target: BASE + 0x1000,
            original: vec![1, 2, 3, 4, 5],
            replacement: vec![0xe9, 0, 0, 0, 1],
            form: TrampolineForm::Jump32,
            demand: Demand::Entry,
            is_no_stop: false,
            gap: None,
        };
        let short = RecordEntry {
            form: TrampolineForm::Jump8,
            demand: Demand::Nothing,
            is_no_stop: true,
            gap: Some(RecordGap { rva: 0x1110, original: [0xcc; 5], replacement: [0xe9, 0, 0, 0, 2] }),
            ..entry("third", 0x1100)
        };
        let caller = RecordEntry {
            form: TrampolineForm::Callers,
            demand: Demand::Nothing,
            original: vec![0xf8, 0xff, 0xff, 0xff],
            replacement: vec![0, 0, 0, 1],
            ..entry("fourth", 0x1201)
        };
        let record = Record {
            region_base: BASE,
            region_size: 0x4000,
            seal: Seal([7; 32]),
            state: PatchState::Applied,
            holds_image: true,
            sequence: 3,
            image_name: "prog.exe".into(),
            image_base: 0x1_4000_0000,
            image_size: 0x2_0000,
            image_timestamp: 99,
            function_table: Some((BASE + 0x2000, 4)),
            series: 4,
            entries: vec![entry("first", 0x1000), entry("", 0x1005), short, caller],
            variables: vec![RecordVariable { name: "calls".into(), address: BASE - 0x1000, size: 8 }],
            hooks: vec![(HookKind::PreRollback, BASE + 0x1080)],
            assignments: vec![RecordAssignment { address: 0x1_4000_5000, size: 8, value: BASE + 0x2010 }],
            functions: vec![RecordFunction { offset: 0x1000, size: 0x80, name: "first".into() }],
            stays: true,
            threads_stopped: 12,
            applied_at: 1 << 60,
            stopped_micros: 345,
            probation: Some(RecordProbation { window_ms: 5000, interval_ms: 100, check: Some(0x1_4000_1000) }),
            probation_until: 1 << 61,
        };
        let (header, tables) = record.encode(0x3000);
        let mut bytes = vec![0; 0x4000];
        bytes[..header.len()].copy_from_slice(&header);
        bytes[0x3000..0x3000 + tables.len()].copy_from_slice(&tables);
        (record, Bytes { base: BASE, bytes })
    }

    #[test]
    fn round_trip() {
        let (record, memory) = sample();
        assert_eq!(
            record.entries.iter().map(RecordEntry::function_rva).collect::<Vec<_>>(),
            [0x1000, 0x1005, 0x1100, 0x11fd]
        );
        let inside: Vec<_> = record.entries.iter().flat_map(RecordEntry::spots).map(|spot| spot.inside(0)).collect();
        assert_eq!(inside, [0x1001..0x1005, 0x1006..0x100a, 0x1101..0x1105, 0x1110..0x1115, 0x1205..0x1205]);
        assert_eq!(Record::read(&memory, BASE, 0x4000), Some(record));
    }

    #[test]
    fn damage_is_noticed() {
        let (_, mut memory) = sample();
        let progress = PROGRESS as usize;
        let tables = 3 * size_of::<Entry>() + size_of::<VariableEntry>() + size_of::<HookEntry>();
        let tables = tables + size_of::<AssignmentEntry>();
        let tables = 0x3000..0x3000 + tables;
        for place in (0..progress).chain(tables) {
            memory.bytes[place] ^= 0x40;
            assert_eq!(Record::read(&memory, BASE, 0x4000), None, "byte {place:#x}");
            memory.bytes[place] ^= 0x40;
        }
        memory.bytes[progress] = 9;
        assert_eq!(Record::read(&memory, BASE, 0x4000), None);
    }

    #[test]
    fn lies_with_a_right_digest_are_noticed() {
        let lies: [fn(&mut Record); 12] = [
            |r| r.entries[2].gap.as_mut().unwrap().rva = 0x1_fffc,
            |r| r.entries[1].rva = 0x1004,
            |r| r.entries[2].rva = 0x1_fffc,
            |r| r.entries[0].original.clear(),
            |r| r.image_base = u64::MAX - 5,
            |r| r.function_table = Some((BASE - 8, 1)),
            |r| r.hooks[0].1 = BASE - 8,
            |r| r.assignments[0].size = MAX_ASSIGNED + 1,
            |r| r.assignments[0].address = 0x1_4001_fffc,
            |r| r.assignments[0].value = BASE + 0x3ffc,
            |r| r.variables[0].address = u64::MAX - 3,
            |r| r.probation.as_mut().unwrap().check = Some(BASE + 0x4000),
        ];
        for (index, lie) in lies.iter().enumerate() {
            let (mut record, mut memory) = sample();
            lie(&mut record);
            let (header, tables) = record.encode(0x3000);
            memory.bytes[..header.len()].copy_from_slice(&header);
            memory.bytes[0x3000..0x3000 + tables.len()].copy_from_slice(&tables);
            assert_eq!(Record::read(&memory, BASE, 0x4000), None, "lie {index}");
        }
        let (_, memory) = sample();
        assert_eq!(Record::read(&memory, BASE, 0x3000), None, "cut short");
        assert_eq!(Record::read(&memory, BASE + 0x1000, 0x3000), None, "elsewhere");
    }
}
