//! Instructions as text, with names in place of addresses.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter, Instruction, MasmFormatter, MemorySize, Mnemonic, SymbolResolver,
    SymbolResult,
};

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::program::{Location, Program};
use crate::rva::{Rva, span};
use crate::whole_texts;
use crate::x64::{Reference, ReferenceKind};

/// The instruction at an offset of a function, in Intel syntax with symbolic operands.
pub fn instruction(program: &Program, function: AtomIndex, offset: u32) -> String {
    let text = || {
        let atom = program.atom(function)?;
        let start = atom.rva.checked_add(offset)?;
        let bytes = program.image.bytes_up_to(start..atom.end());
        let mut decoder = Decoder::with_ip(64, bytes, u64::from(start.0), DecoderOptions::NONE);
        Some(format(program, function, &decoder.decode()))
    };
    text().unwrap_or_else(|| "?".to_owned())
}

fn format(program: &Program, function: AtomIndex, instruction: &Instruction) -> String {
    format_with(instruction, named_operands(program, function, instruction, &[], Naming::Shown))
}

/// What names are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// To be read.
    Shown,
    /// To recognise the same instruction in another build: free of addresses.
    Compared,
}

/// An instruction in Intel syntax, with names in place of some values.
pub(crate) fn format_with(instruction: &Instruction, names: Vec<(u64, String)>) -> String {
    let mut text = String::new();
    formatter(Box::new(Names(names))).format(instruction, &mut text);
    text
}

/// Intel syntax as all of hpgen's listings have it; the resolver says what stands in place of values.
pub fn formatter(names: Box<dyn SymbolResolver>) -> MasmFormatter {
    let mut formatter = MasmFormatter::with_options(Some(names), None);
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_space_after_operand_separator(true);
    options.set_rip_relative_addresses(false);
    options.set_show_branch_size(false);
    formatter
}

/// The values in an instruction that stand for something with a name, looked up beforehand: a resolver must own what it gives.
pub(crate) fn named_operands(
    program: &Program,
    function: AtomIndex,
    instruction: &Instruction,
    references: &[Reference],
    naming: Naming,
) -> Vec<(u64, String)> {
    let start = program.atom(function).map_or(Rva(0), |atom| atom.rva);
    let own = program.atom(function).map(|atom| atom.rva..atom.end()).unwrap_or_default();
    let mut names = Vec::new();
    let addresses = [
        instruction.is_ip_rel_memory_operand().then(|| instruction.ip_rel_memory_address()),
        Some(instruction.near_branch_target()).filter(|target| *target != 0),
    ];
    for address in addresses.into_iter().flatten() {
        let Ok(rva) = u32::try_from(address).map(Rva) else { continue };
        // Places inside the function read as distances from its start.
        let name = match naming {
            Naming::Shown if own.contains(&rva) => format!("+{:#x}", rva.0 - own.start.0),
            Naming::Compared if own.contains(&rva) => "+".to_owned(),
            _ => small_constant(program, rva, instruction).unwrap_or_else(|| named(program, rva, naming)),
        };
        names.push((address, name));
    }
    // Addresses in displacements and immediates, which only the function as a whole shows to be addresses.
    for reference in references {
        let Some(field) = start.checked_add(reference.field) else { continue };
        let value = match reference.kind {
            ReferenceKind::ImageRelative | ReferenceKind::ThreadLocal => {
                program.image.u32_at(field).map(|value| i64::from(value.cast_signed()).cast_unsigned())
            }
            ReferenceKind::Absolute => program.image.u64_at(field),
            _ => None,
        };
        names.extend(value.map(|value| (value, named(program, reference.target, naming))));
    }
    names
}

/// An address by name; without the address itself where names are compared.
fn named(program: &Program, rva: Rva, naming: Naming) -> String {
    if naming == Naming::Compared
        && let Location::Atom { atom, offset } = program.locate(rva)
        && let Some(atom) = program.atom(atom)
        && atom.names.is_empty()
        && atom.kind != AtomKind::ImportSlot
        && text_constant(program, atom).is_none()
    {
        let kind = if atom.is_function() { "function" } else { "data" };
        return format!("{kind}+{offset:#x}");
    }
    describe(program, rva)
}

