//! Which call throws what the payload describes: the address of a `ThrowInfo` goes into RDX and from there into `_CxxThrowException`, and nowhere
//! else. Whoever else were given it (`std::make_exception_ptr` passes it to the runtime) would look for the module that contains it, and a
//! region is in none.

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::image::{Import, ImportedSymbol};
use hpgen_diff::program::{Function, Location, Program};
use hpgen_diff::rtti;
use hpgen_diff::x64::{Reference, ReferenceKind};
use iced_x86::{FlowControl, InstructionInfoFactory, Mnemonic, Register};

use crate::plan::{Destination, Plan};

/// Instructions between the address and the call, jumps included.
const LONGEST_WAY: usize = 64;

/// How `RaiseException` is imported.
pub(crate) fn raise_exception() -> Import {
    Import { dll: "kernel32.dll".to_owned(), symbol: ImportedSymbol::Name("RaiseException".to_owned()) }
}

/// A call that throws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThrowingCall {
    /// Index among the function's references.
    pub reference: usize,
    /// What is called.
    pub callee: AtomIndex,
}

/// The call that the address which `reference` takes is passed to.
///
/// # Errors
/// Says what else could happen to the address.
pub(crate) fn throwing_call(
    new: &Program,
    atom: &Atom,
    function: &Function,
    reference: &Reference,
) -> Result<ThrowingCall, String> {
    let doubt = |offset: u32, what: &str| Err(format!("throws a new type, but {what} at +{offset:#x}"));
    let at = reference.instruction as usize;
    let place = |index: usize| function.code.instructions.get(index).map_or(0, |known| known.offset);
    let first = new.instruction(atom, function, at);
    let is_argument = reference.kind == ReferenceKind::Address
        && first.is_some_and(|i| i.mnemonic() == Mnemonic::Lea && i.op0_register() == Register::RDX);
    if !is_argument {
        return doubt(place(at), "its description is not loaded as the argument of a throw");
    }
    let mut info = InstructionInfoFactory::new();
    let mut next = at + 1;
    for _ in 0..LONGEST_WAY {
        let Some(instruction) = new.instruction(atom, function, next) else { break };
        if let Some(call) = call_at(new, function, next) {
            return Ok(call);
        }
        let touches = info.info(&instruction).used_registers().iter();
        if touches.map(|used| used.register().full_register()).any(|register| register == Register::RDX) {
            return doubt(place(next), "its description is used otherwise");
        }
        next = match instruction.flow_control() {
            FlowControl::Next => next + 1,
            FlowControl::UnconditionalBranch => {
                let target = instruction.near_branch_target().checked_sub(atom.rva.0.into());
                let target = target.and_then(|offset| u32::try_from(offset).ok());
                match target.and_then(|offset| function.code.instruction_at(offset)) {
                    Some(target) => target,
                    None => return doubt(place(next), "it leaves the function with its description"),
                }
            }
            _ => return doubt(place(next), "it branches or calls otherwise"),
        };
    }
    doubt(place(at), "no call of the throwing function follows")
}

/// What a C++ program in the Itanium ABI calls to throw: the object goes with the addresses of its type's `type_info` and destructor.
const ITANIUM_THROW: &str = "__cxa_throw";

/// Whether an object that is thrown may hold addresses of the region: of a type or a destructor that only the payload has.
pub(crate) fn outlive_the_call(new: &Program, plan: &Plan) -> bool {
    let carries_type = plan.data.keys().filter_map(|index| new.atom(*index)).any(is_itanium_type);
    plan.functions.iter().any(|(index, planned)| {
        let is_new_function =
            |to: &Destination| matches!(to, Destination::Region(to, 0) if plan.functions.contains_key(to));
        let passes_function = || {
            new.function(*index).is_some_and(|function| {
                let mut references = function.code.references.iter().zip(&planned.references);
                references.any(|(reference, to)| !reference.kind.is_branch() && is_new_function(to))
            })
        };
        let throws =
            |function: &Function| function.code.references.iter().any(|r| new.names_one_of(r, &[ITANIUM_THROW]));
        new.function(*index).is_some_and(throws) && (carries_type || passes_function())
    })
}

fn is_itanium_type(atom: &Atom) -> bool {
    atom.names.iter().any(|name| name.key.starts_with("_ZTI"))
}

/// The call of the throwing function that an instruction is.
fn call_at(new: &Program, function: &Function, index: usize) -> Option<ThrowingCall> {
    let references = function.code.references.iter().enumerate();
    let mut own = references.filter(|(_, r)| r.instruction as usize == index);
    let (reference, branch) = own.find(|(_, r)| matches!(r.kind, ReferenceKind::Call | ReferenceKind::Jump))?;
    let Location::Atom { atom: callee, offset: 0 } = new.locate(branch.target) else { return None };
    throws(new, callee).then_some(ThrowingCall { reference, callee })
}

/// The throwing function itself, or a thunk of it.
fn throws(new: &Program, index: AtomIndex) -> bool {
    let Some(function) = new.function(index) else { return false };
    let is_named = |atom: &Atom| atom.names.iter().any(|name| name.key == rtti::THROW_FUNCTION);
    let leads_to_import = || match (function.code.references.as_slice(), function.code.instructions.len()) {
        ([only], 1) if only.kind == ReferenceKind::Access => new.names_one_of(only, &[rtti::THROW_FUNCTION]),
        _ => false,
    };
    new.atom(index).is_some_and(is_named) || leads_to_import()
}
