//! The ways in which people compile what they ship.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::toolchain::Toolchain;

/// How everything of a program is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Flavour {
    /// `-O2`
    #[value(name = "O2")]
    O2,
    /// `-O3`
    #[value(name = "O3")]
    O3,
    /// `-O2 -flto`: the linker optimises over all files
    #[value(name = "LTO")]
    Lto,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::O2, Self::O3, Self::Lto];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::O2 => "O2",
            Self::O3 => "O3",
            Self::Lto => "LTO",
        }
    }

    /// Flags for the compiler.
    pub const fn compile(self) -> &'static [&'static str] {
        match self {
            Self::O2 => &["-O2"],
            Self::O3 => &["-O3"],
            Self::Lto => &["-O2", "-flto"],
        }
    }

    /// Flags for linking.
    pub fn link(self, tools: &Toolchain) -> Vec<String> {
        match self {
            Self::O2 | Self::O3 => vec![format!("-fuse-ld={}", tools.linker_name)],
            // clang gives such objects only to a linker of this name; it finds the one of its own version.
            Self::Lto => vec!["-O2".into(), "-flto".into(), "-fuse-ld=lld".into()],
        }
    }
}
