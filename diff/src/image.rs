//! One PE image: headers, sections, and the tables that say where references and functions are.
//!
//! Source of the formats: "PE Format", Microsoft. `object` reads headers; every table is walked with bounds checks of ours.

use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{Import as PeImport, ImportThunkList, PeFile32, PeFile64};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::error::Error;
use crate::mapped_file;
use crate::rva::{Rva, span};

/// `IMAGE_DEBUG_TYPE_CODEVIEW`.
const DEBUG_TYPE_CODEVIEW: u32 = 2;
/// `IMAGE_REL_BASED_ABSOLUTE`: fills a block up to a multiple of four bytes.
const REL_BASED_ABSOLUTE: u16 = 0;
/// `IMAGE_REL_BASED_DIR64`.
const REL_BASED_DIR64: u16 = 10;

/// A loaded x64 image with its tables.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    map: Mmap,
    /// What identifies this build.
    pub identity: ImageIdentity,
    /// Sections by rising RVA.
    pub sections: Vec<Section>,
    /// Places of 64-bit absolute addresses (`IMAGE_REL_BASED_DIR64`), rising.
    pub base_relocations: Vec<Rva>,
    /// Import slots by rising RVA.
    pub imports: Vec<ImportSlot>,
    /// `.pdata` entries by rising begin address.
    pub runtime_functions: Vec<RuntimeFunction>,
    /// Exported addresses, rising.
    pub exports: Vec<Export>,
    /// What it exports and another image has, by name.
    pub forwarders: Vec<Forwarder>,
    /// The template of the thread-local block, where the image has one.
    pub thread_local_data: Option<Range<Rva>>,
    /// Ranges that the loader reads and no code names: headers of imports, exports, debug data, and so on.
    pub directories: Vec<Range<Rva>>,
    /// Where the directory of resources begins; nothing of it was read.
    pub resources: Option<Rva>,
}

/// The fields of headers and debug directory by which a build is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIdentity {
    /// GUID of the matching PDB (`RSDS` record).
    pub guid: [u8; 16],
    /// Age of the matching PDB.
    pub age: u32,
    /// PDB path as the linker wrote it.
    pub pdb_path: String,
    /// `TimeDateStamp`.
    pub timestamp: u32,
    /// `SizeOfImage`.
    pub size_of_image: u32,
    /// `AddressOfEntryPoint`.
    pub entry_point: Rva,
    /// Preferred `ImageBase`.
    pub image_base: u64,
}

/// One section header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name without its padding.
    pub name: String,
    /// Addresses in memory.
    pub range: Range<Rva>,
    /// Where its initialised bytes are in the file.
    raw: Range<usize>,
    /// `IMAGE_SCN_*` flags.
    pub characteristics: pe::SectionFlags,
}

impl Section {
    /// Holds code.
    pub fn is_executable(&self) -> bool {
        self.characteristics.contains(pe::IMAGE_SCN_MEM_EXECUTE)
    }

    /// Can be written while the program runs.
    pub fn is_writable(&self) -> bool {
        self.characteristics.contains(pe::IMAGE_SCN_MEM_WRITE)
    }
}

/// A place in the import address table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSlot {
    /// Where the loader stores the address.
    pub rva: Rva,
    /// What it stores.
    pub import: Import,
}

/// An imported symbol. DLL names compare without case, as the loader does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Import {
    /// Lower-case file name of the DLL.
    pub dll: String,
    /// Name or ordinal.
    pub symbol: ImportedSymbol,
}

/// How an import is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImportedSymbol {
    /// By name.
    Name(String),
    /// By ordinal.
    Ordinal(u16),
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.symbol {
            ImportedSymbol::Name(name) => write!(f, "{}!{name}", self.dll),
            ImportedSymbol::Ordinal(ordinal) => write!(f, "{}!#{ordinal}", self.dll),
        }
    }
}

/// One `RUNTIME_FUNCTION` of the exception directory (x64 exception handling, "struct RUNTIME_FUNCTION").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFunction {
    /// Code that it covers.
    pub range: Range<Rva>,
    /// Its `UNWIND_INFO`.
    pub unwind_info: Rva,
}

/// One exported address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Where it leads.
    pub rva: Rva,
    /// Exported name, or `#ordinal`.
    pub name: String,
    /// Its number, by which some importers ask for it.
    pub ordinal: u32,
}

/// An exported name that another image stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarder {
    /// Exported name, or `#ordinal`.
    pub name: String,
    /// Its number.
    pub ordinal: u32,
    /// The other image and its name or number there.
    pub to: String,
}

