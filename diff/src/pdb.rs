//! Reads [`Symbols`] out of a PDB with `ms-pdb`. Formats: "PDB file format" of the LLVM documentation, and `cvinfo.h`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ms_codeview::parser::Number;
use ms_codeview::syms::{Constant, OffsetSegment, SymData, SymIter, SymKind};
use ms_codeview::types::fields::{Field, VirtualBaseClassFixed};
use ms_codeview::types::{MethodList, TypeData, TypeIndex, introduces_virtual};
use ms_pdb::Pdb;
use ms_pdb::dbi::fixups::Fixup as FixupRecord;
use ms_pdb::tpi::TypeStream;
use zerocopy::IntoBytes;

use crate::discriminants::Discriminants;
use crate::error::Error;
use crate::funclets;
use crate::image::Image;
use crate::mapped_file;
use crate::ordinals::stable_name;
use crate::rva::{Rva, span};
use crate::shapes::Shape;
use crate::symbols::{
    Contribution, Fixup, Member, Module, Procedure, Public, SectionGroup, Symbols, TypeLayout, Variable,
};

/// Finds the PDB of an image: the one that was named, or the one beside the image.
///
/// # Errors
/// When none is there.
pub fn locate(image: &Image, named: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let beside = image.path().with_extension("pdb");
    let as_linked = image
        .identity
        .pdb_path
        .rsplit(['/', '\\'])
        .next()
        .filter(|name| !name.is_empty())
        .map(|name| image.path().with_file_name(name));
    let mut looked_for = vec![beside];
    looked_for.extend(as_linked.filter(|path| !looked_for.contains(path)));
    looked_for
        .iter()
        .find(|path| path.is_file())
        .cloned()
        .ok_or(Error::PdbNotFound { image: image.path().to_owned(), looked_for: looked_for.clone() })
}

/// Reads the PDB at `path`, which must be that of `image`.
///
/// # Errors
/// When it is not a sound PDB, or that of another build.
pub fn read(path: &Path, image: &Image) -> Result<Symbols, Error> {
    with_open(path, image, |pdb| {
        let types = pdb.read_type_stream().map_err(|e| Error::pdb(path, format!("type stream: {e}")))?;
        let symbols = Symbols { pdb_path: path.to_owned(), ..Symbols::default() };
        let mut reader =
            Reader { path, image, types: Types::new(&types), symbols, discriminants: Discriminants::default() };
        reader.read_contributions(pdb)?;
        reader.read_modules(pdb)?;
        reader.read_globals(pdb)?;
        reader.symbols.fixups = read_fixups(pdb).unwrap_or_default();
        Ok(reader.finish())
    })
}

/// Opens the PDB at `path`, which must be that of `image`, for as long as `use_it` runs.
pub(crate) fn with_open<T>(
    path: &Path,
    image: &Image,
    use_it: impl FnOnce(&Pdb<&[u8]>) -> Result<T, Error>,
) -> Result<T, Error> {
    let map = mapped_file::map(path)?;
    check_container(path, &map)?;
    let failed = |what: &'static str| move |e: anyhow::Error| Error::pdb(path, format!("{what}: {e}"));
    let pdb = Pdb::open_from_random_file(&map[..]).map_err(failed("not a sound PDB"))?;
    check_identity(path, &pdb, image)?;
    if pdb.mini_pdb() {
        return Err(Error::pdb(
            path,
            "made with /DEBUG:FASTLINK, which keeps symbols in the object files; link with /DEBUG:FULL",
        ));
    }
    use_it(&pdb)
}

/// What the superblock announces must fit the file: `ms-pdb` trusts it and would work through absurd counts.
fn check_container(path: &Path, file: &[u8]) -> Result<(), Error> {
    const MAGIC: &[u8] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
    if !file.starts_with(MAGIC) {
        return Err(Error::pdb(path, "not a PDB: it does not begin with the MSF 7.00 signature"));
    }
    let field = |offset: usize| -> Option<u64> {
        Some(u64::from(u32::from_le_bytes(file.get(offset..offset + 4)?.try_into().ok()?)))
    };
    let (Some(page_size), Some(pages), Some(directory)) = (field(32), field(40), field(44)) else {
        return Err(Error::pdb(path, "cut off inside the superblock"));
    };
    if !page_size.is_power_of_two() || page_size < 512 {
        return Err(Error::pdb(path, format!("the superblock gives a page size of {page_size}")));
    }
    if page_size * pages > file.len() as u64 {
        return Err(Error::pdb(
            path,
            format!("cut off: the superblock announces {} bytes, the file has {}", page_size * pages, file.len()),
        ));
    }
    if directory > file.len() as u64 {
        return Err(Error::pdb(path, format!("the superblock announces a stream directory of {directory} bytes")));
    }
    Ok(())
}

