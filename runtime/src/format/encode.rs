//! From a [`Payload`] to the bytes of its part of the body (section 2).

use alloc::vec::Vec;

use super::layout::{AT_EXIT, CHECKED, behind_guard, body_after, start_of_body};
use super::numbers::{put_number, put_places, put_signed, put_text};
use super::*;

/// Why a payload cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The body is larger than a reader accepts.
    #[error("the payload has {0} bytes, more than the {MAX_BODY} that the format allows")]
    TooLarge(usize),
    /// None, or too many.
    #[error("a payload file is for 1 to {MAX_IMAGES} images, not for {0}")]
    Images(usize),
    /// Something names what the payload does not have, or stands where nothing may.
    #[error("the payload's {0} do not fit together")]
    Inconsistent(&'static str),
}

impl Payload {
    /// The image's part of the body.
    pub(super) fn encode_part(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode_identity(bytes);
        self.encode_segments(bytes);
        self.encode_relocations(bytes);
        self.encode_contents(bytes);
        self.encode_functions(bytes);
        self.encode_trampolines(bytes)?;
        self.encode_bodies(bytes)?;
        self.encode_imports(bytes);
        put_number(bytes, self.unwind.count.into());
        if self.unwind.count > 0 {
            put_number(bytes, self.unwind.table.into());
        }
        self.encode_variables(bytes);
        self.encode_hooks(bytes)?;
        self.encode_assignments(bytes);
        self.encode_initialisers(bytes)?;
        self.encode_probation(bytes)
    }

    fn encode_identity(&self, bytes: &mut Vec<u8>) {
        let identity = &self.identity;
        bytes.extend_from_slice(&identity.guid);
        bytes.extend_from_slice(&identity.timestamp.to_le_bytes());
        let Identity { age, size_of_image, entry_point, series, stays, image_base, .. } = *identity;
        numbers(bytes, [age, size_of_image, entry_point, series, u32::from(stays)]);
        put_number(bytes, image_base);
        put_text(bytes, &identity.image_name);
    }

    fn encode_segments(&self, bytes: &mut Vec<u8>) {
        let segments = &self.segments;
        put_number(bytes, segments.len() as u64);
        numbers(bytes, segments.iter().map(|segment| segment.protection.code()));
        numbers(bytes, segments.iter().map(|segment| segment.size));
        for segment in segments {
            put_signed(bytes, i64::from(segment.size) - segment.content.len() as i64);
        }
        put_places(bytes, segments.iter().map(|s| s.offset), PAGE, |index, offset| {
            behind_guard(offset, segments.get(index).map_or(0, |segment| segment.size))
        });
    }

    fn encode_relocations(&self, bytes: &mut Vec<u8>) {
        let relocations = &self.relocations;
        put_number(bytes, relocations.len() as u64);
        bytes.extend(relocations.iter().map(Relocation::code));
        for relocation in relocations.iter().filter(|relocation| relocation.short_addend().is_none()) {
            put_signed(bytes, relocation.addend.into());
        }
        put_places(bytes, relocations.iter().map(|r| r.place), PAGE, |index, place| {
            place.saturating_add(relocations.get(index).map_or(0, |r| r.kind.width()))
        });
        for (space, start) in Space::STARTS {
            let targets = relocations.iter().filter(|relocation| relocation.space == space);
            put_places(bytes, targets.map(|r| r.target), start, |_, target| target);
        }
    }

    /// Without the fields that relocations fill.
    fn encode_contents(&self, bytes: &mut Vec<u8>) {
        let mut relocations = self.relocations.iter().peekable();
        for segment in &self.segments {
            let mut from = 0;
            let end = segment.offset.saturating_add(segment.content.len() as u32);
            while let Some(relocation) = relocations.next_if(|relocation| relocation.place < end) {
                let field = relocation.place.saturating_sub(segment.offset) as usize;
                bytes.extend_from_slice(segment.content.get(from..field).unwrap_or_default());
                from = field + relocation.kind.width() as usize;
            }
            bytes.extend_from_slice(segment.content.get(from..).unwrap_or_default());
        }
    }

    fn encode_functions(&self, bytes: &mut Vec<u8>) {
        let functions = &self.functions;
        put_number(bytes, functions.len() as u64);
        numbers(bytes, functions.iter().map(|function| function.size));
        put_places(bytes, functions.iter().map(|f| f.offset), PAGE, |index, offset| {
            offset.saturating_add(functions.get(index).map_or(0, |function| function.size))
        });
        bytes.extend(functions.iter().map(|function| match (function.old_rva, function.exported) {
            (Some(_), _) => 1,
            (None, exported) => u8::from(exported) * 2,
        }));
        put_places(bytes, functions.iter().filter_map(|function| function.old_rva), 0, |_, rva| rva);
        functions.iter().for_each(|function| put_text(bytes, &function.name));
    }

