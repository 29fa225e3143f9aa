//! Functions that link-time optimisation put among others and that can show no types themselves, since they take nothing and keep nothing: whether
//! what they do with objects was compiled with types, the source files of their instructions show.
//!
//! An instruction that reaches memory is known where it was inlined from a function that shows its types there, or where its source file has another
//! function that shows types. A header can be compiled with types in one file and without in another: it shows nothing of its functions. And nothing
//! counts where any function of all that were merged takes something and does not show what, since some file has no types then. What stays open are
//! source files that are compiled twice, and functions without any debug information that were inlined.

use std::collections::BTreeSet;
use std::path::Path;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::atoms::{Atom, AtomIndex};
use crate::lines::Lines;
use crate::pairing::indexed;
use crate::program::Program;
use crate::rva::Rva;
use crate::symbols::ModuleIndex;
use crate::type_information::TypeInformation;

/// Those of some functions whose instructions are all known to have been compiled with types. Not rustc's: it says of all functions that they take
/// nothing, where it leaves types out.
pub(crate) fn functions_of(program: &Program, types: &TypeInformation, functions: &[AtomIndex]) -> BTreeSet<Rva> {
    let is_bare = |index: &AtomIndex| program.atom(*index).is_some_and(|atom| types.has_nothing_to_show(atom));
    let bare: Vec<AtomIndex> = functions.iter().copied().filter(is_bare).collect();
    let modules: BTreeSet<ModuleIndex> = bare.iter().filter_map(|index| program.atom(*index)?.module).collect();
    let is_uniform = |module: &ModuleIndex| {
        types.is_merged(program, *module) && !types.is_rust(*module) && !types.hides_parameters(*module)
    };
    let modules: BTreeSet<ModuleIndex> = modules.into_iter().filter(is_uniform).collect();
    if modules.is_empty() {
        return BTreeSet::new();
    }
    let is_in = |atom: &Atom| atom.module.is_some_and(|module| modules.contains(&module));
    let merged: Vec<_> = indexed(program).filter(|(_, atom)| atom.is_function() && is_in(atom)).collect();
    let lines = Lines::of(program, merged.iter().map(|(index, _)| *index));
    let source = |atom: &Atom| Some(lines.at(atom.rva).pop()?.source?.file);
    let shown = merged.iter().map(|(_, atom)| *atom).filter(|atom| types.shows_types(atom));
    let typed = shown.filter_map(source).filter(|file| is_of_one_unit(file)).collect();
    let known = bare.into_iter().filter_map(|index| {
        let atom = program.atom(index).filter(|atom| is_in(atom))?;
        is_typed(program, (index, atom), &lines, &typed)?.then_some(atom.rva)
    });
    known.collect()
}

/// Whether all instructions of a function that reach memory are known to have been compiled with types.
fn is_typed(
    program: &Program,
    (index, atom): (AtomIndex, &Atom),
    lines: &Lines,
    typed: &BTreeSet<String>,
) -> Option<bool> {
    let function = program.function(index)?;
    for number in 0..function.code.instructions.len() {
        let instruction = program.instruction(atom, function, number)?;
        if !reaches_memory(&instruction) {
            continue;
        }
        let innermost = lines.at(Rva(u32::try_from(instruction.ip()).ok()?)).into_iter().next()?;
        if !innermost.has_locals && !typed.contains(&innermost.source?.file) {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether an instruction reaches, or makes an address of, what is not on the stack.
fn reaches_memory(instruction: &Instruction) -> bool {
    let mut operands = (0..instruction.op_count()).map(|operand| instruction.op_kind(operand));
    let is_other = instruction.memory_base() != Register::RSP && instruction.mnemonic() != Mnemonic::Nop;
    instruction.is_string_instruction() || operands.any(|kind| kind == OpKind::Memory) && is_other
}

/// Whether a source file is one that compilers are given, and no header.
fn is_of_one_unit(file: &str) -> bool {
    const ENDINGS: [&str; 7] = ["c", "cc", "cpp", "cxx", "c++", "m", "mm"];
    let ending = Path::new(file).extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}
