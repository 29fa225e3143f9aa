//! Cuts an image into atoms: functions, variables, constants, import slots, each with an extent.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{Image, Section};
use crate::mangling::is_numbered_constant;
use crate::rva::{Rva, span};
use crate::symbols::{ModuleIndex, Symbols};
use crate::unwind::{FLAG_CHAINED, UnwindInfo};
use crate::vtable_extents::vtable_size;

/// Index into [`crate::program::Program::atoms`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtomIndex(pub u32);

/// How the linkage names of virtual function tables and of type information begin (Itanium C++ ABI, 5.1.4.1).
const VTABLE: &str = "_ZTV";
const TYPE_INFORMATION: &str = "_ZTI";

/// Largest distance in bytes of a biased base (`table - 'a' * 4`) from its object that is reckoned with.
pub const MAX_BIAS: u32 = 4096;
/// Atoms on each side of an address that may be the object that it is biased from.
pub const NEIGHBOURS: u32 = 8;

/// A piece of an image with an extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Atom {
    /// First byte.
    pub rva: Rva,
    /// Bytes that belong to it; for anonymous data, up to the next thing that is known.
    pub size: u32,
    /// Whether the size comes from a type, a procedure, or a section of its own, rather than from what follows.
    pub is_sized: bool,
    /// What it is.
    pub kind: AtomKind,
    /// All names that stand at its start, linkage names first. Identical code folding gives one atom several.
    pub names: Vec<Name>,
    /// The module that contributed it.
    pub module: Option<ModuleIndex>,
}

impl Atom {
    /// The address behind its last byte.
    pub fn end(&self) -> Rva {
        Rva(self.rva.0.saturating_add(self.size))
    }

    /// Holds code.
    pub fn is_function(&self) -> bool {
        matches!(self.kind, AtomKind::Function(_))
    }

    /// A constant or a variable.
    pub fn is_data(&self) -> bool {
        matches!(self.kind, AtomKind::ReadOnly | AtomKind::Writable)
    }

    /// A function that runs before `main` to fill variables (names that clang, gcc and MSVC give to them).
    pub fn is_dynamic_initialiser(&self) -> bool {
        const PREFIXES: [&str; 4] = ["_GLOBAL__sub_I_", "_GLOBAL__I_", "__cxx_global_var_init", "??__E"];
        let has_prefix = |name: &Name| PREFIXES.iter().any(|prefix| name.key.starts_with(prefix));
        self.is_function()
            && self.names.iter().any(|name| has_prefix(name) || name.display.starts_with("`dynamic initializer for"))
    }

    /// A table that the linker writes for the loader: valid call targets, and the like (names that Microsoft's linker and lld give).
    pub fn is_loader_table(&self) -> bool {
        self.names.iter().any(|name| name.key.starts_with("__guard_") && name.key.ends_with("_table"))
    }

    /// A table of virtual functions (Itanium and Microsoft C++ ABI, rustc) or of virtual bases (Microsoft C++ ABI), which live objects
    /// or pointers to them point to.
    pub fn is_vtable(&self) -> bool {
        const PREFIXES: [&str; 3] = [VTABLE, "??_7", "??_8"];
        let is_of_cpp = |name: &Name| PREFIXES.iter().any(|prefix| name.key.starts_with(prefix));
        self.names.iter().any(|name| is_of_cpp(name) || name.key.ends_with("::vtable$"))
    }
}

/// What an atom is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomKind {
    /// Code; the index into [`crate::program::Program::functions`].
    Function(u32),
    /// Constants, strings, tables, and data between functions.
    ReadOnly,
    /// Variables.
    Writable,
    /// Eight bytes of an import address table.
    ImportSlot,
}

/// A name of an atom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Linkage name for what other modules can see; else the name in the source.
    pub key: String,
    /// Set for what only one module sees: the module, and for a local static its function.
    pub local: Option<Local>,
    /// Name in the source's terms.
    pub display: String,
}

/// Where a name that is not visible to other modules belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Local {
    /// Short name of the module.
    pub module: String,
    /// The function whose local static it is.
    pub scope: Option<String>,
}

/// Where functions are known to start, with the size where a symbol or the function table gives it.
pub(crate) fn function_starts(image: &Image, symbols: &Symbols) -> BTreeMap<Rva, Option<u32>> {
    let is_code = |rva: Rva| image.section_at(rva).is_some_and(Section::is_executable);
    let mut starts: BTreeMap<Rva, Option<u32>> = BTreeMap::new();
    let mut add = |rva: Rva, size: Option<u32>| {
        if is_code(rva) {
            let known = starts.entry(rva).or_insert(None);
            *known = (*known).max(size);
        }
    };
    for procedure in symbols.procedures.iter().filter(|p| p.size > 0) {
        add(procedure.rva, Some(procedure.size));
    }
    for public in &symbols.publics {
        add(public.rva, None);
    }
    for export in &image.exports {
        add(export.rva, None);
    }
    if image.identity.entry_point != Rva(0) {
        add(image.identity.entry_point, None);
    }
    let mut previous_end = Rva(0);
    for entry in &image.runtime_functions {
        let chained = UnwindInfo::read(image, entry.unwind_info).is_ok_and(|info| info.flags & FLAG_CHAINED != 0);
        // A chained record that continues the code before it is a part of that function, not a function.
        if !(chained && previous_end == entry.range.start) {
            add(entry.range.start, None);
        }
        previous_end = entry.range.end;
    }
    // The function table bounds what procedures do not.
    for entry in &image.runtime_functions {
        if let Some(size @ None) = starts.get_mut(&entry.range.start) {
            *size = Some(entry.range.end.0 - entry.range.start.0);
        }
    }
    starts
}

