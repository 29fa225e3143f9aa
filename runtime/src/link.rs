//! From a [`Payload`] and the addresses of one process to the very bytes that go into it (`FORMAT.md` 2.3, 2.4, 2.7).
//!
//! Pure: it touches no process. A payload that was not decoded but made by hand may be unsound; that is an error here, too.

use alloc::string::String;
use alloc::vec::Vec;

use crate::format::{
    CALLER_LEN, Demand, Gap, JUMP8_LEN, JUMP32_LEN, Payload, Protection, Relocation, RelocationKind, Segment, Space,
    Trampoline, TrampolineForm,
};

/// Bytes of a `RUNTIME_FUNCTION` on x64.
const RUNTIME_FUNCTION: u64 = 12;

/// A payload cannot be placed at the given addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A relocated value does not fit its field.
    #[error("the {kind} field at region offset {place:#x} (in {function}) cannot reach {target:#x} from {from:#x}")]
    OutOfReach {
        /// Name of the relocation's kind.
        kind: &'static str,
        /// Region offset of the field.
        place: u32,
        /// The function or segment that holds it.
        function: String,
        /// What it counts from: the field, the function table base, or the image's base.
        from: u64,
        /// What it should lead to.
        target: u64,
    },
    /// A redirection does not fit its form.
    #[error("the entry of {function} at RVA {rva:#x} cannot reach its new body at {target:#x} with a 32-bit jump")]
    Trampoline {
        /// The function.
        function: String,
        /// RVA of the entry.
        rva: u32,
        /// Address of the new body.
        target: u64,
    },
    /// The payload contradicts itself.
    #[error("the payload is unsound at region offset or RVA {place:#x}: {problem}")]
    Unsound {
        /// Region offset or RVA.
        place: u32,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Everything that goes into one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// Where the region begins.
    pub region_base: u64,
    /// Filled segments, by rising offset.
    pub segments: Vec<LinkedSegment>,
    /// Redirections, by rising address.
    pub trampolines: Vec<LinkedTrampoline>,
    /// What to register for unwinding, if anything.
    pub function_table: Option<FunctionTable>,
}

/// A segment's content, relocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedSegment {
    /// Region offset.
    pub offset: u32,
    /// Bytes in memory; what `bytes` does not cover is zero.
    pub size: u32,
    /// Protection after filling.
    pub protection: Protection,
    /// Initial bytes.
    pub bytes: Vec<u8>,
}

/// One entry to redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedTrampoline {
    /// Name of the function.
    pub function: String,
    /// RVA of the entry.
    pub entry_rva: u32,
    /// Address of the entry.
    pub entry: u64,
    /// Address of the new body.
    pub target: u64,
    /// What must be at the entry, rebased to where the image is.
    pub expected: Vec<u8>,
    /// What is written there; shorter than or as long as `expected`.
    pub replacement: Vec<u8>,
    /// The form of what is written.
    pub form: TrampolineForm,
    /// Where no thread may be when it is written.
    pub demand: Demand,
    /// Whether it can be written while threads run.
    pub is_no_stop: bool,
    /// The long jump, where the one at the entry is short.
    pub gap: Option<LinkedGap>,
    /// The distances that lead to the new body, where nothing is written at the entry.
    pub callers: Vec<LinkedCaller>,
}

/// A direct call or jump to the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkedCaller {
    /// RVA of its distance.
    pub rva: u32,
    /// Address of its distance.
    pub address: u64,
    /// What must be there.
    pub expected: [u8; CALLER_LEN],
    /// What is written there.
    pub replacement: [u8; CALLER_LEN],
}

/// A jump in the padding between functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkedGap {
    /// RVA of its first byte.
    pub rva: u32,
    /// Address of its first byte.
    pub address: u64,
    /// What must be there.
    pub expected: [u8; JUMP32_LEN],
    /// What is written there.
    pub replacement: [u8; JUMP32_LEN],
}

/// Arguments of `RtlAddFunctionTable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionTable {
    /// Address of the `RUNTIME_FUNCTION` array.
    pub address: u64,
    /// Number of entries.
    pub count: u32,
    /// What its RVAs count from.
    pub base: u64,
}

/// What unwind RVAs count from (section 2.7): the lower of both bases.
pub fn function_table_base(image_base: u64, region_base: u64) -> u64 {
    image_base.min(region_base)
}

/// What must be at a trampoline's entry in an image loaded at `image_base`.
///
/// # Errors
/// When the rebased address is not inside the expected bytes.
pub fn rebased_expected(payload: &Payload, trampoline: &Trampoline, image_base: u64) -> Result<Vec<u8>, LinkError> {
    let mut expected = trampoline.expected.clone();
    if let Some(at) = trampoline.rebased_at {
        let field = expected
            .get_mut(usize::from(at)..)
            .and_then(|rest| rest.first_chunk_mut::<8>())
            .ok_or(unsound(trampoline.entry_rva, "the rebased address is not inside the expected bytes"))?;
        // Both are 64-bit addresses and their difference wraps, as the system's own rebasing does.
        let delta = image_base.wrapping_sub(payload.identity.image_base);
        *field = u64::from_le_bytes(*field).wrapping_add(delta).to_le_bytes();
    }
    Ok(expected)
}

