//! Whether a place in the process is an object of the new program.
//!
//! | object of the new program | its place in the process |
//! |---|---|
//! | function of both builds, called or jumped to | its copy in the region; or the old entry, if that leads to the copy or the function did not change |
//! | function of both builds, address taken | the old entry, so that addresses compare equal |
//! | new function, funclet | its copy in the region |
//! | variable of both builds | the old one |
//! | new variable | the region, with its initial value |
//! | constant | a constant of the old image or a place in the region, that holds the same |
//! | import | any slot that the loader fills with the same import |

use hpgen_diff::atoms::{Atom, AtomIndex, AtomKind};
use hpgen_diff::compare::Outcome;
use hpgen_diff::listing;
use hpgen_diff::program::{Function, Location, Program};
use hpgen_diff::rva::Rva;
use hpgen_diff::x64::{Named, Role};

use crate::claims::Claim;
use crate::facts::Facts;
use crate::process::{Place, Process};
use crate::throws;

/// What is done with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Control goes there.
    Branch,
    /// As many bytes are read or written there; 0 where that is not known.
    Access(u32),
    /// It is a value that the program can compare and pass on.
    Value,
}

/// The claims that a place rests on, or in words what should be there.
pub(crate) type Meant = Result<Vec<Claim>, String>;

/// The payload's facts in one process.
#[derive(Clone, Copy)]
pub(crate) struct Meaning<'a> {
    pub facts: &'a Facts<'a>,
    pub process: &'a Process,
}

impl<'a> Meaning<'a> {
    /// Whether `found` is `addend` bytes from the start of an atom of the new program.
    pub fn is_place_of(self, index: AtomIndex, addend: i64, found: u64, usage: Use) -> Meant {
        let expected = || self.expected(index, addend);
        let atom = self.facts.new.atom(index).ok_or_else(expected)?;
        let start = found.checked_add_signed(-addend).ok_or_else(expected)?;
        if self.facts.comparison.pairing.is_ambiguous(index) {
            return Err(format!("{}, one of several of that name that cannot be told apart", expected()));
        }
        match atom.kind {
            AtomKind::Function(_) => self.is_function(index, addend, found, usage),
            AtomKind::Writable => self.is_variable(index, atom, start),
            AtomKind::ReadOnly => self.is_constant(index, atom, (start, addend), usage),
            AtomKind::ImportSlot => self.is_import_slot(atom, addend, found),
        }
        .ok_or_else(expected)
    }

    /// The place of an atom in words.
    fn expected(self, index: AtomIndex, addend: i64) -> String {
        let offset = if addend == 0 { String::new() } else { format!("{}{:#x}", sign(addend), addend.unsigned_abs()) };
        let olds = self.facts.comparison.pairing.old_of(index);
        let old = olds.first().and_then(|old| self.facts.old.atom(*old));
        let place = old.map_or(String::new(), |old| format!(" (in the old image at {})", old.rva));
        format!("{}{offset}{place}", self.facts.name(index))
    }

    fn is_function(self, index: AtomIndex, addend: i64, found: u64, usage: Use) -> Option<Vec<Claim>> {
        let is_funclet = self.facts.funclets.contains(&index);
        match self.process.place(found) {
            Place::Region(offset) if self.is_throw(index, addend, offset, usage) => {
                Some(vec![Claim::Throws { atom: index, offset }])
            }
            Place::Region(offset) => {
                let olds = self.facts.comparison.pairing.old_of(index);
                let may_be_copy = olds.is_empty() || is_funclet || usage == Use::Branch || addend != 0;
                let start = u32::try_from(i64::from(offset).checked_sub(addend)?).ok()?;
                may_be_copy.then(|| vec![Claim::Stands { atom: index, offset: start }])
            }
            // A pointer to a filter that is a function of its own as well; frames of the new function need the new one.
            Place::Image(_) if is_funclet && usage == Use::Branch => None,
            Place::Image(rva) if addend == 0 => {
                let old = self.facts.old_function_at(rva)?;
                self.facts.corresponds(old, index).then(|| self.acts_as(old, rva, index))?
            }
            Place::Image(rva) if !is_funclet => self.is_middle(rva, index, addend).then(Vec::new),
            _ => None,
        }
    }

