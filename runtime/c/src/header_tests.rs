//! The header says what the library does: a C compiler is given assertions made from the Rust side, about every function's type, every
//! record's fields and every number.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_void};
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::{Command, Stdio};

use runtime::{Follower, PatchState};
use xtask::toolchain;

use crate::answer::Code;
use crate::follower::*;
use crate::patcher::{self, *};
use crate::probation::*;
use crate::records::{Applied, Patch, Rollback, state_code};

const HEADER: &str = include_str!("../../include/hpgen_runtime.h");
const SOURCES: [&str; 3] = [include_str!("patcher.rs"), include_str!("follower.rs"), include_str!("probation.rs")];

/// How a type is written in C.
trait CType {
    const C: &str;
}

macro_rules! c_types {
    ($($rust:ty => $c:literal),* $(,)?) => { $(impl CType for $rust { const C: &str = $c; })* };
}

c_types! {
    () => "void", i32 => "int32_t", u32 => "uint32_t", usize => "size_t",
    *const c_char => "const char *", *mut c_char => "char *", *const u16 => "const wchar_t *", *const u8 => "const uint8_t *",
    *const c_void => "const void *", *mut usize => "size_t *",
    *const Handle => "const hpgen_patcher *", *mut Handle => "hpgen_patcher *", *mut *mut Handle => "hpgen_patcher **",
    *mut Patch => "hpgen_patch *", *mut Rollback => "hpgen_rolled_back *",
    *mut Applied => "hpgen_applied *", *mut Probation => "hpgen_probation *", *mut c_void => "void *",
    *const *const c_char => "const char *const *", *const Applied => "const hpgen_applied *",
    Option<Told> => "hpgen_told", *mut Follower => "hpgen_follower *", *mut *mut Follower => "hpgen_follower **",
}

/// The C type of a pointer to a function.
trait CFunction {
    fn c(self) -> String;
}

macro_rules! c_functions {
    ($(($($parameter:ident),*))*) => { $(c_functions!(@ [extern "C"] $($parameter),*); c_functions!(@ [unsafe extern "C"] $($parameter),*);)* };
    (@ [$($kind:tt)*] $($parameter:ident),*) => {
        impl<R: CType, $($parameter: CType),*> CFunction for $($kind)* fn($($parameter),*) -> R {
            fn c(self) -> String {
                let parameters: &[&str] = &[$($parameter::C),*];
                let parameters = if parameters.is_empty() { "void".to_owned() } else { parameters.join(", ") };
                format!("{} (*)({parameters})", R::C)
            }
        }
    };
}

c_functions! { () (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G, H) }

macro_rules! functions {
    ($($name:ident: fn($($parameter:ty),*) -> $result:ty;)*) => {
        vec![$((stringify!($name), ($name as unsafe extern "C" fn($($parameter),*) -> $result).c())),*]
    };
}

fn functions() -> Vec<(&'static str, String)> {
    let mut all = functions! {
        hpgen_patcher_open: fn(_, _) -> _;
        hpgen_patcher_close: fn(_) -> _;
        hpgen_trust: fn(_, _) -> _;
        hpgen_allow_unsigned: fn(_, _) -> _;
        hpgen_set_patience: fn(_, _) -> _;
        hpgen_apply_file: fn(_, _, _, _, _) -> _;
        hpgen_apply_file_w: fn(_, _, _, _, _) -> _;
        hpgen_apply_memory: fn(_, _, _, _, _, _) -> _;
        hpgen_rollback: fn(_, _, _, _, _) -> _;
        hpgen_status: fn(_, _, _, _, _, _) -> _;
        hpgen_follow_files: fn(_, _, _, _, _, _, _, _) -> _;
        hpgen_follower_close: fn(_) -> _;
        hpgen_stand_probation: fn(_, _, _, _, _) -> _;
    };
    all.push(("hpgen_runtime_abi", (patcher::hpgen_runtime_abi as extern "C" fn() -> _).c()));
    all.push(("hpgen_runtime_version", (patcher::hpgen_runtime_version as extern "C" fn() -> _).c()));
    all
}

macro_rules! record {
    ($text:ident, $rust:ident, $c:literal: $($field:ident)*) => {{
        let mut end = 0;
        $(
            // In the order of the record, so that the last one's end is the record's: none is forgotten.
            assert_eq!(offset_of!($rust, $field), end);
            let size = size_of_field(|record: &$rust| &record.$field);
            assertion(&mut $text, &format!("offsetof({}, {}) == {end}", $c, stringify!($field)));
            assertion(&mut $text, &format!("sizeof((({} *)0)->{}) == {size}", $c, stringify!($field)));
            end += size;
        )*
        assert_eq!(size_of::<$rust>(), end);
        assertion(&mut $text, &format!("sizeof({}) == {end}", $c));
    }};
}

fn size_of_field<Record, Field>(_: impl Fn(&Record) -> &Field) -> usize {
    size_of::<Field>()
}

