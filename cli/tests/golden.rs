//! What `hpgen` makes of the committed fixtures.
//!
//! Two nets, one behind the other. [`OUTCOMES`] says what must come of each fixture, and only a person changes it. The goldens in
//! `testdata/fixtures/NAME/expected/` hold every word that is printed; `cargo xtask bless` rewrites them, and the diff is reviewed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "command/mod.rs"]
mod command;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use snapbox::assert::Action;
use snapbox::data::DataFormat;
use snapbox::{Assert, Data, IntoData};

use command::{Ran, copy_of, fixture, fixtures, hpgen};

/// What must come of a fixture.
struct Outcome {
    fixture: &'static str,
    /// What `testdata/README.md` asks for, word by word.
    asked: &'static str,
    /// The verdict that `diff`, `check` and `build` give.
    verdict: &'static str,
    /// Status and name of each function that is not unchanged.
    functions: &'static [&'static str],
    /// Status and name of each data object that is not unchanged; string literals are left out.
    data: &'static [&'static str],
    /// Code and symbol of each reason.
    reasons: &'static [&'static str],
    /// Where this falls short of what is asked.
    gap: Option<&'static str>,
}

const HOTPATCHABLE: &str = "hotpatchable";
const RESTART: &str = "restart-required";
const UNCHANGED: &str = "unchanged";

/// Fixtures whose instructions are shown side by side as well: with inlined lines, and with tables and arrays.
const LISTED: [&str; 2] = ["shared_inline", "image_relative"];

/// Fixtures whose side file is shown as well, with what it says of places in the payload: inlined code, and a plain function.
const SYMBOLIZED: [&str; 2] = ["shared_inline", "constant"];

/// Fixtures whose payload is disassembled as well: with a new import, and with new variables.
const DISASSEMBLED: [&str; 2] = ["new_import", "new_global"];

