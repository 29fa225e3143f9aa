//! Which source line each instruction came from, and through which inlined calls.
//!
//! A PDB has this in two places of each module's stream. The C13 part says which addresses came from which line
//! (`DEBUG_S_LINES`, with the files in `DEBUG_S_FILECHKSMS`) and where each function that was inlined is written down
//! (`DEBUG_S_INLINEELINES`). Among the module's symbols every inlined call is an `S_INLINESITE` inside its procedure,
//! whose annotations (see [`crate::inline_sites`]) give addresses and lines. Sources: `cvinfo.h`; "CodeView line tables"
//! and `CodeViewContext` of LLVM.
//!
//! Nothing of it is needed to compare, only to explain: it is read when something changed, and only for the modules
//! concerned. Damaged line information is no error; it explains nothing.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use ms_codeview::syms::{SymData, SymIter};
use ms_codeview::types::{TypeData, TypeIndex};
use ms_pdb::Pdb;
use ms_pdb::lines::{FileChecksumsSubsection, LineData, LinesSubsection, SubsectionKind, is_jmc_line};
use ms_pdb::names::NameIndex;
use ms_pdb::tpi::TypeStream;
use serde::Serialize;

use crate::atoms::AtomIndex;
use crate::demangle::demangle;
use crate::error::Error;
use crate::image::Image;
use crate::inline_sites::{self, LineOfCode};
use crate::pdb;
use crate::program::Program;
use crate::rva::{Rva, span};
use crate::symbols::ModuleIndex;
use crate::type_information::is_local;

/// A line of a source file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Source {
    /// Path as the PDB has it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
}

/// One of the calls that an instruction stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The function that was inlined; none for the function that the instruction is a part of.
    pub inlined: Option<String>,
    /// The line in it, where known.
    pub source: Option<Source>,
    /// The call has records of what the inlined function took or kept.
    pub has_locals: bool,
}

/// Line information of some functions of a program.
#[derive(Debug, Default)]
pub struct Lines {
    functions: BTreeMap<Rva, ModuleIndex>,
    modules: BTreeMap<ModuleIndex, ModuleLines>,
    files: Vec<String>,
    names: Vec<String>,
}

/// Index into [`Lines::files`] or [`Lines::names`].
type Interned = u32;

#[derive(Debug, Default)]
struct ModuleLines {
    /// By rising address, without overlaps.
    rows: Vec<Row>,
    /// The module's procedures with their inlined calls.
    procedures: BTreeMap<Rva, Vec<Site>>,
}

/// Addresses that came from one line.
#[derive(Debug, Clone)]
struct Row {
    range: Range<Rva>,
    file: Interned,
    line: u32,
}

/// One inlined call.
#[derive(Debug)]
struct Site {
    /// The call that it is nested in: an earlier one of the same procedure.
    parent: Option<usize>,
    depth: usize,
    function: Interned,
    /// By rising address.
    rows: Vec<Row>,
    has_locals: bool,
}

/// Calls nested deeper than this are no compiler's work.
const MAX_DEPTH: usize = 64;

/// Inlined calls of one procedure that are looked at.
const MAX_SITES: usize = 1 << 16;

impl Lines {
    /// Reads the line information of the modules that some functions came from. What cannot be read is left out.
    pub fn of(program: &Program, functions: impl IntoIterator<Item = AtomIndex>) -> Lines {
        let mut lines = Lines::default();
        for atom in functions.into_iter().filter_map(|index| program.atom(index)) {
            let procedures = &program.symbols.procedures;
            let first = procedures.partition_point(|p| p.rva < atom.rva);
            let own = procedures.get(first).filter(|p| p.rva == atom.rva).map(|p| p.module);
            // Folded functions are described by several modules; the one that contributed the code comes first.
            if let Some(module) = atom.module.or(own) {
                lines.functions.insert(atom.rva, module);
            }
        }
        let modules: BTreeSet<ModuleIndex> = lines.functions.values().copied().collect();
        if !modules.is_empty() {
            // The PDB was read before; if it is gone since, there is nothing to explain with.
            let _ = pdb::with_open(&program.symbols.pdb_path, &program.image, |pdb| {
                Loader::of(pdb, &program.image, &mut lines).load(&modules)
            });
        }
        lines
    }

