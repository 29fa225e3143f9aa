//! Numbers in names that compilers give in the order in which things stand in their function: to lambdas, to blocks with variables, to
//! variables of one name, to what says whether a variable of a block is constructed. A fix that adds or removes one before another gives the other
//! one's number to it, so these numbers say which thing is meant within one build only.

use std::borrow::Cow;

use crate::atoms::Name;
use crate::mangling::without_build_parts;

/// A name without what another build may give to another thing: numbers by order, hashes, counters.
pub(crate) fn stable_name(name: &str) -> Cow<'_, str> {
    let name = without_ordinals(name);
    match without_build_parts(&name) {
        Some(short) => Cow::Owned(short),
        None => name,
    }
}

/// A name without the numbers that tell things of one function apart by their order.
pub(crate) fn without_ordinals(name: &str) -> Cow<'_, str> {
    let mut short = Cow::Borrowed(name);
    // Names that the debug information has: of clang and Microsoft's compiler, of rustc.
    for marker in ["<lambda_", "<lambda", "closure$", "closure#", "closure_env$", "async_fn$", "async_block$", IMPL] {
        remove(&mut short, marker, behind_number);
    }
    if name.starts_with("_Z") {
        // Itanium C++ ABI, 5.1.6 and 5.1.8: closure types `Ul…E0_`, unnamed types `Ut0_`.
        if name.contains("Ul") {
            remove(&mut short, "E", |tail| Some(without_digits(tail)).filter(|rest| rest.starts_with('_')));
        }
        remove(&mut short, "Ut", |tail| Some(without_digits(tail)).filter(|rest| rest.starts_with('_')));
        remove_discriminator(&mut short);
    } else if name.starts_with('?') {
        remove(&mut short, "@?", |tail| behind_block_number(tail).filter(|rest| rest.starts_with("??")));
    }
    if is_guard(name) {
        for prefix in GUARDS {
            remove(&mut short, prefix, |tail| Some(without_digits(tail)));
        }
    }
    short
}

/// A name in rustc's debug information without the numbers of `impl` blocks, which linkage names do not have: these name the type.
pub(crate) fn without_impl_numbers(name: &str) -> Cow<'_, str> {
    let mut short = Cow::Borrowed(name);
    remove(&mut short, IMPL, behind_number);
    short
}

/// What rustc calls `impl` blocks in debug information, before their number in the module.
const IMPL: &str = "impl$";

/// What guards are called, before their number.
const GUARDS: [&str; 2] = ["$TSS", "$S"];

/// A variable that says which variables of a function's blocks are constructed (Microsoft's C++ ABI): it is named by its number alone.
pub(crate) fn is_guard(name: &str) -> bool {
    let name = name.strip_prefix('?').unwrap_or(name);
    GUARDS.iter().filter_map(|prefix| name.strip_prefix(prefix)).any(|number| {
        let rest = without_digits(number);
        rest.len() < number.len() && (rest.is_empty() || rest.starts_with('@'))
    })
}

/// The function in whose blocks the variable of a linkage name stands (Microsoft's C++ ABI).
pub(crate) fn function_around(name: &str) -> Option<&str> {
    let (_, rest) = name.strip_prefix('?')?.split_once("@?")?;
    let function = behind_block_number(rest)?.strip_prefix("??")?;
    // What follows the function is the storage class 4, of a variable in a block, and the type.
    function.rsplit_once("@4").map(|(function, _)| function)
}

/// The function that a variable of a block belongs to.
pub(crate) fn surroundings(name: &Name) -> Option<&str> {
    function_around(&name.key).or_else(|| name.local.as_ref()?.scope.as_deref())
}

/// Microsoft's number of a block, behind `@?`: a digit, or hexadecimal in the letters A to P up to an `@`.
fn behind_block_number(tail: &str) -> Option<&str> {
    tail.strip_prefix(|c: char| c.is_ascii_digit()).or_else(|| {
        let rest = tail.trim_start_matches(|c: char| ('A'..='P').contains(&c));
        rest.strip_prefix('@').filter(|_| rest.len() < tail.len())
    })
}

