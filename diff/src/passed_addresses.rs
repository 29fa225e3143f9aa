//! Addresses that a function takes and passes on to another one, which can only take them for that of an object: a guard, an object to construct, a
//! text. Nothing is at an end, so that none of these is one.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register};

use crate::image::{ImportSlot, ImportedSymbol};
use crate::mangling::constructs_or_destroys;
use crate::program::{Function, Location, Program};
use crate::rva::{Rva, span};
use crate::static_guards::takes_guard;
use crate::x64::{Reference, ReferenceKind};

/// Instructions between the address and the call, on the one way that leads from it.
const LONGEST_WAY: usize = 8;

/// Where arguments are (x64 calling convention).
const ARGUMENTS: [Register; 4] = [Register::RCX, Register::RDX, Register::R8, Register::R9];

/// Functions of the C runtimes with those of their arguments, counted from 0, at which they read or write whatever the others are.
const READ_AT: [(&str, &[usize]); 48] = [
    ("_assert", &[0, 1]),
    ("_wassert", &[0, 1]),
    ("_stricmp", &[0, 1]),
    ("_strdup", &[0]),
    ("_wfopen", &[0, 1]),
    ("__mingw_fprintf", &[1]),
    ("__mingw_printf", &[0]),
    ("__mingw_snprintf", &[2]),
    ("__mingw_sprintf", &[1]),
    ("__mingw_sscanf", &[0, 1]),
    ("__mingw_vfprintf", &[1]),
    ("__mingw_vsnprintf", &[2]),
    ("atof", &[0]),
    ("atoi", &[0]),
    ("atol", &[0]),
    ("fopen", &[0, 1]),
    ("fprintf", &[1]),
    ("fputs", &[0]),
    ("getenv", &[0]),
    ("printf", &[0]),
    ("puts", &[0]),
    ("remove", &[0]),
    ("rename", &[0, 1]),
    ("snprintf", &[2]),
    ("sprintf", &[0, 1]),
    ("sscanf", &[0, 1]),
    ("strcat", &[0, 1]),
    ("strchr", &[0]),
    ("strcmp", &[0, 1]),
    ("strcpy", &[0, 1]),
    ("strcspn", &[0, 1]),
    ("strdup", &[0]),
    ("strlen", &[0]),
    ("strpbrk", &[0, 1]),
    ("strrchr", &[0]),
    ("strspn", &[0, 1]),
    ("strstr", &[0, 1]),
    ("strtod", &[0]),
    ("strtol", &[0]),
    ("strtoul", &[0]),
    ("vfprintf", &[1]),
    ("vprintf", &[0]),
    ("vsnprintf", &[2]),
    ("vsprintf", &[0, 1]),
    ("wcscmp", &[0, 1]),
    ("wcscpy", &[0, 1]),
    ("wcslen", &[0]),
    ("wprintf", &[0]),
];

/// Whether a reference takes an address, and passes it on as that of an object: it is the start of that, and the end of nothing.
pub fn passes_object(program: &Program, function: &Function, reference: &Reference) -> bool {
    let Some(Passed { call, argument }) = passed(program, function, reference) else { return false };
    let reads = |callee: &Reference| {
        let mut known = READ_AT.iter().filter(|(_, arguments)| arguments.contains(&argument));
        known.any(|(name, _)| is_of_runtime(program, callee, name))
    };
    function
        .code
        .references_of(call)
        .iter()
        .any(|callee| argument == 0 && (takes_guard(program, callee) || takes_object(program, callee)) || reads(callee))
}

