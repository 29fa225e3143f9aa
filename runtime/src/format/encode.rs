//! From a [`Payload`] to the bytes of its part, and from a body to a file. Compression is the caller's: the generator has a better compressor than the loader needs.

use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use super::layout::*;
use super::*;

/// Why a payload cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A table or text does not fit the format's 32-bit sizes.
    #[error("the payload's {0} do not fit the format: more than 4 GiB")]
    TooLarge(&'static str),
    /// More expected bytes than a trampoline record holds.
    #[error("the trampoline at RVA {0:#x} has more than {MAX_EXPECTED} expected bytes")]
    ExpectedBytes(u32),
    /// None, or too many.
    #[error("a payload file is for 1 to {MAX_IMAGES} images, not for {0}")]
    Images(usize),
}

impl Payload {
    /// The image's part of the body (section 2).
    pub(super) fn encode_part(&self) -> Result<Vec<u8>, EncodeError> {
        let mut strings = Strings::default();
        let id = &self.identity;
        let identity = IdentityRecord {
            guid: id.guid,
            age: id.age.into(),
            timestamp: id.timestamp.into(),
            size_of_image: id.size_of_image.into(),
            entry_point: id.entry_point.into(),
            image_base: id.image_base.into(),
            name: strings.add(&id.image_name)?,
            series: id.series.into(),
            flags: u32::from(id.stays).into(),
        };
        let (mut segments, mut contents) = (Vec::new(), Vec::new());
        for s in &self.segments {
            let record = SegmentRecord {
                offset: s.offset.into(),
                memory_size: s.size.into(),
                content_size: size32(s.content.len(), "contents")?.into(),
                protection: match s.protection {
                    Protection::ReadExecute => 1,
                    Protection::Read => 2,
                    Protection::ReadWrite => 3,
                }
                .into(),
            };
            segments.extend_from_slice(record.as_bytes());
            contents.extend_from_slice(&s.content);
        }
        let mut relocations = Vec::new();
        for r in &self.relocations {
            let record = RelocationRecord {
                place: r.place.into(),
                kind: match r.kind {
                    RelocationKind::Rel32 => 1,
                    RelocationKind::Addr64 => 2,
                    RelocationKind::Rva32 => 3,
                    RelocationKind::Image32 => 4,
                }
                .into(),
                space: match r.space {
                    Space::Image => 1,
                    Space::Region => 2,
                }
                .into(),
                target: r.target.into(),
                addend: r.addend.into(),
            };
            relocations.extend_from_slice(record.as_bytes());
        }
        let mut trampolines = Vec::new();
        for t in &self.trampolines {
            let mut expected = [0; MAX_EXPECTED];
            expected
                .get_mut(..t.expected.len())
                .ok_or(EncodeError::ExpectedBytes(t.entry_rva))?
                .copy_from_slice(&t.expected);
            let record = TrampolineRecord {
                entry_rva: t.entry_rva.into(),
                target: t.target.into(),
                form: t.form.code(),
                expected_len: t.expected.len() as u8,
                rebased_at: t.rebased_at.unwrap_or(NOT_REBASED),
                demand: t.demand.code(),
                expected,
                gap: t.gap.map_or(0, |gap| gap.rva).into(),
                gap_expected: t.gap.map_or([0; JUMP32_LEN], |gap| gap.expected),
                reserved: [0; 3],
            };
            trampolines.extend_from_slice(record.as_bytes());
        }
        let mut functions = Vec::new();
        for f in &self.functions {
            let record = FunctionRecord {
                offset: f.offset.into(),
                size: f.size.into(),
                old_rva: f.old_rva.unwrap_or(0).into(),
                reserved: 0.into(),
                name: strings.add(&f.name)?,
            };
            functions.extend_from_slice(record.as_bytes());
        }
        let mut imports = Vec::new();
        for i in &self.imports {
            let (ordinal, symbol) = match &i.symbol {
                ImportSymbol::Name(name) => (BY_NAME, name.as_str()),
                ImportSymbol::Ordinal(ordinal) => (u32::from(*ordinal), ""),
            };
            let record = ImportRecord {
                slot: i.slot.into(),
                ordinal: ordinal.into(),
                dll: strings.add(&i.dll)?,
                symbol: strings.add(symbol)?,
            };
            imports.extend_from_slice(record.as_bytes());
        }
        let unwind = UnwindRecord { table: self.unwind.table.into(), count: self.unwind.count.into() };
        let mut variables = Vec::new();
        for v in &self.variables {
            let record = VariableRecord { offset: v.offset.into(), size: v.size.into(), name: strings.add(&v.name)? };
            variables.extend_from_slice(record.as_bytes());
        }
        let hooks: Vec<u8> = self
            .hooks
            .iter()
            .flat_map(|hook| {
                let record = HookRecord { kind: hook.kind.code().into(), function: hook.function.into() };
                record.as_bytes().to_vec()
            })
            .collect();
        let assignments: Vec<u8> = self
            .assignments
            .iter()
            .flat_map(|a| {
                let record = AssignmentRecord { rva: a.rva.into(), value: a.value.into(), size: a.size.into() };
                record.as_bytes().to_vec()
            })
            .collect();
        let bodies: Vec<u8> = self.bodies.iter().flat_map(|body| body_record(body).as_bytes().to_vec()).collect();
        let initialisers: Vec<u8> = self
            .initialisers
            .iter()
            .flat_map(|i| {
                let flags = if i.checked { CHECKED } else { 0 } | if i.at_exit { AT_EXIT } else { 0 };
                let function = i.function.unwrap_or(0).into();
                let record = InitialiserRecord { function, variable: i.variable.into(), flags: flags.into() };
                record.as_bytes().to_vec()
            })
            .collect();
        join_sections([
            identity.as_bytes(),
            &segments,
            &contents,
            &relocations,
            &trampolines,
            &functions,
            &imports,
            unwind.as_bytes(),
            strings.text.as_bytes(),
            &variables,
            &hooks,
            &assignments,
            &bodies,
            &initialisers,
        ])
    }
}

