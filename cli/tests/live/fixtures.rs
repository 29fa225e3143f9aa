//! The fixtures that can be patched: while one runs, its output becomes that of the new build, and that of the old build again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use xtask::live::{Target, phases};
use xtask::workspace;

use crate::session::{Session, expect};

/// Lines in each phase; 10 ms each.
const SEEN: usize = 30;
/// At least so many of them must be lines that the two builds print differently. `rodata` has two in eight.
const TOLD_APART: usize = 3;
/// More than any of these tests waits for.
const MANY_ROUNDS: usize = 100_000;

macro_rules! without_state {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                there_and_back(stringify!($name), None);
            }
        )*
    };
}

// Not those whose rounds call several replaced functions: the line of a round in which the patch goes in is then neither build's.
without_state!(
    biased_base,
    callee,
    constant,
    dispatch,
    inlined,
    line_macro,
    loop_at_entry,
    new_import,
    removed,
    rodata,
    short_function,
    string,
    vtable_end,
    table_from_one,
);

#[test]
fn new_function() {
    there_and_back("new_function", Some(Model { initial: 10, round: visit }));
}

#[test]
fn new_global() {
    there_and_back("new_global", Some(Model { initial: 0, round: ticket }));
}

#[test]
fn static_names() {
    there_and_back("static_names", Some(Model { initial: 0, round: alpha_beta }));
}

/// Each of two variables of one name keeps its value.
#[test]
fn lto_statics() {
    there_and_back("lto_statics", Some(Model { initial: 0, round: kept_and_changed }));
}

/// A variable of a block goes on counting, though its block has another number.
#[test]
fn block_numbers() {
    there_and_back("block_numbers", Some(Model { initial: 0, round: counted_calls }));
}

#[test]
fn magic_statics() {
    there_and_back("magic_statics", Some(Model { initial: 1000, round: calls_since }));
}

/// Tables that count from the image's base, in a region that has to be above it.
#[test]
fn image_relative() {
    there_and_back_with_torn_rounds("image_relative");
}

/// Tables that the compiler made of `switch`.
#[test]
fn lookup_table() {
    there_and_back_with_torn_rounds("lookup_table");
}

/// The end of a jump table is also the start of an empty string.
#[test]
fn empty_string() {
    there_and_back_with_torn_rounds("empty_string");
}

/// Jumps beside the functions lead on where short branches do not reach.
#[test]
fn short_branches() {
    there_and_back_with_torn_rounds("short_branches");
}

/// Of a fixture whose rounds call several replaced functions: one that runs while the patch goes in or out prints a line of both builds.
fn there_and_back_with_torn_rounds(name: &str) {
    let Some(session) = Session::start(name) else { return };
    let (old, new) = (workspace::fixture(name, "old"), workspace::fixture(name, "new"));
    let payload = session.build("fix.hpx", &old, &new, &[]);
    let target = Target::start(&old, [MANY_ROUNDS.to_string()]).unwrap();
    let any = |_: &str| true;
    target.wait_for_lines("the first rounds", SEEN, any).unwrap();
    session.apply(0, target.pid(), &payload);
    target.wait_for_lines("rounds with the patch", SEEN, any).unwrap();
    session.roll_back(target.pid());
    let lines = target.wait_for_lines("rounds after the rollback", SEEN, any).unwrap();
    drop(target);

    let [of_old, of_new] = outputs([old, new], lines.len());
    let is_of = |index: usize, build: &[String]| lines[index] == build[index];
    let shown = |index: usize| match (is_of(index, &of_old), is_of(index, &of_new)) {
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ => None,
    };
    let torn: Vec<&String> = (0..lines.len())
        .filter(|index| !is_of(*index, &of_old) && !is_of(*index, &of_new))
        .map(|index| &lines[index])
        .collect();
    assert!(torn.len() <= 2, "{torn:?}");
    let phases = phases((0..lines.len()).map(shown).collect::<Vec<_>>());
    let in_order = matches!(phases[..], [(false, _), (true, _), (false, _)]);
    assert!(in_order && phases.iter().all(|(_, lines)| *lines >= TOLD_APART), "{phases:?}\n{}", lines.join("\n"));
}

/// A fixture whose lines depend on a variable, and so on the rounds before: what it prints in a round with the code of the
/// new build, or of the old one.
struct Model {
    initial: u32,
    round: fn(variable: &mut u32, round: u32, new: bool) -> String,
}

/// `count` of `beta.c` of `lto_statics`; that of `alpha.c` is what the rounds so far make it.
fn kept_and_changed(count: &mut u32, round: u32, new: bool) -> String {
    *count += if new { 200 } else { 100 };
    format!("kept {} changed {count}", round * (round + 3) / 2)
}

/// `calls` of `block_numbers`.
fn counted_calls(calls: &mut u32, round: u32, new: bool) -> String {
    *calls += 1;
    let kind = if round % 2 == 1 { " odd" } else { " even" };
    format!("calls {calls} of {round}{}", if new { kind } else { "" })
}