/// Resolves everything for an image at `image_base` and a region at `region_base`.
/// `imports` holds the address of each of the payload's imports, in their order.
///
/// # Errors
/// Names the place that cannot be resolved.
pub fn link(payload: &Payload, region_base: u64, image_base: u64, imports: &[u64]) -> Result<Linked, LinkError> {
    link_taking_over(payload, region_base, image_base, imports, &[])
}

/// A variable of the payload that an earlier payload brought already: what names it leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenOver {
    /// Region offset where the payload has it.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Where it has been since.
    pub address: u64,
}

/// As [`link`], with variables that exist already.
///
/// # Errors
/// As [`link`].
pub fn link_taking_over(
    payload: &Payload,
    region_base: u64,
    image_base: u64,
    imports: &[u64],
    taken_over: &[TakenOver],
) -> Result<Linked, LinkError> {
    let mut segments: Vec<LinkedSegment> = payload.segments.iter().map(copy_segment).collect();
    let context = Context { payload, region_base, image_base, taken_over };
    for relocation in &payload.relocations {
        let value = context.relocated(relocation)?;
        let width = relocation.kind.width() as usize;
        store(&mut segments, relocation.place, value.get(..width).unwrap_or(&value))?;
    }
    if imports.len() != payload.imports.len() {
        return Err(unsound(0, "not as many import addresses as imports"));
    }
    for (import, address) in payload.imports.iter().zip(imports) {
        store(&mut segments, import.slot, &address.to_le_bytes())?;
    }
    let trampolines =
        payload.trampolines.iter().map(|trampoline| context.trampoline(trampoline)).collect::<Result<_, _>>()?;
    Ok(Linked { region_base, segments, trampolines, function_table: context.function_table()? })
}

/// The name of the function that a trampoline leads to.
pub fn trampoline_function<'a>(payload: &'a Payload, trampoline: &Trampoline) -> &'a str {
    let by_offset = payload.functions.iter().find(|f| f.offset == trampoline.target);
    by_offset.map_or("?", |function| function.name.as_str())
}

struct Context<'a> {
    payload: &'a Payload,
    region_base: u64,
    image_base: u64,
    taken_over: &'a [TakenOver],
}

