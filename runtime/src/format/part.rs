//! From an image's part of the body to a [`Payload`] in which every range is known to be sound, so that nothing behind it has to ask again.

use alloc::vec::Vec;
use core::mem;

use super::decode::{FormatError, malformed};
use super::layout::{AT_EXIT, CHECKED, MAX_EXPECTED, behind_guard, body_after, start_of_body};
use super::numbers::Reader;
use super::*;

/// Reads an image's part of the body (section 2).
pub(super) fn decode_part(reader: &mut Reader<'_>) -> Result<Payload, FormatError> {
    let identity = decode_identity(reader)?;
    let mut segments = decode_segments(reader)?;
    let relocations = decode_relocations(reader, &segments, &identity)?;
    fill_contents(reader, &mut segments, &relocations)?;
    let functions = decode_functions(reader, &segments, &identity)?;
    let trampolines = decode_trampolines(reader, &segments, &functions, &identity)?;
    let bodies = decode_bodies(reader, &trampolines, &identity)?;
    let imports = decode_imports(reader, &segments)?;
    let unwind = decode_unwind(reader, &segments)?;
    let variables = decode_variables(reader, &segments)?;
    Ok(Payload {
        relocations,
        imports,
        unwind,
        hooks: decode_hooks(reader, &functions)?,
        assignments: decode_assignments(reader, &segments, &identity)?,
        bodies,
        trampolines,
        initialisers: decode_initialisers(reader, &functions, &variables)?,
        probation: decode_probation(reader, &functions, &identity)?,
        identity,
        segments,
        functions,
        variables,
    })
}

/// Checks every record of a table; `check` gives the broken rule as its error.
fn each<T>(
    section: &'static str,
    records: impl IntoIterator<Item = T>,
    mut check: impl FnMut(T) -> Result<(), &'static str>,
) -> Result<(), FormatError> {
    let mut records = records.into_iter().enumerate();
    records.try_for_each(|(index, record)| {
        check(record).map_err(|problem| FormatError::Record { section, index, problem })
    })
}

/// A DLL or image name that cannot lead anywhere but to a module of that name.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 260 && !name.contains(['/', '\\', ':', '\0'])
}

fn decode_identity(reader: &mut Reader<'_>) -> Result<Identity, FormatError> {
    reader.enter("identity");
    let identity = Identity {
        guid: reader.array()?,
        timestamp: u32::from_le_bytes(reader.array()?),
        age: reader.number()?,
        size_of_image: reader.number()?,
        entry_point: reader.number()?,
        series: reader.number()?,
        stays: match reader.number()? {
            flags @ 0..=1 => flags == 1,
            _ => return Err(reader.error("a flag is unknown")),
        },
        image_base: reader.long()?,
        image_name: reader.text()?,
    };
    if !is_file_name(&identity.image_name) {
        return Err(reader.error("the image name is not a file name"));
    }
    if identity.series == 0 {
        return Err(reader.error("the series number is zero"));
    }
    Ok(identity)
}

/// Bytes of content that a byte of the body can stand for: a relocation has three, and fills eight.
const MOST_CONTENT: u64 = 4;

/// The segments, with zeros for their content.
fn decode_segments(reader: &mut Reader<'_>) -> Result<Vec<Segment>, FormatError> {
    const SECTION: &str = "segments";
    reader.enter(SECTION);
    let count = reader.count()?;
    let protections = reader.numbers(count)?;
    let sizes = reader.numbers(count)?;
    let empty = reader.column(count, Reader::signed)?;
    let size = |index: usize| sizes.get(index).copied().unwrap_or(0);
    let offsets = reader.places(count, PAGE, |index, offset| behind_guard(offset, size(index)))?;
    let available = MOST_CONTENT * reader.rest().len() as u64;
    let (mut end, mut sum) = (u64::from(PAGE), 0);
    let mut segments = Vec::with_capacity(count);
    let records = protections.into_iter().zip(sizes.iter().copied()).zip(empty).zip(offsets);
    each(SECTION, records, |(((protection, size), empty), offset)| {
        if !offset.is_multiple_of(PAGE) || u64::from(offset) < end {
            return Err("the offset is not that of a free page");
        }
        end = u64::from(offset) + u64::from(size);
        if size == 0 || end > MAX_REGION {
            return Err("the size is zero, or the region larger than 1 GiB");
        }
        let content = i64::from(size).checked_sub(empty).and_then(|content| u32::try_from(content).ok());
        let content = content.filter(|content| *content <= size).ok_or("the content is larger than the segment")?;
        sum += u64::from(content);
        if sum > available {
            return Err("the contents are cut off");
        }
        let protection = Protection::from_code(protection).ok_or("unknown protection")?;
        segments.push(Segment { offset, size, protection, content: alloc::vec![0; content as usize] });
        Ok(())
    })?;
    Ok(segments)
}

