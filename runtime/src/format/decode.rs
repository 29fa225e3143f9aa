//! From bytes to a [`Payload`] in which every range is known to be sound, so that nothing behind it has to ask again.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::encode::compute_seal;
use super::layout::*;
use super::*;

/// What is wrong with a payload file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not even a header.
    #[error("the file ends after {0} bytes; a payload has at least 64")]
    Truncated(usize),
    /// Another kind of file.
    #[error("this is not an hpgen payload: it does not begin with HPGENHPX")]
    Magic,
    /// Made by another hpgen.
    #[error("format version {0} is not known to this hpgen, which reads version 3")]
    Version(u16),
    /// For another processor.
    #[error("the payload is for machine {0:#06x}; only x64 (0x8664) is known")]
    Machine(u16),
    /// Header fields disagree with the file.
    #[error(
        "the header says {expected} bytes of body, {found} follow, and what is over is no signature: it was cut off or added to"
    )]
    StoredSize {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes behind the header.
        found: u64,
    },
    /// The content was changed after it was made.
    #[error("the seal does not match the content: the file is damaged or was altered")]
    Seal,
    /// An unpacked body of this size is not accepted.
    #[error("the body of {0} bytes is larger than the limit of {MAX_BODY}")]
    BodySize(u64),
    /// The compressed body cannot be unpacked to the announced size.
    #[error("the body cannot be decompressed to the {0} bytes that the header announces")]
    Decompress(u64),
    /// A rule of the format is broken.
    #[error("{section}: {problem}")]
    Malformed {
        /// The section concerned.
        section: &'static str,
        /// The rule, in words.
        problem: &'static str,
    },
    /// A rule of the format is broken by one record of a table.
    #[error("{section}, record {index}: {problem}")]
    Record {
        /// The section concerned.
        section: &'static str,
        /// Which record, from 0.
        index: usize,
        /// The rule, in words.
        problem: &'static str,
    },
}

/// Checks the header and the seal, and gives the decompressed body.
///
/// # Errors
/// As [`PayloadFile::decode`].
pub fn unseal(file: &[u8]) -> Result<(Vec<u8>, Seal), FormatError> {
    let (header, stored, _) = split_file(file)?;
    let body_size = header.body_size.get();
    if body_size > MAX_BODY {
        return Err(FormatError::BodySize(body_size));
    }
    let mut body = Vec::new();
    decompress(stored, body_size as usize, &mut body).ok_or(FormatError::Decompress(body_size))?;
    Ok((body, Seal(header.seal)))
}

/// Header, stored body and signature of a file whose header and seal are right.
pub(super) fn split_file(file: &[u8]) -> Result<signature::Parts<'_>, FormatError> {
    let (header, stored) = FileHeader::ref_from_prefix(file).map_err(|_| FormatError::Truncated(file.len()))?;
    if header.magic != MAGIC {
        return Err(FormatError::Magic);
    }
    if header.version.get() != VERSION {
        return Err(FormatError::Version(header.version.get()));
    }
    let (expected, found) = (header.stored_size.get(), stored.len() as u64);
    let unfit = FormatError::StoredSize { expected, found };
    let split = usize::try_from(expected).ok().and_then(|expected| stored.split_at_checked(expected));
    let (stored, rest) = split.ok_or(unfit.clone())?;
    let block = SignatureBlock::ref_from_bytes(rest).ok().filter(|block| block.magic == SIGNATURE_MAGIC);
    if block.is_none() && !rest.is_empty() {
        return Err(unfit);
    }
    if compute_seal(file, stored) != header.seal {
        return Err(FormatError::Seal);
    }
    if header.machine.get() != MACHINE_X64 {
        return Err(FormatError::Machine(header.machine.get()));
    }
    if header.flags.get() != 0 {
        return Err(malformed("header", "unknown flags"));
    }
    Ok((header, stored, block))
}