    /// The calls that an instruction stands in, the innermost first. The last is the function itself.
    pub fn at(&self, rva: Rva) -> Vec<Frame> {
        let module = self.functions.range(..=rva).next_back().and_then(|(_, module)| self.modules.get(module));
        let Some(module) = module else {
            return vec![Frame { inlined: None, source: None, has_locals: false }];
        };
        let sites = module.procedures.range(..=rva).next_back().map_or(&[][..], |(_, sites)| sites);
        let innermost = sites
            .iter()
            .enumerate()
            .filter(|(_, site)| row_at(&site.rows, rva).is_some())
            .max_by_key(|(_, site)| site.depth)
            .map(|(index, _)| index);
        let mut frames = Vec::new();
        let mut next = innermost;
        while let Some(site) = next.and_then(|index| sites.get(index)) {
            // Some compilers do not count a nested call's code among that of the call around it.
            let row = row_at(&site.rows, rva).or_else(|| row_before(&site.rows, rva));
            frames.push(Frame {
                inlined: self.names.get(site.function as usize).cloned(),
                source: row.and_then(|row| self.source(row)),
                has_locals: site.has_locals,
            });
            next = site.parent;
        }
        let source = row_at(&module.rows, rva).and_then(|row| self.source(row));
        frames.push(Frame { inlined: None, source, has_locals: false });
        frames
    }

    /// All source files that the modules which were read name.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// The functions that were inlined into each procedure of the modules that were read.
    pub fn inlined_functions(&self) -> impl Iterator<Item = (Rva, BTreeSet<&str>)> {
        self.modules.values().flat_map(|module| &module.procedures).map(|(rva, sites)| {
            (*rva, sites.iter().filter_map(|s| self.names.get(s.function as usize)).map(String::as_str).collect())
        })
    }

    fn source(&self, row: &Row) -> Option<Source> {
        let file = self.files.get(row.file as usize)?.clone();
        is_line(row.line).then_some(Source { file, line: row.line })
    }
}

fn row_at(rows: &[Row], rva: Rva) -> Option<&Row> {
    row_before(rows, rva).filter(|row| rva < row.range.end)
}

fn row_before(rows: &[Row], rva: Rva) -> Option<&Row> {
    rows.get(rows.partition_point(|row| row.range.start <= rva).checked_sub(1)?)
}

/// Reads modules. Only what the wanted modules name is looked up.
struct Loader<'a> {
    pdb: &'a Pdb<&'a [u8]>,
    image: &'a Image,
    /// Starts of the functions that are asked for. Of others only the names of what was inlined into them is kept.
    wanted: BTreeSet<Rva>,
    lines: &'a mut Lines,
    /// The id stream, which names the functions that were inlined, and the type stream, which names their classes.
    ids: Option<TypeStream<Vec<u8>>>,
    types: OnceCell<Option<TypeStream<Vec<u8>>>>,
    files: HashMap<NameIndex, Interned>,
    names: HashMap<u32, Interned>,
}