/// The segment that holds `size` bytes of initial content at region offset `offset`.
fn segment_with_content(segments: &[Segment], offset: u32, size: u32) -> Option<&Segment> {
    let index = segments.partition_point(|s| s.offset <= offset).checked_sub(1)?;
    let segment = segments.get(index)?;
    let end = u64::from(offset - segment.offset) + u64::from(size);
    (end <= segment.content.len() as u64).then_some(segment)
}

fn decode_relocations(
    reader: &mut Reader<'_>,
    segments: &[Segment],
    identity: &Identity,
) -> Result<Vec<Relocation>, FormatError> {
    const SECTION: &str = "relocations";
    reader.enter(SECTION);
    let count = reader.count()?;
    let mut relocations = Vec::with_capacity(count);
    let mut wide = Vec::new();
    for code in reader.bytes(count)? {
        let (kind, space, addend) = Relocation::parts(*code).ok_or_else(|| reader.error("unknown kind"))?;
        if addend.is_none() {
            wide.push(relocations.len());
        }
        relocations.push(Relocation { place: 0, kind, space, target: 0, addend: addend.unwrap_or(0) });
    }
    for index in wide {
        let addend = i32::try_from(reader.signed()?).map_err(|_| reader.error("an addend is too large"))?;
        if let Some(relocation) = relocations.get_mut(index) {
            relocation.addend = addend;
            if relocation.short_addend().is_some() {
                return Err(reader.error("an addend is longer than it need be"));
            }
        }
    }
    let width = |index: usize| relocations.get(index).map_or(0, |relocation| relocation.kind.width());
    let places = reader.places(count, PAGE, |index, place| place.saturating_add(width(index)))?;
    relocations.iter_mut().zip(places).for_each(|(relocation, place)| relocation.place = place);
    for (space, start) in Space::STARTS {
        let of_space = relocations.iter_mut().filter(|relocation| relocation.space == space);
        let of_space: Vec<&mut Relocation> = of_space.collect();
        let targets = reader.places(of_space.len(), start, |_, target| target)?;
        of_space.into_iter().zip(targets).for_each(|(relocation, target)| relocation.target = target);
    }
    let region_size = segments.last().map_or(PAGE, |s| s.offset + s.size);
    let mut end = 0;
    each(SECTION, &relocations, |relocation| {
        if relocation.place < end {
            return Err("overlaps the field before it, or is out of order");
        }
        if segment_with_content(segments, relocation.place, relocation.kind.width()).is_none() {
            return Err("the field is not inside a segment's content");
        }
        end = relocation.place + relocation.kind.width();
        let limit = if relocation.space == Space::Image { identity.size_of_image } else { region_size };
        if relocation.target > limit {
            return Err("the target is not inside the image or region");
        }
        Ok(())
    })?;
    Ok(relocations)
}

/// Reads what no relocation fills.
fn fill_contents(
    reader: &mut Reader<'_>,
    segments: &mut [Segment],
    relocations: &[Relocation],
) -> Result<(), FormatError> {
    reader.enter("contents");
    let mut relocations = relocations.iter().peekable();
    for segment in segments {
        let mut rest = segment.content.as_mut_slice();
        let mut offset = segment.offset;
        loop {
            let end = offset + rest.len() as u32;
            let field = relocations.next_if(|relocation| relocation.place < end);
            let plain = field.map_or(rest.len(), |field| field.place.saturating_sub(offset) as usize);
            let Some((bytes, behind)) = mem::take(&mut rest).split_at_mut_checked(plain) else { break };
            bytes.copy_from_slice(reader.bytes(plain)?);
            let Some(field) = field else { break };
            rest = behind.get_mut(field.kind.width() as usize..).unwrap_or_default();
            offset = field.place + field.kind.width();
        }
    }
    Ok(())
}