    /// A throwing function of the payload in the place of another function: which one that may be, is looked at there.
    fn is_throw(self, index: AtomIndex, addend: i64, offset: u32, usage: Use) -> bool {
        let record = self.facts.functions_at.get(&offset);
        addend == 0
            && usage == Use::Branch
            && record.is_some_and(|f| throws::is_stub(f))
            && self.facts.is_throwing(index)
    }

    /// Whoever runs from an old entry does what the new function does.
    fn acts_as(self, old: AtomIndex, entry: Rva, new: AtomIndex) -> Option<Vec<Claim>> {
        match self.facts.redirected.get(&entry) {
            Some(offset) => Some(vec![Claim::ActsAs { old, atom: new, offset: *offset }]),
            None => self.facts.is_unchanged(old, new).then(Vec::new),
        }
    }

    /// The same instruction of an old function that means the same.
    fn is_middle(self, found: Rva, new: AtomIndex, addend: i64) -> bool {
        let Location::Atom { atom: old, offset } = self.facts.old.locate(found) else { return false };
        let (Some(a), Some(b)) = (self.facts.old.function(old), self.facts.new.function(new)) else { return false };
        let Ok(addend) = u32::try_from(addend) else { return false };
        let position = |function: &Function, offset: u32| {
            let instructions = &function.code.instructions;
            let index = function.code.instruction_at(offset)?;
            Some(instructions.iter().take(index).filter(|i| i.role != Role::Padding).count())
        };
        let is_same = self.facts.comparison.outcome(old, new) == Some(&Outcome::Same);
        is_same && position(a, offset).is_some_and(|place| Some(place) == position(b, addend))
    }

    fn is_variable(self, index: AtomIndex, atom: &Atom, start: u64) -> Option<Vec<Claim>> {
        let olds = self.facts.comparison.pairing.old_of(index);
        match self.process.place(start) {
            // What has no name may be anything of the old build.
            Place::Region(offset) if olds.is_empty() && !atom.names.is_empty() => {
                Some(vec![Claim::Stands { atom: index, offset }])
            }
            Place::Image(rva) => {
                let is_old = |old: &AtomIndex| self.facts.old.atom(*old).is_some_and(|old| old.rva == rva);
                olds.iter().any(is_old).then(Vec::new)
            }
            _ => None,
        }
    }

    fn is_constant(self, index: AtomIndex, atom: &Atom, (start, addend): (u64, i64), usage: Use) -> Option<Vec<Claim>> {
        match self.process.place(start) {
            Place::Region(offset) => Some(vec![Claim::Stands { atom: index, offset }]),
            Place::Image(rva) => {
                let Location::Atom { atom: old, offset: 0 } = self.facts.old.locate(rva) else { return None };
                // What has a name can be told apart by its address, whatever it holds.
                let pairing = &self.facts.comparison.pairing;
                let own = pairing.old_of(index);
                let is_same = |old: &AtomIndex| self.facts.comparison.outcome(*old, index) == Some(&Outcome::Same);
                if own.iter().any(is_same) && !own.contains(&old) {
                    return None;
                }
                let both_paired = !pairing.new_of(old).is_empty() && !pairing.old_of(index).is_empty();
                if both_paired && !pairing.is_pair(old, index) {
                    return None;
                }
                let old = self.facts.old.atom(old).filter(|old| old.kind == AtomKind::ReadOnly)?;
                let accessed = match usage {
                    Use::Access(bytes) => u32::try_from(addend).ok()?.checked_add(bytes)?,
                    Use::Branch | Use::Value => 0,
                };
                // That it is the same thing says that its last zeros may be padding; what only holds the same holds all of it.
                let is_own = own.iter().any(|own| self.facts.old.atom(*own) == Some(old));
                let extent = constant_extent(self.facts.new, atom, old, is_own);
                let bytes = extent.max(accessed);
                Some(vec![Claim::Equal { atom: index, rva, bytes }])
            }
            Place::Elsewhere => None,
        }
    }

