use hpgen_diff::change_set::FunctionStatus;

use super::*;

fn function(name: &str, module: &str, funclet_of: &[&str]) -> FunctionReport {
    FunctionReport {
        name: name.to_owned(),
        display: name.to_owned(),
        module: Some(module.to_owned()),
        funclet_of: funclet_of.iter().map(|name| (*name).to_owned()).collect(),
        status: FunctionStatus::Changed,
        old_rva: None,
        new_rva: None,
        old_size: None,
        new_size: None,
        paired_by: None,
        old_evidence: None,
        new_evidence: None,
        why: String::new(),
        difference: None,
        old_source: None,
        new_source: None,
        inlined_from: Vec::new(),
    }
}

#[test]
fn a_funclet_is_told_with_its_function() {
    let functions = [function("open", "a.obj", &[]), function("open dtor$0", "a.obj", &["open"])];
    let funclets = Funclets::among(&functions);
    assert!(funclets.is_listed(0));
    assert!(!funclets.is_listed(1));
    assert_eq!((funclets.count_of(0), funclets.count()), (1, 1));
}

/// Nothing that changed may be left out because of a function that did not.
#[test]
fn a_funclet_of_a_function_that_is_not_there_is_listed() {
    let functions = [function("close", "a.obj", &[]), function("open dtor$0", "a.obj", &["open"])];
    let funclets = Funclets::among(&functions);
    assert!(funclets.is_listed(1));
    assert_eq!((funclets.count_of(0), funclets.count()), (0, 0));
}

#[test]
fn of_two_functions_with_one_name_that_of_the_same_module_counts() {
    let functions =
        [function("init", "a.obj", &[]), function("init", "b.obj", &[]), function("init catch$0", "b.obj", &["init"])];
    let funclets = Funclets::among(&functions);
    assert_eq!((funclets.count_of(0), funclets.count_of(1)), (0, 1));
}

#[test]
fn a_folded_funclet_is_told_with_the_function_that_changed() {
    let functions = [function("second", "b.obj", &[]), function("dtor$0", "a.obj", &["first", "second"])];
    let funclets = Funclets::among(&functions);
    assert!(!funclets.is_listed(1));
    assert_eq!(funclets.count_of(0), 1);
}