fn decode_functions(
    reader: &mut Reader<'_>,
    segments: &[Segment],
    identity: &Identity,
) -> Result<Vec<Function>, FormatError> {
    const SECTION: &str = "functions";
    reader.enter(SECTION);
    let count = reader.count()?;
    let sizes = reader.numbers(count)?;
    let size = |index: usize| sizes.get(index).copied().unwrap_or(0);
    let offsets = reader.places(count, PAGE, |index, offset| offset.saturating_add(size(index)))?;
    let replaces = reader.bytes(count)?;
    let replacing = replaces.iter().filter(|replaces| **replaces == 1).count();
    let mut old_rvas = reader.places(replacing, 0, |_, rva| rva)?.into_iter();
    let mut functions = Vec::with_capacity(count);
    for ((offset, size), replaces) in offsets.into_iter().zip(&sizes).zip(replaces) {
        let old_rva = match replaces {
            0 | 2 => None,
            1 => old_rvas.next(),
            _ => return Err(reader.error("neither new nor in place of another one")),
        };
        functions.push(Function { offset, size: *size, old_rva, name: reader.text()?, exported: *replaces == 2 });
    }
    let mut end = 0;
    each(SECTION, &functions, |Function { offset, size, old_rva, .. }| {
        if *offset < end {
            return Err("overlaps the function before it");
        }
        let segment = segment_with_content(segments, *offset, *size);
        if *size == 0 || segment.is_none_or(|segment| segment.protection != Protection::ReadExecute) {
            return Err("not inside the content of a code segment");
        }
        end = offset + size;
        if old_rva.is_some_and(|rva| rva == 0 || rva >= identity.size_of_image) {
            return Err("the old entry is not inside the image");
        }
        Ok(())
    })?;
    Ok(functions)
}

/// The function of this number.
fn nth<'f>(reader: &Reader<'_>, functions: &'f [Function], number: u32) -> Result<&'f Function, FormatError> {
    functions.get(number as usize).ok_or_else(|| reader.error("there is no function of that number"))
}

fn decode_trampolines(
    reader: &mut Reader<'_>,
    segments: &[Segment],
    functions: &[Function],
    identity: &Identity,
) -> Result<Vec<Trampoline>, FormatError> {
    const SECTION: &str = "trampolines";
    reader.enter(SECTION);
    let count = reader.count()?;
    let mut trampolines = Vec::with_capacity(count);
    for number in reader.places(count, 0, |_, number| number.saturating_add(1))? {
        let function = nth(reader, functions, number)?;
        trampolines.push(Trampoline {
            entry_rva: function.old_rva.unwrap_or(0),
            target: function.offset,
            form: TrampolineForm::Jump32,
            demand: Demand::Body,
            expected: Vec::new(),
            rebased_at: None,
            gap: None,
            callers: Vec::new(),
        });
    }
    for trampoline in &mut trampolines {
        let entry = i64::from(trampoline.entry_rva).checked_add(reader.signed()?);
        let entry = entry.and_then(|entry| u32::try_from(entry).ok());
        trampoline.entry_rva = entry.ok_or_else(|| reader.error("an entry is out of range"))?;
    }
    for (trampoline, code) in trampolines.iter_mut().zip(reader.bytes(count)?) {
        trampoline.form = TrampolineForm::from_code(*code).ok_or_else(|| reader.error("unknown form"))?;
    }
    for (trampoline, code) in trampolines.iter_mut().zip(reader.bytes(count)?) {
        trampoline.demand = Demand::from_code(*code).ok_or_else(|| reader.error("unknown demand"))?;
    }
    let lengths = reader.numbers(count)?;
    let rebased = reader.numbers(count)?;
    for ((trampoline, length), rebased) in trampolines.iter_mut().zip(lengths).zip(rebased) {
        let length = length as usize;
        if !(trampoline.form.written()..=MAX_EXPECTED).contains(&length) {
            return Err(reader.error("the number of expected bytes is above 20, or less than what is written"));
        }
        if rebased > 0 && rebased as usize + 7 > length {
            return Err(reader.error("the rebased address is not inside the expected bytes"));
        }
        trampoline.rebased_at = rebased.checked_sub(1).map(|at| at as u8);
        let expected = reader.bytes(length)?.iter().zip(start_of_body(segments, trampoline.target));
        trampoline.expected = expected.map(|(difference, new)| difference ^ new).collect();
        if trampoline.form == TrampolineForm::Jump8 {
            let rva = i64::from(trampoline.entry_rva).checked_add(reader.signed()?);
            let rva = rva.and_then(|rva| u32::try_from(rva).ok());
            let rva = rva.ok_or_else(|| reader.error("a gap is out of range"))?;
            trampoline.gap = Some(Gap { rva, expected: reader.array()? });
        }
        if trampoline.form == TrampolineForm::Callers {
            let count = reader.count()?;
            let after = |_, field: u32| field.saturating_add(CALLER_LEN as u32);
            trampoline.callers = reader.places(count, trampoline.entry_rva, after)?;
        }
    }
    let mut end = 0;
    each(SECTION, &trampolines, |trampoline| {
        check_trampoline(trampoline, identity)?;
        if trampoline.entry_rva < end {
            return Err("overlaps the trampoline before it, or is out of order");
        }
        end = trampoline.entry_rva + trampoline.expected.len().max(1) as u32;
        Ok(())
    })?;
    check_places(&trampolines)?;
    Ok(trampolines)
}

