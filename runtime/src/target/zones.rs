//! Addresses where no thread may be, nor return to, when code is exchanged.

use std::ops::Range;

use crate::error::Part;

/// A run of addresses, and what it is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    pub range: Range<u64>,
    pub function: String,
    pub part: Part,
}

/// Disjoint zones by rising address, each with whether it begins where it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Zones(Vec<(Zone, bool)>);

impl Zones {
    /// Sorts them. Where several cover an address, the one that begins first counts.
    pub fn new(mut zones: Vec<Zone>) -> Zones {
        zones.sort_by_key(|zone| (zone.range.start, zone.part));
        let mut free_from = 0;
        let mut disjoint = Vec::new();
        for mut zone in zones {
            let is_whole = zone.range.start >= free_from;
            zone.range.start = zone.range.start.max(free_from);
            free_from = free_from.max(zone.range.end);
            if !zone.range.is_empty() {
                disjoint.push((zone, is_whole));
            }
        }
        Zones(disjoint)
    }

    /// The number of the zone that holds an instruction pointer. Allocates nothing.
    pub fn at(&self, address: u64) -> Option<usize> {
        let index = self.0.partition_point(|(zone, _)| zone.range.start <= address).checked_sub(1)?;
        self.0.get(index).filter(|(zone, _)| zone.range.contains(&address)).map(|_| index)
    }

    /// The number of the zone that a word on a stack may return to. No call returns to the first byte of a function: such a word is a
    /// pointer to it.
    pub fn returned_to(&self, word: u64) -> Option<usize> {
        let index = self.at(word)?;
        let (zone, is_whole) = self.0.get(index)?;
        let is_pointer = *is_whole && zone.part == Part::Body && zone.range.start == word;
        (!is_pointer).then_some(index)
    }

    /// The zone of that number.
    pub fn get(&self, index: usize) -> Option<&Zone> {
        self.0.get(index).map(|(zone, _)| zone)
    }

    /// Whether whole functions are among them: then stacks that no thread runs on count as well.
    pub fn need_every_stack(&self) -> bool {
        self.0.iter().any(|(zone, _)| zone.part != Part::Entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(range: Range<u64>, function: &str, part: Part) -> Zone {
        Zone { range, function: function.into(), part }
    }

    #[test]
    fn every_address_has_the_zones_that_were_given() {
        let zones = Zones::new(vec![
            zone(40..44, "d", Part::Entry),
            zone(10..30, "a", Part::Body),
            zone(12..16, "b", Part::Entry),
            zone(25..35, "c", Part::Body),
            zone(50..50, "e", Part::Entry),
        ]);
        let name = |address| zones.at(address).and_then(|index| zones.get(index)).map(|zone| zone.function.as_str());
        for address in 0..60 {
            let expected = match address {
                10..30 => Some("a"),
                30..35 => Some("c"),
                40..44 => Some("d"),
                _ => None,
            };
            assert_eq!(name(address), expected, "{address}");
        }
        let returned: Vec<u64> = (0..60).filter(|word| zones.returned_to(*word).is_some()).collect();
        let expected: Vec<u64> = (11..35).chain(40..44).collect();
        assert_eq!(
            returned, expected,
            "the first byte of `a` is a pointer; that of what is left of `c` is not its first"
        );
        assert!(zones.need_every_stack());
        assert!(!Zones::new(vec![zone(1..5, "f", Part::Entry)]).need_every_stack());
        assert_eq!(Zones::default().at(7), None);
    }
}