fn assertion(text: &mut String, condition: &str) {
    writeln!(text, "_Static_assert({condition}, {condition:?});").unwrap();
}

/// A C file that compiles if the header is right.
fn assertions() -> String {
    let mut text = String::from("#include <hpgen_runtime.h>\n");
    for (name, function) in functions() {
        assertion(&mut text, &format!("__builtin_types_compatible_p(__typeof__(&{name}), {function})"));
    }
    record!(text, Patch, "hpgen_patch": sequence image_base region_base region_size applied_at stopped_us state series threads_stopped
        functions redirected reserved patch_id image);
    record!(text, Applied, "hpgen_applied": stopped_us images functions threads_stopped series patch_id);
    record!(text, Rollback, "hpgen_rolled_back": stopped_us functions threads_stopped memory_kept kept_by_thread patch_id);
    record!(text, Probation, "hpgen_probation": end reserved patch_id why);
    unsafe extern "C" fn told(_: *mut c_void, _: *const c_char, _: i32, _: *const Applied, _: *const c_char) {}
    let told: Told = told;
    assertion(&mut text, &format!("__builtin_types_compatible_p(hpgen_told, {})", told.c()));
    let numbers = [
        ("HPGEN_ABI", patcher::ABI),
        ("HPGEN_OK", Code::Ok as u32),
        ("HPGEN_ERROR", Code::Error as u32),
        ("HPGEN_USAGE", Code::Usage as u32),
        ("HPGEN_REFUSED", Code::Refused as u32),
        ("HPGEN_DEFECT", Code::Defect as u32),
        ("HPGEN_PREPARED", state_code(PatchState::Prepared)),
        ("HPGEN_APPLIED", state_code(PatchState::Applied)),
        ("HPGEN_RETIRED", state_code(PatchState::Retired)),
        ("HPGEN_REPLACED", state_code(PatchState::Replaced)),
        ("HPGEN_NOT_ON_PROBATION", End::NotOnProbation as u32),
        ("HPGEN_PASSED", End::Passed as u32),
        ("HPGEN_FAILED", End::Failed as u32),
        ("HPGEN_STUCK", End::Stuck as u32),
        ("HPGEN_MOOT", End::Moot as u32),
    ];
    let in_header = HEADER.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
    let in_header: BTreeSet<_> = in_header.map(|(name, _)| name).filter(|name| *name != "HPGEN_RUNTIME_H").collect();
    assert_eq!(in_header, numbers.iter().map(|(name, _)| *name).collect());
    numbers.iter().for_each(|(name, number)| assertion(&mut text, &format!("{name} == {number}")));
    text
}

/// The names of functions in a text: what stands between `before` and the parenthesis behind it, where that is one of ours.
fn names<'t>(text: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name)
}

#[test]
fn header_and_library_have_the_same_functions() {
    let tested: BTreeSet<_> = functions().into_iter().map(|(name, _)| name).collect();
    let exported: BTreeSet<_> = SOURCES.iter().flat_map(|source| names(source, "extern \"C\" fn ")).collect();
    assert_eq!(exported, tested);
    let (_, declarations) = HEADER.split_once("/* The version of the library").unwrap();
    let declared = declarations.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '(');
    let declared = declared.filter_map(|word| word.split_once('(')).map(|(name, _)| name);
    assert_eq!(declared.filter(|name| name.starts_with("hpgen_")).collect::<BTreeSet<_>>(), tested);
}

#[test]
fn header_is_what_the_library_is() {
    let Ok(clang) = toolchain::tool(&["clang-19", "clang"]) else {
        eprintln!("skipped: no clang here");
        return;
    };
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("include");
    let compile = |text: &str, arguments: &[&str]| {
        let mut command = Command::new(clang);
        // Its own `stddef.h` and `stdint.h` will do, in whosever ABI.
        command.args(["-fsyntax-only", "-ffreestanding", "-nostdlibinc", "-Wall", "-Wextra", "-Werror", "-I"]);
        command.arg(&include).args(arguments).arg("-").stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        (ended.status.success(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let assertions = assertions();
    for target in ["--target=x86_64-w64-windows-gnu", "--target=x86_64-pc-windows-msvc"] {
        let (fits, said) = compile(&assertions, &[target, "-x", "c", "-std=c11"]);
        assert!(fits, "{said}\n{assertions}");
        for language in [["-x", "c", "-std=c99"], ["-x", "c++", "-std=c++11"]] {
            let (fits, said) =
                compile("#include <hpgen_runtime.h>\n", &[&[target, "-pedantic"], &language[..]].concat());
            assert!(fits, "{said}");
        }
        // A header that says something else is found out.
        let wrong = assertions.replace("offsetof(hpgen_patch, series) == 52", "offsetof(hpgen_patch, series) == 48");
        assert_ne!(wrong, assertions);
        assert!(!compile(&wrong, &[target, "-x", "c", "-std=c11"]).0);
    }
}