fn check_trampoline(trampoline: &Trampoline, identity: &Identity) -> Result<(), &'static str> {
    let is_inside = |start: u32, size: usize| {
        start.checked_add(size as u32).is_some_and(|end| start != 0 && end <= identity.size_of_image)
    };
    if !is_inside(trampoline.entry_rva, trampoline.expected.len()) {
        return Err("not inside the image");
    }
    if trampoline.form == TrampolineForm::Callers {
        return check_callers(trampoline, identity);
    }
    let Some(gap) = trampoline.gap else { return Ok(()) };
    if !is_inside(gap.rva, JUMP32_LEN) {
        return Err("the gap is not inside the image");
    }
    if gap.expected.iter().any(|byte| !matches!(byte, 0xcc | 0x90)) {
        return Err("the gap is not padding");
    }
    let from = i64::from(trampoline.entry_rva) + JUMP8_LEN as i64;
    i8::try_from(i64::from(gap.rva) - from).map_err(|_| "the gap is out of a short jump's reach")?;
    Ok(())
}

/// Nothing is looked at or written at the entry, wherever threads are; something leads there, each distance once.
fn check_callers(trampoline: &Trampoline, identity: &Identity) -> Result<(), &'static str> {
    if !trampoline.expected.is_empty() || trampoline.demand != Demand::Nothing || trampoline.callers.is_empty() {
        return Err("without callers, or with more than callers");
    }
    let mut end = 1;
    trampoline.callers.iter().try_for_each(|field| {
        let after = field.checked_add(CALLER_LEN as u32).filter(|after| *after <= identity.size_of_image);
        if *field < end {
            return Err("the callers do not rise");
        }
        end = after.ok_or("a caller is not inside the image")?;
        Ok(())
    })
}

/// No byte is written twice, and no gap or caller lies where another trampoline expects something.
fn check_places(trampolines: &[Trampoline]) -> Result<(), FormatError> {
    let places =
        |(index, t): (usize, &Trampoline)| t.places().map(|(rva, size)| (rva, size, index)).collect::<Vec<_>>();
    let mut all: Vec<(u32, u32, usize)> = trampolines.iter().enumerate().flat_map(places).collect();
    all.sort_unstable();
    let overlap = all.windows(2).find_map(|pair| match pair {
        [(start, size, _), (next, _, index)] if *next - *start < *size => Some(*index),
        _ => None,
    });
    let problem = "a gap or a caller overlaps another one or an entry";
    overlap.map_or(Ok(()), |index| Err(FormatError::Record { section: "trampolines", index, problem }))
}

fn decode_bodies(
    reader: &mut Reader<'_>,
    trampolines: &[Trampoline],
    identity: &Identity,
) -> Result<Vec<Body>, FormatError> {
    const SECTION: &str = "bodies";
    reader.enter(SECTION);
    let mut bodies = Vec::new();
    for (trampoline, count) in trampolines.iter().zip(reader.numbers(trampolines.len())?) {
        // Each has three bytes at least.
        if count as usize > reader.rest().len().saturating_sub(bodies.len()) {
            return Err(reader.error("cut off"));
        }
        bodies.extend((0..count).map(|_| Body::unchecked(trampoline.entry_rva, 0, 0)));
    }
    for body in &mut bodies {
        body.size = reader.number()?;
    }
    let mut before = Body::unchecked(0, 0, 0);
    for body in &mut bodies {
        let start = i64::from(body_after(&before, body.entry_rva)).checked_add(reader.signed()?);
        let start = start.and_then(|start| u32::try_from(start).ok());
        body.start = start.ok_or_else(|| reader.error("a body is out of range"))?;
        before = *body;
    }
    for body in &mut bodies {
        let checked = i64::from(body.size).checked_sub(reader.signed()?);
        let checked = checked.and_then(|checked| u32::try_from(checked).ok());
        body.checked = checked.ok_or_else(|| reader.error("more is unchecked than there is"))?;
    }
    for body in bodies.iter_mut().filter(|body| body.checked > 0) {
        body.digest = reader.array()?;
    }
    let mut before = Body::unchecked(0, 0, 0);
    each(SECTION, &bodies, |body| {
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
        if body.checked > body.size {
            return Err("more is checked than there is");
        }
        before = *body;
        Ok(())
    })?;
    let mut entries = bodies.iter().filter(|body| body.start == body.entry_rva).map(|body| body.entry_rva);
    let is_missing = trampolines.iter().any(|t| entries.next() != Some(t.entry_rva));
    if is_missing { Err(malformed(SECTION, "a trampoline's function is missing")) } else { Ok(bodies) }
}