/// Unpacks one zstd frame that must give exactly `size` bytes and leave no input over. Memory grows with what is really unpacked.
fn decompress(mut stored: &[u8], size: usize, body: &mut Vec<u8>) -> Option<()> {
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
    const STEP: usize = 1 << 16;
    let mut decoder = FrameDecoder::new();
    decoder.reset(&mut stored).ok()?;
    loop {
        let finished = decoder.decode_blocks(&mut stored, BlockDecodingStrategy::UptoBytes(STEP)).ok()?;
        let ready = decoder.can_collect();
        if ready > size.checked_sub(body.len())? {
            return None;
        }
        let start = body.len();
        body.resize(start + ready, 0);
        let read = decoder.read(&mut body[start..]).ok()?;
        body.truncate(start + read);
        if finished && decoder.can_collect() == 0 {
            return (body.len() == size && stored.is_empty()).then_some(());
        }
    }
}

use ruzstd::io::Read as _;

pub(super) fn malformed(section: &'static str, problem: &'static str) -> FormatError {
    FormatError::Malformed { section, problem }
}

/// A table of records with the section's name for messages.
struct Table<'a, T> {
    section: &'static str,
    records: &'a [T],
}

impl<'a, T: FromBytes + KnownLayout + Immutable + Unaligned> Table<'a, T> {
    fn new(section: &'static str, bytes: &'a [u8]) -> Result<Self, FormatError> {
        let records = <[T]>::ref_from_bytes(bytes)
            .map_err(|_| malformed(section, "the size is not a whole number of records"))?;
        Ok(Table { section, records })
    }

    fn single(section: &'static str, bytes: &'a [u8]) -> Result<&'a T, FormatError> {
        T::ref_from_bytes(bytes).map_err(|_| malformed(section, "not exactly one record"))
    }

    /// Converts every record; `convert` gives the broken rule as its error.
    fn collect<U>(&self, mut convert: impl FnMut(&'a T) -> Result<U, &'static str>) -> Result<Vec<U>, FormatError> {
        self.records
            .iter()
            .enumerate()
            .map(|(index, record)| {
                convert(record).map_err(|problem| FormatError::Record { section: self.section, index, problem })
            })
            .collect()
    }
}

/// The sections of a part, in the order of [`KINDS`].
fn split_sections(body: &[u8]) -> Result<[&[u8]; KINDS.len()], FormatError> {
    const SECTION: &str = "section directory";
    let (count, rest) =
        zerocopy::little_endian::U32::ref_from_prefix(body).map_err(|_| malformed(SECTION, "missing"))?;
    if count.get() as usize != KINDS.len() {
        return Err(malformed(SECTION, "not the fourteen sections of version 3"));
    }
    let (entries, _) =
        <[SectionEntry]>::ref_from_prefix_with_elems(rest, KINDS.len()).map_err(|_| malformed(SECTION, "cut off"))?;
    let mut sections = [&body[..0]; KINDS.len()];
    let mut end = 4 + size_of_val(entries);
    for ((entry, (kind, name)), section) in entries.iter().zip(KINDS).zip(&mut sections) {
        if entry.kind.get() != kind {
            return Err(malformed(SECTION, "a section kind is unknown or out of order"));
        }
        let start = end.next_multiple_of(8);
        if entry.offset.get() as usize != start {
            return Err(malformed(name, "does not stand where the sections before it end"));
        }
        if body.get(end..start).is_none_or(|gap| gap.iter().any(|byte| *byte != 0)) {
            return Err(malformed(name, "the bytes before it are not zero"));
        }
        end = start + entry.size.get() as usize;
        *section = body.get(start..end).ok_or(malformed(name, "reaches beyond the body"))?;
    }
    if end != body.len() {
        return Err(malformed(SECTION, "bytes behind the last section"));
    }
    Ok(sections)
}

