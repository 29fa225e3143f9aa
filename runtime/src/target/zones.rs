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

/// Disjoint zones by rising address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Zones(Vec<Zone>);

impl Zones {
    /// Sorts them. Where several cover an address, the one that begins first counts.
    pub fn new(mut zones: Vec<Zone>) -> Zones {
        zones.sort_by_key(|zone| (zone.range.start, zone.part));
        let mut free_from = 0;
        zones.retain_mut(|zone| {
            zone.range.start = zone.range.start.max(free_from);
            free_from = free_from.max(zone.range.end);
            !zone.range.is_empty()
        });
        Zones(zones)
    }

    /// The number of the zone that holds an address. Allocates nothing.
    pub fn at(&self, address: u64) -> Option<usize> {
        let index = self.0.partition_point(|zone| zone.range.start <= address).checked_sub(1)?;
        self.0.get(index).filter(|zone| zone.range.contains(&address)).map(|_| index)
    }

    /// The zone of that number.
    pub fn get(&self, index: usize) -> Option<&Zone> {
        self.0.get(index)
    }

    /// Whether whole functions are among them: then stacks that no thread runs on count as well.
    pub fn need_every_stack(&self) -> bool {
        self.0.iter().any(|zone| zone.part != Part::Entry)
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
        assert!(zones.need_every_stack());
        assert!(!Zones::new(vec![zone(1..5, "f", Part::Entry)]).need_every_stack());
        assert_eq!(Zones::default().at(7), None);
    }
}
