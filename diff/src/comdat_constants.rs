//! Constants without a name in sections of their own (COMDAT), as clang makes them for Microsoft's ABI and rustc always does: the section tells how far
//! one goes. What names a place inside (`&table[8]`) cuts nothing off.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::image::Image;
use crate::rva::{Rva, remove_within};
use crate::symbols::Symbols;
use crate::x64::Code;

/// Where such constants are.
pub(crate) struct ComdatConstants(Vec<Range<Rva>>);

impl ComdatConstants {
    pub fn of(image: &Image, symbols: &Symbols, codes: &[Code]) -> ComdatConstants {
        // Several tables of one function can share a section.
        let tables: BTreeSet<Rva> = codes.iter().flat_map(|code| &code.facts.tables).map(|table| table.rva).collect();
        let is_constant = |own: &&Range<Rva>| {
            let section = image.section_at(own.start);
            section.is_some_and(|section| !section.is_writable() && !section.is_executable())
                && tables.range((*own).clone()).next().is_none()
        };
        let own = symbols.contributions.iter().filter(|c| c.is_comdat).map(|c| &c.range);
        ComdatConstants(own.filter(is_constant).cloned().collect())
    }

    /// The addresses at which anonymous objects begin, without those inside such constants, and with where these begin.
    pub fn without_insides(&self, mut targets: BTreeSet<Rva>) -> BTreeSet<Rva> {
        for own in &self.0 {
            if remove_within(&mut targets, Rva(own.start.0.saturating_add(1))..own.end) {
                targets.insert(own.start);
            }
        }
        targets
    }
}
