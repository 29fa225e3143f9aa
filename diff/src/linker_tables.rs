//! Tables that the linker puts together: each object file adds entries to a section of the program's own (`.opt$m`), and code walks from a mark at
//! its start to one at its end, past entries that it never names.
//!
//! The running process has the old table: an entry that came is not in it, and one that went still is. Such tables are known by their sections:
//! compilers, linkers and C runtimes have no data there. Constructors and thread-local callbacks stand in tables of this kind, too, and have
//! rules of their own ([`crate::initialisers`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::change_set::Reason;
use crate::compare::{Comparison, Outcome};
use crate::pairing::indexed;
use crate::program::{Location, Program, pointers_in};
use crate::rva::Rva;
use crate::x64::ReferenceKind;

/// How the names of sections begin that tools give, hpgen's own with hooks among them: what a program itself puts into them stands in no table of
/// its own.
const OF_TOOLS: [&str; 44] = [
    ".00cfg",
    ".ASAN",
    ".CRT",
    ".SCOV",
    ".bss",
    ".buildid",
    ".cormeta",
    ".ctors",
    ".data",
    ".debug",
    ".detour",
    ".didat",
    ".dtors",
    ".edata",
    ".eh_fram",
    ".fini_arr",
    ".fptable",
    ".gcc_exc",
    ".gehcont",
    ".gfids",
    ".giats",
    ".gljmp",
    ".gxfg",
    ".hpgen",
    ".idata",
    ".init_arr",
    ".lpr",
    ".msvcjmc",
    ".pdata",
    ".preinit",
    ".rdata",
    ".reloc",
    ".retpl",
    ".rsrc",
    ".rtc",
    ".sdata",
    ".srdata",
    ".sxdata",
    ".text",
    ".tls",
    ".voltbl",
    ".xdata",
    "/",
    "_RDATA",
];

/// `IMAGE_SCN_MEM_DISCARDABLE`: gone once the image was loaded, or never loaded at all.
const DISCARDABLE: u32 = 0x0200_0000;

/// Entries that hold the same but for their pointers, of which one is compared with those that stay for it.
const MAX_ALIKE: usize = 64;

/// The objects in each section of the program's own, by the section's name without what stands behind `$`.
type Tables = BTreeMap<String, Vec<AtomIndex>>;

/// A reason for each entry that came or went.
pub(crate) fn reasons(old: &Program, new: &Program, comparison: &Comparison) -> Vec<Reason> {
    let (olds, news) = (tables(old), tables(new));
    let names: BTreeSet<&String> = olds.keys().chain(news.keys()).collect();
    let search = Search { old, new, comparison };
    names.into_iter().flat_map(|name| search.table(name, objects(&olds, name), objects(&news, name))).collect()
}

fn objects<'t>(tables: &'t Tables, name: &str) -> &'t [AtomIndex] {
    tables.get(name).map_or(&[], Vec::as_slice)
}

fn tables(program: &Program) -> Tables {
    let mut tables = Tables::new();
    let own = Sections::of(program);
    if own.is_empty() {
        return tables;
    }
    for (index, atom) in indexed(program).filter(|(_, atom)| atom.is_data()) {
        if let Some(name) = own.name_at(atom.rva).filter(|_| !is_padding(program, atom)) {
            tables.entry(name.to_owned()).or_default().push(index);
        }
    }
    tables
}

/// The parts of the image that are the program's own, by where they start: end and name.
struct Sections(BTreeMap<Rva, (Rva, String)>);