impl Image {
    /// Maps and reads an image.
    ///
    /// # Errors
    /// When the file is not a sound x64 PE image with a debug directory.
    pub fn open(path: &Path) -> Result<Image, Error> {
        let map = mapped_file::map(path)?;
        let bad = |problem: &str| Error::image(path, problem);
        let kind = object::FileKind::parse(&map[..]).map_err(|_| bad("not a PE image"))?;
        if kind == object::FileKind::Pe32 {
            let file = PeFile32::parse(&map[..]).map_err(|e| bad(&format!("not a sound PE image: {e}")))?;
            let machine = file.nt_headers().file_header.machine.get(LE);
            return Err(bad(&format!("a 32-bit image for {}; only x64 is supported so far", machine_name(machine))));
        }
        let file = PeFile64::parse(&map[..]).map_err(|e| bad(&format!("not a sound PE image: {e}")))?;
        let headers = file.nt_headers();
        let machine = headers.file_header.machine.get(LE);
        if machine != pe::IMAGE_FILE_MACHINE_AMD64 {
            return Err(bad(&format!("an image for {}; only x64 is supported so far", machine_name(machine))));
        }
        let optional = &headers.optional_header;
        let sections = read_sections(path, &file, map.len())?;
        let tables = Tables { path, map: &map, sections: &sections };
        let (guid, age, pdb_path) = tables.rsds(&file)?;
        let identity = ImageIdentity {
            guid,
            age,
            pdb_path,
            timestamp: headers.file_header.time_date_stamp.get(LE),
            size_of_image: optional.size_of_image.get(LE),
            entry_point: Rva(optional.address_of_entry_point.get(LE)),
            image_base: optional.image_base.get(LE),
        };
        let base_relocations = tables.base_relocations(&file)?;
        let imports = tables.imports(&file)?;
        let runtime_functions = tables.runtime_functions(&file)?;
        let (exports, forwarders) = tables.exports(&file)?;
        let directories = tables.directories(&file);
        let thread_local_data = tables.thread_local_data(&file, identity.image_base)?;
        Ok(Image {
            path: path.to_owned(),
            identity,
            base_relocations,
            imports,
            runtime_functions,
            exports,
            forwarders,
            thread_local_data,
            directories,
            resources: resources(&file),
            sections,
            map,
        })
    }

    /// Where the image was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image's file name, by which a loaded module is found.
    pub fn file_name(&self) -> String {
        self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Size of the file in bytes.
    pub fn file_size(&self) -> u64 {
        self.map.len() as u64
    }

    /// The section that holds an address.
    pub fn section_at(&self, rva: Rva) -> Option<&Section> {
        section_at(&self.sections, rva)
    }

    /// `len` initialised bytes at `rva`; none where they leave their section or have no bytes in the file.
    pub fn bytes(&self, rva: Rva, len: u32) -> Option<&[u8]> {
        bytes(&self.map, &self.sections, rva, len)
    }

    /// Initialised bytes from `start` on, at most up to `end`: shorter where the section's bytes in the file end, and what
    /// is missing is zero in memory.
    pub fn bytes_up_to(&self, range: Range<Rva>) -> &[u8] {
        let Some(section) = self.section_at(range.start) else {
            return &[];
        };
        let wanted = range.end.min(section.range.end).0.saturating_sub(range.start.0) as usize;
        let start = (range.start.0 - section.range.start.0) as usize;
        let raw = self.map.get(section.raw.clone()).unwrap_or(&[]);
        let rest = raw.get(start..).unwrap_or(&[]);
        &rest[..wanted.min(rest.len())]
    }

    /// The 32-bit little-endian value at `rva`.
    pub fn u32_at(&self, rva: Rva) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(rva, 4)?.try_into().ok()?))
    }

    /// The 64-bit little-endian value at `rva`.
    pub fn u64_at(&self, rva: Rva) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(rva, 8)?.try_into().ok()?))
    }

    /// The absolute address stored at a place of a base relocation, as an RVA.
    pub fn relocated_target(&self, place: Rva) -> Option<Rva> {
        let address = self.u64_at(place)?.checked_sub(self.identity.image_base)?;
        u32::try_from(address).ok().map(Rva)
    }

    /// The places of base relocations inside a range.
    pub fn base_relocations_in(&self, range: Range<Rva>) -> &[Rva] {
        let start = self.base_relocations.partition_point(|r| *r < range.start);
        let end = self.base_relocations.partition_point(|r| *r < range.end);
        self.base_relocations.get(start..end).unwrap_or(&[])
    }

    /// Import slot at exactly this address.
    pub fn import_at(&self, rva: Rva) -> Option<&ImportSlot> {
        let index = self.imports.binary_search_by_key(&rva, |slot| slot.rva).ok()?;
        self.imports.get(index)
    }
}

