//! Linkage names without the parts that change from build to build though the function is the same: hashes, counters.

/// A name by which two builds of one function are recognised when their full names differ. None where nothing in the name can vary.
pub(crate) fn without_build_parts(name: &str) -> Option<String> {
    let short = strip_counters(&strip_rust_hashes(name));
    let short = replace_runs(&short, "<lambda_", is_hex, 32);
    let short = replace_runs(&short, "?A0x", is_hex, 8);
    (short != name).then_some(short)
}

/// A name that LLVM gives to a constant without one so that other units can see it: `anon.`, a digest of the unit, and a number that counts
/// the unit's constants. In another build, another constant can have it.
pub(crate) fn is_numbered_constant(name: &str) -> bool {
    let Some((digest, number)) = name.strip_prefix("anon.").and_then(|rest| rest.split_once('.')) else { return false };
    let number = number.split_once(".llvm.").map_or(number, |(number, _)| number);
    digest.len() == 32 && digest.chars().all(is_hex) && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}

fn is_hex(c: char) -> bool {
    c.is_ascii_hexdigit()
}

/// Rust: the legacy scheme's `17h` and sixteen digits before the final `E`; the crate disambiguators `Cs…_` of scheme v0
/// ("Symbol mangling v0", RFC 2603), which hash the crate's version and metadata.
fn strip_rust_hashes(name: &str) -> String {
    if let Some(start) = name.strip_suffix('E').and_then(|rest| rest.len().checked_sub(19))
        && name.is_char_boundary(start)
        && let Some(hash) = name.get(start..name.len() - 1).and_then(|tail| tail.strip_prefix("17h"))
        && hash.chars().all(is_hex)
    {
        return format!("{}E", &name[..start]);
    }
    if !name.starts_with("_R") {
        return name.to_owned();
    }
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("Cs") {
        let (before, tail) = rest.split_at(at);
        short.push_str(before);
        let digits = tail[2..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(tail.len() - 2);
        // A crate's disambiguator is a 64-bit hash in base 62 that ends with `_`; anything else is part of an identifier.
        if tail[2 + digits..].starts_with('_') && digits >= 8 {
            short.push_str("C_");
            rest = &tail[2 + digits + 1..];
        } else {
            short.push_str("Cs");
            rest = &tail[2..];
        }
    }
    short.push_str(rest);
    short
}

/// Suffixes that compilers number: `.llvm.123`, `.isra.0`, `.constprop.1`, `.part.2`, `.123`; and `$S1`, `$LN7` of Microsoft's.
fn strip_counters(name: &str) -> String {
    let mut short = name;
    while let Some((before, digits)) = short.rsplit_once('.') {
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
            break;
        }
        short = before.strip_suffix(".llvm").unwrap_or(before);
    }
    for prefix in ["$S", "$LN"] {
        if let Some(digits) = short.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_ascii_digit())
        {
            return prefix.to_owned();
        }
    }
    short.to_owned()
}

/// Leaves out the digits behind each `marker`, where there are exactly `count` of them.
fn replace_runs(name: &str, marker: &str, is_digit: fn(char) -> bool, count: usize) -> String {
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(marker) {
        let (before, tail) = rest.split_at(at + marker.len());
        short.push_str(before);
        let run = tail.chars().take_while(|c| is_digit(*c)).count();
        rest = if run == count { tail.get(run..).unwrap_or("") } else { tail };
    }
    short.push_str(rest);
    short
}

/// Whether a linkage name is that of a constructor or destructor (Microsoft's C++ ABI: `??0`, `??1`; Itanium C++ ABI 5.1.4.3: `C1`, `D1` and so on
/// behind the class in a nested name). Of classes in templates and functions it is not told.
pub(crate) fn constructs_or_destroys(name: &str) -> bool {
    if name.starts_with("??0") || name.starts_with("??1") {
        return true;
    }
    let Some(mut rest) = name.strip_prefix("_ZN") else { return false };
    while let Some(length) = rest.find(|c: char| !c.is_ascii_digit()).filter(|length| *length > 0) {
        let (length, tail) = rest.split_at(length);
        let Some(behind) = length.parse().ok().and_then(|length: usize| tail.get(length..)) else { return false };
        rest = behind;
        let mut next = rest.chars();
        if matches!(next.next(), Some('C' | 'D')) && next.next().is_some_and(|c| c.is_ascii_digit()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{constructs_or_destroys, is_numbered_constant, without_build_parts};

    #[test]
    fn parts_that_vary_are_left_out() {
        let cases = [
            ("_ZN4core3fmt5write17h0123456789abcdefE", "_ZN4core3fmt5writeE"),
            ("_RNvCs8icZUrvfcq9_4core5panic", "_RNvC_4core5panic"),
            ("_RNvNtCs1f2BdUxKfgg_5alloc4syncCs8icZUrvfcq9_4core", "_RNvNtC_5alloc4syncC_4core"),
            ("parse.llvm.1234567", "parse"),
            ("walk.isra.0", "walk.isra"),
            ("??R<lambda_03ec0e3e2a4187754bc7c97d0c48b30a>@@QEBA@XZ", "??R<lambda_>@@QEBA@XZ"),
            ("?f@?A0x1234abcd@@YAXXZ", "?f@?A0x@@YAXXZ"),
            ("$S12", "$S"),
        ];
        for (name, short) in cases {
            assert_eq!(without_build_parts(name).as_deref(), Some(short), "{name}");
        }
    }

    #[test]
    fn numbers_of_constants_are_no_names() {
        assert!(is_numbered_constant("anon.13afb782faeed1d492c348f692db73e9.1"));
        assert!(is_numbered_constant("anon.13afb782faeed1d492c348f692db73e9.12.llvm.2206140648287999139"));
        for name in ["anon.13afb782faeed1d492c348f692db73e9", "anon.13afb782.1", "anon.x.1", "anonymous.1"] {
            assert!(!is_numbered_constant(name), "{name}");
        }
    }

    #[test]
    fn other_names_have_nothing_to_leave_out() {
        for name in ["main", "_ZN3foo3barEv", "?f@@YAXXZ", "version1.2beta", "_RNvCshort_x", "Csomething_"] {
            assert_eq!(without_build_parts(name), None, "{name}");
        }
    }

    #[test]
    fn constructors_and_destructors() {
        for name in ["_ZN7CounterC2Ei", "_ZN3abc1DD1Ev", "??0Counter@@QEAA@I@Z", "??1T@@QEAA@XZ"] {
            assert!(constructs_or_destroys(name), "{name}");
        }
        for name in [
            "_ZN3log3logEPKc",
            "_ZN7CounterC",
            "_ZN99CounterC1Ev",
            "_Z2C1i",
            "_ZN2C12D1Ev",
            "?f@@YAXXZ",
            "??2@YAPEAX_K@Z",
        ] {
            assert!(!constructs_or_destroys(name), "{name}");
        }
    }
}