fn decode_imports(reader: &mut Reader<'_>, segments: &[Segment]) -> Result<Vec<Import>, FormatError> {
    const SECTION: &str = "imports";
    reader.enter(SECTION);
    let count = reader.count()?;
    let slots = reader.places(count, PAGE, |_, slot| slot.saturating_add(8))?;
    let mut imports = Vec::with_capacity(count);
    for slot in slots {
        let dll = reader.text()?;
        let symbol = match reader.number()?.checked_sub(1) {
            None => ImportSymbol::Name(reader.text()?),
            Some(ordinal) => {
                let ordinal = u16::try_from(ordinal).map_err(|_| reader.error("not a 16-bit ordinal"))?;
                ImportSymbol::Ordinal(ordinal)
            }
        };
        imports.push(Import { slot, dll, symbol });
    }
    each(SECTION, &imports, |Import { slot, dll, symbol }| {
        if !slot.is_multiple_of(8)
            || segment_with_content(segments, *slot, 8).is_none_or(|s| s.protection == Protection::ReadExecute)
        {
            return Err("the slot is not eight aligned bytes of a data segment's content");
        }
        if !is_file_name(dll) {
            return Err("the DLL's name is not a file name");
        }
        match symbol {
            ImportSymbol::Name(name) if name.is_empty() || name.contains('\0') => Err("the name is empty or cut"),
            _ => Ok(()),
        }
    })?;
    Ok(imports)
}

fn decode_unwind(reader: &mut Reader<'_>, segments: &[Segment]) -> Result<Unwind, FormatError> {
    const RUNTIME_FUNCTION: u32 = 12;
    reader.enter("unwind");
    let count = reader.number()?;
    if count == 0 {
        return Ok(Unwind::default());
    }
    let unwind = Unwind { table: reader.number()?, count };
    let size = count.checked_mul(RUNTIME_FUNCTION);
    let segment = size.and_then(|size| segment_with_content(segments, unwind.table, size));
    if !unwind.table.is_multiple_of(4) || segment.is_none_or(|s| s.protection != Protection::Read) {
        return Err(reader.error("the function table is not inside a read-only segment"));
    }
    Ok(unwind)
}

fn decode_variables(reader: &mut Reader<'_>, segments: &[Segment]) -> Result<Vec<Variable>, FormatError> {
    const SECTION: &str = "variables";
    reader.enter(SECTION);
    let count = reader.count()?;
    let sizes = reader.numbers(count)?;
    let size = |index: usize| sizes.get(index).copied().unwrap_or(0);
    let offsets = reader.places(count, PAGE, |index, offset| offset.saturating_add(size(index)))?;
    let mut variables = Vec::with_capacity(count);
    for (offset, size) in offsets.into_iter().zip(&sizes) {
        variables.push(Variable { offset, size: *size, name: reader.text()? });
    }
    let mut end = 0;
    let mut names = alloc::collections::BTreeSet::new();
    each(SECTION, &variables, |Variable { offset, size, name }| {
        if *offset < end {
            return Err("overlaps the variable before it, or is out of order");
        }
        end = offset.checked_add(*size).filter(|_| *size > 0).ok_or("the size is zero or absurd")?;
        let holds =
            |s: &Segment| s.offset <= *offset && end <= s.offset + s.size && s.protection == Protection::ReadWrite;
        if !segments.iter().any(holds) {
            return Err("not inside a writable segment");
        }
        if name.is_empty() {
            return Err("without a name");
        }
        if !names.insert(name.as_str()) {
            return Err("another variable has the same name");
        }
        Ok(())
    })?;
    Ok(variables)
}

