//! How many mutations each program gets, and how it is compiled for them.

use crate::suite::configuration::Configuration;
use crate::suite::subjects::Subject;

/// Mutations of one program in one configuration.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The program.
    pub subject: &'a Subject,
    /// How it is compiled.
    pub configuration: Configuration,
    /// Mutations of the whole suite.
    pub all: usize,
    /// Those that are made now: the first of all.
    pub wanted: usize,
    /// Where the turns through the kinds of edits begin: the fixtures have few each.
    pub first_edit: usize,
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// A part that is over within a minute or so, the same each time.
    pub sample: bool,
    /// Only programs whose name has one of these in it; all if there is none.
    pub programs: Vec<String>,
    /// Only configurations that are called so, for example `O2-sections`.
    pub configurations: Vec<String>,
}

/// Optimisation, mutations of the whole suite, mutations of the sample. `SQLite` is compiled whole for each mutation: 3 s without
/// optimisation, half a minute with it.
fn quotas(row: &str) -> &'static [(&'static str, usize, usize)] {
    match row {
        "sqlite" => &[("2", 6, 0), ("1", 14, 0), ("0", 60, 2)],
        "lua" => &[("2", 25, 8), ("s", 25, 0), ("1", 25, 4), ("0", 25, 6)],
        "cpp_host" => &[("2", 14, 4), ("s", 14, 0), ("1", 14, 4), ("0", 14, 4)],
        "rust_host" => &[("2", 10, 4), ("s", 8, 0), ("1", 10, 0), ("0", 10, 2)],
        _ => &[("2", 2, 1), ("s", 2, 0), ("1", 2, 0), ("0", 2, 1)],
    }
}

impl Selection {
    /// What is done for each program; the fixtures are small and take turns with the configurations.
    pub fn groups<'a>(&self, subjects: &'a [Subject]) -> Vec<Group<'a>> {
        let mut groups = Vec::new();
        let mut fixtures = 0_usize;
        for subject in subjects {
            let mut quotas = quotas(subject.row);
            let first_edit = 2 * fixtures;
            if subject.row == "fixtures" {
                let turn = fixtures % quotas.len();
                quotas = quotas.get(turn..=turn).unwrap_or_default();
                fixtures += 1;
            }
            for (optimisation, all, sample) in quotas {
                let configuration = Configuration { optimisation, sections: true };
                let wanted = if self.sample { *sample } else { *all };
                if wanted > 0 && self.has(subject, configuration) {
                    groups.push(Group { subject, configuration, all: *all, wanted, first_edit });
                }
            }
        }
        groups
    }

    fn has(&self, subject: &Subject, configuration: Configuration) -> bool {
        (self.programs.is_empty() || self.programs.iter().any(|word| subject.name.contains(word.as_str())))
            && (self.configurations.is_empty() || self.configurations.contains(&configuration.folder()))
    }
}