/// Sizes of functions: their own where known, else up to the next function or the end of the contribution. A start inside
/// a function of known size is a label of it.
pub(crate) fn function_extents(
    image: &Image,
    symbols: &Symbols,
    starts: &BTreeMap<Rva, Option<u32>>,
) -> BTreeMap<Rva, u32> {
    let mut extents: BTreeMap<Rva, u32> = BTreeMap::new();
    let mut covered = Rva(0);
    let mut iter = starts.iter().peekable();
    while let Some((rva, size)) = iter.next() {
        if *rva < covered {
            continue;
        }
        let Some(section) = image.section_at(*rva) else {
            continue;
        };
        let limit = match size {
            Some(size) => Rva(rva.0.saturating_add(*size)),
            None => {
                let next = iter.peek().map_or(section.range.end, |(next, _)| **next);
                let contribution = symbols.contribution_at(*rva).map_or(section.range.end, |c| c.range.end);
                next.min(contribution)
            }
        };
        let end = limit.min(section.range.end);
        extents.insert(*rva, end.0 - rva.0);
        covered = end;
    }
    extents
}

/// Cuts the whole image. `functions` are the extents of code, `targets` the addresses in data that something names.
pub(crate) fn partition(
    image: &Image,
    symbols: &Symbols,
    functions: &BTreeMap<Rva, u32>,
    targets: &BTreeSet<Rva>,
) -> Vec<Atom> {
    let names = collect_names(symbols);
    let mut atoms: Vec<Atom> = functions
        .iter()
        .enumerate()
        .map(|(index, (rva, size))| new_atom(symbols, &names, *rva, *size, AtomKind::Function(index as u32)))
        .collect();
    atoms.extend(image.imports.iter().map(|slot| new_atom(symbols, &names, slot.rva, 8, AtomKind::ImportSlot)));
    let sizes = variable_sizes(symbols);
    for section in image.sections.iter().filter(|s| !s.is_executable()) {
        let kind = if section.is_writable() { AtomKind::Writable } else { AtomKind::ReadOnly };
        for (start, end) in data_pieces(image, symbols, section, &names, &sizes, targets) {
            let size = end.0 - start.0;
            let own = symbols.contribution_at(start).filter(|c| c.is_comdat && kind == AtomKind::ReadOnly);
            let is_sized = sizes.get(&start) == Some(&size) || own.is_some_and(|c| c.range == (start..end));
            atoms.push(Atom { is_sized, ..new_atom(symbols, &names, start, size, kind) });
        }
    }
    atoms.extend(
        data_between_functions(image, symbols, functions, targets)
            .into_iter()
            .map(|(start, end)| new_atom(symbols, &names, start, end.0 - start.0, AtomKind::ReadOnly)),
    );
    atoms.sort_by_key(|atom| atom.rva);
    atoms
}

/// Constants that stand in code sections, from where something names them to the next thing that is known.
fn data_between_functions(
    image: &Image,
    symbols: &Symbols,
    functions: &BTreeMap<Rva, u32>,
    targets: &BTreeSet<Rva>,
) -> Vec<(Rva, Rva)> {
    let mut pieces = Vec::new();
    for section in image.sections.iter().filter(|s| s.is_executable()) {
        let mut starts = targets.range(section.range.clone()).copied().peekable();
        while let Some(start) = starts.next() {
            let contribution = symbols.contribution_at(start).map(|c| c.range.end);
            let ends = [starts.peek().copied(), functions.range(start..).next().map(|(rva, _)| *rva), contribution];
            let end = ends.into_iter().flatten().fold(section.range.end, Rva::min);
            if start < end {
                pieces.push((start, end));
            }
        }
    }
    pieces
}

fn new_atom(symbols: &Symbols, names: &BTreeMap<Rva, Vec<Name>>, rva: Rva, size: u32, kind: AtomKind) -> Atom {
    Atom {
        rva,
        size,
        is_sized: matches!(kind, AtomKind::Function(_) | AtomKind::ImportSlot),
        kind,
        names: names.get(&rva).cloned().unwrap_or_default(),
        module: symbols.contribution_at(rva).map(|c| c.module),
    }
}