fn decode_hooks(reader: &mut Reader<'_>, functions: &[Function]) -> Result<Vec<Hook>, FormatError> {
    reader.enter("hooks");
    let count = reader.count()?;
    reader.column(count, |reader| {
        let kind = HookKind::from_code(reader.number()?).ok_or_else(|| reader.error("unknown kind"))?;
        let function = reader.number()?;
        Ok(Hook { kind, function: nth(reader, functions, function)?.offset })
    })
}

fn decode_initialisers(
    reader: &mut Reader<'_>,
    functions: &[Function],
    variables: &[Variable],
) -> Result<Vec<Initialiser>, FormatError> {
    const SECTION: &str = "initialisers";
    reader.enter(SECTION);
    let count = reader.count()?;
    let records = reader.column(count, |reader| {
        let function = reader.number()?.checked_sub(1).map(|number| nth(reader, functions, number));
        let function = function.transpose()?.map(|function| function.offset);
        let variable = variables.get(reader.number()? as usize);
        let variable = variable.ok_or_else(|| reader.error("there is no variable of that number"))?.offset;
        Ok((function, variable, reader.number()?))
    })?;
    let mut seen = alloc::collections::BTreeMap::new();
    let mut last = None;
    let mut initialisers = Vec::with_capacity(count);
    each(SECTION, records, |(function, variable, flags)| {
        if flags & !(CHECKED | AT_EXIT) != 0 || function.is_none() && flags != 0 {
            return Err("unknown flags");
        }
        match seen.insert(function, (flags, variable)) {
            Some(_) if last != Some(function) => return Err("the records of a function do not stand together"),
            Some((before, _)) if before != flags => return Err("other flags than the function's first record"),
            Some((_, before)) if before >= variable => return Err("the variables of a function do not rise"),
            _ => last = Some(function),
        }
        let (checked, at_exit) = (flags & CHECKED != 0, flags & AT_EXIT != 0);
        initialisers.push(Initialiser { function, variable, checked, at_exit });
        Ok(())
    })?;
    Ok(initialisers)
}

fn decode_probation(
    reader: &mut Reader<'_>,
    functions: &[Function],
    identity: &Identity,
) -> Result<Option<Probation>, FormatError> {
    reader.enter("probation");
    let window_ms = reader.number()?;
    if window_ms == 0 {
        return Ok(None);
    }
    let interval_ms = reader.number()?;
    if window_ms > MAX_PROBATION_MS || !(1..=window_ms).contains(&interval_ms) {
        return Err(
            reader.error("the window is longer than seven days, or the interval none or longer than the window")
        );
    }
    let check = match reader.number()? {
        0 => None,
        1 => Some((Space::Image, reader.number()?)),
        2 => {
            let function = functions.get(reader.number()? as usize);
            Some((Space::Region, function.ok_or_else(|| reader.error("there is no function of that number"))?.offset))
        }
        _ => return Err(reader.error("the check is in an unknown space")),
    };
    if matches!(check, Some((Space::Image, rva)) if rva == 0 || rva >= identity.size_of_image) {
        return Err(reader.error("the check is not inside the image"));
    }
    Ok(Some(Probation { window_ms, interval_ms, check }))
}

fn decode_assignments(
    reader: &mut Reader<'_>,
    segments: &[Segment],
    identity: &Identity,
) -> Result<Vec<Assignment>, FormatError> {
    const SECTION: &str = "assignments";
    reader.enter(SECTION);
    let count = reader.count()?;
    let assignments = reader.column(count, |reader| {
        let (rva, value, size) = (reader.number()?, reader.number()?, reader.number()?);
        Ok(Assignment { rva, value, size })
    })?;
    let (mut end, mut sum) = (0, 0u32);
    each(SECTION, &assignments, |Assignment { rva, value, size }| {
        if *rva < end {
            return Err("overlaps the assignment before it, or is out of order");
        }
        end = rva.checked_add(*size).filter(|end| *end <= identity.size_of_image).ok_or("not inside the image")?;
        sum = sum.saturating_add(*size);
        if *size == 0 || sum > MAX_ASSIGNED {
            return Err("the size is zero, or all sizes together more than 2048");
        }
        if segment_with_content(segments, *value, *size).is_none_or(|s| s.protection != Protection::Read) {
            return Err("the value is not inside the content of a read-only segment");
        }
        Ok(())
    })?;
    Ok(assignments)
}
