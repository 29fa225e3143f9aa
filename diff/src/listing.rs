//! Instructions as text, with names in place of addresses.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, MasmFormatter, SymbolResolver, SymbolResult};

use crate::atoms::{Atom, AtomIndex, AtomKind};
use crate::program::{Location, Program};
use crate::rva::Rva;

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
    let range = program.atom(function).map(|atom| atom.rva..atom.end());
    let names = Names { program_names: NameTable::of(program, instruction), own: range };
    let mut formatter = MasmFormatter::with_options(Some(Box::new(names)), None);
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_space_after_operand_separator(true);
    options.set_rip_relative_addresses(false);
    options.set_show_branch_size(false);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

/// The names that one instruction can need, looked up beforehand: a resolver must own what it gives.
struct NameTable(Vec<(u64, String)>);

impl NameTable {
    fn of(program: &Program, instruction: &Instruction) -> NameTable {
        let addresses = [
            instruction.is_ip_rel_memory_operand().then(|| instruction.ip_rel_memory_address()),
            Some(instruction.near_branch_target()).filter(|target| *target != 0),
        ];
        let named = addresses.into_iter().flatten().filter_map(|address| {
            let rva = Rva(u32::try_from(address).ok()?);
            Some((address, describe(program, rva)))
        });
        NameTable(named.collect())
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

/// A string in quotes, cut off where it is long.
pub fn quote(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    format!("{shown:?}{rest}")
}

struct Names {
    program_names: NameTable,
    own: Option<std::ops::Range<Rva>>,
}

impl SymbolResolver for Names {
    fn symbol(&mut self, _: &Instruction, _: u32, _: Option<u32>, address: u64, _: u32) -> Option<SymbolResult<'_>> {
        // Branches inside the function read as distances from its start.
        if let Some(own) = &self.own
            && let Ok(rva) = u32::try_from(address)
            && own.contains(&Rva(rva))
        {
            return Some(SymbolResult::with_string(address, format!("+{:#x}", rva - own.start.0)));
        }
        let (_, name) = self.program_names.0.iter().find(|(known, _)| *known == address)?;
        Some(SymbolResult::with_str(address, name))
    }
}
