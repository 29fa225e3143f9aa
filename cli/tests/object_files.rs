//! Builds whose object files are still there: what these tell of constants without names.
//!
//! The fixtures come without object files, so that these programs are compiled here; where there is no compiler, the tests say so.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "command/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod command;

use std::fs;
use std::path::Path;
use std::process::Command;

use command::{Ran, hpgen};
use tempfile::TempDir;
use xtask::toolchain;

/// What both builds have besides: enough for them to be two builds of one program.
const COMMON: &str = "
#define NOINLINE __attribute__((noinline))
volatile int in;
NOINLINE void touch(int *p) { p[0] += in; }
#define KEPT(n) NOINLINE int kept##n(int x) { return x * (n * 7 + 3) + (x ^ (n * 12345)); }
KEPT(1) KEPT(2) KEPT(3) KEPT(4) KEPT(5) KEPT(6)
static int all(int n) { return kept1(kept2(kept3(kept4(kept5(kept6(n)))))); }
void *memcpy(void *to, const void *from, unsigned long long n) { char *a = to; const char *b = from; while (n--) *a++ = *b++; return to; }
";

/// Compiles two builds of one source, the new one with `NEW` defined, in folders of their own with their object files.
fn compile(source: &str) -> Option<TempDir> {
    let tools = (toolchain::tool(&["clang-19", "clang"]), toolchain::tool(&["lld-link-19", "lld-link"]));
    let (Ok(clang), Ok(link)) = tools else {
        println!("skipped: no clang here");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    for (variant, define) in [("old", "-DOLD"), ("new", "-DNEW")] {
        let folder = folder.path().join(variant);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("main.c"), format!("{COMMON}{source}")).unwrap();
        let run = |tool: &str, arguments: &[&str]| {
            toolchain::run(Command::new(tool).current_dir(&folder).args(arguments)).unwrap();
        };
        let flags = ["--target=x86_64-pc-windows-msvc", "-O2", "-g", "-gcodeview", "-ffreestanding"];
        let flags = [&flags[..], &["-fdata-sections", "-ffunction-sections", define, "-c", "main.c", "-o", "main.obj"]];
        run(clang, &flags.concat());
        let flags = ["/nologo", "/nodefaultlib", "/entry:start", "/subsystem:console", "/debug", "/Brepro"];
        run(link, &[&flags[..], &["/opt:ref,noicf", "/out:main.exe", "main.obj"]].concat());
    }
    Some(folder)
}

fn run(folder: &Path, command: &str, arguments: &[&str]) -> Ran {
    hpgen(folder, &[&[command, "old/main.exe", "new/main.exe"], arguments].concat())
}

/// The array's initial values are one constant of 32 bytes, which is read as two of 16: the number that changes is in the second.
#[test]
fn a_constant_changes_behind_its_first_piece() {
    let Some(folder) = compile(
        "
#ifdef NEW
#define SIXTH 66666
#else
#define SIXTH 66
#endif
NOINLINE int pick(int i) { int t[8] = {11, 22, 33, 44, 55, SIXTH, 77, 88}; touch(t); return t[i & 7]; }
int start(void) { return pick(in) + all(in); }
",
    ) else {
        return;
    };
    let ran = run(folder.path(), "check", &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("hotpatchable: 1 function changed, 0 added"), "{ran:?}");
    let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
    assert!(ran.stdout.contains(" 32 of constants"), "{ran:?}");
}

/// A new function brings two such constants: all of each goes along.
#[test]
fn a_new_constant_is_carried_whole() {
    let Some(folder) = compile(
        "
#ifdef NEW
NOINLINE int pick(int i) { int t[8] = {11, 22, 33, 44, 55, 66, 77, 88}; touch(t); return t[i & 7]; }
struct big { long long a, b, c; int d[9]; };
NOINLINE long long sum(int i) { struct big b = {1, 2, 3, {4, 5, 6, 7, 8, 9, 10, 11, 12}}; touch(b.d); return b.a + b.c + b.d[i % 9]; }
int start(void) { return pick(in) + sum(in) + all(in); }
#else
int start(void) { return all(in); }
#endif
",
    ) else {
        return;
    };
    let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(" 96 of constants"), "{ran:?}");
}

/// The new function multiplies by a vector {3, 5, 7, 0}; the old build has a table {3, 5, 7}, and something else behind it.
#[test]
fn a_constant_that_goes_on_behind_an_equal_one_is_carried() {
    let Some(folder) = compile(
        "
int _fltused;
const float weights[3] __attribute__((aligned(16))) = {3, 5, 7};
const float other[1] = {11};
static float values[4] __attribute__((aligned(16))) = {1, 1, 1, 1};
NOINLINE float pick(const float *from, int i) { return from[i] * 2; }
NOINLINE void reset(float by) {
#ifdef NEW
    values[0] *= 3.0f; values[1] *= 5.0f; values[2] *= 7.0f; values[3] *= 0.0f;
#else
    values[0] += by;
#endif
}
int start(void) { reset(in); return (int)(values[in & 3] + pick(weights, in % 3) + pick(other, 0)) + all(in); }
",
    ) else {
        return;
    };
    let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(" 16 of constants"), "{ran:?}");
}