/// Reads an image's part of the body.
pub(super) fn decode_part(part: &[u8]) -> Result<Payload, FormatError> {
    let [
        identity,
        segments,
        contents,
        relocations,
        trampolines,
        functions,
        imports,
        unwind,
        strings,
        variables,
        hooks,
        assignments,
        bodies,
        initialisers,
    ] = split_sections(part)?;
    let strings = core::str::from_utf8(strings).map_err(|_| malformed("strings", "not UTF-8"))?;
    let identity = decode_identity(Table::single("identity", identity)?, strings)?;
    let segments = decode_segments(&Table::new("segments", segments)?, contents)?;
    let functions = decode_functions(&Table::new("functions", functions)?, &segments, &identity, strings)?;
    let trampolines = decode_trampolines(&Table::new("trampolines", trampolines)?, &functions, &identity)?;
    let variables = decode_variables(&Table::new("variables", variables)?, &segments, strings)?;
    let payload = Payload {
        relocations: decode_relocations(&Table::new("relocations", relocations)?, &segments, &identity)?,
        imports: decode_imports(&Table::new("imports", imports)?, &segments, strings)?,
        unwind: decode_unwind(Table::single("unwind", unwind)?, &segments)?,
        hooks: decode_hooks(&Table::new("hooks", hooks)?, &functions)?,
        assignments: decode_assignments(&Table::new("assignments", assignments)?, &segments, &identity)?,
        bodies: decode_bodies(&Table::new("bodies", bodies)?, &trampolines, &identity)?,
        trampolines,
        initialisers: decode_initialisers(&Table::new("initialisers", initialisers)?, &functions, &variables)?,
        identity,
        segments,
        functions,
        variables,
    };
    Ok(payload)
}

fn text(reference: StringRef, strings: &str) -> Option<String> {
    let start = reference.offset.get() as usize;
    let end = start.checked_add(reference.length.get() as usize)?;
    strings.get(start..end).map(ToOwned::to_owned)
}

/// A DLL or image name that cannot lead anywhere but to a module of that name.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 260 && !name.contains(['/', '\\', ':', '\0'])
}

fn decode_identity(record: &IdentityRecord, strings: &str) -> Result<Identity, FormatError> {
    let image_name = text(record.name, strings)
        .filter(|name| is_file_name(name))
        .ok_or(malformed("identity", "the image name is not a file name"))?;
    if record.flags.get() > 1 {
        return Err(malformed("identity", "a flag is unknown"));
    }
    let series = record.series.get();
    if series == 0 {
        return Err(malformed("identity", "the series number is zero"));
    }
    Ok(Identity {
        guid: record.guid,
        age: record.age.get(),
        timestamp: record.timestamp.get(),
        size_of_image: record.size_of_image.get(),
        entry_point: record.entry_point.get(),
        image_base: record.image_base.get(),
        image_name,
        series,
        stays: record.flags.get() == 1,
    })
}

fn decode_segments(table: &Table<'_, SegmentRecord>, mut contents: &[u8]) -> Result<Vec<Segment>, FormatError> {
    let mut end = u64::from(PAGE);
    let segments = table.collect(|record| {
        let (offset, size) = (record.offset.get(), record.memory_size.get());
        if !offset.is_multiple_of(PAGE) || u64::from(offset) < end {
            return Err("the offset is not that of a free page");
        }
        end = u64::from(offset) + u64::from(size);
        if size == 0 || end > MAX_REGION {
            return Err("the size is zero, or the region larger than 1 GiB");
        }
        let content_size = record.content_size.get();
        if content_size > size {
            return Err("the content is larger than the segment");
        }
        let (content, rest) = contents.split_at_checked(content_size as usize).ok_or("the contents are cut off")?;
        contents = rest;
        let protection = match record.protection.get() {
            1 => Protection::ReadExecute,
            2 => Protection::Read,
            3 => Protection::ReadWrite,
            _ => return Err("unknown protection"),
        };
        Ok(Segment { offset, size, protection, content: content.to_owned() })
    })?;
    if !contents.is_empty() {
        return Err(malformed("contents", "bytes that belong to no segment"));
    }
    Ok(segments)
}

/// The segment that holds `size` bytes of initial content at region offset `offset`.
fn segment_with_content(segments: &[Segment], offset: u32, size: u32) -> Option<&Segment> {
    let index = segments.partition_point(|s| s.offset <= offset).checked_sub(1)?;
    let segment = segments.get(index)?;
    let end = u64::from(offset - segment.offset) + u64::from(size);
    (end <= segment.content.len() as u64).then_some(segment)
}

fn decode_functions(
    table: &Table<'_, FunctionRecord>,
    segments: &[Segment],
    identity: &Identity,
    strings: &str,
) -> Result<Vec<Function>, FormatError> {
    let mut end = 0;
    table.collect(|record| {
        let (offset, size) = (record.offset.get(), record.size.get());
        if offset < end {
            return Err("overlaps the function before it");
        }
        if size == 0
            || segment_with_content(segments, offset, size).is_none_or(|s| s.protection != Protection::ReadExecute)
        {
            return Err("not inside the content of a code segment");
        }
        end = offset + size;
        if record.reserved.get() != 0 {
            return Err("a reserved field is not zero");
        }
        let old_rva = Some(record.old_rva.get()).filter(|rva| *rva != 0);
        if old_rva.is_some_and(|rva| rva >= identity.size_of_image) {
            return Err("the old entry is not inside the image");
        }
        let name = text(record.name, strings).ok_or("the name is not inside the strings")?;
        Ok(Function { offset, size, old_rva, name })
    })
}

