//! Funclets in text: a catch block or clean-up of a function that is listed is told with it, not on a line of its own.

use std::collections::BTreeMap;

use hpgen_diff::report::FunctionReport;

/// Which functions of a report are told with another one.
pub struct Funclets {
    /// By the index of the function that is listed.
    of: BTreeMap<usize, usize>,
    /// For each function the one that it is told with, if any.
    told_with: Vec<Option<usize>>,
}

impl Funclets {
    /// Sorts the functions of a report. A funclet of a function that is not in the report stays on its own.
    pub fn among(functions: &[FunctionReport]) -> Self {
        let told_with: Vec<Option<usize>> = functions.iter().map(|funclet| parent(functions, funclet)).collect();
        let mut of = BTreeMap::new();
        for parent in told_with.iter().flatten() {
            *of.entry(*parent).or_default() += 1;
        }
        Self { of, told_with }
    }

    /// Whether a function is listed on its own.
    pub fn is_listed(&self, index: usize) -> bool {
        self.told_with.get(index).is_none_or(Option::is_none)
    }

    /// How many funclets are told with a function.
    pub fn count_of(&self, index: usize) -> usize {
        self.of.get(&index).copied().unwrap_or(0)
    }

    /// How many are told with others.
    pub fn count(&self) -> usize {
        self.told_with.iter().flatten().count()
    }
}

/// The function of the report that a funclet is a part of: of several with that name the one of its module.
fn parent(functions: &[FunctionReport], funclet: &FunctionReport) -> Option<usize> {
    let parents = || {
        let all = functions.iter().enumerate();
        all.filter(|(_, function)| function.funclet_of.is_empty() && funclet.funclet_of.contains(&function.name))
    };
    let of_its_module = parents().find(|(_, function)| function.module == funclet.module);
    of_its_module.or_else(|| parents().next()).map(|(index, _)| index)
}

#[cfg(test)]
#[path = "funclets_tests.rs"]
mod tests;