fn behind_number(tail: &str) -> Option<&str> {
    Some(without_digits(tail)).filter(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn without_digits(tail: &str) -> &str {
    tail.trim_start_matches(|c: char| c.is_ascii_digit())
}

/// Leaves out what `behind` steps over, behind each `marker`.
fn remove(name: &mut Cow<'_, str>, marker: &str, behind: impl Fn(&str) -> Option<&str>) {
    if !name.contains(marker) {
        return;
    }
    let mut short = String::with_capacity(name.len());
    let mut rest = name.as_ref();
    while let Some(at) = rest.find(marker) {
        let (before, tail) = rest.split_at(at + marker.len());
        short.push_str(before);
        rest = behind(tail).unwrap_or(tail);
    }
    short.push_str(rest);
    if short.len() < name.len() {
        *name = Cow::Owned(short);
    }
}

/// Itanium C++ ABI, 5.1.6: `_3` or `__12_` behind what stands in a function, from the second of its name on.
fn remove_discriminator(name: &mut Cow<'_, str>) {
    let is_local = ["_ZZ", "_ZGVZ", "_ZTVZ", "_ZTIZ", "_ZTSZ"].iter().any(|prefix| name.starts_with(prefix));
    let inner = name.strip_suffix('_').unwrap_or(name);
    let before = inner.trim_end_matches(|c: char| c.is_ascii_digit());
    if is_local
        && before.len() < inner.len()
        && let Some(short) = before.strip_suffix("__").or_else(|| before.strip_suffix('_'))
    {
        *name = Cow::Owned(short.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::{function_around, is_guard, stable_name};

    #[test]
    fn numbers_by_order_are_left_out() {
        let cases = [
            ("setup::<lambda_1>::__invoke", "setup::<lambda_>::__invoke"),
            ("setup::<lambda0>::__invoke", "setup::<lambda>::__invoke"),
            ("app::main::closure$12", "app::main::closure$"),
            ("app::impl$3::next", "app::impl$::next"),
            ("app::run::closure$0::closure$3<u32>", "app::run::closure$::closure$<u32>"),
            ("_ZZ6isetupvENUliE1_8__invokeEi", "_ZZ6isetupvENUliE_8__invokeEi"),
            ("_ZZ1fvE5count_0", "_ZZ1fvE5count"),
            ("_ZZ1fvE5count__12_", "_ZZ1fvE5count"),
            ("_ZGVZ1fvE5count_3", "_ZGVZ1fvE5count"),
            ("?calls@?4??g@@YAHH@Z@4HA", "?calls@???g@@YAHH@Z@4HA"),
            ("?calls@?BA@??g@@YAHH@Z@4HA", "?calls@???g@@YAHH@Z@4HA"),
            ("?$TSS1@?5??g@@YAHH@Z@4HA", "?$TSS@???g@@YAHH@Z@4HA"),
            ("$TSS0", "$TSS"),
            ("$S12", "$S"),
        ];
        for (name, short) in cases {
            assert_eq!(stable_name(name), short, "{name}");
        }
    }

    #[test]
    fn what_is_part_of_a_name_stays() {
        for name in
            ["version_2", "_Z3fooi", "?f@@YAHH@Z", "lambda_1", "_ZN3foo5bar_0E", "closure12", "?x@@3HA", "$SIZE1"]
        {
            assert_eq!(stable_name(name), name);
        }
    }

    #[test]
    fn guards_and_the_functions_around() {
        for name in ["?$TSS0@?1??f@@YAHXZ@4HA", "?$S1@?1??f@@YAHXZ@4IA", "$TSS12", "$S1"] {
            assert!(is_guard(name), "{name}");
        }
        for name in ["?limit@?1??f@@YAHXZ@4HA", "$TSSize", "$S", "?$S1x@@3HA", "$SIZE"] {
            assert!(!is_guard(name), "{name}");
        }
        assert_eq!(function_around("?limit@?1??f@@YAHXZ@4UT@@A"), Some("f@@YAHXZ"));
        assert_eq!(function_around("?$TSS0@?BA@??f@@YAHXZ@4HA"), Some("f@@YAHXZ"));
        assert_eq!(function_around("?limit@@3HA"), None);
    }
}