/// Whether a reference leads to the function that C runtimes have under a name. C reserves these names for them, where several files see the
/// function (C17 7.1.3): a static one, or another DLL's, can be anything. Static ones that print and scan are mingw-w64's, inline in its headers.
fn is_of_runtime(program: &Program, callee: &Reference, name: &str) -> bool {
    const INLINE: [&str; 2] = ["printf", "scanf"];
    let is_of_dll = |slot: &ImportSlot| {
        let is_meant = matches!(&slot.import.symbol, ImportedSymbol::Name(imported) if imported == name);
        is_meant.then(|| RUNTIMES.iter().any(|start| slot.import.dll.starts_with(start)))
    };
    if let Some(slot) = program.image.import_at(callee.target) {
        return is_of_dll(slot) == Some(true);
    }
    let Location::Atom { atom: index, offset: 0 } = program.locate(callee.target) else { return false };
    let named = program.atom(index).filter(|atom| atom.names.iter().any(|known| known.key == name));
    let (Some(atom), Some(function)) = (named, program.function(index)) else { return false };
    let procedures = &program.symbols.procedures;
    let own = procedures.iter().skip(procedures.partition_point(|procedure| procedure.rva < atom.rva));
    let is_static = own.take_while(|procedure| procedure.rva == atom.rva).any(|procedure| !procedure.is_global);
    // It may do nothing but lead to an import.
    let imports = function.code.references.iter().filter_map(|reference| program.image.import_at(reference.target));
    let is_elsewhere = imports.filter_map(is_of_dll).any(|is_of_runtime| !is_of_runtime);
    !is_elsewhere && (!is_static || INLINE.iter().any(|end| name.ends_with(end)))
}

/// DLLs of C runtimes begin so.
const RUNTIMES: [&str; 4] = ["msvcr", "ucrtbase", "vcruntime", "api-ms-win-crt-"];

/// Whether a reference leads to a constructor or destructor, and to nothing else that was folded with it.
fn takes_object(program: &Program, callee: &Reference) -> bool {
    let Location::Atom { atom: index, offset: 0 } = program.locate(callee.target) else { return false };
    let Some(atom) = program.atom(index).filter(|_| program.function(index).is_some()) else { return false };
    !atom.names.is_empty() && atom.names.iter().all(|name| constructs_or_destroys(&name.key))
}

/// A call that is given an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Index into the function's instructions.
    pub call: usize,
    /// As which argument, counted from 0.
    pub argument: usize,
}

/// The call that is given the address which a reference takes.
pub(crate) fn passed(program: &Program, function: &Function, reference: &Reference) -> Option<Passed> {
    let atom = program.atom(function.atom)?;
    let taken_by = reference.instruction as usize;
    let first = program.instruction(atom, function, taken_by)?;
    if reference.kind != ReferenceKind::Address || first.mnemonic() != Mnemonic::Lea {
        return None;
    }
    let mut holder = first.op0_register();
    let mut next = taken_by.checked_add(1)?;
    for _ in 0..LONGEST_WAY {
        let instruction = program.instruction(atom, function, next)?;
        match instruction.flow_control() {
            FlowControl::Next => {
                holder = holder_behind(&instruction, holder)?;
                next = next.checked_add(1)?;
            }
            FlowControl::UnconditionalBranch => {
                let target = Rva(u32::try_from(instruction.near_branch_target()).ok()?);
                let offset =
                    target.0.checked_sub(atom.rva.0).filter(|_| span(atom.rva, atom.size).contains(&target))?;
                next = function.code.instruction_at(offset)?;
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                let argument = ARGUMENTS.iter().position(|argument| *argument == holder)?;
                return Some(Passed { call: next, argument });
            }
            _ => return None,
        }
    }
    None
}

/// The register with the address behind an instruction: it may be copied to an argument, and nothing else may write it.
fn holder_behind(instruction: &Instruction, holder: Register) -> Option<Register> {
    let is_copy = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op1_register() == holder
        && ARGUMENTS.contains(&instruction.op0_register());
    if is_copy {
        return Some(instruction.op0_register());
    }
    let mut info = InstructionInfoFactory::new();
    let used = info.info(instruction).used_registers().iter();
    let mut touched = used.filter(|used| used.register().full_register() == holder);
    touched.all(|used| used.access() == OpAccess::Read).then_some(holder)
}
