//! Small pairs of builds that are compiled here, unlike the fixtures: with their object files, or without types in their PDBs.
//! Where there is no compiler, the tests say so.
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
void *memcpy(void *to, const void *from, unsigned long long n) { char *a = (char *)to; const char *b = (const char *)from; while (n--) *a++ = *b++; return to; }
";

/// Compiles two builds of one source, the new one with `NEW` defined, in folders of their own with their object files.
fn compile(source: &str) -> Option<TempDir> {
    compile_with(source, &[])
}

/// The same with further flags.
fn compile_with(source: &str, further: &[&str]) -> Option<TempDir> {
    compile_files(&[("main", &format!("{COMMON}{source}"))], |_, _| further.to_vec())
}

/// Compiles two builds of several files. What flags each has besides, its name and that of its build (`old`, `new`) tell.
fn compile_files<'f>(files: &[(&str, &str)], further: impl Fn(&str, &str) -> Vec<&'f str>) -> Option<TempDir> {
    let tools = (toolchain::tool(&["clang-19", "clang"]), toolchain::tool(&["lld-link-19", "lld-link"]));
    let (Ok(clang), Ok(link)) = tools else {
        println!("skipped: no clang here");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    for (variant, define) in [("old", "-DOLD"), ("new", "-DNEW")] {
        let folder = folder.path().join(variant);
        fs::create_dir(&folder).unwrap();
        let run = |tool: &str, arguments: &[&str]| {
            toolchain::run(Command::new(tool).current_dir(&folder).args(arguments)).unwrap();
        };
        let mut objects = Vec::new();
        for (name, source) in files {
            let (source_file, object) = (format!("{name}.c"), format!("{name}.obj"));
            fs::write(folder.join(&source_file), source).unwrap();
            let flags = ["--target=x86_64-pc-windows-msvc", "-O2", "-g", "-gcodeview", "-ffreestanding"];
            let of_sections = ["-fdata-sections", "-ffunction-sections", define];
            let further = further(name, variant);
            run(clang, &[&flags[..], &of_sections, &further, &["-c", &source_file, "-o", &object]].concat());
            objects.push(object);
        }
        let flags = ["/nologo", "/nodefaultlib", "/entry:start", "/subsystem:console", "/debug", "/Brepro"];
        let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
        run(link, &[&flags[..], &["/opt:ref,noicf", "/out:main.exe"], &objects].concat());
    }
    Some(folder)
}

/// From here on there are images and PDBs alone, as of a release.
fn remove_objects(folder: &Path) {
    for variant in ["old", "new"] {
        fs::remove_file(folder.join(variant).join("main.obj")).unwrap();
    }
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

/// The change set's only reason.
#[track_caller]
fn assert_refused(folder: &Path, reason: &str) {
    assert_refused_with(folder, &[], reason);
}

/// The only reason that rules leave.
#[track_caller]
fn assert_refused_with(folder: &Path, rules: &[&str], reason: &str) {
    for (command, arguments) in [("check", &[][..]), ("build", &["-o", "fix.hpx"])] {
        let ran = run(folder, command, &[arguments, rules].concat());
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let reasons: Vec<_> = ran.stdout.lines().filter(|line| line.contains("because")).collect();
        assert!(matches!(reasons[..], [only] if only.contains(reason)), "no {reason:?} in {ran:?}");
    }
}

/// No type says how large the array is; the new code writes where another variable is in running processes. The author of a fix may know
/// better.
#[test]
fn a_variable_without_a_type_grows() {
    const SOURCE: &str = "
#ifdef NEW
#define N 64
#else
#define N 16
#endif
int ring[N], at, mark[40];
NOINLINE void add(int v) { ring[at++ % N] = v; mark[v % 40] = 5; }
NOINLINE int sum(void) { int t = 0; for (int i = 0; i < N; i++) t += ring[i]; return t; }
NOINLINE int marks(void) { int t = 0; for (int i = 0; i < 40; i++) t += mark[i]; return t; }
int start(void) { add(in); return sum() + marks() + all(in); }
";
    let Some(folder) = compile_with(SOURCE, &["-gline-tables-only"]) else { return };
    let rules = ["--accept", "main.obj=keep"];
    assert_refused_with(folder.path(), &rules, "because ring: it seems to have 256 bytes in the new build");
    let ran = run(folder.path(), "check", &[&rules[..], &["--accept", "ring=keep"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// A table that the linker puts together.
const LINKER_TABLE: &str = "
struct option { int id, value; };
#define IN(section_name) __attribute__((section(section_name), used))
#define JOIN(a, b) a##b
#define NAME(line) JOIN(option_, line)
#define OPTION(id, value) IN(\".opt$m\") const struct option NAME(__LINE__) = {id, value};
IN(\".opt$a\") const struct option first = {0, 0};
IN(\".opt$z\") const struct option last = {0, 0};
NOINLINE int find(int id) {
    const struct option *volatile start = &first, *volatile end = &last;
    for (const struct option *o = start + 1; o != end; o++) if (o->id == id) return o->value;
    return -1;
}
";

/// An entry that comes in such a table is not in that of running processes. The author may know that it is not needed.
#[test]
fn an_entry_comes_in_a_table_of_the_linker() {
    for before in ["", "OPTION(1, 10)"] {
        let source = format!(
            "{LINKER_TABLE}{before}
#ifdef NEW
IN(\".opt$m\") const struct option wanted = {{2, 20}};
int start(void) {{ return find(in) + find(2) + all(in); }}
#else
int start(void) {{ return find(in) + all(in); }}
#endif
"
        );
        let Some(folder) = compile(&source) else { return };
        assert_refused(folder.path(), "because wanted: this entry came in section .opt");
        let ran = run(folder.path(), "build", &["-o", "fix.hpx", "--accept", "wanted=keep"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

/// Names of entries are often made of line numbers, and variables may stand in sections of their own without being entries of a table.
#[test]
fn other_names_of_entries_and_variables_in_sections_of_their_own_are_no_change() {
    let source = format!(
        "{LINKER_TABLE}
#ifdef NEW

#endif
OPTION(1, 10)

OPTION(2, 20)
IN(\".shared\") int clients = 1;
IN(\".shared\") int limit = 7;
#ifdef NEW
IN(\".shared\") int refused = 2;
NOINLINE int admit(int n) {{ if (clients + n > limit) return refused++; return clients += n; }}
#else
NOINLINE int admit(int n) {{ return clients += n + limit; }}
#endif
int start(void) {{ return find(in) + admit(in) + all(in); }}
"
    );
    let Some(folder) = compile(&source) else { return };
    let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The new code asks for a text that only the new image has; where no code changes, the text alone is nothing to patch.
#[test]
fn a_resource_comes() {
    let tools = (toolchain::tool(&["llvm-rc-19", "llvm-rc"]), toolchain::tool(&["lld-link-19", "lld-link"]));
    let (Ok(compiler), Ok(link)) = tools else {
        println!("skipped: no compiler of resources here");
        return;
    };
    let with_code = "
#ifdef NEW
NOINLINE int text(int n) { return n > 3 ? 107 : 101; }
#else
NOINLINE int text(int n) { return 101 + (n & 0); }
#endif
int start(void) { return text(in) + all(in); }
";
    let without_code = "int start(void) { return 101 + all(in); }";
    for (source, code) in [(with_code, 3), (without_code, 4)] {
        let Some(folder) = compile(source) else { return };
        for (variant, resources) in [("old", "101 RCDATA { 1 }"), ("new", "101 RCDATA { 1 }\n107 RCDATA { 2 }")] {
            let folder = folder.path().join(variant);
            fs::write(folder.join("main.rc"), resources).unwrap();
            let run = |tool: &str, arguments: &[&str]| {
                toolchain::run(Command::new(tool).current_dir(&folder).args(arguments)).unwrap();
            };
            run(compiler, &["/FO", "main.res", "main.rc"]);
            let flags = ["/nologo", "/nodefaultlib", "/entry:start", "/subsystem:console", "/debug", "/Brepro"];
            run(link, &[&flags[..], &["/opt:ref,noicf", "/out:main.exe", "main.obj", "main.res"]].concat());
        }
        let ran = run(folder.path(), "check", &[]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        if code == 3 {
            assert_refused(folder.path(), "because data 107: this resource differs (language 0x409 came)");
            assert_eq!(run(folder.path(), "check", &["--accept", "data 107=keep"]).code, Some(0));
        }
    }
}

/// A larger array that is aligned as the smaller one was not; the variables behind it move.
#[test]
fn a_gap_behind_a_variable_is_no_growth() {
    const SOURCE: &str = "
char flag[5];
#ifdef NEW
int table[8] __attribute__((aligned(16)));
#else
int table[8];
#endif
NOINLINE void put(int i) { flag[i % 5]++; table[i & 7] = i; }
NOINLINE int get(int i) {
#ifdef NEW
    if (i < 0) return 0;
#endif
    return table[i & 7] + flag[i % 5];
}
int start(void) { put(in); return get(in) + all(in); }
";
    let Some(folder) = compile_with(SOURCE, &["-gline-tables-only"]) else { return };
    let ran = run(folder.path(), "check", &["--accept", "main.obj=keep"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// An alias of a variable becomes a variable of its own, and a variable an alias.
#[test]
fn a_name_of_another_variable_becomes_a_variable() {
    let source = |alias: &str| {
        format!(
            "
int cur = 1;
#ifdef {alias}
extern int prev __attribute__((alias(\"cur\")));
#else
int prev = 1;
#endif
NOINLINE void step(int n) {{ prev = *(volatile int *)&cur; *(volatile int *)&cur = n + in; }}
NOINLINE int look(void) {{ return *(volatile int *)&cur * 100 + *(volatile int *)&prev; }}
#ifdef NEW
int start(void) {{ step(in); return look() + prev + all(in); }}
#else
int start(void) {{ step(in); return look() + all(in); }}
#endif
"
        )
    };
    let Some(folder) = compile(&source("OLD")) else { return };
    assert_refused(
        folder.path(),
        "because cur: it is one variable in running processes, and cur and prev in the new build",
    );
    let Some(folder) = compile(&source("NEW")) else { return };
    assert_refused(
        folder.path(),
        "because cur: it is one variable in the new build, and cur and prev in running processes",
    );
}

/// Threads share what each had for itself, and the other way round.
#[test]
fn a_variable_of_each_thread_becomes_one_of_all() {
    let source = |shared: &str| {
        format!(
            "
unsigned _tls_index;
__thread int other = 3;
#ifdef {shared}
static int depth = 1;
#else
static __thread int depth = 1;
#endif
NOINLINE int enter(void) {{ return ++depth + other; }}
NOINLINE int leave(int k) {{ depth -= k; return depth; }}
int start(void) {{ enter(); other++; return leave(in) + all(in); }}
__attribute__((section(\".tls\"))) char _tls_start = 0;
__attribute__((section(\".tls$ZZZ\"))) char _tls_end = 0;
struct directory {{ void *start, *end, *index, *callbacks; unsigned zeros, flags; }};
const struct directory _tls_used = {{ &_tls_start, &_tls_end, &_tls_index, 0, 0, 0 }};
"
        )
    };
    let Some(folder) = compile(&source("NEW")) else { return };
    assert_refused(folder.path(), "because depth: each thread has its own in running processes");
    let Some(folder) = compile(&source("OLD")) else { return };
    assert_refused(folder.path(), "because depth: all threads share one in running processes");
}

/// Variables of blocks that are constructed where control first comes by, in the Itanium ABI: their guards have no names in the PDB.
const CONSTRUCTED: &str = "
extern \"C\" NOINLINE int __cxa_guard_acquire(long long *guard) { return *(char *)guard == 0; }
extern \"C\" NOINLINE void __cxa_guard_release(long long *guard) { *(char *)guard = 1; }
struct Counter { int value, step; NOINLINE Counter(int n) { value = n * in; step = value + 1; } };
extern \"C\" int start(void) { return show(in) + all(in); }
";

fn check_constructed(show: &str) -> Option<Ran> {
    let source = CONSTRUCTED.replacen("extern \"C\" int start", &format!("{show}\nextern \"C\" int start"), 1);
    let folder = compile_with(&source, &["--target=x86_64-w64-windows-gnu", "-xc++"])?;
    Some(run(folder.path(), "build", &["-o", "fix.hpx"]))
}

#[test]
fn a_guard_without_a_name_is_that_of_the_variable() {
    let show = "
NOINLINE int show(int n) {
#ifdef NEW
    static Counter limit(n + 3);
    if (n > limit.value) return limit.step;
#endif
    static Counter calls(n);
    return calls.value += calls.step;
}";
    let Some(ran) = check_constructed(show) else { return };
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("16 of variables"), "{ran:?}");
}

/// The old guard says of another variable that it is constructed.
#[test]
fn a_guard_of_another_variable_is_another_one() {
    let show = "
NOINLINE int show(int n) {
#ifdef NEW
    static Counter fresh(n + 3);
    return fresh.value += fresh.step + 1;
#else
    static Counter calls(n);
    return calls.value += calls.step;
#endif
}";
    let Some(ran) = check_constructed(show) else { return };
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stdout.contains("[variable-exchanged]"), "{ran:?}");
}

/// A text without a name, as mingw's compilers make it, that another function prints from a place inside: nothing of it is at the place of before, but an array
/// with a name stands as far behind that place as before.
#[test]
fn a_text_changes_of_which_a_place_inside_is_named() {
    let source = "
#ifdef NEW
#define STATE \"is ready: yet\"
#define AT 10
#else
#define STATE \"ready: now\"
#define AT 7
#endif
const int behind[4] = {11, 22, 33, 44};
int seen;
NOINLINE void print(const char *text) { while (*text) { seen = seen * 31 + *text++; } }
NOINLINE void state(void) { print(STATE); }
NOINLINE void end_of_state(void) { print(&STATE[AT]); }
NOINLINE int of_array(int i) { return behind[i & 3]; }
int start(void) { state(); end_of_state(); return all(in) + of_array(in); }
";
    let Some(folder) = compile_with(source, &["--target=x86_64-w64-windows-gnu", "-fno-data-sections"]) else { return };
    for has_objects in [true, false] {
        if !has_objects {
            remove_objects(folder.path());
        }
        let ran = run(folder.path(), "diff", &[]);
        assert!(ran.stdout.starts_with("hotpatchable: 2 functions changed, 0 added"), "{ran:?}");
        let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

/// A text stands where an array ends, and the function uses both. Who prints reads there, and nothing is read at an end.
#[test]
fn a_text_that_is_printed_is_no_end() {
    let source = "
const short table[4] = {11, 22, 33, 44};
NOINLINE int puts(const char *text) { int sum = 0; while (*text) { sum = sum * 31 + *text++; } return sum; }
NOINLINE int pick(int i) {
#ifdef NEW
    if (i > 3) { puts(\"out of bounds\"); return 0; }
#endif
    return table[i & 3];
}
NOINLINE int entry(int i) { return puts(\"entry\") + table[i & 1]; }
int start(void) { return pick(in) + entry(in) + all(in); }
";
    let Some(folder) = compile_with(source, &["--target=x86_64-w64-windows-gnu", "-fno-data-sections", "-fno-builtin"])
    else {
        return;
    };
    remove_objects(folder.path());
    let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The length of a text is asked for, and then the text is read at an index that nothing in the code bounds. Who asks for the length reads there.
#[test]
fn a_text_whose_length_is_asked_for_may_be_read_at_any_index() {
    let source = "
int seen;
NOINLINE unsigned long long strlen(const char *text) { unsigned long long n = 0; while (text[n]) { ++n; } return n; }
NOINLINE void show(int i) {
    const char *text;
    switch (i) {
    case 0: text = \"none\"; break;
    case 7: text = \"lucky\"; seen += 1; break;
#ifdef NEW
    case 9: text = \"no more than that\"; seen ^= 2; break;
#endif
    default: text = \"some\"; seen -= 3; break;
    }
    unsigned long long length = LENGTH(text);
    for (unsigned long long n = 0; n < length; ++n) { seen = seen * 31 + text[n]; }
}
int start(void) { show(in); return all(in); }
";
    let flags = ["--target=x86_64-w64-windows-gnu", "-fno-data-sections", "-fno-builtin"];
    let by_name = format!("#define LENGTH strlen\n{source}");
    let Some(folder) = compile_with(&by_name, &flags) else { return };
    remove_objects(folder.path());
    let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // What a function of another name does is not known.
    let other = format!(
        "NOINLINE unsigned long long upto(const char *text) {{ return (unsigned long long)text % (unsigned)in; }}\n#define LENGTH upto\n{source}"
    );
    let Some(folder) = compile_with(&other, &flags) else { return };
    remove_objects(folder.path());
    assert_refused(folder.path(), "computes with the address");
}

/// C reserves the runtime's names where several files see the function. A static one can be anything: here it is given the end of an array.
#[test]
fn a_static_function_with_a_name_of_the_runtime_is_not_the_runtimes() {
    let source = "
int middle[4] = {1, 2, 3, 4};
int before[4] = {11, 12, 13, 14};
int table[16] = {21, 22, 23, 24, 25, 26, 27, 28};
int *volatile last;
static NOINLINE int remove(int *end) { last = end; int n = 0; while (end-- != before && in) { n += *end; } return n; }
NOINLINE int pick(long long x) {
#ifdef NEW
    int *end = before + 4;
    int n = remove(end) + in;
    return n * end[-x];
#else
    return remove(middle + (x & 1)) + in + x;
#endif
}
int start(void) { last = table; return pick(in) + remove(before + (in & 3)) + table[in & 15] + middle[in & 3] + all(in); }
";
    let flags = ["--target=x86_64-w64-windows-gnu", "-fno-data-sections", "-fno-builtin"];
    let Some(folder) = compile_with(source, &flags) else { return };
    remove_objects(folder.path());
    assert_refused(folder.path(), "which may stand for another object nearby");
}

/// Without types, a table ends where code names a place inside. One entry behind that place changes: who indexes the table from its start may read it, too, and
/// an author can know that it does not.
#[test]
fn a_table_without_a_type_changes_behind_a_place_that_is_named() {
    let source = "
#ifdef NEW
#define LATE 77
#else
#define LATE 7
#endif
static const int table[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, LATE, 15, 16};
NOINLINE int sum(const int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s = s * 3 + p[i] + in; return s; }
NOINLINE int rate(unsigned n) { return table[n] + 1; }
NOINLINE int late(void) { return sum(&table[8], 8); }
int start(void) { return rate(in) + late() + all(in); }
";
    let Some(folder) = compile_with(source, &["-g0", "-fno-data-sections"]) else { return };
    remove_objects(folder.path());
    let ran = run(folder.path(), "check", &[]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stdout.contains("because rate: it may read on") && ran.stdout.contains("[constant-extent]"), "{ran:?}");
    let ran = run(folder.path(), "check", &["--accept", "rate=keep"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The same table behind another one that changes: no index leaves the first, which a comparison shows.
#[test]
fn a_table_without_a_type_that_is_not_left_ends_where_the_next_begins() {
    let source = "
#ifdef NEW
#define LATE 77
#else
#define LATE 7
#endif
static const int table[4] = {1, 2, 3, 4}, other[4] = {5, 6, 7, LATE};
NOINLINE int sum(const int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s = s * 3 + p[i] + in; return s; }
NOINLINE int rate(unsigned n) { return n < 4 ? table[n] + 1 : 0; }
NOINLINE int late(void) { return sum(other, 4); }
int start(void) { return rate(in) + late() + all(in); }
";
    let Some(folder) = compile_with(source, &["-g0", "-fno-data-sections"]) else { return };
    remove_objects(folder.path());
    let ran = run(folder.path(), "check", &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// A literal of Microsoft's ABI that is no UTF-8, of which another function names a place inside: its name and its section tell how far it goes.
#[test]
fn a_literal_in_another_encoding_stays_whole() {
    let source = r#"
#ifdef NEW
#define TEXT "gr\xfcne B\xe4ume, neu"
#else
#define TEXT "gr\xfcne B\xe4ume, alt"
#endif
NOINLINE int length(const char *text) { int sum = in; while (*text) { sum = sum * 31 + *text++; } return sum; }
NOINLINE int all_of_it(void) { return length(TEXT); }
NOINLINE int end_of_it(void) { return length(TEXT + 8) * 3; }
int start(void) { return all_of_it() + end_of_it() + all(in); }
"#;
    let Some(folder) = compile(source) else { return };
    remove_objects(folder.path());
    let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("hotpatchable: 2 functions changed, 0 added"), "{ran:?}");
}

/// The first bytes of a text in UTF-16 look like one in ASCII, up to the first letter below U+0100.
#[test]
fn a_wide_text_is_not_taken_for_a_narrow_one_that_ends() {
    let source = r#"
#ifdef NEW
#define TEXT u"\u0431\u0432 \u0433\u0434 1"
#else
#define TEXT u"\u0431\u0432 \u0433\u0434 0"
#endif
NOINLINE int length(const unsigned short *text) { int sum = in; while (*text) { sum = sum * 31 + *text++; } return sum; }
NOINLINE int all_of_it(void) { return length(TEXT); }
NOINLINE int end_of_it(void) { return length(TEXT + 3) * 3; }
int start(void) { return all_of_it() + end_of_it() + all(in); }
"#;
    let Some(folder) = compile_with(source, &["--target=x86_64-w64-windows-gnu", "-fno-data-sections"]) else { return };
    remove_objects(folder.path());
    let ran = run(folder.path(), "check", &[]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stdout.contains("because all_of_it: it may read on"), "{ran:?}");
}

/// A structure gets a member.
const CONNECTION: &str = "
struct connection { int fd;
#ifdef NEW
    long long seen;
#endif
    int left; };
__attribute__((noinline)) int step(struct connection *c) {
#ifdef NEW
    c->seen++;
#endif
    return c->left-- + c->fd;
}
";

/// A structure gets a member, in a file of which a build has no types. The file's name answers for it.
#[test]
fn layouts_of_a_file_without_types_are_unknown() {
    const MAIN: &str = "
struct connection;
int step(struct connection *c);
long long room[8];
int start(void) { return step((struct connection *)room) + all(in); }
";
    let main = format!("{COMMON}{MAIN}");
    let files = [("connection", CONNECTION), ("main", main.as_str())];
    for (flag, untyped, who) in [
        ("-g0", "old new", "neither build has"),
        ("-gline-tables-only", "old new", "neither build has"),
        ("-gline-tables-only", "new", "the new build has no"),
        ("-g0", "old", "the old build has no"),
    ] {
        let flags = |file: &str, build: &str| match file == "connection" && untyped.contains(build) {
            true => vec![flag],
            false => Vec::new(),
        };
        let Some(folder) = compile_files(&files, flags) else { return };
        assert_refused(folder.path(), &format!("because connection.obj: {who} type information for this file"));
        let ran = run(folder.path(), "check", &["--accept", "connection.obj=keep"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

/// Link-time optimisation makes one file of those with types and those without.
#[test]
fn link_time_optimisation_hides_no_file_without_types() {
    const MAIN: &str = "
struct connection;
int step(struct connection *c);
long long room[8];
NOINLINE int more(int n) {
#ifdef NEW
    if (n > 100) return 100;
#endif
    return n * 3;
}
int start(void) { return step((struct connection *)room) + more(in) + all(in); }
";
    let main = format!("{COMMON}{MAIN}");
    let files = [("connection", CONNECTION), ("main", main.as_str())];
    for (flag, what) in [("-g0", "for this function"), ("-gline-tables-only", "because connection.c: ")] {
        let flags = |file: &str, _: &str| match file {
            "connection" => vec!["-flto", flag],
            _ => vec!["-flto"],
        };
        let Some(folder) = compile_files(&files, flags) else { return };
        let ran = run(folder.path(), "check", &[]);
        let reasons: Vec<_> = ran.stdout.lines().filter(|line| line.contains("[types-unknown]")).collect();
        assert!(matches!(reasons[..], [only] if only.contains(what)), "no {what:?} in {ran:?}");
    }
}

/// Behind link-time optimisation a function that takes nothing and keeps nothing shows no types. Its source file's other functions do.
#[test]
fn link_time_optimisation_leaves_functions_that_take_nothing_with_their_file() {
    const LIST: &str = "
struct item { int left, n; struct item *next; };
static struct item *first;
__attribute__((noinline)) int add(struct item *i) { i->next = first; first = i; return i->n; }
__attribute__((noinline)) int count(void) {
#ifdef NEW
    if (!first) return -1;
#endif
    return first->n + first->left;
}
";
    const MAIN: &str = "
int add(void *);
int count(void);
void *volatile room;
int start(void) { return add(room) + count() + all(in); }
";
    let main = format!("{COMMON}{MAIN}");
    let files = [("list", LIST), ("main", main.as_str())];
    let compiled = |untyped: &'static str, flag: &'static str| {
        compile_files(&files, |file: &str, _: &str| if file == untyped { vec!["-flto", flag] } else { vec!["-flto"] })
    };
    let Some(folder) = compiled("", "") else { return };
    let ran = run(folder.path(), "check", &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // A header shows nothing of its functions: another file may have it without types.
    let header = format!("\n#line 1 \"list.h\"\n{LIST}");
    let files = [("list", header.as_str()), ("main", main.as_str())];
    let Some(folder) = compile_files(&files, |_, _| vec!["-flto"]) else { return };
    assert_refused(folder.path(), "because list.h: neither build has type information for this file");
    // With one such file, nothing tells which functions are of it.
    for untyped in ["list", "main"] {
        let Some(folder) = compiled(untyped, "-gline-tables-only") else { return };
        assert_refused(folder.path(), "because list.c: neither build has type information for this file");
    }
}

/// clang leaves the definition of a class to the files that construct it: where those have no types, nobody else's say what it consists of.
#[test]
fn a_class_that_only_a_file_without_types_constructs_is_unknown() {
    const CLASS: &str = "
struct connection { connection(int fd); int step(); int fd;
#ifdef NEW
    long long seen;
#endif
    int left; };
";
    const STEP: &str = "
int connection::step() {
#ifdef NEW
    seen++;
#endif
    return left-- + fd;
}
extern \"C\" int step(void *c) { return static_cast<connection *>(c)->step(); }
";
    const OPEN: &str = "
inline void *operator new(unsigned long long, void *at) noexcept { return at; }
connection::connection(int f) : fd(f) {}
extern \"C\" void open_one(void *at, int f) { new (at) connection(f); }
";
    const MAIN: &str = "
void open_one(void *at, int f);
int step(void *c);
long long room[8];
int start(void) { open_one(room, in); return step(room) + all(in); }
";
    let (open, step, main) = (format!("{CLASS}{OPEN}"), format!("{CLASS}{STEP}"), format!("{COMMON}{MAIN}"));
    let files = [("open", open.as_str()), ("step", step.as_str()), ("main", main.as_str())];
    let flags = |file: &str, _: &str| match file {
        "open" => vec!["-xc++", "-g0"],
        "step" => vec!["-xc++"],
        _ => Vec::new(),
    };
    let Some(folder) = compile_files(&files, flags) else { return };
    assert_refused(folder.path(), "because connection: neither build says what this type consists of");
    let ran = run(folder.path(), "check", &["--accept", "connection=keep"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// A constant without a name in a section of its own, of which another function names a place inside: the section tells how far it goes, so that who is given
/// its start is found, and all of it is carried.
#[test]
fn a_constant_in_a_section_of_its_own_stays_whole() {
    let source = "
struct rate { const char *name; int value; };
#ifdef NEW
#define FIRST 7, 8, 9
#define LATE {(const char *)\"three\", 33}
#else
#define FIRST 1, 2, 3
#define LATE {(const char *)\"three\", 3}
#endif
NOINLINE int sum(const int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s = s * 3 + p[i] + in; return s; }
NOINLINE int total(const struct rate *r, int n) { int s = in; while (n-- > 0) { s = s * 5 + r[n].value + *r[n].name; } return s; }
static const int numbers[12] = {FIRST, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const struct rate rates[4] = {{\"one\", 1}, {\"two\", 2}, LATE, {\"four\", 4}};
NOINLINE int all_numbers(void) { return sum(numbers, 12); }
NOINLINE int late_numbers(void) { return sum(numbers + 2, 10) * 3; }
NOINLINE int all_rates(void) { return total(rates, 4); }
NOINLINE int late_rates(void) { return total(rates + 1, 3) * 3; }
int start(void) { return all_numbers() + late_numbers() + all_rates() + late_rates() + all(in); }
";
    for target in ["x86_64-pc-windows-msvc", "x86_64-w64-windows-gnu"] {
        let Some(folder) = compile_with(source, &[&format!("--target={target}"), "-g0"]) else { return };
        remove_objects(folder.path());
        let ran = run(folder.path(), "build", &["-o", "fix.hpx"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.starts_with("hotpatchable: 4 functions changed, 0 added"), "{ran:?}");
        // 48 bytes of numbers, 64 of rates, and what of the names is carried with them.
        let (before, _) = ran.stdout.split_once(" of constants").unwrap();
        let carried: u32 = before.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((112..=144).contains(&carried), "{ran:?}");
    }
}