const OUTCOMES: &[Outcome] = &[
    Outcome {
        fixture: "constant",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed fee"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "string",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed print_parity"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "text_insides",
        asked: "a patch of three functions",
        verdict: HOTPATCHABLE,
        functions: &["changed end_of_state", "changed session", "changed state"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "new_function",
        asked: "a patch with a new function",
        verdict: HOTPATCHABLE,
        functions: &["added describe", "changed visit"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "new_global",
        asked: "a patch with new data",
        verdict: HOTPATCHABLE,
        functions: &["changed ticket"],
        data: &["added calls", "added next_id"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "new_import",
        asked: "a patch with an import",
        verdict: HOTPATCHABLE,
        functions: &["changed scale"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "callee",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed price"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "array_end",
        asked: "a patch of one function, with new data",
        verdict: RESTART,
        functions: &["changed sum_samples"],
        data: &["added between"],
        reasons: &["unproven-reference sum_samples"],
        gap: Some("the address of the array's end is also that of the new variable behind it; hpgen refuses to choose"),
    },
    Outcome {
        fixture: "lookup_table",
        asked: "a patch of three functions",
        verdict: HOTPATCHABLE,
        functions: &["changed fee", "changed price", "changed weight"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "empty_string",
        asked: "a patch of two functions",
        verdict: HOTPATCHABLE,
        functions: &["changed describe", "changed tell"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "biased_base",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed value_of"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "inlined",
        asked: "a patch of the two functions that inlined it",
        verdict: HOTPATCHABLE,
        functions: &["changed gross", "changed net"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "local_static",
        asked: "a patch with a new function",
        verdict: HOTPATCHABLE,
        functions: &["added between", "changed second"],
        data: &["added count"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "block_statics",
        asked: "a refusal: nothing tells which variable is which",
        verdict: RESTART,
        functions: &["changed changed"],
        data: &["unresolved count", "unresolved count"],
        reasons: &["unproven-reference changed"],
        gap: None,
    },
    Outcome {
        fixture: "raised_alignment",
        asked: "a refusal: the old build's structure is not aligned as the new code needs it",
        verdict: RESTART,
        functions: &["changed grow"],
        data: &[],
        reasons: &["not-supported grow"],
        gap: None,
    },
    Outcome {
        fixture: "aligned_constant",
        asked: "a patch of one function, with a constant that is aligned as it needs it",
        verdict: HOTPATCHABLE,
        functions: &["changed advance"],
        data: &["added __xmm@00000000000000280000000000000014", "added __xmm@000000280000001e000000140000000a"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "lto_statics",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed changed"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "lambdas",
        asked: "a refusal: which lambda is which, their numbers do not tell",
        verdict: RESTART,
        functions: &[
            "added set_up::<lambda_0>::__invoke",
            "added set_up::<lambda_1>::__invoke",
            "added set_up::<lambda_2>::__invoke",
            "changed set_up",
            "removed set_up::<lambda_0>::__invoke",
            "removed set_up::<lambda_1>::__invoke",
        ],
        data: &[],
        reasons: &[
            "callback-replaced set_up::<lambda_0>::__invoke",
            "callback-replaced set_up::<lambda_1>::__invoke",
            "unproven-reference set_up",
        ],
        gap: None,
    },
    Outcome {
        fixture: "magic_statics",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed show"],
        data: &["added since", "added since$guard"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "block_numbers",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed show"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "renamed_variable",
        asked: "restart required, unless a rule says that it is another one",
        verdict: RESTART,
        functions: &["changed add"],
        data: &["added bounded_total", "removed total"],
        reasons: &["variable-exchanged bounded_total"],
        gap: None,
    },
    Outcome {
        fixture: "moved_import",
        asked: "restart required, unless a rule says that it is the same",
        verdict: RESTART,
        functions: &["changed read_number"],
        data: &[],
        reasons: &["import-moved atoi"],
        gap: None,
    },
    Outcome {
        fixture: "enumerators",
        asked: "restart required, unless a rule says that no object has the old number",
        verdict: RESTART,
        functions: &["changed advance", "changed is_open"],
        data: &[],
        reasons: &["enumerator-renumbered STATE_OPEN"],
        gap: None,
    },
    Outcome {
        fixture: "linker_table",
        asked: "restart required, unless rules say that the old table will do",
        verdict: RESTART,
        functions: &[],
        data: &["added command_30", "removed command_32"],
        reasons: &["table-entry command_30", "table-entry command_32"],
        gap: None,
    },
    Outcome {
        fixture: "held_tables",
        asked: "a refusal for two tables, and none for the third",
        verdict: RESTART,
        functions: &[
            "added `anonymous namespace'::Square::area",
            "added flush_all",
            "changed make_square",
            "changed open_connection",
            "changed step",
        ],
        data: &["changed operations", "changed steps"],
        reasons: &[
            "type-layout `anonymous namespace'::Square",
            "vtable-changed data_2040",
            "vtable-changed operations",
        ],
        gap: None,
    },
    Outcome {
        fixture: "markers",
        asked: "the new key is carried; a refusal for the end of the list",
        verdict: RESTART,
        functions: &["changed begin", "changed is_admin", "changed length"],
        data: &["added admin_key", "changed last"],
        reasons: &["constant-identity last"],
        gap: None,
    },
    Outcome {
        fixture: "overloads",
        asked: "a refusal: nothing tells which function is which",
        verdict: RESTART,
        functions: &[
            "added priced",
            "added priced",
            "changed price",
            "changed rated",
            "changed rated",
            "removed priced",
            "removed priced",
        ],
        data: &[],
        reasons: &["unproven-reference price"],
        gap: None,
    },
    Outcome {
        fixture: "signatures",
        asked: "a patch that leaves the old functions to who runs",
        verdict: HOTPATCHABLE,
        functions: &[
            "added bound",
            "added bounded",
            "added joined",
            "added scaled",
            "added total",
            "changed fixture_round",
            "changed join",
            "changed scale",
            "changed sum",
            "removed bound",
            "removed bounded",
            "removed joined",
            "removed scaled",
            "removed total",
        ],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "stored_callback",
        asked: "restart required, unless a rule decides",
        verdict: RESTART,
        functions: &["added on_event", "changed fire", "changed setup", "removed on_event"],
        data: &[],
        reasons: &["signature-changed on_event"],
        gap: None,
    },
    Outcome {
        fixture: "coroutine",
        asked: "a patch that leaves the old parts to coroutines that wait",
        verdict: HOTPATCHABLE,
        functions: &["added steps", "changed ?steps@@YA?AUSteps@@II@Z", "removed steps"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "kept_register",
        asked: "a patch that leaves the old function to who runs",
        verdict: HOTPATCHABLE,
        functions: &["added sub_1210", "changed sub_11d0", "removed sub_1210"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "untyped_file",
        asked: "restart required, unless a rule answers for the file",
        verdict: RESTART,
        functions: &[
            "changed account_copy",
            "changed account_left",
            "changed account_open",
            "changed account_use",
            "changed limit",
        ],
        data: &[],
        reasons: &["types-unknown account.obj"],
        gap: None,
    },
    Outcome {
        fixture: "retyped",
        asked: "restart required",
        verdict: RESTART,
        functions: &["changed note", "changed show", "changed sum"],
        data: &["removed __real@4024000000000000"],
        reasons: &["type-layout at", "type-layout board", "type-layout stats"],
        gap: None,
    },
    Outcome {
        fixture: "static_names",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed helper"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "short_function",
        asked: "a patch in another way, or a refusal",
        verdict: HOTPATCHABLE,
        functions: &["changed level"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "loop_at_entry",
        asked: "a patch that is safe for who is in the loop, or a refusal",
        verdict: HOTPATCHABLE,
        functions: &["changed sum"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "removed",
        asked: "a patch of the caller",
        verdict: HOTPATCHABLE,
        functions: &["changed serve", "removed legacy"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "folded",
        asked: "a refusal, or a proof that all callers want the same",
        verdict: RESTART,
        functions: &["changed margin"],
        data: &[],
        reasons: &["folded-functions-diverge ceiling"],
        gap: None,
    },
    Outcome {
        fixture: "data_init",
        asked: "restart required, unless a rule decides",
        verdict: RESTART,
        functions: &[],
        data: &["changed limit"],
        reasons: &["data-initialiser limit"],
        gap: None,
    },
    Outcome {
        fixture: "rodata",
        asked: "both users patched, or restart required",
        verdict: HOTPATCHABLE,
        functions: &["changed pair", "changed weight"],
        data: &["changed weights"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "struct_layout",
        asked: "restart required",
        verdict: RESTART,
        functions: &["changed deposit", "changed show"],
        data: &["resized account"],
        reasons: &["data-resized account", "type-layout account"],
        gap: None,
    },
    Outcome {
        fixture: "hooks",
        asked: "a patch of one function, with two hooks",
        verdict: HOTPATCHABLE,
        functions: &["added hpgen_post_rollback", "added hpgen_pre_apply", "changed fixture_round"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "hook_section",
        asked: "a patch of one function, with three hooks",
        verdict: HOTPATCHABLE,
        functions: &["added not_twice", "added note_rollback", "added to_tenths", "changed fixture_round"],
        data: &["added hpgen_hook_1_not_twice", "added hpgen_hook_1_to_tenths", "added hpgen_hook_4_note_rollback"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "shadow",
        asked: "a patch of one function, with new functions and imports",
        verdict: HOTPATCHABLE,
        functions: &[
            "added hpgen_post_rollback",
            "added hpgen_shadow_get_or_make",
            "added print_number",
            "changed use",
        ],
        data: &["added hpgen_shadow_lock", "added hpgen_shadow_table"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "constructor",
        asked: "a patch of one function, with a function that is called once",
        verdict: HOTPATCHABLE,
        functions: &["added double_rate", "changed fixture_round"],
        data: &["added doubled"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "constructor_of_old",
        asked: "restart required",
        verdict: RESTART,
        functions: &["added double_rate", "changed fixture_round"],
        data: &["added doubled"],
        reasons: &["dynamic-initialiser double_rate"],
        gap: None,
    },
    Outcome {
        fixture: "new_object",
        asked: "a patch of one function, with a function that is called once",
        verdict: HOTPATCHABLE,
        functions: &[
            "added ??0Table@@QEAA@I@Z",
            "added _GLOBAL__sub_I_main.cpp",
            "added `dynamic atexit destructor for 'meter'",
            "changed show",
        ],
        data: &["added ?meter@@3VMeter@@A", "added ?table@@3VTable@@A", "added __xmm@00000004000000030000000200000001"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "table_from_one",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed grade_name"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "dispatch",
        asked: "a patch of one function, with its table",
        verdict: HOTPATCHABLE,
        functions: &["changed interpret"],
        data: &["changed labels"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "grown_constructor",
        asked: "a patch of one function, with the new part of a function that is called once",
        verdict: HOTPATCHABLE,
        functions: &["added `dynamic atexit destructor for 'meter'", "changed _GLOBAL__sub_I_main.cpp", "changed show"],
        data: &["added ?area@@3IA", "added ?meter@@3VMeter@@A", "added ?table@@3VTable@@A"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "changed_constructor",
        asked: "restart required",
        verdict: RESTART,
        functions: &["changed _GLOBAL__sub_I_main.cpp", "changed show"],
        data: &["added ?spare@@3IA"],
        reasons: &["dynamic-initialiser _GLOBAL__sub_I_main.cpp"],
        gap: None,
    },
    Outcome {
        fixture: "exports",
        asked: "restart required",
        verdict: RESTART,
        functions: &["changed price"],
        data: &[],
        reasons: &["export-changed discount"],
        gap: None,
    },
    Outcome {
        fixture: "line_macro",
        asked: "a cosmetic difference",
        verdict: UNCHANGED,
        functions: &["cosmetic fixture_round"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "build_traces",
        asked: "a patch of one function, and cosmetic differences",
        verdict: HOTPATCHABLE,
        functions: &["changed fixture_round", "cosmetic print_origin"],
        data: &["cosmetic built"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "line_only",
        asked: "nothing to patch",
        verdict: UNCHANGED,
        functions: &[],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "relink",
        asked: "nothing to patch",
        verdict: UNCHANGED,
        functions: &[],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "shared_inline",
        asked: "a patch of the four functions that inlined it",
        verdict: HOTPATCHABLE,
        functions: &["changed letter", "changed pallet", "changed parcel", "changed postcard"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "thread_local",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed moved"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "delay_load",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed swapped"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "labels",
        asked: "a patch of three functions",
        verdict: HOTPATCHABLE,
        functions: &["changed goto_changed", "changed taken_changed", "changed through_changed"],
        data: &["changed changed_table", "changed places"],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "image_relative",
        asked: "a patch of six functions",
        verdict: HOTPATCHABLE,
        functions: &[
            "changed array_changed",
            "changed double_changed",
            "changed single_changed",
            "changed public_array_changed",
            "changed public_double_changed",
            "changed public_single_changed",
        ],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "gcc_code",
        asked: "a patch of two functions and a cold part",
        verdict: HOTPATCHABLE,
        functions: &["changed gcc_switch_changed", "changed sub_1430", "changed sub_1470"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "operands",
        asked: "a patch of four functions",
        verdict: RESTART,
        functions: &["changed biased_changed", "changed end_changed", "changed imm32_changed", "changed imm8_changed"],
        data: &[],
        reasons: &["unproven-reference biased_changed", "unproven-reference end_changed"],
        gap: Some(
            "a biased base before the first section, and an end that is also the start of another variable, are compared, and not carried",
        ),
    },
    Outcome {
        fixture: "thunks",
        asked: "a patch of four functions",
        verdict: HOTPATCHABLE,
        functions: &[
            "added RestoreLastError",
            "changed import_changed",
            "changed nameless_changed",
            "changed table_changed",
            "changed tail_changed",
            "removed SetLastError",
        ],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "nameless_variables",
        asked: "a refusal, or a patch of one function",
        verdict: RESTART,
        functions: &[
            "unresolved apples_kept",
            "unresolved fruit_changed",
            "unresolved harvest_apples",
            "unresolved harvest_pears",
            "unresolved pears_kept",
        ],
        data: &[],
        reasons: &[
            "unresolved-reference apples_kept",
            "unresolved-reference fruit_changed",
            "unresolved-reference harvest_apples",
            "unresolved-reference harvest_pears",
            "unresolved-reference pears_kept",
        ],
        gap: None,
    },
    Outcome {
        fixture: "atom_edges",
        asked: "three functions changed, a refusal for one",
        verdict: RESTART,
        functions: &["changed cold_changed", "changed short_changed", "changed through_changed"],
        data: &[],
        reasons: &["not-supported through_changed"],
        gap: None,
    },
    Outcome {
        fixture: "short_branches",
        asked: "a patch of five functions, with a new function",
        verdict: HOTPATCHABLE,
        functions: &[
            "added added",
            "changed backward_changed",
            "changed forward_changed",
            "changed if_zero_changed",
            "changed to_new_changed",
            "changed while_changed",
        ],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "cpp_tables",
        asked: "a patch of five functions",
        verdict: HOTPATCHABLE,
        functions: &[
            "changed ?area@Changed@@UEBAII@Z",
            "changed ?catch_changed@@YAII@Z",
            "changed ?filt$0@0@seh_changed@@",
            "changed ?throw_changed@@YAII@Z",
            "changed seh_changed",
        ],
        data: &[
            "added ??_R0?AUAlike@@@8",
            "added ??_R0?AULarge@@@8",
            "added _CT??_R0?AUAlike@@@84",
            "added _CTA1?AUAlike@@",
            "added _TI1?AUAlike@@",
        ],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "vtable_end",
        asked: "a patch of one function",
        verdict: HOTPATCHABLE,
        functions: &["changed _ZNK3Dog8describeEj"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "itanium_tables",
        asked: "a patch of three functions",
        verdict: HOTPATCHABLE,
        functions: &["changed _Z13catch_changedj", "changed _Z14either_changedj", "changed _Z15cleanup_changedj"],
        data: &[],
        reasons: &[],
        gap: None,
    },
    Outcome {
        fixture: "replaced_table",
        asked: "a patch of two functions, or a refusal",
        verdict: RESTART,
        functions: &["unresolved before", "unresolved inside"],
        data: &["added first_table_of_new", "added second_table_of_new", "removed first_table", "removed second_table"],
        reasons: &["unresolved-reference before", "unresolved-reference inside"],
        gap: None,
    },
];

impl Outcome {
    fn exit_code(&self) -> i32 {
        match self.verdict {
            HOTPATCHABLE => 0,
            RESTART => 3,
            _ => 4,
        }
    }

    fn is_hotpatchable(&self) -> bool {
        self.verdict == HOTPATCHABLE
    }
}

#[test]
fn every_fixture_has_the_outcome_that_is_documented() {
    for expected in OUTCOMES {
        let name = expected.fixture;
        let folder = copy_of(name);
        let report = diff(folder.path(), "old.exe", "new.exe");
        assert_eq!(report["verdict"], expected.verdict, "{name}: verdict");
        assert_eq!(pairs(&report["functions"], "status", "name"), set(expected.functions), "{name}: functions");
        let mut data = pairs(&report["data"], "status", "name");
        data.retain(|item| !item.contains(" ??_C@"));
        assert_eq!(data, set(expected.data), "{name}: data");
        assert_eq!(pairs(&report["reasons"], "code", "symbol"), set(expected.reasons), "{name}: reasons");

        assert_eq!(hpgen(folder.path(), &["check", "old.exe", "new.exe"]).code, Some(expected.exit_code()), "{name}");
        let built = hpgen(folder.path(), &["build", "old.exe", "new.exe", "-o", "fix.hpx"]);
        assert_eq!(built.code, Some(expected.exit_code()), "{name}: {}", built.stderr);
        assert_eq!(folder.path().join("fix.hpx").is_file(), expected.is_hotpatchable(), "{name}: is there a payload?");
    }
}

/// The table above, the README's table and the folders are of the same fixtures, and ask for the same.
#[test]
fn outcomes_agree_with_the_readme() {
    let readme = fs::read_to_string(fixtures().with_file_name("README.md")).unwrap();
    let asked: BTreeMap<String, String> = readme
        .lines()
        .skip_while(|line| !line.starts_with("| fixture |"))
        .skip(2)
        .map_while(|line| {
            let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
            let &[name, _, outcome] = cells.as_slice() else { return None };
            Some((name.trim_matches('`').to_owned(), outcome.to_owned()))
        })
        .collect();
    let ours: BTreeMap<String, String> =
        OUTCOMES.iter().map(|outcome| (outcome.fixture.to_owned(), outcome.asked.to_owned())).collect();
    assert_eq!(ours, asked);
    let folders: BTreeSet<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().join("old.exe").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(ours.into_keys().collect::<BTreeSet<_>>(), folders);
    for outcome in OUTCOMES.iter().filter(|outcome| outcome.gap.is_some()) {
        // A gap is only ever that hpgen refuses or patches too much.
        assert_ne!(outcome.verdict, UNCHANGED, "{}: a silent miss is not a gap, it is a defect", outcome.fixture);
    }
}

#[test]
fn goldens() {
    let bless = std::env::var_os("HPGEN_BLESS").is_some();
    let assert = Assert::new().action(if bless { Action::Overwrite } else { Action::Verify });
    let mut problems = Vec::new();
    for outcome in OUTCOMES {
        let folder = copy_of(outcome.fixture);
        let run = |arguments: &[&str]| hpgen(folder.path(), arguments);
        let build = run(&["build", "old.exe", "new.exe", "-o", "fix.hpx"]);
        let mut goldens = vec![
            ("diff.txt", transcript(&run(&["diff", "old.exe", "new.exe"]))),
            ("diff.json", run(&["diff", "old.exe", "new.exe", "--format", "json"]).stdout),
            ("check.txt", transcript(&run(&["check", "old.exe", "new.exe"]))),
            ("build.txt", transcript(&build)),
        ];
        if LISTED.contains(&outcome.fixture) {
            goldens.push(("asm.txt", transcript(&run(&["diff", "old.exe", "new.exe", "--asm"]))));
        }
        if build.code == Some(0) {
            goldens.push(("inspect.txt", transcript(&run(&["inspect", "fix.hpx"]))));
            goldens.push(("inspect.json", run(&["inspect", "fix.hpx", "--format", "json"]).stdout));
            let verify = ["verify", "fix.hpx", "--old", "old.exe", "--new", "new.exe"];
            let verified = run(&verify);
            assert_eq!(verified.code, Some(0), "{}: {}{}", outcome.fixture, verified.stdout, verified.stderr);
            if outcome.fixture == "new_global" {
                goldens.push(("verify.txt", transcript(&verified)));
                goldens.push(("verify.json", run(&[&verify[..], &["--format", "json"]].concat()).stdout));
            }
            if DISASSEMBLED.contains(&outcome.fixture) {
                let asm = ["inspect", "fix.hpx", "--asm", "--old", "old.exe"];
                goldens.push(("inspect-asm.txt", transcript(&run(&asm))));
            }
            if SYMBOLIZED.contains(&outcome.fixture) {
                let symbolize = |format| run(&[&SYMBOLIZE[..], &[format]].concat());
                goldens.push(("symbols.json", fs::read_to_string(folder.path().join("fix.hpx.sym")).unwrap()));
                goldens.push(("symbolize.txt", transcript(&symbolize("text"))));
                goldens.push(("symbolize.json", symbolize("json").stdout));
            }
        }
        let expected = fixture(outcome.fixture).join("expected");
        for (file, text) in &goldens {
            // Raw: no text is a wildcard.
            let golden = Data::read_from(&expected.join(file), Some(DataFormat::Text)).raw();
            let compared = assert.try_eq(Some(&"hpgen"), text.as_str().into_data(), golden);
            problems.extend(compared.err().map(|difference| difference.to_string()));
        }
        let wanted: BTreeSet<&str> = goldens.iter().map(|(file, _)| *file).collect();
        problems.extend(leftovers(&expected, &wanted, bless));
    }
    assert!(problems.is_empty(), "{}\n`cargo xtask bless` accepts all of this; review its diff", problems.join("\n"));
}

/// Places in a payload: starts and middles of functions, gaps, constants, and what is no part of the region.
const SYMBOLIZE: [&str; 16] = [
    "symbolize",
    "fix.hpx",
    "+0x0",
    "+0x1000",
    "+0x1003",
    "+0x1008",
    "+0x1010",
    "+0x1017",
    "+0x1024",
    "+0x1050",
    "0x7ff600001001",
    "+0x2000",
    "0x7ff600010000",
    "--region",
    "0x7ff600000000",
    "--format",
];

/// Output, errors and the exit code in one text.
fn transcript(ran: &Ran) -> String {
    let code = ran.code.map_or("none".to_owned(), |code| code.to_string());
    format!("{}{}[exit code {code}]\n", ran.stdout, ran.stderr)
}

/// Goldens that nothing was compared with; blessing removes them.
fn leftovers(expected: &Path, wanted: &BTreeSet<&str>, bless: bool) -> Vec<String> {
    let files = fs::read_dir(expected).into_iter().flatten().map(Result::unwrap);
    files
        .filter(|file| !file.file_name().to_str().is_some_and(|name| wanted.contains(name)))
        .filter(|file| !(bless && fs::remove_file(file.path()).is_ok()))
        .map(|file| format!("{}: no command makes this any more", file.path().display()))
        .collect()
}

/// An image compared with itself.
#[test]
fn the_same_build_is_unchanged() {
    for outcome in OUTCOMES {
        let (name, folder) = (outcome.fixture, copy_of(outcome.fixture));
        for image in ["old.exe", "new.exe"] {
            let report = diff(folder.path(), image, image);
            assert_eq!(report["verdict"], UNCHANGED, "{name} {image}");
            for list in ["functions", "data", "reasons"] {
                assert_eq!(report[list], Value::Array(Vec::new()), "{name} {image}: {list}");
            }
            assert_eq!(report["unchanged"], report["old"]["functions"], "{name} {image}: every function is compared");
            let built = hpgen(folder.path(), &["build", image, image, "-o", "fix.hpx"]);
            assert_eq!(built.code, Some(4), "{name} {image}: {}", built.stderr);
            assert!(!folder.path().join("fix.hpx").exists(), "{name} {image}: a payload without a purpose");
        }
    }
}

/// Whether anything changed does not depend on which build is called the old one.
#[test]
fn the_other_direction_changes_as_well() {
    for outcome in OUTCOMES {
        let folder = copy_of(outcome.fixture);
        let back = diff(folder.path(), "new.exe", "old.exe");
        assert_eq!(back["verdict"] == UNCHANGED, outcome.verdict == UNCHANGED, "{}: {back:#}", outcome.fixture);
    }
}

#[test]
fn the_same_inputs_give_the_same_payload() {
    for outcome in OUTCOMES.iter().filter(|outcome| outcome.is_hotpatchable()) {
        let build = |folder: &Path, images: [&str; 2]| {
            let ran = hpgen(folder, &["build", images[0], images[1], "-o", "fix.hpx"]);
            assert_eq!(ran.code, Some(0), "{}: {}", outcome.fixture, ran.stderr);
            ["fix.hpx", "fix.hpx.sym"].map(|file| fs::read(folder.join(file)).unwrap())
        };
        let (here, elsewhere) = (copy_of(outcome.fixture), copy_of(outcome.fixture));
        let first = build(here.path(), ["old.exe", "new.exe"]);
        assert!(first[0].len() > 64, "{}: more than a header", outcome.fixture);
        assert_eq!(build(here.path(), ["old.exe", "new.exe"]), first, "{}: the second time", outcome.fixture);

        let deep = elsewhere.path().join("a/longer path");
        fs::create_dir_all(&deep).unwrap();
        let absolute = |file: &str| elsewhere.path().join(file).into_os_string().into_string().unwrap();
        let (old, new) = (absolute("old.exe"), absolute("new.exe"));
        assert_eq!(build(&deep, [&old, &new]), first, "{}: elsewhere, by absolute paths", outcome.fixture);
    }
}

fn diff(folder: &Path, old: &str, new: &str) -> Value {
    let ran = hpgen(folder, &["diff", old, new, "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("diff prints JSON")
}

fn pairs(list: &Value, first: &str, second: &str) -> BTreeSet<String> {
    let text = |item: &Value, key: &str| item[key].as_str().expect("a text").to_owned();
    let items = list.as_array().expect("a list").iter();
    items.map(|item| format!("{} {}", text(item, first), text(item, second))).collect()
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}