fn check_identity(path: &Path, pdb: &Pdb<&[u8]>, image: &Image) -> Result<(), Error> {
    let guid = pdb.pdbi().unique_id.map(|id| id.to_bytes_le());
    let age = pdb.dbi_header().age.get();
    let wanted = &image.identity;
    if guid == Some(wanted.guid) && age == wanted.age {
        return Ok(());
    }
    Err(Error::PdbMismatch {
        image: image.path().to_owned(),
        pdb: path.to_owned(),
        wanted: describe_identity(&wanted.guid, wanted.age),
        found: guid.map_or_else(|| "without a GUID".to_owned(), |guid| describe_identity(&guid, age)),
    })
}

/// GUID and age as debuggers print them.
pub fn describe_identity(guid: &[u8; 16], age: u32) -> String {
    let [a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..] = *guid;
    let (a, b, c) = (u32::from_le_bytes([a0, a1, a2, a3]), u16::from_le_bytes([b0, b1]), u16::from_le_bytes([c0, c1]));
    let tail: String = rest.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{{{a:08X}-{b:04X}-{c:04X}-{}-{}}} age {age}", &tail[..4], &tail[4..])
}

/// Turns a section number (from 1) and offset into an RVA; none for absolute symbols and addresses outside the image.
pub(crate) fn rva_in_section(image: &Image, section: u16, offset: u32) -> Option<Rva> {
    let section = image.sections.get(usize::from(section).checked_sub(1)?)?;
    section.range.start.checked_add(offset).filter(|rva| *rva <= section.range.end)
}

/// The optional stream of fixups. Nothing depends on it: one that is damaged is none.
fn read_fixups(pdb: &Pdb<&[u8]>) -> Option<Vec<Fixup>> {
    let stream = pdb.fixup_stream().ok()??;
    // `ms-pdb` reserves what the stream announces before it looks at how much there is.
    let is_whole = stream < pdb.num_streams() && pdb.is_stream_valid(stream);
    let len = if is_whole { pdb.stream_len(stream) } else { 0 };
    if len == 0 || len % size_of::<FixupRecord>() as u64 != 0 {
        return None;
    }
    let records = pdb.read_fixups().ok()??;
    let fixup = |r: FixupRecord| Fixup { kind: r.fixup_type, place: Rva(r.rva), base: Rva(r.rva_target) };
    Some(records.into_iter().map(fixup).collect())
}

struct Reader<'a> {
    path: &'a Path,
    image: &'a Image,
    types: Types<'a>,
    symbols: Symbols,
    discriminants: Discriminants,
}

