//! The changes that must not change anything: each is an old and a new layout of one program.

use std::fmt;

use crate::suite::subjects::Kind;

/// How objects become an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Layout {
    /// Seed of another order of the objects.
    pub order: Option<u32>,
    /// Linked to another base address.
    pub other_base: bool,
    /// With identical code folding.
    pub folded: bool,
    /// With an object of unused functions in front.
    pub extra: bool,
    /// Of objects whose sources have unused functions in front.
    pub prepended: bool,
}

/// Where the comparison gets the references of code from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The relocations of the object files.
    Objects,
    /// The image alone, as where it was built on another machine.
    Analysis,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Objects => "objects",
            Source::Analysis => "analysis",
        })
    }
}

/// A folder name.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image")?;
        if let Some(seed) = self.order {
            write!(f, "-order{seed}")?;
        }
        let flags =
            [(self.other_base, "base"), (self.folded, "icf"), (self.extra, "extra"), (self.prepended, "prepended")];
        flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, name)| write!(f, "-{name}"))
    }
}

/// A comparison whose result must be empty.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Its name in the table.
    pub name: &'static str,
    /// The old build.
    pub old: Layout,
    /// The new build.
    pub new: Layout,
}

const PLAIN: Layout = Layout { order: None, other_base: false, folded: false, extra: false, prepended: false };

const fn ordered(seed: u32) -> Layout {
    Layout { order: Some(seed), ..PLAIN }
}

const VARIANTS: [Variant; 9] = [
    Variant { name: "order 1", old: PLAIN, new: ordered(1) },
    Variant { name: "order 2", old: PLAIN, new: ordered(2) },
    Variant { name: "base", old: PLAIN, new: Layout { other_base: true, ..PLAIN } },
    Variant { name: "order 3, base", old: PLAIN, new: Layout { other_base: true, ..ordered(3) } },
    Variant { name: "folded", old: PLAIN, new: Layout { folded: true, ..PLAIN } },
    Variant { name: "unfolded", old: Layout { folded: true, ..PLAIN }, new: PLAIN },
    Variant {
        name: "folded, order 1",
        old: Layout { folded: true, ..PLAIN },
        new: Layout { folded: true, ..ordered(1) },
    },
    Variant { name: "extra object", old: PLAIN, new: Layout { extra: true, ..PLAIN } },
    Variant { name: "extra in sources", old: PLAIN, new: Layout { prepended: true, ..PLAIN } },
];

/// The variants that a kind of program has.
pub fn of(kind: Kind) -> Vec<Variant> {
    // More functions in a Rust crate cut it into other units, which are then optimised differently: that is another program.
    VARIANTS.into_iter().filter(|variant| kind != Kind::Rust || !variant.new.prepended).collect()
}