fn decode_relocations(
    table: &Table<'_, RelocationRecord>,
    segments: &[Segment],
    identity: &Identity,
) -> Result<Vec<Relocation>, FormatError> {
    let region_size = segments.last().map_or(PAGE, |s| s.offset + s.size);
    let mut end = 0;
    table.collect(|record| {
        let kind = match record.kind.get() {
            1 => RelocationKind::Rel32,
            2 => RelocationKind::Addr64,
            3 => RelocationKind::Rva32,
            4 => RelocationKind::Image32,
            _ => return Err("unknown kind"),
        };
        let (space, limit) = match record.space.get() {
            1 => (Space::Image, identity.size_of_image),
            2 => (Space::Region, region_size),
            _ => return Err("unknown space"),
        };
        let place = record.place.get();
        if place < end {
            return Err("overlaps the field before it, or is out of order");
        }
        if segment_with_content(segments, place, kind.width()).is_none() {
            return Err("the field is not inside a segment's content");
        }
        end = place + kind.width();
        let target = record.target.get();
        if target > limit {
            return Err("the target is not inside the image or region");
        }
        Ok(Relocation { place, kind, space, target, addend: record.addend.get() })
    })
}

fn decode_trampolines(
    table: &Table<'_, TrampolineRecord>,
    functions: &[Function],
    identity: &Identity,
) -> Result<Vec<Trampoline>, FormatError> {
    let mut end = 0;
    let trampolines = table.collect(|record| {
        let trampoline = decode_trampoline(record, identity)?;
        if trampoline.entry_rva < end {
            return Err("overlaps the trampoline before it, or is out of order");
        }
        end = trampoline.entry_rva + trampoline.expected.len() as u32;
        if functions.binary_search_by_key(&trampoline.target, |f| f.offset).is_err() {
            return Err("the target is not the first byte of a function");
        }
        Ok(trampoline)
    })?;
    check_gaps(&trampolines)?;
    Ok(trampolines)
}

fn decode_trampoline(record: &TrampolineRecord, identity: &Identity) -> Result<Trampoline, &'static str> {
    let form = TrampolineForm::from_code(record.form).ok_or("unknown form")?;
    let demand = Demand::from_code(record.demand).ok_or("unknown demand")?;
    let (entry_rva, length) = (record.entry_rva.get(), usize::from(record.expected_len));
    if !(form.written()..=MAX_EXPECTED).contains(&length) {
        return Err("the number of expected bytes is above 20, or less than what is written");
    }
    let is_inside = |start: u32, size: usize| {
        start.checked_add(size as u32).is_some_and(|end| start != 0 && end <= identity.size_of_image)
    };
    if !is_inside(entry_rva, length) {
        return Err("not inside the image");
    }
    let (expected, rest) = record.expected.split_at(length);
    if record.reserved != [0; 3] || rest.iter().any(|byte| *byte != 0) {
        return Err("a reserved field is not zero");
    }
    let rebased_at = Some(record.rebased_at).filter(|at| *at != NOT_REBASED);
    if rebased_at.is_some_and(|at| usize::from(at) + 8 > length) {
        return Err("the rebased address is not inside the expected bytes");
    }
    let gap = Gap { rva: record.gap.get(), expected: record.gap_expected };
    let gap = match form {
        TrampolineForm::Jump32 if gap != (Gap { rva: 0, expected: [0; JUMP32_LEN] }) => {
            return Err("a gap that the form does not use");
        }
        TrampolineForm::Jump32 => None,
        TrampolineForm::Jump8 if !is_inside(gap.rva, JUMP32_LEN) => return Err("the gap is not inside the image"),
        TrampolineForm::Jump8 if gap.expected.iter().any(|byte| !matches!(byte, 0xcc | 0x90)) => {
            return Err("the gap is not padding");
        }
        TrampolineForm::Jump8 => {
            let from = i64::from(entry_rva) + JUMP8_LEN as i64;
            i8::try_from(i64::from(gap.rva) - from).map_err(|_| "the gap is out of a short jump's reach")?;
            Some(gap)
        }
    };
    let target = record.target.get();
    Ok(Trampoline { entry_rva, target, form, demand, expected: expected.to_owned(), rebased_at, gap })
}