impl Reader<'_> {
    fn bad(&self, what: impl Display, error: impl Display) -> Error {
        Error::pdb(self.path, format!("{what}: {error}"))
    }

    fn rva(&self, section: u16, offset: u32) -> Option<Rva> {
        rva_in_section(self.image, section, offset)
    }

    fn rva_of(&self, place: OffsetSegment) -> Option<Rva> {
        self.rva(place.segment(), place.offset())
    }

    fn read_contributions(&mut self, pdb: &Pdb<&[u8]>) -> Result<(), Error> {
        let dbi = pdb.read_dbi_stream().map_err(|e| self.bad("DBI stream", e))?;
        let contributions = dbi.section_contributions().map_err(|e| self.bad("section contributions", e))?;
        let mut found: Vec<_> = contributions
            .contribs
            .iter()
            .filter_map(|c| {
                let (offset, size) = (u32::try_from(c.offset.get()).ok()?, u32::try_from(c.size.get()).ok()?);
                let start = self.rva(c.section.get(), offset)?;
                let range = span(start, size);
                (!range.is_empty()).then_some(Contribution {
                    range,
                    module: usize::from(c.module_index.get()),
                    checksum: c.data_crc.get(),
                    is_comdat: c.characteristics.get() & LNK_COMDAT != 0,
                })
            })
            .collect();
        found.sort_by_key(|c| c.range.start);
        self.symbols.contributions = found;
        Ok(())
    }

    fn read_modules(&mut self, pdb: &Pdb<&[u8]>) -> Result<(), Error> {
        let modules = pdb.read_modules().map_err(|e| self.bad("module list", e))?;
        for (index, module) in modules.iter().enumerate() {
            self.symbols
                .modules
                .push(Module { path: module.module_name().to_string(), object_file: module.obj_file().to_string() });
            // `ms-pdb` reserves what the module announces before it looks at how much there is.
            if let Some(stream) = module.stream() {
                let available = if stream < pdb.num_streams() { pdb.stream_len(stream) } else { 0 };
                if u64::from(module.sym_size()) > available {
                    let name = module.module_name();
                    return Err(self.bad(format!("symbols of module {name}"), "more than its stream holds"));
                }
            }
            let records = pdb
                .read_module_symbols(&module)
                .map_err(|e| self.bad(format!("symbols of module {}", module.module_name()), e))?;
            self.read_module_symbols(index, records.as_bytes());
        }
        Ok(())
    }

    fn read_module_symbols(&mut self, module: usize, records: &[u8]) {
        // Names of the procedures and blocks that are open; local statics belong to the innermost procedure.
        let mut scopes: Vec<Option<String>> = Vec::new();
        // The last procedure that is no funclet: its funclets come next.
        let mut function: Option<(Rva, String)> = None;
        for record in SymIter::for_module_syms(records) {
            let Ok(symbol) = record.parse() else { continue };
            match symbol {
                SymData::Proc(procedure) => {
                    let name = procedure.name.to_string();
                    if let Some(rva) = self.rva_of(procedure.fixed.offset_segment) {
                        match &function {
                            Some((owner, of)) if funclets::is_piece_of(&name, of) => {
                                self.symbols.funclets.push((rva, *owner));
                            }
                            _ => function = Some((rva, name.clone())),
                        }
                        self.symbols.procedures.push(Procedure {
                            rva,
                            size: procedure.fixed.proc_len.get(),
                            name: name.clone(),
                            module,
                            is_global: record.kind == SymKind::S_GPROC32,
                        });
                    }
                    scopes.push(Some(name));
                }
                SymData::Thunk(thunk) => {
                    if let Some(rva) = self.rva_of(thunk.fixed.offset_segment) {
                        self.symbols.procedures.push(Procedure {
                            rva,
                            size: u32::from(thunk.fixed.length.get()),
                            name: thunk.name.to_string(),
                            module,
                            is_global: false,
                        });
                    }
                    scopes.push(None);
                }
                SymData::CoffGroup(group) => {
                    if let Some(start) = self.rva_of(group.fixed.off_seg) {
                        let range = span(start, group.fixed.cb.get());
                        self.symbols.groups.push(SectionGroup { name: group.name.to_string(), range });
                    }
                }
                SymData::Block(_) | SymData::InlineSite(_) | SymData::InlineSite2(_) => scopes.push(None),
                SymData::End | SymData::InlineSiteEnd => {
                    scopes.pop();
                }
                SymData::Constant(constant) => self.discriminants.add(&constant),
                SymData::ThreadData(data) => {
                    let scope = scopes.iter().rev().flatten().next().cloned();
                    let header = (data.header.type_.get(), data.header.offset_segment);
                    self.add_variable(data.name.to_string(), header, record.kind, scope, Some(module));
                }
                SymData::Data(data) => {
                    let scope = scopes.iter().rev().flatten().next().cloned();
                    let header = (data.header.type_.get(), data.header.offset_segment);
                    self.add_variable(data.name.to_string(), header, record.kind, scope, Some(module));
                }
                _ => {}
            }
        }
    }

    fn add_variable(
        &mut self,
        name: String,
        (type_, place): (TypeIndex, OffsetSegment),
        kind: SymKind,
        scope: Option<String>,
        module: Option<usize>,
    ) {
        let Some(rva) = self.rva_of(place) else {
            return;
        };
        self.symbols.variables.push(Variable {
            rva,
            size: self.types.size(type_).and_then(|size| u32::try_from(size).ok()),
            shape: self.types.shape(type_),
            name,
            scope,
            module,
            is_global: matches!(kind, SymKind::S_GDATA32 | SymKind::S_GTHREAD32),
        });
    }

    /// Enumerators are plain integers in C, and of their enumeration's type in C++; what is `const` is another kind of constant.
    fn add_constant(&mut self, constant: &Constant<'_>) {
        let size = self.types.enumerator_size(constant.type_);
        let value = i64::try_from(constant.value);
        let value = value.or_else(|_| u64::try_from(constant.value).map(u64::cast_signed));
        let (Some(size), Ok(value), name) = (size, value, constant.name.to_string()) else { return };
        let is_plain = self.types.stream.is_primitive(constant.type_);
        self.symbols.constants.add(name, value, size, is_plain);
    }

    /// The global stream: publics, and variables that some linkers list nowhere else.
    fn read_globals(&mut self, pdb: &Pdb<&[u8]>) -> Result<(), Error> {
        let globals = pdb.read_gss().map_err(|e| self.bad("global symbols", e))?;
        for record in globals.iter_syms() {
            match record.parse() {
                Ok(SymData::Pub(public)) => {
                    if let Some(rva) = self.rva_of(public.fixed.offset_segment) {
                        self.symbols.publics.push(Public { rva, name: public.name.to_string() });
                    }
                }
                Ok(SymData::Constant(constant)) => {
                    self.discriminants.add(&constant);
                    self.add_constant(&constant);
                }
                Ok(SymData::ThreadData(data)) => {
                    let header = (data.header.type_.get(), data.header.offset_segment);
                    self.add_variable(data.name.to_string(), header, record.kind, None, None);
                }
                Ok(SymData::Data(data)) => {
                    let header = (data.header.type_.get(), data.header.offset_segment);
                    self.add_variable(data.name.to_string(), header, record.kind, None, None);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Symbols {
        let symbols = &mut self.symbols;
        symbols.procedures.sort_by(|a, b| (a.rva, &a.name).cmp(&(b.rva, &b.name)));
        symbols.procedures.dedup();
        symbols.publics.sort_by(|a, b| (a.rva, &a.name).cmp(&(b.rva, &b.name)));
        symbols.publics.dedup();
        // A record of a module knows more than its copy in the global stream: it comes first and the copy goes.
        symbols.variables.sort_by(|a, b| {
            (a.rva, &a.name, a.module.is_none(), a.scope.is_none()).cmp(&(
                b.rva,
                &b.name,
                b.module.is_none(),
                b.scope.is_none(),
            ))
        });
        // Modules may disagree about a variable's type: it is as large as any of them says.
        symbols.variables.dedup_by(|later, first| {
            let same = later.rva == first.rva && later.name == first.name;
            if same {
                first.size = first.size.max(later.size);
            }
            same
        });
        symbols.layouts = self.types.layouts();
        symbols.announced = self.types.announced();
        self.discriminants.add_to(&mut symbols.layouts);
        self.symbols
    }
}

/// Sizes and layouts from the type stream.
struct Types<'a> {
    stream: &'a TypeStream<Vec<u8>>,
    /// Complete definitions by unique name, since other records name forward references. Modules written in C may
    /// define different types of one name.
    definitions: HashMap<String, Vec<TypeIndex>>,
    /// Names of types by unique name, as other records announce them.
    announced: HashMap<String, &'a str>,
    /// Descriptions of structures without a name.
    unnamed: RefCell<HashMap<u32, Arc<str>>>,
}

/// Characters after which the description of a structure without a name ends.
const MAX_DESCRIPTION: usize = 0x4000;

/// Arrays of arrays of modifiers end somewhere in a sound PDB.
const MAX_TYPE_DEPTH: u32 = 64;

/// A field list holds up to 64 KiB; this many are more than any type has.
const MAX_FIELD_LISTS: usize = 256;

/// `IMAGE_SCN_LNK_COMDAT`, PE format, "Section flags".
const LNK_COMDAT: u32 = 0x1000;

impl<'a> Types<'a> {
    fn new(stream: &'a TypeStream<Vec<u8>>) -> Self {
        let first = stream.type_index_begin().0;
        let mut definitions: HashMap<String, Vec<TypeIndex>> = HashMap::new();
        let (mut announced, mut defined) = (HashMap::new(), HashSet::new());
        for (index, record) in (first..=u32::MAX).zip(stream.iter_type_records()) {
            let Ok(data) = record.parse() else { continue };
            let Some(udt) = Udt::of(&data) else { continue };
            if udt.is_forward {
                announced.insert(udt.key(), udt.name);
            } else {
                defined.insert(udt.name);
                definitions.entry(udt.key()).or_default().push(TypeIndex(index));
            }
        }
        // clang leaves the unique name out of some definitions.
        announced.retain(|key, name| !definitions.contains_key(key) && !defined.contains(name));
        Types { stream, definitions, announced, unnamed: RefCell::default() }
    }

    fn announced(&self) -> HashMap<String, String> {
        self.announced.iter().map(|(key, name)| (key.clone(), (*name).to_owned())).collect()
    }

    /// Size in bytes of a value of the type.
    fn size(&self, index: TypeIndex) -> Option<u64> {
        self.size_at_depth(index, MAX_TYPE_DEPTH)
    }

    fn size_at_depth(&self, index: TypeIndex, depth: u32) -> Option<u64> {
        if self.stream.is_primitive(index) {
            return primitive_size(index.0);
        }
        let depth = depth.checked_sub(1)?;
        let data = self.stream.record(index).ok()?.parse().ok()?;
        match &data {
            TypeData::Modifier(modifier) => self.size_at_depth(modifier.underlying_type.get(), depth),
            TypeData::Pointer(pointer) => Some(u64::from(pointer.fixed.attr().size())),
            TypeData::Array(array) => array.len.try_into().ok(),
            TypeData::Enum(e) => self.size_at_depth(e.fixed.underlying_type.get(), depth),
            TypeData::Bitfield(field) => self.size_at_depth(field.underlying_type.get(), depth),
            _ => {
                let udt = Udt::of(&data)?;
                if udt.is_forward {
                    // Definitions that disagree leave the size open.
                    let mut sizes =
                        self.definitions.get(&udt.key())?.iter().map(|index| self.size_at_depth(*index, depth));
                    let first = sizes.next()?;
                    return sizes.all(|size| size == first).then_some(first).flatten();
                }
                udt.size
            }
        }
    }

    /// Bytes of an enumerator of the type; none for a type that enumerators do not have.
    fn enumerator_size(&self, index: TypeIndex) -> Option<u64> {
        if self.stream.is_primitive(index) {
            // `long`, `unsigned long`, `__int64`, `int`, and so on.
            return matches!(index.0, 0x12 | 0x13 | 0x22 | 0x23 | 0x74..=0x77)
                .then(|| primitive_size(index.0))
                .flatten();
        }
        let record = self.stream.record(index).ok()?;
        matches!(record.parse().ok()?, TypeData::Enum(_)).then(|| self.size(index)).flatten()
    }

    fn layouts(&self) -> HashMap<String, BTreeSet<TypeLayout>> {
        self.definitions
            .iter()
            .map(|(key, indices)| (key.clone(), indices.iter().filter_map(|index| self.layout(*index)).collect()))
            .collect()
    }

    fn layout(&self, index: TypeIndex) -> Option<TypeLayout> {
        let record = self.stream.record(index).ok()?;
        let data = record.parse().ok()?;
        let udt = Udt::of(&data)?;
        let is_enumeration = udt.size.is_none();
        let size = udt.size.or_else(|| self.size(index))?;
        Some(TypeLayout { name: udt.name.to_owned(), is_enumeration, size, members: self.members(udt.fields) })
    }

    /// Members of a field list and of those that continue it. `ms-pdb`'s own iterator never ends where a damaged chain leads
    /// back to itself.
    fn members(&self, list: TypeIndex) -> Vec<Member> {
        let mut members = Vec::new();
        let mut functions = Vec::new();
        let mut next = Some(list);
        for _ in 0..MAX_FIELD_LISTS {
            let Some(record) = next.take().and_then(|list| self.stream.record(list).ok()) else { break };
            let Ok(TypeData::FieldList(list)) = record.parse() else { break };
            for field in list.iter() {
                match field {
                    Field::Index(index) => next = Some(index),
                    field => match self.virtual_functions(&field) {
                        found if found.is_empty() => members.extend(self.member(&field)),
                        found => functions.extend(found),
                    },
                }
            }
        }
        // Where their places are not told, they stand in the table in the order of their declarations.
        let mut behind =
            functions.iter().filter_map(|(_, place)| *place).max().map_or(0, |last| last.saturating_add(8));
        for (name, place) in functions {
            let offset = place.unwrap_or(behind);
            if place.is_none() {
                behind = behind.saturating_add(8);
            }
            members.push(Member { name, offset, size: None, shape: Shape::Opaque, bits: None });
        }
        members
    }

    /// Virtual functions that a field declares, each with its offset in the table of virtual functions where the compiler tells. Live
    /// objects have the table of the old build. clang tells no offsets for the Itanium C++ ABI.
    fn virtual_functions(&self, field: &Field<'_>) -> Vec<(String, Option<u64>)> {
        let place = |attributes: u16, offset: u32| {
            let introduces = introduces_virtual(attributes).then_some(u64::from(offset));
            introduces.filter(|_| offset != u32::MAX)
        };
        match field {
            Field::OneMethod(method) if is_virtual(method.attr) => {
                vec![(format!("virtual {}", method.name), place(method.attr, method.vbaseoff))]
            }
            Field::Method(overloads) => {
                let Some(Ok(TypeData::MethodList(list))) =
                    self.stream.record(overloads.methods).ok().map(|r| r.parse())
                else {
                    return Vec::new();
                };
                let mut list = MethodList { rest: list.bytes };
                let mut found = Vec::new();
                while let Ok(Some(method)) = list.next() {
                    if is_virtual(method.attr) {
                        let offset = place(method.attr, method.vtab_offset.unwrap_or(u32::MAX));
                        found.push((format!("virtual {}", overloads.name), offset));
                    }
                }
                found
            }
            _ => Vec::new(),
        }
    }

    /// A virtual base: its offset stands in a table that live objects point to, by the number that the compiler gave it.
    fn virtual_base(&self, base: &VirtualBaseClassFixed, number: &Number<'_>) -> Option<Member> {
        let ty = base.btype.get();
        Some(Member {
            name: format!("virtual base {}", self.name(ty)?),
            offset: (*number).try_into().ok()?,
            size: self.size(ty).and_then(|size| u32::try_from(size).ok()),
            shape: self.shape(ty),
            bits: None,
        })
    }

    fn member(&self, field: &Field<'_>) -> Option<Member> {
        match field {
            Field::Member(member) => Some(Member {
                name: member.name.to_string(),
                offset: member.offset.try_into().ok()?,
                size: self.size(member.ty).and_then(|size| u32::try_from(size).ok()),
                shape: self.shape(member.ty),
                bits: self.bits(member.ty),
            }),
            Field::BaseClass(base) => Some(Member {
                name: format!("base {}", self.name(base.ty)?),
                offset: base.offset.try_into().ok()?,
                size: self.size(base.ty).and_then(|size| u32::try_from(size).ok()),
                shape: self.shape(base.ty),
                bits: None,
            }),
            Field::Enumerate(enumerator) => Some(Member {
                name: enumerator.name.to_string(),
                // A negative value as two's complement.
                offset: u64::try_from(enumerator.value)
                    .or_else(|_| i64::try_from(enumerator.value).map(i64::cast_unsigned))
                    .ok()?,
                size: None,
                shape: Shape::Opaque,
                bits: None,
            }),
            Field::VFuncTable(_) => Some(Member {
                name: "vtable pointer".to_owned(),
                offset: 0,
                size: Some(8),
                shape: Shape::Opaque,
                bits: None,
            }),
            Field::DirectVirtualBaseClass(base) => self.virtual_base(base.fixed, &base.vboff),
            Field::IndirectVirtualBaseClass(base) => self.virtual_base(base.fixed, &base.vboff),
            _ => None,
        }
    }

    /// What lies where a value of the type lies.
    fn shape(&self, index: TypeIndex) -> Shape {
        self.shape_at_depth(index, MAX_TYPE_DEPTH).unwrap_or(Shape::Opaque)
    }

    fn shape_at_depth(&self, index: TypeIndex, depth: u32) -> Option<Shape> {
        if self.stream.is_primitive(index) {
            return Some(primitive_shape(index.0));
        }
        let depth = depth.checked_sub(1)?;
        let data = self.stream.record(index).ok()?.parse().ok()?;
        Some(match &data {
            TypeData::Modifier(modifier) => self.shape_at_depth(modifier.underlying_type.get(), depth)?,
            TypeData::Pointer(pointer) => match pointer.fixed.attr().mode() {
                // Pointers to members are numbers.
                2 | 3 => Shape::Opaque,
                _ => Shape::Pointer(Arc::new(self.shape_at_depth(pointer.fixed.ty.get(), depth)?)),
            },
            TypeData::Array(array) => {
                let element = self.shape_at_depth(array.fixed.element_type.get(), depth)?;
                Shape::Array(array.len.try_into().ok()?, Arc::new(element))
            }
            TypeData::Bitfield(field) => self.shape_at_depth(field.underlying_type.get(), depth)?,
            TypeData::Proc(_) | TypeData::MemberFunc(_) => Shape::Function,
            TypeData::Enum(_) => Shape::Integer(self.size(index)?),
            _ => self.shape_of_udt(index, &Udt::of(&data)?, depth),
        })
    }

    fn shape_of_udt(&self, index: TypeIndex, udt: &Udt<'_>, depth: u32) -> Shape {
        // Many have this name, in C also within one structure.
        if udt.is_forward || udt.unique_name.is_some() || !udt.name.contains("<unnamed-") {
            return Shape::Type(udt.key().into());
        }
        if let Some(known) = self.unnamed.borrow().get(&index.0) {
            return Shape::Unnamed(known.clone());
        }
        // What leads back to here, in a damaged PDB, finds no more than this.
        self.unnamed.borrow_mut().insert(index.0, Arc::from(""));
        let text: Arc<str> = self.describe_unnamed(udt, depth).into();
        self.unnamed.borrow_mut().insert(index.0, text.clone());
        Shape::Unnamed(text)
    }

    /// What a structure without a name has, in words that are the same in another build.
    fn describe_unnamed(&self, udt: &Udt<'_>, depth: u32) -> String {
        let mut text = format!("{:?} bytes", udt.size);
        let members = if depth == 0 { Vec::new() } else { self.members(udt.fields) };
        for member in members {
            if text.len() > MAX_DESCRIPTION {
                break;
            }
            // Where pointers lead is left to those who have names.
            let shape = match member.shape {
                Shape::Pointer(_) => Shape::Pointer(Arc::new(Shape::Opaque)),
                shape => shape,
            };
            let what = match &shape {
                Shape::Unnamed(inner) => inner.to_string(),
                shape => shape.to_string(),
            };
            text.push_str(&format!("; {} at {} {:?}: {what}", member.name, member.offset, member.bits));
        }
        text
    }

    fn bits(&self, index: TypeIndex) -> Option<(u8, u8)> {
        match self.stream.record(index).ok()?.parse().ok()? {
            TypeData::Bitfield(field) => Some((field.position, field.length)),
            _ => None,
        }
    }

    fn name(&self, index: TypeIndex) -> Option<String> {
        let record = self.stream.record(index).ok()?;
        let data = record.parse().ok()?;
        Udt::of(&data).map(|udt| udt.name.to_owned())
    }
}

/// What structs, classes, unions and enumerations have in common.
pub(crate) struct Udt<'a> {
    name: &'a str,
    unique_name: Option<&'a str>,
    /// None for an enumeration.
    size: Option<u64>,
    fields: TypeIndex,
    is_forward: bool,
}

impl<'a> Udt<'a> {
    pub(crate) fn of(data: &TypeData<'a>) -> Option<Udt<'a>> {
        let text = |name: &'a [u8]| std::str::from_utf8(name).ok();
        match data {
            TypeData::Struct(s) => Some(Udt {
                name: text(s.name)?,
                unique_name: s.unique_name.and_then(|name| text(name)),
                size: Some(s.length.try_into().ok()?),
                fields: s.fixed.field_list.get(),
                is_forward: s.fixed.property.get().fwdref(),
            }),
            TypeData::Union(u) => Some(Udt {
                name: text(u.name)?,
                unique_name: u.unique_name.and_then(|name| text(name)),
                size: Some(u.length.try_into().ok()?),
                fields: u.fixed.fields.get(),
                is_forward: u.fixed.property.get().fwdref(),
            }),
            TypeData::Enum(e) => Some(Udt {
                name: text(e.name)?,
                unique_name: e.unique_name.and_then(|name| text(name)),
                size: None,
                fields: e.fixed.fields.get(),
                is_forward: e.fixed.property.get().fwdref(),
            }),
            _ => None,
        }
    }

    /// By which records of one type are recognised.
    pub(crate) fn key(&self) -> String {
        let name = self.unique_name.filter(|name| !is_digest(name)).unwrap_or(self.name);
        // Microsoft's names of types have a full stop before what other names begin with.
        match name.strip_prefix('.') {
            Some(rest) => format!(".{}", stable_name(rest)),
            None => stable_name(name).into_owned(),
        }
    }
}

/// rustc's unique names are digests of the definitions: another definition has another name.
fn is_digest(name: &str) -> bool {
    name.len() == 32 && name.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether a method's attributes (`CV_fldattr_t`, bits 2 to 4) say virtual, pure or not, introduced here or not.
fn is_virtual(attributes: u16) -> bool {
    matches!((attributes >> 2) & 7, 1 | 4 | 5 | 6)
}

/// What a primitive type is (`cvinfo.h`, `CV_type_e`): floating-point types are those of type 4; complex numbers are left out.
fn primitive_shape(index: u32) -> Shape {
    let pointed = index & 0xff;
    let shape = match pointed {
        0x03 => Shape::Integer(0),
        0x40..=0x46 => primitive_size(pointed).map_or(Shape::Opaque, Shape::Float),
        0x50..=0x5f => Shape::Opaque,
        _ => primitive_size(pointed).map_or(Shape::Opaque, Shape::Integer),
    };
    if (index >> 8) & 0xf == 0 { shape } else { Shape::Pointer(Arc::new(shape)) }
}

/// Size of a primitive type from its index (`cvinfo.h`, `CV_prmode_e` and `CV_type_e`).
pub(crate) fn primitive_size(index: u32) -> Option<u64> {
    match (index >> 8) & 0xf {
        0 => {}
        4 => return Some(4),
        6 => return Some(8),
        _ => return None,
    }
    match index & 0xff {
        // Characters, 8-bit integers, booleans.
        0x10 | 0x20 | 0x30 | 0x68 | 0x69 | 0x70 | 0x7c => Some(1),
        0x11 | 0x21 | 0x31 | 0x46 | 0x71 | 0x72 | 0x73 | 0x7a => Some(2),
        0x08 | 0x12 | 0x22 | 0x32 | 0x40 | 0x74 | 0x75 | 0x7b => Some(4),
        0x13 | 0x23 | 0x33 | 0x41 | 0x50 | 0x76 | 0x77 => Some(8),
        0x42 => Some(10),
        0x14 | 0x24 | 0x43 | 0x51 | 0x78 | 0x79 => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, unique_name: Option<&str>) -> String {
        Udt { name, unique_name, size: Some(8), fields: TypeIndex(0), is_forward: false }.key()
    }

    #[test]
    fn keys_are_names_that_the_next_build_has_too() {
        // A digest of the definition is another one for another definition.
        assert_eq!(key("app::Account", Some("b902cca7072dd3c284ff5a4ec898b2f5")), "app::Account");
        assert_eq!(key("app::run::closure_env$1", Some("b902cca7072dd3c284ff5a4ec898b2f5")), "app::run::closure_env$");
        assert_eq!(key("account", Some(".?AUaccount@@")), ".?AUaccount@@");
        assert_eq!(key("`anonymous namespace'::S", Some(".?AUS@?A0x1234abcd@@")), ".?AUS@?A0x@@");
        assert_eq!(key("f::S", Some(".?AUS@?1??f@@YAHXZ@")), ".?AUS@???f@@YAHXZ@");
        assert_eq!(key("account", None), "account");
    }

    #[test]
    fn attributes_that_say_virtual() {
        // CV_MTvanilla, virtual, static, friend, introduced, pure, pure and introduced; with public access.
        let found: Vec<u16> = (0..8).filter(|kind| is_virtual((kind << 2) | 3)).collect();
        assert_eq!(found, [1, 4, 5, 6]);
    }

    #[test]
    fn primitive_types_are_integers_floats_or_pointers() {
        assert_eq!(primitive_shape(0x74), Shape::Integer(4));
        assert_eq!(primitive_shape(0x41), Shape::Float(8));
        assert_eq!(primitive_shape(0x03), Shape::Integer(0));
        assert_eq!(primitive_shape(0x603), Shape::Pointer(Arc::new(Shape::Integer(0))));
        assert_eq!(primitive_shape(0x50), Shape::Opaque);
    }
}