/// All names by address. A linkage name makes the source's name of the same address a mere display name.
fn collect_names(symbols: &Symbols) -> BTreeMap<Rva, Vec<Name>> {
    let mut names: BTreeMap<Rva, Vec<Name>> = BTreeMap::new();
    for public in symbols.publics.iter().filter(|public| !is_numbered_constant(&public.name)) {
        let display = crate::demangle::demangle(&public.name);
        names.entry(public.rva).or_default().push(Name { key: public.name.clone(), local: None, display });
    }
    let is_public: BTreeSet<Rva> = names.keys().copied().collect();
    let module_name =
        |module: Option<ModuleIndex>| module.and_then(|m| symbols.modules.get(m)).map(|m| m.short_name().to_owned());
    let mut add = |rva: Rva, name: &str, is_global: bool, module: Option<ModuleIndex>, scope: Option<String>| {
        if is_global && is_public.contains(&rva) {
            return;
        }
        let module = module.or_else(|| symbols.contribution_at(rva).map(|c| c.module));
        let local = (!is_global).then(|| Local { module: module_name(module).unwrap_or_default(), scope });
        let entry = names.entry(rva).or_default();
        if !entry.iter().any(|n| n.key == name && n.local == local) {
            entry.push(Name { key: name.to_owned(), local, display: crate::demangle::demangle(name) });
        }
    };
    for p in &symbols.procedures {
        add(p.rva, &p.name, p.is_global, Some(p.module), None);
    }
    for v in &symbols.variables {
        add(v.rva, &v.name, v.is_global, v.module, v.scope.clone());
    }
    names
}

fn variable_sizes(symbols: &Symbols) -> BTreeMap<Rva, u32> {
    let mut sizes = BTreeMap::new();
    for variable in &symbols.variables {
        if let Some(size) = variable.size.filter(|size| *size > 0) {
            let known = sizes.entry(variable.rva).or_insert(size);
            *known = size.max(*known);
        }
    }
    sizes
}

/// Start and end of every data atom of a section. Named atoms keep their extent; what lies between is cut at contributions and
/// at the addresses that something names.
fn data_pieces(
    image: &Image,
    symbols: &Symbols,
    section: &Section,
    names: &BTreeMap<Rva, Vec<Name>>,
    sizes: &BTreeMap<Rva, u32>,
    targets: &BTreeSet<Rva>,
) -> Vec<(Rva, Rva)> {
    let range = section.range.clone();
    // Addresses where one atom ends for certain, whatever a type says.
    let mut hard: BTreeSet<Rva> = names.range(range.clone()).map(|(rva, _)| *rva).collect();
    let first = symbols.contributions.partition_point(|c| c.range.end <= range.start);
    for c in symbols.contributions.iter().skip(first).take_while(|c| c.range.start < range.end) {
        hard.insert(c.range.start);
        hard.insert(c.range.end);
    }
    // Import slots and directories are not data; what they cover is left out.
    let slots = image.imports.iter().map(|slot| span(slot.rva, 8));
    let mut taken: Vec<_> =
        slots.chain(image.directories.iter().cloned()).filter(|r| r.start < range.end && range.start < r.end).collect();
    taken.sort_by_key(|r| r.start);
    for r in &taken {
        hard.extend([r.start, r.end]);
    }
    hard.extend([range.start, range.end]);
    let hard: Vec<Rva> = hard.into_iter().filter(|rva| (range.start..=range.end).contains(rva)).collect();

    let mut pieces = Vec::new();
    let mut next_taken = taken.iter().peekable();
    for pair in hard.windows(2) {
        let &[start, end] = pair else { continue };
        while next_taken.next_if(|r| r.end <= start).is_some() {}
        if next_taken.peek().is_some_and(|r| r.contains(&start)) {
            continue;
        }
        let mut piece = start;
        if names.contains_key(&start) {
            let table = is_at(names, start, VTABLE)
                .then(|| vtable_size(image, start..end, |rva| is_at(names, rva, TYPE_INFORMATION)))
                .flatten();
            let named_end = match sizes.get(&start).copied().or(table) {
                Some(size) => Rva(start.0.saturating_add(size)).min(end),
                None => end,
            };
            pieces.push((start, named_end));
            piece = named_end;
            if table.is_some() {
                // Constants of the same file, whether something names the first of them or not.
                pieces.push((piece, targets.range(piece..end).next().copied().unwrap_or(end)));
            }
        }
        // Behind a named object: padding, or anonymous objects where something names them.
        let mut cuts = targets.range(piece..end).copied().peekable();
        if piece == start && cuts.peek() != Some(&piece) {
            pieces.push((piece, cuts.peek().copied().unwrap_or(end)));
        }
        while let Some(cut) = cuts.next() {
            pieces.push((cut, cuts.peek().copied().unwrap_or(end)));
        }
    }
    pieces.retain(|(start, end)| start < end);
    pieces
}

fn is_at(names: &BTreeMap<Rva, Vec<Name>>, rva: Rva, prefix: &str) -> bool {
    names.get(&rva).into_iter().flatten().any(|name| name.key.starts_with(prefix))
}