/// No byte is written twice, and no gap lies where another trampoline expects something.
fn check_gaps(trampolines: &[Trampoline]) -> Result<(), FormatError> {
    let entries = trampolines.iter().enumerate().map(|(index, t)| (t.entry_rva, t.expected.len() as u32, index));
    let gaps = trampolines.iter().enumerate().filter_map(|(index, t)| Some((t.gap?.rva, JUMP32_LEN as u32, index)));
    let mut all: Vec<(u32, u32, usize)> = entries.chain(gaps).collect();
    all.sort_unstable();
    let overlap = all.windows(2).find_map(|pair| match pair {
        [(start, size, _), (next, _, index)] if *next - *start < *size => Some(*index),
        _ => None,
    });
    let problem = "the gap overlaps another gap or an entry";
    overlap.map_or(Ok(()), |index| Err(FormatError::Record { section: "trampolines", index, problem }))
}

fn decode_bodies(
    table: &Table<'_, BodyRecord>,
    trampolines: &[Trampoline],
    identity: &Identity,
) -> Result<Vec<Body>, FormatError> {
    let mut before = Body::unchecked(0, 0, 0);
    let bodies = table.collect(|record| {
        let body = Body {
            checked: record.checked.get(),
            digest: record.digest,
            ..Body::unchecked(record.entry.get(), record.start.get(), record.size.get())
        };
        let is_next = match body.entry_rva == before.entry_rva {
            true => body.start >= before.start + before.size,
            false => body.entry_rva > before.entry_rva,
        };
        if !is_next {
            return Err("overlaps the body before it, or is out of order");
        }
        if body.size == 0 || body.start.checked_add(body.size).is_none_or(|end| end > identity.size_of_image) {
            return Err("not inside the image");
        }
        if body.checked > body.size || body.checked == 0 && body.digest != [0; 8] {
            return Err("more is checked than there is, or nothing against something");
        }
        if trampolines.binary_search_by_key(&body.entry_rva, |t| t.entry_rva).is_err() {
            return Err("no trampoline has that entry");
        }
        before = body;
        Ok(body)
    })?;
    let mut entries = bodies.iter().filter(|body| body.start == body.entry_rva).map(|body| body.entry_rva);
    let is_missing = trampolines.iter().any(|t| entries.next() != Some(t.entry_rva));
    if is_missing { Err(malformed("bodies", "a trampoline's function is missing")) } else { Ok(bodies) }
}

fn decode_imports(
    table: &Table<'_, ImportRecord>,
    segments: &[Segment],
    strings: &str,
) -> Result<Vec<Import>, FormatError> {
    table.collect(|record| {
        let slot = record.slot.get();
        if !slot.is_multiple_of(8)
            || segment_with_content(segments, slot, 8).is_none_or(|s| s.protection == Protection::ReadExecute)
        {
            return Err("the slot is not eight aligned bytes of a data segment's content");
        }
        let dll =
            text(record.dll, strings).filter(|name| is_file_name(name)).ok_or("the DLL's name is not a file name")?;
        let name = text(record.symbol, strings).ok_or("the symbol is not inside the strings")?;
        let symbol = match (record.ordinal.get(), name.is_empty()) {
            (BY_NAME, false) if !name.contains('\0') => ImportSymbol::Name(name),
            (ordinal, true) => {
                ImportSymbol::Ordinal(u16::try_from(ordinal).map_err(|_| "neither a name nor a 16-bit ordinal")?)
            }
            _ => return Err("neither a name nor an ordinal alone"),
        };
        Ok(Import { slot, dll, symbol })
    })
}

