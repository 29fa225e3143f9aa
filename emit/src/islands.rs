//! Short branches that leave their function: their eight bits do not reach what they lead to in the region, and some (`jrcxz`, `loop`) have no
//! longer form. Each leads to a long jump of its own beside the function, an *island*. So the code stays what the new build has, byte for
//! byte, with its offsets, its unwind data and its lines.

use crate::plan::Destination;

/// Bytes of an island: `jmp rel32`.
pub(crate) const ISLAND: u32 = 5;

/// The long jumps of a function.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Islands {
    /// Those in front of the function, the nearest first.
    pub before: Vec<Destination>,
    /// Those behind it, the nearest first.
    pub behind: Vec<Destination>,
}

impl Islands {
    /// Bytes in front of the function.
    pub(crate) fn bytes_before(&self) -> u64 {
        self.before.len() as u64 * u64::from(ISLAND)
    }

    /// Bytes behind the function.
    pub(crate) fn bytes_behind(&self) -> u64 {
        self.behind.len() as u64 * u64::from(ISLAND)
    }

    /// Where the islands are, as distances from the function's start. `extent` is where the function ends.
    pub(crate) fn places(&self, extent: u32) -> impl Iterator<Item = (i64, &Destination)> {
        let before = (0..).zip(&self.before).map(|(number, to)| (in_front(number), to));
        before.chain((0..).zip(&self.behind).map(move |(number, to)| (behind(extent, number), to)))
    }

    /// Gives a branch that ends at `end` a way to a destination.
    ///
    /// # Errors
    /// When no place beside the function is near enough.
    pub(crate) fn lead(&mut self, extent: u32, end: u32, to: &Destination) -> Result<(), String> {
        let reaches = |place: i64| i8::try_from(place - i64::from(end)).is_ok();
        if self.places(extent).any(|(place, known)| known == to && reaches(place)) {
            return Ok(());
        }
        if reaches(behind(extent, self.behind.len())) {
            self.behind.push(to.clone());
        } else if reaches(in_front(self.before.len())) {
            self.before.push(to.clone());
        } else {
            return Err(
                "a short branch leaves the function, too far from both of its ends for a longer jump beside it"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The island for a branch that ends at `end`.
    pub(crate) fn way(&self, extent: u32, end: u32, to: &Destination) -> Option<i8> {
        let distances = self.places(extent).filter(|(_, known)| *known == to);
        distances.map(|(place, _)| place - i64::from(end)).find_map(|distance| i8::try_from(distance).ok())
    }
}

fn behind(extent: u32, number: usize) -> i64 {
    i64::from(extent) + number as i64 * i64::from(ISLAND)
}

fn in_front(number: usize) -> i64 {
    -((number as i64 + 1) * i64::from(ISLAND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpgen_diff::rva::Rva;

    #[test]
    fn each_branch_gets_the_nearest_place_that_it_reaches() {
        let mut islands = Islands::default();
        let [first, second, third] = [1, 2, 3].map(|rva| Destination::Image(Rva(rva)));
        // A function of 300 bytes: its end is out of reach of what stands near its start, and the other way round.
        islands.lead(300, 20, &first).unwrap();
        islands.lead(300, 290, &second).unwrap();
        islands.lead(300, 280, &second).unwrap();
        islands.lead(300, 280, &first).unwrap();
        assert_eq!(islands, Islands { before: vec![first.clone()], behind: vec![second.clone(), first.clone()] });
        assert_eq!(islands.way(300, 20, &first), Some(-25));
        assert_eq!(islands.way(300, 290, &second), Some(10));
        assert_eq!(islands.way(300, 280, &first), Some(25));
        islands.lead(300, 150, &third).unwrap_err();
        assert_eq!(islands.way(300, 150, &third), None);
    }
}
