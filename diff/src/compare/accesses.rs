//! Direct accesses, which read or write a known number of bytes at a known address.

use super::Outcome;
use super::walk::{PairWalk, different};
use crate::matching::{Match, Use};
use crate::x64::Reference;

impl PairWalk<'_> {
    /// Two accesses by instructions at two offsets. What they reach must be the same object, and so must all that they reach behind what
    /// is known of its extent.
    pub fn access(&mut self, (x, r): (u32, &Reference), (y, s): (u32, &Reference)) -> Result<(), Outcome> {
        let is_outside = self.sides.old.is_outside(r.named()) || self.sides.new.is_outside(s.named());
        let (old, new) = match is_outside {
            // Nothing that is known of the object says what stands there.
            true => (r.target.into(), s.target.into()),
            false => (r.named(), s.named()),
        };
        self.address((x, old), (y, new), Use::Direct)?;
        let (mut from, mut to) = (r.target, s.target);
        let mut left = r.accessed.min(s.accessed);
        loop {
            let ends = [self.sides.old.end_of_access(from, left), self.sides.new.end_of_access(to, left)];
            let Some(read) = ends.into_iter().flatten().min() else { return Ok(()) };
            let next = (from.checked_add(read), to.checked_add(read), u8::try_from(read).ok());
            let (Some(next_from), Some(next_to), Some(read)) = next else { return Ok(()) };
            (from, to, left) = (next_from, next_to, left.saturating_sub(read));
            if !matches!(self.match_address(from, to, Use::Direct), Match::Same(_)) {
                return different(x, y, self.show(x, y));
            }
        }
    }
}