    fn is_import_slot(self, atom: &Atom, addend: i64, found: u64) -> Option<Vec<Claim>> {
        let import = &self.facts.new.image.import_at(atom.rva)?.import;
        let is_slot = match self.process.place(found) {
            Place::Image(rva) => self.facts.old.image.import_at(rva).is_some(),
            Place::Region(offset) => self.facts.payload.imports.iter().any(|import| import.slot == offset),
            Place::Elsewhere => false,
        };
        let is_same = addend == 0 && is_slot && self.process.u64_at(found) == self.process.import(import);
        is_same.then(Vec::new)
    }

    /// Whether a pointer in data or exception tables leads where the new build's pointer leads.
    pub fn is_pointer(self, named: Named, found: u64) -> Meant {
        let start = named.place();
        match self.facts.new.locate(start) {
            Location::Atom { atom, offset } => {
                let is_inside = self.facts.new.atom(atom).is_some_and(|object| offset < object.size);
                if named.symbol.is_none() && !is_inside {
                    return Err(format!(
                        "{}, which is behind the end of an object",
                        self.expected(atom, offset.into())
                    ));
                }
                self.is_place_of(atom, i64::from(offset) + named.target.distance_from(start), found, Use::Value)
            }
            Location::Headers(rva) => self.is_header(rva, found),
            Location::Nowhere => Err(format!("{start} of the new image, which is in none of its sections")),
        }
    }

    /// The headers before the first section have the same layout in every image; tables of the linker have not.
    pub fn is_header(self, rva: Rva, found: u64) -> Meant {
        let is_header =
            |program: &Program| program.image.sections.first().is_some_and(|section| rva < section.range.start);
        if is_header(self.facts.new) && is_header(self.facts.old) && found == self.process.in_image(rva) {
            return Ok(Vec::new());
        }
        Err(format!("{} of the image's headers", listing::describe(self.facts.new, rva)))
    }

    /// An address of the process in words.
    pub fn describe(self, address: u64) -> String {
        match self.process.place(address) {
            Place::Image(rva) => format!("{} at {rva} of the old image", listing::describe(self.facts.old, rva)),
            Place::Region(offset) => {
                let functions = &self.facts.payload.functions;
                let holder =
                    functions.iter().find(|f| offset.checked_sub(f.offset).is_some_and(|inside| inside < f.size));
                let name = holder.map_or(String::new(), |f| format!(" ({}+{:#x})", f.name, offset - f.offset));
                format!("region offset {offset:#x}{name}")
            }
            Place::Elsewhere => "an address outside image and region".to_owned(),
        }
    }
}

fn sign(number: i64) -> char {
    if number < 0 { '-' } else { '+' }
}

/// Bytes of a constant that must be equal. Where no type gives its size, it may end in padding: zeros that reach beyond the old
/// constant at the other place do not count.
fn constant_extent(new: &Program, atom: &Atom, old: &Atom, is_own: bool) -> u32 {
    if let Some(text) = listing::text_constant(new, atom) {
        return u32::try_from(text.len()).map_or(atom.size, |length| length.saturating_add(1));
    }
    if atom.is_sized || !is_own || old.size >= atom.size {
        return atom.size;
    }
    let bytes = new.image.bytes_up_to(atom.rva..atom.end());
    let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u32 + 1);
    let fields = new.data_fields(atom, atom.size);
    let last_field = fields.last().map_or(0, |field| field.offset.saturating_add(field.kind.width()));
    last.max(last_field).max(old.size).min(atom.size)
}