/// `calls` of `magic_statics`, with `since` above it, which comes with the patch and holds the round of its first call.
fn calls_since(both: &mut u32, round: u32, new: bool) -> String {
    *both += 1;
    let (calls, since) = (*both & 0xffff, *both >> 16);
    if !new {
        return format!("calls {calls}");
    }
    let since = if since == 0 { round } else { since };
    *both = calls | since << 16;
    format!("calls {calls} since {since}")
}

/// `total` of `new_function`.
fn visit(total: &mut u32, round: u32, new: bool) -> String {
    *total += 1;
    let mut line = format!("visit {round}");
    if new {
        line += &match round % 7 {
            0 => {
                *total = 0;
                String::new()
            }
            1 => " one".to_owned(),
            2 => format!(" two {}", *total + round),
            3 => " three!".to_owned(),
            4 => {
                *total += round;
                total.to_string()
            }
            5 => (round * round).to_string(),
            _ => {
                *total ^= round;
                String::new()
            }
        };
    }
    line
}

/// `calls` of `new_global`, which comes with the patch and begins with its first call.
fn ticket(calls: &mut u32, round: u32, new: bool) -> String {
    if !new {
        return format!("ticket {round}");
    }
    *calls += 1;
    format!("ticket {round} calls {calls} id {}", 1000 + *calls)
}

/// `count` of the second module of `static_names`.
fn alpha_beta(count: &mut u32, round: u32, new: bool) -> String {
    *count += if new { 100 } else { 10 };
    format!("alpha {round} beta {count}")
}

fn there_and_back(name: &str, model: Option<Model>) {
    let Some(session) = Session::start(name) else { return };
    let (old, new) = (workspace::fixture(name, "old"), workspace::fixture(name, "new"));
    let payload = session.build("fix.hpx", &old, &new, &["--include", "cosmetic"]);

    let target = Target::start(&old, [MANY_ROUNDS.to_string()]).unwrap();
    let any = |_: &str| true;
    target.wait_for_lines("the first rounds", SEEN, any).unwrap();
    session.apply(0, target.pid(), &payload);
    target.wait_for_lines("rounds with the patch", SEEN, any).unwrap();
    assert!(session.status(target.pid()).iter().all(|patch| patch["state"] == "applied"));
    session.roll_back(target.pid());
    let lines = target.wait_for_lines("rounds after the rollback", SEEN, any).unwrap();
    drop(target);

    let shown = which_build(&lines, [old, new], model);
    let phases = phases(shown);
    let in_order = matches!(phases[..], [(false, _), (true, _), (false, _)]);
    assert!(
        in_order && phases.iter().all(|(_, lines)| *lines >= TOLD_APART),
        "the output should be old, new and old again, not: {phases:?}\n{}",
        lines.join("\n")
    );
}

/// For each line, whether it is the new build's, where that can be told. Fails at a line that is neither build's.
fn which_build(lines: &[String], builds: [PathBuf; 2], model: Option<Model>) -> Vec<Option<bool>> {
    let [old, new] = outputs(builds, lines.len());
    if let Some(model) = &model {
        // Without a patch, the builds themselves are as the model says.
        for (output, is_new) in [(&old, false), (&new, true)] {
            let mut variable = model.initial;
            let round = |index: usize| (model.round)(&mut variable, index as u32 + 1, is_new);
            assert_eq!((0..lines.len()).map(round).collect::<Vec<_>>(), *output);
        }
    }
    // Values that the variable may have: where both builds print the same, they may still leave different ones.
    let mut variables = BTreeSet::from([model.as_ref().map_or(0, |model| model.initial)]);
    let mut which = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let round = |mut variable: u32, is_new: bool| {
            let expected = match &model {
                None => [&old, &new][usize::from(is_new)][index].clone(),
                Some(model) => (model.round)(&mut variable, index as u32 + 1, is_new),
            };
            (expected == *line).then_some(variable)
        };
        let after = |is_new| variables.iter().filter_map(|variable| round(*variable, is_new)).collect::<BTreeSet<_>>();
        let (after_old, after_new) = (after(false), after(true));
        which.push(match (after_old.is_empty(), after_new.is_empty()) {
            (true, true) => panic!("round {}: {line:?} is neither build's:\n{}", index + 1, lines[..=index].join("\n")),
            (false, false) => None,
            (_, is_old) => Some(!is_old),
        });
        variables = after_old.union(&after_new).copied().collect();
    }
    which
}

/// What the builds print by themselves, both at the same time: most of it is sleep.
fn outputs(builds: [PathBuf; 2], rounds: usize) -> [Vec<String>; 2] {
    let targets = builds.map(|image| Target::start(&image, [rounds.to_string()]).unwrap());
    targets.map(|target| {
        let ended = target.end().unwrap();
        expect(0, &ended);
        ended.stdout.lines().map(str::to_owned).collect()
    })
}
