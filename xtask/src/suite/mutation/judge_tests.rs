//! Judgements over a committed fixture whose one changed function is known.

use hpgen_diff::compare::Comparison;

use super::*;
use crate::suite::mutation::truth::Modules;
use crate::suite::mutation::truth::link_map::LinkMap;
use crate::workspace;

struct Fixture {
    old: Program,
    new: Program,
    set: ChangeSet,
}

fn load() -> Fixture {
    let load = |image| {
        let folder = workspace::testdata().join("fixtures").join("callee");
        Program::load(&folder.join(image), None).unwrap()
    };
    let (old, new) = (load("old.exe"), load("new.exe"));
    let set = ChangeSet::of(&old, &new, &Comparison::of(&old, &new));
    Fixture { old, new, set }
}

impl Fixture {
    /// Where a function is in both images.
    fn places(&self, name: &str) -> [u32; 2] {
        [&self.old, &self.new].map(|program| {
            let mut named = program.atoms.iter().filter(|atom| program.linkage_name(atom) == name);
            named.next().unwrap().rva.0
        })
    }

    fn change(&self, name: &str, is_cosmetic: bool) -> Change {
        let [old, new] = self.places(name);
        Change { kind: Kind::Function, name: name.to_owned(), old: vec![old], new: vec![new], is_cosmetic }
    }

    fn judge(&self, changes: &[Change]) -> Judgement {
        // Every function is a section of its own.
        let truth = |program: &Program| {
            let lines = program
                .atoms
                .iter()
                .filter(|atom| atom.is_function())
                .map(|atom| format!("{:08x} {:08x}    16         m.o:(.text)\n", atom.rva.0, atom.size));
            Truth::of(Vec::new(), LinkMap::parse(&lines.collect::<String>()), Modules::Sources)
        };
        let (old, new) = (truth(&self.old), truth(&self.new));
        let old = Side { truth: &old, program: &self.old };
        let new = Side { truth: &new, program: &self.new };
        judge(changes, Source::Objects, old, new, &self.set)
    }
}

#[test]
fn what_both_sides_name_is_found() {
    let fixture = load();
    let judgement = fixture.judge(&[fixture.change("price", false)]);
    assert_eq!((judgement.changed, judgement.found), (1, 1));
    assert_eq!((judgement.misses, judgement.extras), (Vec::new(), Vec::new()));
}

#[test]
fn what_only_the_truth_names_is_a_miss() {
    let fixture = load();
    let judgement = fixture.judge(&[fixture.change("price", false), fixture.change("add_tax", false)]);
    assert_eq!((judgement.changed, judgement.found), (2, 1));
    assert!(judgement.misses.iter().any(|miss| miss.contains("add_tax")), "{:?}", judgement.misses);
}

#[test]
fn what_only_hpgen_names_is_an_extra() {
    let judgement = load().judge(&[]);
    assert_eq!(judgement.extras.len(), 1, "{:?}", judgement.extras);
    assert!(judgement.extras.iter().all(|extra| extra.contains("price")), "{:?}", judgement.extras);
}

#[test]
fn a_change_that_hpgen_calls_cosmetic_is_a_miss() {
    let mut fixture = load();
    for function in &mut fixture.set.functions {
        function.status = FunctionStatus::Cosmetic;
    }
    assert_eq!(fixture.judge(&[fixture.change("price", false)]).misses.len(), 1);
    assert_eq!(fixture.judge(&[fixture.change("price", true)]).misses.len(), 0);
}