impl Sections {
    /// As the linker tells them, which also knows of those that it merged into others; else as the headers do.
    fn of(program: &Program) -> Sections {
        let groups = program.symbols.groups.iter().map(|group| (&group.name, &group.range));
        let sections = program.image.sections.iter().filter(|section| section.characteristics.0 & DISCARDABLE == 0);
        let sections = sections.map(|section| (&section.name, &section.range));
        let own = sections.chain(groups).filter(|(name, range)| is_own(name) && !range.is_empty());
        Sections(own.map(|(name, range)| (range.start, (range.end, base(name).to_owned()))).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn name_at(&self, rva: Rva) -> Option<&str> {
        let (_, (end, name)) = self.0.range(..=rva).next_back()?;
        (rva < *end).then_some(name)
    }
}

/// What the linker sorts by stands behind `$`.
fn base(name: &str) -> &str {
    name.split('$').next().unwrap_or(name)
}

fn is_own(name: &str) -> bool {
    !name.is_empty() && !OF_TOOLS.iter().any(|prefix| name.starts_with(prefix))
}

/// What fills the room between objects.
fn is_padding(program: &Program, atom: &Atom) -> bool {
    let range = atom.rva..atom.end();
    atom.names.is_empty()
        && program.image.bytes_up_to(range.clone()).iter().all(|byte| *byte == 0)
        && program.image.base_relocations_in(range).is_empty()
}

struct Search<'a> {
    old: &'a Program,
    new: &'a Program,
    comparison: &'a Comparison,
}

impl Search<'_> {
    fn table(&self, name: &str, olds: &[AtomIndex], news: &[AtomIndex]) -> Vec<Reason> {
        let pairing = &self.comparison.pairing;
        let stays = |partners: &[AtomIndex], others: &BTreeSet<AtomIndex>| partners.iter().any(|p| others.contains(p));
        let (in_old, in_new) = (olds.iter().copied().collect(), news.iter().copied().collect());
        let gone = olds.iter().copied().filter(|entry| !stays(pairing.new_of(*entry), &in_new)).collect();
        let come = news.iter().copied().filter(|entry| !stays(pairing.old_of(*entry), &in_old)).collect();
        let (gone, come) = self.without_renamed(gone, come);
        let changed: Vec<AtomIndex> = olds.iter().copied().filter(|entry| self.is_changed(*entry)).collect();
        if gone.is_empty() && come.is_empty() && changed.is_empty() {
            return Vec::new();
        }
        // Where code names all there is, nobody walks.
        let (named, named_now) = (Named::of(self.old, olds), Named::of(self.new, news));
        if named.has_all(olds, &gone) && named_now.has_all(news, &come) {
            return Vec::new();
        }
        // What nobody names is a reason anyway where it changed.
        let changed = changed.into_iter().filter(|entry| named.has(*entry));
        let reason = |program: &Program, entry: AtomIndex, what: &str, so: &str| {
            let atom = program.atom(entry).filter(|atom| !atom.names.is_empty());
            let symbol = atom.map_or_else(|| name.to_owned(), |atom| program.linkage_name(atom));
            let message = format!(
                "{what} in section {name}, which the linker fills from all object files and code walks through: the running process' table {so}"
            );
            Reason { code: "table-entry", symbol, message }
        };
        let gone = gone.into_iter().map(|entry| reason(self.old, entry, "this entry went", "still has it"));
        let come = come.into_iter().map(|entry| reason(self.new, entry, "this entry came", "stays without it"));
        let changed = changed.map(|entry| reason(self.old, entry, "this entry changed", "keeps the old one"));
        gone.chain(come).chain(changed).collect()
    }

    /// Whether a constant has a partner that holds something else.
    fn is_changed(&self, old: AtomIndex) -> bool {
        let is_changed = |new: &AtomIndex| self.comparison.outcome(old, *new).is_some_and(Outcome::is_change);
        self.old.atom(old).is_some_and(|atom| atom.kind == AtomKind::ReadOnly)
            && self.comparison.pairing.new_of(old).iter().any(is_changed)
    }

    /// Leaves out entries that only got another name: such names are often made of line numbers.
    fn without_renamed(&self, gone: Vec<AtomIndex>, come: Vec<AtomIndex>) -> (Vec<AtomIndex>, Vec<AtomIndex>) {
        let mut by_content: BTreeMap<Option<Vec<u8>>, Vec<AtomIndex>> = BTreeMap::new();
        for entry in come {
            by_content.entry(content(self.new, entry)).or_default().push(entry);
        }
        let gone = gone.into_iter().filter(|entry| {
            let Some(alike) = by_content.get_mut(&content(self.old, *entry)) else { return true };
            let found = alike.iter().take(MAX_ALIKE).position(|other| self.point_to_same(*entry, *other));
            found.map(|position| alike.remove(position)).is_none()
        });
        let gone = gone.collect();
        let mut come: Vec<AtomIndex> = by_content.into_values().flatten().collect();
        come.sort();
        (gone, come)
    }