impl Context<'_> {
    /// Address of a relocation's target, without the addend.
    fn target(&self, space: Space, target: u32) -> Option<u64> {
        match space {
            Space::Image => self.image_base.checked_add(target.into()),
            Space::Region => {
                let existing = self.taken_over.iter().find(|v| target >= v.offset && target - v.offset < v.size);
                match existing {
                    Some(variable) => variable.address.checked_add((target - variable.offset).into()),
                    None => self.region_base.checked_add(target.into()),
                }
            }
        }
    }

    /// The field's bytes; a 32-bit field is the first four.
    fn relocated(&self, relocation: &Relocation) -> Result<[u8; 8], LinkError> {
        let overflow = unsound(relocation.place, "the address is beyond the address space");
        let target = self
            .target(relocation.space, relocation.target)
            .and_then(|address| address.checked_add_signed(relocation.addend.into()))
            .ok_or(overflow.clone())?;
        let out_of_reach = |kind, from| LinkError::OutOfReach {
            kind,
            place: relocation.place,
            function: self.owner(relocation.place),
            from,
            target,
        };
        let value = match relocation.kind {
            RelocationKind::Addr64 => target,
            RelocationKind::Rel32 => {
                let place = self.region_base.checked_add(relocation.place.into()).ok_or(overflow)?;
                let distance = distance32(place, target).ok_or_else(|| out_of_reach("REL32", place))?;
                u64::from(distance.cast_unsigned())
            }
            RelocationKind::Rva32 => {
                let base = function_table_base(self.image_base, self.region_base);
                let rva = target.checked_sub(base).and_then(|rva| u32::try_from(rva).ok());
                rva.ok_or_else(|| out_of_reach("RVA32", base))?.into()
            }
            RelocationKind::Image32 => {
                let base = self.image_base;
                let distance = target.checked_sub(base).and_then(|distance| i32::try_from(distance).ok());
                u64::from(distance.ok_or_else(|| out_of_reach("IMAGE32", base))?.cast_unsigned())
            }
        };
        Ok(value.to_le_bytes())
    }

    /// For messages: the function that holds a region offset.
    fn owner(&self, place: u32) -> String {
        let holds = |start: u32, size: u32| place >= start && place - start < size;
        let function = self.payload.functions.iter().find(|f| holds(f.offset, f.size));
        function.map_or_else(|| String::from("data"), |f| f.name.clone())
    }

    fn trampoline(&self, trampoline: &Trampoline) -> Result<LinkedTrampoline, LinkError> {
        let overflow = unsound(trampoline.entry_rva, "the address is beyond the address space");
        let entry = self.image_base.checked_add(trampoline.entry_rva.into()).ok_or(overflow.clone())?;
        let target = self.region_base.checked_add(trampoline.target.into()).ok_or(overflow.clone())?;
        let function = String::from(trampoline_function(self.payload, trampoline));
        let distance = |end: u64| {
            distance32(end, target).map(i32::to_le_bytes).ok_or_else(|| LinkError::Trampoline {
                function: function.clone(),
                rva: trampoline.entry_rva,
                target,
            })
        };
        let jump = |from: u64| {
            let [a, b, c, d] = distance(from.checked_add(JUMP32_LEN as u64).ok_or(overflow.clone())?)?;
            Ok([0xe9, a, b, c, d])
        };
        let (replacement, gap) = match trampoline.form {
            TrampolineForm::Jump32 => (Vec::from(jump(entry)?), None),
            TrampolineForm::Jump8 => {
                let gap = trampoline.gap.ok_or(unsound(trampoline.entry_rva, "a short jump without a gap"))?;
                let Gap { rva, expected } = gap;
                let from = i64::from(trampoline.entry_rva) + JUMP8_LEN as i64;
                let distance = i8::try_from(i64::from(rva) - from)
                    .map_err(|_| unsound(rva, "the gap is out of a short jump's reach"))?;
                let address = self.image_base.checked_add(rva.into()).ok_or(overflow.clone())?;
                let linked = LinkedGap { rva, address, expected, replacement: jump(address)? };
                (Vec::from([0xeb, distance.cast_unsigned()]), Some(linked))
            }
            TrampolineForm::Callers => (Vec::new(), None),
        };
        let caller = |rva: &u32| {
            let address = self.image_base.checked_add((*rva).into()).ok_or(overflow.clone())?;
            let replacement = distance(address.checked_add(CALLER_LEN as u64).ok_or(overflow.clone())?)?;
            Ok(LinkedCaller { rva: *rva, address, expected: trampoline.distance_from(*rva), replacement })
        };
        let callers = trampoline.callers.iter().map(caller).collect::<Result<_, _>>()?;
        let expected = rebased_expected(self.payload, trampoline, self.image_base)?;
        if expected.len() < replacement.len() {
            return Err(unsound(trampoline.entry_rva, "fewer expected bytes than are written"));
        }
        Ok(LinkedTrampoline {
            function,
            entry_rva: trampoline.entry_rva,
            entry,
            target,
            expected,
            replacement,
            form: trampoline.form,
            demand: trampoline.demand,
            is_no_stop: trampoline.is_no_stop(),
            gap,
            callers,
        })
    }

    fn function_table(&self) -> Result<Option<FunctionTable>, LinkError> {
        let unwind = self.payload.unwind;
        if unwind.count == 0 {
            return Ok(None);
        }
        let end = u64::from(unwind.table) + u64::from(unwind.count) * RUNTIME_FUNCTION;
        if end > u64::from(self.payload.region_size()) {
            return Err(unsound(unwind.table, "the function table is not inside the region"));
        }
        let address = self.region_base.checked_add(unwind.table.into());
        let address = address.ok_or(unsound(unwind.table, "the address is beyond the address space"))?;
        let base = function_table_base(self.image_base, self.region_base);
        Ok(Some(FunctionTable { address, count: unwind.count, base }))
    }
}

fn unsound(place: u32, problem: &'static str) -> LinkError {
    LinkError::Unsound { place, problem }
}

fn copy_segment(segment: &Segment) -> LinkedSegment {
    LinkedSegment {
        offset: segment.offset,
        size: segment.size,
        protection: segment.protection,
        bytes: segment.content.clone(),
    }
}

/// `to - from`, if a signed 32-bit field can hold it.
fn distance32(from: u64, to: u64) -> Option<i32> {
    i32::try_from(i128::from(to) - i128::from(from)).ok()
}

fn store(segments: &mut [LinkedSegment], place: u32, value: &[u8]) -> Result<(), LinkError> {
    let index = segments.partition_point(|segment| segment.offset <= place).checked_sub(1);
    let segment = index.and_then(|index| segments.get_mut(index));
    let field = segment.and_then(|segment| {
        let start = (place - segment.offset) as usize;
        segment.bytes.get_mut(start..start.checked_add(value.len())?)
    });
    field.ok_or(unsound(place, "the field is not inside a segment's content"))?.copy_from_slice(value);
    Ok(())
}

#[cfg(test)]
#[path = "link_tests.rs"]
pub(crate) mod tests;