fn body_record(body: &Body) -> BodyRecord {
    BodyRecord {
        entry: body.entry_rva.into(),
        start: body.start.into(),
        size: body.size.into(),
        checked: body.checked.into(),
        digest: body.digest,
    }
}

/// The whole file: header with its seal, then `stored`, the zstd-compressed form of a body of `body_size` bytes.
pub fn seal_file(machine: u16, body_size: u64, stored: &[u8]) -> Vec<u8> {
    let mut header = FileHeader {
        magic: MAGIC,
        version: VERSION.into(),
        machine: machine.into(),
        flags: 0.into(),
        body_size: body_size.into(),
        stored_size: (stored.len() as u64).into(),
        seal: [0; 32],
    };
    header.seal = compute_seal(header.as_bytes(), stored);
    let mut file = Vec::with_capacity(size_of::<FileHeader>() + stored.len());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(stored);
    file
}

/// SHA-256 over the header's first 32 bytes and the stored body.
pub(super) fn compute_seal(header: &[u8], stored: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&header[..32]);
    hash.update(stored);
    hash.finalize().into()
}

fn join_sections(sections: [&[u8]; KINDS.len()]) -> Result<Vec<u8>, EncodeError> {
    let directory = 4 + KINDS.len() * size_of::<SectionEntry>();
    let mut body = Vec::from((KINDS.len() as u32).to_le_bytes());
    let mut offset = directory;
    for ((kind, name), section) in KINDS.iter().zip(sections) {
        offset = offset.next_multiple_of(8);
        let entry = SectionEntry {
            kind: (*kind).into(),
            offset: size32(offset, name)?.into(),
            size: size32(section.len(), name)?.into(),
        };
        body.extend_from_slice(entry.as_bytes());
        offset += section.len();
    }
    for section in sections {
        body.resize(body.len().next_multiple_of(8), 0);
        body.extend_from_slice(section);
    }
    Ok(body)
}

pub(super) fn size32(size: usize, what: &'static str) -> Result<u32, EncodeError> {
    u32::try_from(size).map_err(|_| EncodeError::TooLarge(what))
}

#[derive(Default)]
struct Strings {
    text: String,
}

impl Strings {
    fn add(&mut self, text: &str) -> Result<StringRef, EncodeError> {
        let reference = StringRef {
            offset: size32(self.text.len(), "strings")?.into(),
            length: size32(text.len(), "strings")?.into(),
        };
        self.text.push_str(text);
        Ok(reference)
    }
}
