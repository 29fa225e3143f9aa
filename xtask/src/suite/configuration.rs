//! How the programs of a suite are compiled.

use std::fmt;

/// One set of compiler flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration {
    /// `0`, `1`, `2` or `s`.
    pub optimisation: &'static str,
    /// Whether every function and variable has a section of its own.
    pub sections: bool,
}

/// All configurations, those that compile longest first.
pub fn all() -> Vec<Configuration> {
    let both = |optimisation| [true, false].map(|sections| Configuration { optimisation, sections });
    ["2", "s", "1", "0"].into_iter().flat_map(both).collect()
}

impl Configuration {
    /// The flags for clang.
    pub fn clang_flags(self) -> Vec<String> {
        let no = if self.sections { "" } else { "no-" };
        vec![format!("-O{}", self.optimisation), format!("-f{no}function-sections"), format!("-f{no}data-sections")]
    }

    /// The flags for rustc; leaving out sections is not stable there.
    pub fn rustc_flags(self) -> Vec<String> {
        let sections = if self.sections { "yes" } else { "no" };
        vec![format!("-Copt-level={}", self.optimisation), format!("-Zfunction-sections={sections}")]
    }

    /// A name for a folder.
    pub fn folder(self) -> String {
        format!("O{}{}", self.optimisation, if self.sections { "-sections" } else { "" })
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-O{}{}", self.optimisation, if self.sections { " sections" } else { "" })
    }
}