impl<'a> Loader<'a> {
    fn of(pdb: &'a Pdb<&'a [u8]>, image: &'a Image, lines: &'a mut Lines) -> Loader<'a> {
        let ids = pdb.read_ipi_stream().ok();
        let wanted = lines.functions.keys().copied().collect();
        Loader { pdb, image, wanted, lines, ids, types: OnceCell::new(), files: HashMap::new(), names: HashMap::new() }
    }

    fn load(mut self, wanted: &BTreeSet<ModuleIndex>) -> Result<(), Error> {
        let Ok(modules) = self.pdb.read_modules() else {
            return Ok(());
        };
        for (index, module) in modules.iter().enumerate().filter(|(index, _)| wanted.contains(index)) {
            if module.stream().is_none_or(|stream| stream >= self.pdb.num_streams()) {
                continue;
            }
            let Ok(Some(stream)) = self.pdb.read_module_stream(&module) else {
                continue;
            };
            let c13 = LineData::new(stream.c13_line_data_bytes());
            let checksums = FileChecksumsSubsection::new(c13.find_checksums_bytes().unwrap_or_default());
            let rows = self.rows(&c13, &checksums);
            let inlinees = inline_sites::inlinees(&c13);
            let mut module_lines = ModuleLines { rows, procedures: BTreeMap::new() };
            if let Ok(records) = stream.sym_data() {
                module_lines.procedures = self.procedures(records, &checksums, &inlinees);
            }
            self.lines.modules.insert(index, module_lines);
        }
        Ok(())
    }

    fn rows(&mut self, c13: &LineData<'_>, checksums: &FileChecksumsSubsection<'_>) -> Vec<Row> {
        // Folded functions of one module are described twice: the first description counts.
        let mut pieces: BTreeMap<Rva, Vec<Row>> = BTreeMap::new();
        for subsection in c13.subsections().filter(|s| s.kind == SubsectionKind::LINES) {
            let Ok(lines) = LinesSubsection::parse(subsection.data) else { continue };
            let place = lines.contribution.offset_segment();
            let Some(start) = pdb::rva_in_section(self.image, place.segment(), place.offset()) else { continue };
            let end = span(start, lines.contribution.size.get()).end;
            if pieces.contains_key(&start) || self.wanted.range(start..end).next().is_none() {
                continue;
            }
            let mut rows = Vec::new();
            for block in lines.blocks() {
                let file = self.file(checksums, block.header.file_index.get());
                for record in block.lines() {
                    let (Some(file), Some(at)) = (file, start.checked_add(record.offset.get())) else { continue };
                    rows.push(Row { range: at..end, file, line: record.line_num_start() });
                }
            }
            pieces.insert(start, end_each_at_the_next(rows));
        }
        let mut rows: Vec<Row> = pieces.into_values().flatten().collect();
        rows.sort_by_key(|row| row.range.start);
        rows
    }

    fn procedures(
        &mut self,
        records: &[u8],
        checksums: &FileChecksumsSubsection<'_>,
        inlinees: &HashMap<u32, (u32, u32)>,
    ) -> BTreeMap<Rva, Vec<Site>> {
        let mut procedures: BTreeMap<Rva, Vec<Site>> = BTreeMap::new();
        let mut procedure: Option<(Rva, bool)> = None;
        let mut sites: Vec<Site> = Vec::new();
        // What is open: inlined calls by their index, other scopes without.
        let mut scopes: Vec<Option<usize>> = Vec::new();
        for record in SymIter::new(records) {
            if record.kind.ends_scope() {
                scopes.pop();
                if scopes.is_empty()
                    && let Some((start, _)) = procedure.take()
                {
                    let found = std::mem::take(&mut sites);
                    procedures.entry(start).or_insert(found);
                }
                continue;
            }
            if is_local(record.kind)
                && let Some(site) = scopes.last().copied().flatten().and_then(|site| sites.get_mut(site))
            {
                site.has_locals = true;
            }
            if !record.kind.starts_scope() {
                continue;
            }
            let mut scope = None;
            match record.parse() {
                Ok(SymData::Proc(p)) => {
                    let place = p.fixed.offset_segment;
                    procedure = pdb::rva_in_section(self.image, place.segment(), place.offset()).map(|start| {
                        let range = span(start, p.fixed.proc_len.get());
                        (start, self.wanted.range(range).next().is_some())
                    });
                    sites.clear();
                    scopes.clear();
                }
                Ok(SymData::InlineSite(site)) => {
                    let call = (site.fixed.inlinee.get(), site.binary_annotations);
                    scope = self.site(procedure, call, checksums, inlinees, &scopes, &mut sites);
                }
                Ok(SymData::InlineSite2(site)) => {
                    let call = (site.fixed.inlinee.get(), site.binary_annotations);
                    scope = self.site(procedure, call, checksums, inlinees, &scopes, &mut sites);
                }
                _ => {}
            }
            scopes.push(scope);
        }
        procedures
    }

    /// Adds an inlined call, and returns its index.
    fn site(
        &mut self,
        procedure: Option<(Rva, bool)>,
        (inlinee, annotations): (u32, &[u8]),
        checksums: &FileChecksumsSubsection<'_>,
        inlinees: &HashMap<u32, (u32, u32)>,
        scopes: &[Option<usize>],
        sites: &mut Vec<Site>,
    ) -> Option<usize> {
        let (procedure, is_wanted) = procedure?;
        let parent = scopes.iter().rev().flatten().next().copied();
        let depth = parent.and_then(|parent| sites.get(parent)).map_or(1, |site| site.depth + 1);
        if depth > MAX_DEPTH || sites.len() >= MAX_SITES {
            return None;
        }
        let (file, line) = inlinees.get(&inlinee).copied()?;
        let function = self.name(inlinee)?;
        let annotations = if is_wanted { annotations } else { &[] };
        let mut rows: Vec<Row> = inline_sites::lines(annotations, file, line)
            .into_iter()
            .filter_map(|LineOfCode { range, file, line }| {
                let range = procedure.checked_add(range.start)?..procedure.checked_add(range.end)?;
                Some(Row { range, file: self.file(checksums, file)?, line })
            })
            .collect();
        rows.sort_by_key(|row| row.range.start);
        sites.push(Site { parent, depth, function, rows, has_locals: false });
        sites.len().checked_sub(1)
    }

    /// The file of an offset into the module's list of files.
    fn file(&mut self, checksums: &FileChecksumsSubsection<'_>, offset: u32) -> Option<Interned> {
        let name = checksums.get_file(offset).ok()?.name();
        if let Some(known) = self.files.get(&name) {
            return Some(*known);
        }
        let text = self.pdb.get_name(name).ok()?.to_string();
        let interned = intern(&mut self.lines.files, text)?;
        self.files.insert(name, interned);
        Some(interned)
    }

    /// The name of a function of the id stream.
    fn name(&mut self, id: u32) -> Option<Interned> {
        if let Some(known) = self.names.get(&id) {
            return Some(*known);
        }
        let text = self.qualified_name(id)?;
        let interned = intern(&mut self.lines.names, text)?;
        self.names.insert(id, interned);
        Some(interned)
    }

    fn qualified_name(&self, id: u32) -> Option<String> {
        let ids = self.ids.as_ref()?;
        let record = ids.record(TypeIndex(id)).ok()?;
        let (scope, name) = match record.parse().ok()? {
            TypeData::FuncId(function) => {
                let scope = ids.record(TypeIndex(function.fixed.scope.get())).ok();
                let scope = scope.and_then(|record| match record.parse() {
                    Ok(TypeData::StringId(text)) => Some(text.name.to_string()),
                    _ => None,
                });
                (scope, function.name.to_string())
            }
            TypeData::MFuncId(function) => {
                let types = self.types.get_or_init(|| self.pdb.read_type_stream().ok());
                let class = types.as_ref().and_then(|types| types.record(function.fixed.parent_type.get()).ok());
                let class = class.and_then(|record| Some(record.parse().ok()?.name()?.to_string()));
                (class, function.name.to_string())
            }
            _ => return None,
        };
        let name = demangle(&name);
        Some(scope.map_or(name.clone(), |scope| format!("{scope}::{name}")))
    }
}

/// Neither absent nor one of the numbers by which Microsoft's compiler marks code that debuggers step over.
fn is_line(line: u32) -> bool {
    line != 0 && !is_jmc_line(line)
}

/// Rows begin where the table says, and end where the next begins.
fn end_each_at_the_next(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| row.range.start);
    let starts: Vec<Rva> = rows.iter().map(|row| row.range.start).skip(1).collect();
    for (row, next) in rows.iter_mut().zip(starts) {
        row.range.end = next;
    }
    rows.retain(|row| !row.range.is_empty());
    rows
}

fn intern(texts: &mut Vec<String>, text: String) -> Option<Interned> {
    let index = u32::try_from(texts.len()).ok()?;
    texts.push(text);
    Some(index)
}