fn decode_unwind(record: &UnwindRecord, segments: &[Segment]) -> Result<Unwind, FormatError> {
    const RUNTIME_FUNCTION: u32 = 12;
    let unwind = Unwind { table: record.table.get(), count: record.count.get() };
    if unwind.count == 0 {
        return Ok(unwind);
    }
    let size = unwind.count.checked_mul(RUNTIME_FUNCTION);
    let segment = size.and_then(|size| segment_with_content(segments, unwind.table, size));
    if !unwind.table.is_multiple_of(4) || segment.is_none_or(|s| s.protection != Protection::Read) {
        return Err(malformed("unwind", "the function table is not inside a read-only segment"));
    }
    Ok(unwind)
}

fn decode_variables(
    table: &Table<'_, VariableRecord>,
    segments: &[Segment],
    strings: &str,
) -> Result<Vec<Variable>, FormatError> {
    let mut end = 0;
    let mut names = alloc::collections::BTreeSet::new();
    table.collect(|record| {
        let (offset, size) = (record.offset.get(), record.size.get());
        if offset < end {
            return Err("overlaps the variable before it, or is out of order");
        }
        end = offset.checked_add(size).filter(|_| size > 0).ok_or("the size is zero or absurd")?;
        let holds =
            |s: &Segment| s.offset <= offset && end <= s.offset + s.size && s.protection == Protection::ReadWrite;
        if !segments.iter().any(holds) {
            return Err("not inside a writable segment");
        }
        let name =
            text(record.name, strings).filter(|name| !name.is_empty()).ok_or("the name is not inside the strings")?;
        if !names.insert(name.clone()) {
            return Err("another variable has the same name");
        }
        Ok(Variable { offset, size, name })
    })
}

fn decode_hooks(table: &Table<'_, HookRecord>, functions: &[Function]) -> Result<Vec<Hook>, FormatError> {
    table.collect(|record| {
        let kind = HookKind::from_code(record.kind.get()).ok_or("unknown kind")?;
        let function = record.function.get();
        if functions.binary_search_by_key(&function, |f| f.offset).is_err() {
            return Err("not the first byte of a function");
        }
        Ok(Hook { kind, function })
    })
}

fn decode_initialisers(
    table: &Table<'_, InitialiserRecord>,
    functions: &[Function],
    variables: &[Variable],
) -> Result<Vec<Initialiser>, FormatError> {
    let mut seen = alloc::collections::BTreeMap::new();
    let mut last = None;
    table.collect(|record| {
        let (function, variable, flags) = (record.function.get(), record.variable.get(), record.flags.get());
        if functions.binary_search_by_key(&function, |f| f.offset).is_err() && function != 0 {
            return Err("not the first byte of a function");
        }
        if variables.binary_search_by_key(&variable, |v| v.offset).is_err() {
            return Err("not the first byte of a variable");
        }
        if flags & !(CHECKED | AT_EXIT) != 0 || function == 0 && flags != 0 {
            return Err("unknown flags");
        }
        let place = (flags, variable);
        match seen.insert(function, place) {
            Some(_) if last != Some(function) => return Err("the records of a function do not stand together"),
            Some((before, _)) if before != flags => return Err("other flags than the function's first record"),
            Some((_, before)) if before >= variable => return Err("the variables of a function do not rise"),
            _ => last = Some(function),
        }
        let (checked, at_exit) = (flags & CHECKED != 0, flags & AT_EXIT != 0);
        Ok(Initialiser { function: Some(function).filter(|f| *f != 0), variable, checked, at_exit })
    })
}

fn decode_assignments(
    table: &Table<'_, AssignmentRecord>,
    segments: &[Segment],
    identity: &Identity,
) -> Result<Vec<Assignment>, FormatError> {
    let (mut end, mut sum) = (0, 0u32);
    table.collect(|record| {
        let (rva, value, size) = (record.rva.get(), record.value.get(), record.size.get());
        if rva < end {
            return Err("overlaps the assignment before it, or is out of order");
        }
        end = rva.checked_add(size).filter(|end| *end <= identity.size_of_image).ok_or("not inside the image")?;
        sum = sum.saturating_add(size);
        if size == 0 || sum > MAX_ASSIGNED {
            return Err("the size is zero, or all sizes together more than 2048");
        }
        if segment_with_content(segments, value, size).is_none_or(|s| s.protection != Protection::Read) {
            return Err("the value is not inside the content of a read-only segment");
        }
        Ok(Assignment { rva, value, size })
    })
}