/// The value of a constant without a name that an instruction reads.
fn small_constant(program: &Program, rva: Rva, instruction: &Instruction) -> Option<String> {
    let size = instruction.memory_size();
    let Location::Atom { atom, .. } = program.locate(rva) else { return None };
    let atom = program.atom(atom)?;
    let is_readable = atom.kind == AtomKind::ReadOnly && atom.names.iter().all(|n| n.key.starts_with("__real@"));
    if !is_readable || instruction.mnemonic() == Mnemonic::Lea || instruction.flow_control() != FlowControl::Next {
        return None;
    }
    let width = u32::try_from(size.size()).ok().filter(|width| (1..=16).contains(width))?;
    let range = span(rva, width);
    let bytes = program.image.bytes_up_to(range.clone());
    if bytes.len() != width as usize || !program.image.base_relocations_in(range).is_empty() {
        return None;
    }
    match (size, bytes) {
        (MemorySize::Float32, &[a, b, c, d]) => Some(format!("{{{:?}}}", f32::from_le_bytes([a, b, c, d]))),
        (MemorySize::Float64, bytes) => Some(format!("{{{:?}}}", f64::from_le_bytes(bytes.try_into().ok()?))),
        _ => {
            let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
            let digits = digits.trim_start_matches('0');
            Some(format!("{{0x{}}}", if digits.is_empty() { "0" } else { digits }))
        }
    }
}

/// An address as a name with an offset.
pub fn describe(program: &Program, rva: Rva) -> String {
    match program.locate(rva) {
        Location::Atom { atom, offset } => {
            let Some(atom) = program.atom(atom) else {
                return rva.to_string();
            };
            if let Some(text) = text_constant(program, atom).and_then(|text| text.get(offset as usize..)) {
                return quote(text);
            }
            let name = program.display(atom);
            if offset == 0 { name } else { format!("{name}+{offset:#x}") }
        }
        Location::Headers(Rva(0)) => "__ImageBase".to_owned(),
        Location::Headers(rva) => format!("headers+{rva}"),
        Location::Nowhere => rva.to_string(),
    }
}

/// Longest piece of a string constant that is shown.
const SHOWN: usize = 40;

/// A constant that is nothing but text and its terminating zeros: a string without a name, or with the name that Microsoft's
/// ABI gives to strings.
pub fn text_constant<'p>(program: &'p Program, atom: &Atom) -> Option<&'p str> {
    let is_literal = atom.names.iter().all(|name| name.key.starts_with("??_C@"));
    if atom.kind != AtomKind::ReadOnly || !is_literal {
        return None;
    }
    let bytes = program.image.bytes_up_to(atom.rva..atom.end());
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at(end);
    let text = std::str::from_utf8(text).ok()?;
    let is_text = end >= 1 && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace() || c == '\u{1b}');
    (is_text && rest.iter().all(|byte| *byte == 0)).then_some(text)
}

/// What a literal holds from a place in it to its end: one that is named as such, or a text without a name up to its zero. Texts in UTF-16 and
/// those without a zero count, too.
pub fn text_from(program: &Program, index: AtomIndex, offset: u32) -> Option<&[u8]> {
    let atom = program.atom(index).filter(|atom| atom.kind == AtomKind::ReadOnly)?;
    let bytes = program.image.bytes_up_to(atom.rva..atom.end());
    let is_literal = !atom.names.is_empty() && atom.names.iter().all(|name| name.key.starts_with(whole_texts::LITERAL));
    let length = match is_literal {
        true => bytes.len(),
        false if atom.names.is_empty() => whole_texts::length(atom.rva, bytes),
        false => return None,
    };
    let (text, rest) = bytes.split_at_checked(length)?;
    let is_all =
        rest.iter().all(|byte| *byte == 0) && program.image.base_relocations_in(atom.rva..atom.end()).is_empty();
    text.get(usize::try_from(offset).ok()?..).filter(|text| is_all && !text.is_empty())
}

/// Whether an address says which object is meant by itself: the start of one, or a place in a literal or in a constant without a name that has a section
/// of its own. Another one is the start of nothing, and may count from an object nearby.
pub fn is_place_of_its_own(program: &Program, target: Rva) -> bool {
    let Location::Atom { atom, offset } = program.locate(target) else { return false };
    let is_inside = |known: &Atom| {
        known.kind == AtomKind::ReadOnly && known.names.is_empty() && known.is_sized && offset < known.size
    };
    offset == 0 || text_from(program, atom, offset).is_some() || program.atom(atom).is_some_and(is_inside)
}

/// A string in quotes, cut off where it is long.
pub fn quote(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    format!("{shown:?}{rest}")
}

struct Names(Vec<(u64, String)>);

impl SymbolResolver for Names {
    fn symbol(&mut self, _: &Instruction, _: u32, _: Option<u32>, address: u64, _: u32) -> Option<SymbolResult<'_>> {
        let (_, name) = self.0.iter().find(|(known, _)| *known == address)?;
        Some(SymbolResult::with_str(address, name))
    }
}