    fn encode_trampolines(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let trampolines = &self.trampolines;
        put_number(bytes, trampolines.len() as u64);
        let targets = trampolines.iter().map(|trampoline| self.function_at(trampoline.target, "trampolines"));
        let targets = targets.collect::<Result<Vec<u32>, _>>()?;
        put_places(bytes, targets.iter().copied(), 0, |_, index| index.saturating_add(1));
        for (trampoline, target) in trampolines.iter().zip(targets) {
            let old = self.functions.get(target as usize).and_then(|function| function.old_rva).unwrap_or(0);
            put_signed(bytes, i64::from(trampoline.entry_rva) - i64::from(old));
        }
        bytes.extend(trampolines.iter().map(|trampoline| trampoline.form.code()));
        bytes.extend(trampolines.iter().map(|trampoline| trampoline.demand.code()));
        numbers(bytes, trampolines.iter().map(|trampoline| trampoline.expected.len() as u32));
        numbers(bytes, trampolines.iter().map(|trampoline| trampoline.rebased_at.map_or(0, |at| u32::from(at) + 1)));
        for trampoline in trampolines {
            let expected = trampoline.expected.iter().zip(start_of_body(&self.segments, trampoline.target));
            bytes.extend(expected.map(|(expected, new)| expected ^ new));
            match (trampoline.form, trampoline.gap, trampoline.callers.as_slice()) {
                (TrampolineForm::Jump32, None, []) => {}
                (TrampolineForm::Jump8, Some(gap), []) => {
                    put_signed(bytes, i64::from(gap.rva) - i64::from(trampoline.entry_rva));
                    bytes.extend_from_slice(&gap.expected);
                }
                (TrampolineForm::Callers, None, callers) => {
                    put_number(bytes, callers.len() as u64);
                    put_places(bytes, callers.iter().copied(), trampoline.entry_rva, |_, field| {
                        field.saturating_add(CALLER_LEN as u32)
                    });
                }
                _ => return Err(EncodeError::Inconsistent("trampolines and gaps")),
            }
        }
        Ok(())
    }

    fn encode_bodies(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let inconsistent = EncodeError::Inconsistent("bodies");
        let count = |trampoline: &Trampoline| {
            self.bodies.iter().filter(|body| body.entry_rva == trampoline.entry_rva).count() as u32
        };
        let counts: Vec<u32> = self.trampolines.iter().map(count).collect();
        numbers(bytes, counts.iter().copied());
        let entries = self.trampolines.iter().zip(counts);
        let entries = entries.flat_map(|(trampoline, count)| (0..count).map(|_| trampoline.entry_rva));
        if !entries.eq(self.bodies.iter().map(|body| body.entry_rva)) {
            return Err(inconsistent);
        }
        numbers(bytes, self.bodies.iter().map(|body| body.size));
        let mut before = Body::unchecked(0, 0, 0);
        for body in &self.bodies {
            put_signed(bytes, i64::from(body.start) - i64::from(body_after(&before, body.entry_rva)));
            before = *body;
        }
        for body in &self.bodies {
            put_signed(bytes, i64::from(body.size) - i64::from(body.checked));
        }
        for body in &self.bodies {
            match body.checked {
                0 if body.digest != [0; 8] => return Err(inconsistent),
                0 => {}
                _ => bytes.extend_from_slice(&body.digest),
            }
        }
        Ok(())
    }

    fn encode_imports(&self, bytes: &mut Vec<u8>) {
        put_number(bytes, self.imports.len() as u64);
        put_places(bytes, self.imports.iter().map(|import| import.slot), PAGE, |_, slot| slot.saturating_add(8));
        for Import { dll, symbol, .. } in &self.imports {
            put_text(bytes, dll);
            match symbol {
                ImportSymbol::Name(name) => {
                    put_number(bytes, 0);
                    put_text(bytes, name);
                }
                ImportSymbol::Ordinal(ordinal) => put_number(bytes, u64::from(*ordinal) + 1),
            }
        }
    }

    fn encode_variables(&self, bytes: &mut Vec<u8>) {
        let variables = &self.variables;
        put_number(bytes, variables.len() as u64);
        numbers(bytes, variables.iter().map(|variable| variable.size));
        put_places(bytes, variables.iter().map(|v| v.offset), PAGE, |index, offset| {
            offset.saturating_add(variables.get(index).map_or(0, |variable| variable.size))
        });
        variables.iter().for_each(|variable| put_text(bytes, &variable.name));
    }

    fn encode_hooks(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_number(bytes, self.hooks.len() as u64);
        for Hook { kind, function } in &self.hooks {
            numbers(bytes, [kind.code(), self.function_at(*function, "hooks")?]);
        }
        Ok(())
    }

    fn encode_assignments(&self, bytes: &mut Vec<u8>) {
        put_number(bytes, self.assignments.len() as u64);
        for Assignment { rva, value, size } in self.assignments.iter().copied() {
            numbers(bytes, [rva, value, size]);
        }
    }

    fn encode_initialisers(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_number(bytes, self.initialisers.len() as u64);
        for initialiser in &self.initialisers {
            let function = initialiser.function.map(|function| self.function_at(function, "initialisers"));
            let function = function.transpose()?.map_or(0, |index| index + 1);
            let variable = self.variables.binary_search_by_key(&initialiser.variable, |variable| variable.offset);
            let variable = variable.map_err(|_| EncodeError::Inconsistent("initialisers"))? as u32;
            let flags = if initialiser.checked { CHECKED } else { 0 } | if initialiser.at_exit { AT_EXIT } else { 0 };
            numbers(bytes, [function, variable, flags]);
        }
        Ok(())
    }

    fn encode_probation(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Some(Probation { window_ms, interval_ms, check }) = self.probation else {
            put_number(bytes, 0);
            return Ok(());
        };
        if window_ms == 0 {
            return Err(EncodeError::Inconsistent("probation"));
        }
        numbers(bytes, [window_ms, interval_ms]);
        match check {
            None => put_number(bytes, 0),
            Some((Space::Image, rva)) => numbers(bytes, [1, rva]),
            Some((Space::Region, offset)) => numbers(bytes, [2, self.function_at(offset, "probation")?]),
        }
        Ok(())
    }

    /// The number of the function at a region offset.
    fn function_at(&self, offset: u32, what: &'static str) -> Result<u32, EncodeError> {
        let found = self.functions.binary_search_by_key(&offset, |function| function.offset);
        found.map(|index| index as u32).map_err(|_| EncodeError::Inconsistent(what))
    }
}

fn numbers(bytes: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    numbers.into_iter().for_each(|number| put_number(bytes, number.into()));
}