    fn point_to_same(&self, old: AtomIndex, new: AtomIndex) -> bool {
        let (olds, news) = (pointers(self.old, old), pointers(self.new, new));
        olds.len() == news.len()
            && olds.iter().zip(&news).all(|((offset, a), (other, b))| {
                offset == other
                    && match (a, b) {
                        (Some(a), Some(b)) => self.is_same_place(*a, *b),
                        (None, None) => true,
                        _ => false,
                    }
            })
    }

    fn is_same_place(&self, old: Rva, new: Rva) -> bool {
        let (Location::Atom { atom: a, offset }, Location::Atom { atom: b, offset: other }) =
            (self.old.locate(old), self.new.locate(new))
        else {
            return false;
        };
        let (Some(x), Some(y)) = (self.old.atom(a), self.new.atom(b)) else { return false };
        let is_unchanged = self.comparison.outcome(a, b) == Some(&Outcome::Same);
        let is_pair = self.comparison.pairing.is_pair(a, b);
        // An old entry leads to the old function, which leads to the new one. What holds no more than bytes is looked at here.
        let is_same = if x.is_function() { is_pair || is_unchanged } else { is_unchanged };
        let is_literal = |atom: &Atom| atom.is_data() && atom.names.is_empty();
        offset == other
            && (is_same
                || is_literal(x)
                    && is_literal(y)
                    && content(self.old, a) == content(self.new, b)
                    && pointers(self.old, a).is_empty())
    }
}

/// The pointers of an object: their offsets and where they lead.
fn pointers(program: &Program, index: AtomIndex) -> Vec<(u32, Option<Rva>)> {
    let Some(atom) = program.atom(index) else { return Vec::new() };
    let found = pointers_in(&program.image, atom.rva..atom.end());
    found.map(|(place, target)| (place.0.saturating_sub(atom.rva.0), target)).collect()
}

/// The bytes of an object, zeros in place of pointers, without the zeros at its end: those may be padding.
fn content(program: &Program, index: AtomIndex) -> Option<Vec<u8>> {
    let atom = program.atom(index)?;
    let mut bytes = program.image.bytes_up_to(atom.rva..atom.end()).to_vec();
    for (offset, _) in pointers(program, index) {
        let end = (offset as usize).saturating_add(8).min(bytes.len());
        if let Some(field) = bytes.get_mut(offset as usize..end) {
            field.fill(0);
        }
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    bytes.truncate(used);
    Some(bytes)
}

/// Which of some objects code names.
struct Named {
    /// By reading or writing them, or where it is known that they are meant.
    itself: BTreeSet<AtomIndex>,
    /// By their addresses, in functions that do not name the object before: else that one's end can be meant, or the first step of a walk.
    start: BTreeSet<AtomIndex>,
    /// By an address that may have another meaning.
    perhaps: BTreeSet<AtomIndex>,
}

impl Named {
    fn of(program: &Program, objects: &[AtomIndex]) -> Named {
        let wanted: BTreeSet<AtomIndex> = objects.iter().copied().collect();
        let mut named = Named { itself: BTreeSet::new(), start: BTreeSet::new(), perhaps: BTreeSet::new() };
        for function in &program.functions {
            let mut here = BTreeSet::new();
            for reference in function.code.references.iter().filter(|reference| !reference.kind.is_branch()) {
                let Location::Atom { atom, .. } = program.locate(reference.place()) else { continue };
                if !wanted.contains(&atom) {
                    continue;
                }
                here.insert(atom);
                if reference.symbol.is_some() || reference.kind == ReferenceKind::Access {
                    named.itself.insert(atom);
                }
            }
            let is_behind = |atom: AtomIndex| atom.0.checked_sub(1).is_some_and(|b| here.contains(&AtomIndex(b)));
            for atom in &here {
                if is_behind(*atom) {
                    named.perhaps.insert(*atom)
                } else {
                    named.start.insert(*atom)
                };
            }
        }
        named
    }

    fn has(&self, object: AtomIndex) -> bool {
        self.itself.contains(&object) || self.start.contains(&object) || self.perhaps.contains(&object)
    }

    /// Whether all objects are named, and those that came or went beyond doubt: a mark that has no bytes stands where the first entry does.
    fn has_all(&self, objects: &[AtomIndex], moved: &[AtomIndex]) -> bool {
        objects.iter().all(|object| self.itself.contains(object) || self.start.contains(object))
            && moved.iter().all(|object| self.itself.contains(object))
    }
}
