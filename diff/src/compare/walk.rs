//! One pair of atoms being compared: what is common to code, data and exception tables.

use std::collections::BTreeSet;

use super::{Difference, Outcome};
use crate::atoms::AtomIndex;
use crate::cosmetic::Traces;
use crate::matching::{Claim, Match, Sides, Use};
use crate::rva::Rva;
use crate::x64::Named;

/// Outcome of looking at one pair alone.
pub(super) struct Local {
    pub outcome: Outcome,
    pub claims: BTreeSet<Claim>,
    /// The difference is one of two numbers, which the line tables may explain.
    pub asks_lines: bool,
}

/// Compares two atoms.
pub(super) fn compare_atoms(sides: Sides<'_>, traces: &Traces<'_>, old: AtomIndex, new: AtomIndex) -> Local {
    let mut walk = PairWalk { sides, traces, old, new, claims: BTreeSet::new(), cosmetic: None, asks_lines: false };
    let result = match (sides.old.function(old), sides.new.function(new)) {
        (Some(a), Some(b)) => walk.functions(a, b),
        (None, None) => walk.data(),
        _ => Err(Outcome::Different(Difference::at(0, 0, "code here, data there"))),
    };
    let outcome = match (result, walk.cosmetic) {
        (Err(outcome), _) => outcome,
        (Ok(()), Some(difference)) => Outcome::Cosmetic(difference),
        (Ok(()), None) => Outcome::Same,
    };
    Local { outcome, claims: walk.claims, asks_lines: walk.asks_lines }
}

/// One pair being compared. Methods end with `Err` at the first difference that counts.
pub(super) struct PairWalk<'a> {
    pub sides: Sides<'a>,
    pub traces: &'a Traces<'a>,
    pub old: AtomIndex,
    pub new: AtomIndex,
    pub claims: BTreeSet<Claim>,
    /// The first difference that does not count.
    pub cosmetic: Option<Difference>,
    pub asks_lines: bool,
}

/// Ends a walk.
pub(super) fn different<T>(old_offset: u32, new_offset: u32, what: impl Into<String>) -> Result<T, Outcome> {
    Err(Outcome::Different(Difference::at(old_offset, new_offset, what)))
}

impl<'a> PairWalk<'a> {
    /// Notes a difference that does not count.
    pub fn cosmetic(&mut self, old_offset: u32, new_offset: u32, what: impl Into<String>) {
        self.cosmetic.get_or_insert_with(|| Difference::at(old_offset, new_offset, what));
    }

    /// Two addresses that the instructions at two offsets name.
    pub fn address(&mut self, (x, old): (u32, Named), (y, new): (u32, Named), usage: Use) -> Result<(), Outcome> {
        match self.match_named(old, new, usage) {
            Match::Same(_) => Ok(()),
            Match::Different => different(x, y, self.show(x, y)),
            Match::Ambiguous => Err(Outcome::Unresolved(Difference::at(
                x,
                y,
                format!("{}: the address has two readings, and the builds do not agree on one", self.show(x, y)),
            ))),
        }
    }

    pub fn match_address(&mut self, old: Rva, new: Rva, usage: Use) -> Match {
        self.match_named(old.into(), new.into(), usage)
    }

    pub fn match_named(&mut self, old: Named, new: Named, usage: Use) -> Match {
        // A function's references into itself are compared as places in its own code.
        let found = self.sides.match_named(old, new, usage);
        if let Match::Same(Some(claim)) = found
            && claim != Claim::Content(self.old, self.new)
        {
            self.claims.insert(claim);
        }
        found
    }
}