/// What a processor is called, with its number in the file.
fn machine_name(machine: pe::Machine) -> String {
    let name = match machine {
        pe::IMAGE_FILE_MACHINE_I386 => "x86",
        pe::IMAGE_FILE_MACHINE_ARMNT => "ARM",
        pe::IMAGE_FILE_MACHINE_ARM64 => "ARM64",
        pe::IMAGE_FILE_MACHINE_ARM64EC => "ARM64EC",
        _ => "a processor that is not known",
    };
    format!("{name} (machine {:#06x})", machine.0)
}

fn section_at(sections: &[Section], rva: Rva) -> Option<&Section> {
    let index = sections.partition_point(|s| s.range.start <= rva).checked_sub(1)?;
    sections.get(index).filter(|s| s.range.contains(&rva))
}

fn bytes<'m>(map: &'m [u8], sections: &[Section], rva: Rva, len: u32) -> Option<&'m [u8]> {
    let section = section_at(sections, rva)?;
    let start = (rva.0 - section.range.start.0) as usize;
    map.get(section.raw.clone())?.get(start..start.checked_add(len as usize)?)
}

fn read_sections(path: &Path, file: &PeFile64<'_>, file_len: usize) -> Result<Vec<Section>, Error> {
    let mut sections = Vec::new();
    for header in file.section_table().iter() {
        let raw_name: &[u8] = &header.name;
        let end = raw_name.iter().position(|b| *b == 0).unwrap_or(raw_name.len());
        let name = String::from_utf8_lossy(&raw_name[..end]).into_owned();
        let virtual_size = header.virtual_size.get(LE);
        let raw_size = header.size_of_raw_data.get(LE);
        let size = if virtual_size == 0 { raw_size } else { virtual_size };
        let start = header.pointer_to_raw_data.get(LE) as usize;
        let raw_len = raw_size.min(size) as usize;
        let raw = if raw_size == 0 { 0..0 } else { start..start.saturating_add(raw_len) };
        if raw.end > file_len {
            return Err(Error::image(
                path,
                format!("cut off: section {name} needs bytes up to offset {:#x}, the file has {file_len:#x}", raw.end),
            ));
        }
        let range = span(Rva(header.virtual_address.get(LE)), size);
        if sections.last().is_some_and(|last: &Section| last.range.end > range.start) {
            return Err(Error::image(path, format!("section {name} overlaps the one before it")));
        }
        sections.push(Section { name, range, raw, characteristics: header.characteristics.get(LE) });
    }
    if sections.is_empty() {
        return Err(Error::image(path, "the image has no sections"));
    }
    Ok(sections)
}

/// `IMAGE_DEBUG_DIRECTORY`.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DebugDirectory {
    characteristics: U32,
    timestamp: U32,
    major: U16,
    minor: U16,
    kind: U32,
    size: U32,
    rva: U32,
    file_offset: U32,
}

/// The CodeView record that names the PDB (`CV_INFO_PDB70`).
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Rsds {
    signature: [u8; 4],
    guid: [u8; 16],
    age: U32,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PdataEntry {
    begin: U32,
    end: U32,
    unwind_info: U32,
}

/// Reads the data directories while an image is being opened.
struct Tables<'a> {
    path: &'a Path,
    map: &'a [u8],
    sections: &'a [Section],
}

impl<'a> Tables<'a> {
    fn bad(&self, problem: impl Into<String>) -> Error {
        Error::image(self.path, problem)
    }

    fn directory(&self, file: &PeFile64<'a>, index: usize, name: &str) -> Result<Option<(Rva, &'a [u8])>, Error> {
        let Some(directory) = file.data_directory(index) else {
            return Ok(None);
        };
        let (rva, size) = directory.address_range();
        if rva == 0 || size == 0 {
            return Ok(None);
        }
        let data = bytes(self.map, self.sections, Rva(rva), size).ok_or_else(|| {
            self.bad(format!("the {name} directory (RVA {rva:#x}, {size} bytes) is not inside a section"))
        })?;
        Ok(Some((Rva(rva), data)))
    }

