//! Closures of Rust: what they captured lies on the stack of the function that makes them, or where that function puts it.

use crate::ordinals::stable_name;
use crate::program::Program;

/// How rustc names the type of what a closure captured, in a type's key.
const CAPTURES: &str = "closure_env$";

/// Whether a type is what a closure captured, and nothing of a running process can hand one of the old layout to code that is patched:
/// it has no table of virtual functions by which a box of it is called, and no function of its own or made for it.
pub(crate) fn is_inlined_closure(program: &Program, key: &str) -> bool {
    if !key.contains(CAPTURES) {
        return false;
    }
    let body = key.replace(CAPTURES, "closure$");
    let names_it = |name: &str| {
        name.contains("closure") && {
            let name = stable_name(name);
            name.contains(key) || name.contains(&body)
        }
    };
    let symbols = &program.symbols;
    !symbols.procedures.iter().any(|p| names_it(&p.name)) && !symbols.variables.iter().any(|v| names_it(&v.name))
}