    fn rsds(&self, file: &PeFile64<'a>) -> Result<([u8; 16], u32, String), Error> {
        let none = || self.bad("no CodeView record (RSDS) in the debug directory: link with --pdb= or /DEBUG");
        let (_, data) = self.directory(file, pe::IMAGE_DIRECTORY_ENTRY_DEBUG, "debug")?.ok_or_else(none)?;
        let count = data.len() / size_of::<DebugDirectory>();
        let (entries, _) = <[DebugDirectory]>::ref_from_prefix_with_elems(data, count).map_err(|_| none())?;
        for entry in entries.iter().filter(|e| e.kind.get() == DEBUG_TYPE_CODEVIEW) {
            let record = bytes(self.map, self.sections, Rva(entry.rva.get()), entry.size.get())
                .ok_or_else(|| self.bad("the CodeView record is not inside a section"))?;
            let Ok((rsds, path)) = Rsds::ref_from_prefix(record) else {
                continue;
            };
            if rsds.signature == *b"RSDS" {
                let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
                let pdb = String::from_utf8_lossy(&path[..end]).into_owned();
                return Ok((rsds.guid, rsds.age.get(), pdb));
            }
        }
        Err(none())
    }

    fn base_relocations(&self, file: &PeFile64<'a>) -> Result<Vec<Rva>, Error> {
        let mut places = Vec::new();
        let Some((_, mut data)) = self.directory(file, pe::IMAGE_DIRECTORY_ENTRY_BASERELOC, "base relocation")? else {
            return Ok(places);
        };
        while let Ok(([page, size], _)) = <[U32; 2]>::ref_from_prefix(data) {
            let size = size.get() as usize;
            let block = data
                .get(8..size)
                .ok_or_else(|| self.bad(format!("base relocation block of page {:#x}: bad size {size}", page.get())))?;
            for entry in block.chunks_exact(2) {
                let entry = u16::from_le_bytes([entry[0], entry[1]]);
                let (kind, offset) = (entry >> 12, u32::from(entry & 0xfff));
                match kind {
                    REL_BASED_ABSOLUTE => {}
                    REL_BASED_DIR64 => {
                        let place = Rva(page.get())
                            .checked_add(offset)
                            .ok_or_else(|| self.bad("a base relocation lies beyond the image"))?;
                        places.push(place);
                    }
                    _ => {
                        return Err(self.bad(format!(
                            "base relocation of type {kind} in page {:#x}; x64 images have only DIR64 (10)",
                            page.get()
                        )));
                    }
                }
            }
            data = data.get(size..).unwrap_or(&[]);
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    fn imports(&self, file: &PeFile64<'a>) -> Result<Vec<ImportSlot>, Error> {
        let failed = |e: object::read::Error| self.bad(format!("import table: {e}"));
        let mut slots = Vec::new();
        if let Some(table) = file.import_table().map_err(failed)? {
            let mut descriptors = table.descriptors().map_err(failed)?;
            while let Some(d) = descriptors.next().map_err(failed)? {
                let dll = dll_name(table.name(d.name.get(LE)).map_err(failed)?);
                let address_table = d.first_thunk.get(LE);
                let names = d.original_first_thunk.get(LE);
                let thunks = table.thunks(if names == 0 { address_table } else { names }).map_err(failed)?;
                let import = |thunk| table.import::<pe::ImageNtHeaders64>(thunk);
                self.add_slots(&mut slots, &dll, Rva(address_table), thunks, import)?;
            }
        }
        if let Some(table) = file.delay_load_import_table().map_err(failed)? {
            let mut descriptors = table.descriptors().map_err(failed)?;
            while let Some(d) = descriptors.next().map_err(failed)? {
                let dll = dll_name(table.name(d.dll_name_rva.get(LE)).map_err(failed)?);
                let thunks = table.thunks(d.import_name_table_rva.get(LE)).map_err(failed)?;
                let import = |thunk| table.import::<pe::ImageNtHeaders64>(thunk);
                self.add_slots(&mut slots, &dll, Rva(d.import_address_table_rva.get(LE)), thunks, import)?;
            }
        }
        slots.sort_by_key(|slot| slot.rva);
        Ok(slots)
    }

    /// The slots of one DLL, from `slot` on, with what each names.
    fn add_slots(
        &self,
        slots: &mut Vec<ImportSlot>,
        dll: &str,
        mut slot: Rva,
        mut thunks: ImportThunkList<'a>,
        import: impl Fn(pe::ImageThunkData64) -> object::read::Result<PeImport<'a>>,
    ) -> Result<(), Error> {
        let failed = |e: object::read::Error| self.bad(format!("imports from {dll}: {e}"));
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>().map_err(failed)? {
            let symbol = symbol(import(thunk).map_err(failed)?);
            slots.push(ImportSlot { rva: slot, import: Import { dll: dll.to_owned(), symbol } });
            slot = slot.checked_add(8).ok_or_else(|| self.bad(format!("imports from {dll}: beyond the image")))?;
        }
        Ok(())
    }

    fn runtime_functions(&self, file: &PeFile64<'a>) -> Result<Vec<RuntimeFunction>, Error> {
        let Some((_, data)) = self.directory(file, pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION, "exception")? else {
            return Ok(Vec::new());
        };
        let count = data.len() / size_of::<PdataEntry>();
        let (entries, _) = <[PdataEntry]>::ref_from_prefix_with_elems(data, count)
            .map_err(|_| self.bad("the exception directory is cut off"))?;
        let mut functions = Vec::with_capacity(count);
        for entry in entries {
            let range = Rva(entry.begin.get())..Rva(entry.end.get());
            if range.start.0 == 0 && range.end.0 == 0 {
                continue;
            }
            if range.is_empty() || section_at(self.sections, range.start).is_none_or(|s| range.end > s.range.end) {
                return Err(self.bad(format!(
                    "exception directory: the function at {} to {} is not inside a section",
                    range.start, range.end
                )));
            }
            functions.push(RuntimeFunction { range, unwind_info: Rva(entry.unwind_info.get()) });
        }
        functions.sort_by_key(|f| f.range.start);
        Ok(functions)
    }

    fn exports(&self, file: &PeFile64<'a>) -> Result<(Vec<Export>, Vec<Forwarder>), Error> {
        use object::read::pe::ExportTarget;
        let failed = |e: object::read::Error| self.bad(format!("export table: {e}"));
        let (mut exports, mut forwarders) = (Vec::new(), Vec::new());
        if let Some(table) = file.export_table().map_err(failed)? {
            for export in table.exports().map_err(failed)? {
                let ordinal = u32::from(export.ordinal.0);
                let name = export
                    .name
                    .map_or_else(|| format!("#{ordinal}"), |name| String::from_utf8_lossy(name).into_owned());
                let to = match export.target {
                    ExportTarget::Address(rva) => {
                        exports.push(Export { rva: Rva(rva), name, ordinal });
                        continue;
                    }
                    ExportTarget::ForwardByName(image, name) => {
                        format!("{}.{}", String::from_utf8_lossy(image), String::from_utf8_lossy(name))
                    }
                    ExportTarget::ForwardByOrdinal(image, number) => {
                        format!("{}.#{number}", String::from_utf8_lossy(image))
                    }
                };
                forwarders.push(Forwarder { name, ordinal, to });
            }
        }
        exports.sort_by(|a, b| (a.rva, &a.name).cmp(&(b.rva, &b.name)));
        forwarders.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((exports, forwarders))
    }

    /// `IMAGE_TLS_DIRECTORY64`: start and end of the template, as addresses at the preferred base.
    fn thread_local_data(&self, file: &PeFile64<'a>, image_base: u64) -> Result<Option<Range<Rva>>, Error> {
        let Some((_, data)) = self.directory(file, pe::IMAGE_DIRECTORY_ENTRY_TLS, "thread-local storage")? else {
            return Ok(None);
        };
        let field = |at: usize| -> Option<Rva> {
            let address = u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?);
            u32::try_from(address.checked_sub(image_base)?).ok().map(Rva)
        };
        Ok(field(0).zip(field(8)).map(|(start, end)| start..end))
    }

    /// Address ranges of all data directories that are mapped (the certificate table is not), without the import address
    /// table, whose slots code does name.
    fn directories(&self, file: &PeFile64<'a>) -> Vec<Range<Rva>> {
        let mut ranges: Vec<_> = file
            .data_directories()
            .enumerate()
            .filter(|(index, _)| {
                !matches!(
                    *index,
                    pe::IMAGE_DIRECTORY_ENTRY_SECURITY
                        | pe::IMAGE_DIRECTORY_ENTRY_IAT
                        | pe::IMAGE_DIRECTORY_ENTRY_GLOBALPTR
                )
            })
            .map(|(_, directory)| {
                let (rva, size) = directory.address_range();
                span(Rva(rva), size)
            })
            .filter(|range| !range.is_empty() && section_at(self.sections, range.start).is_some())
            .collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }
}

/// Where the directory of resources begins.
fn resources(file: &PeFile64<'_>) -> Option<Rva> {
    let (rva, size) = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_RESOURCE)?.address_range();
    (rva != 0 && size != 0).then_some(Rva(rva))
}

fn dll_name(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

fn symbol(import: PeImport<'_>) -> ImportedSymbol {
    match import {
        PeImport::Ordinal(ordinal) => ImportedSymbol::Ordinal(ordinal),
        PeImport::Name(_, name) => ImportedSymbol::Name(String::from_utf8_lossy(name).into_owned()),
    }
}
