//! Compares the tables of two functions' language handlers.

use super::instruction_order::Order;
use super::walk::{PairWalk, different};
use super::{Difference, Outcome};
use crate::atoms::Atom;
use crate::exceptions::Item;
use crate::matching::{Claim, Match, Use};
use crate::program::{Function, Location, Program};
use crate::rva::Rva;
use crate::x64::Code;

impl PairWalk<'_> {
    /// The tables of a language handler, statement by statement.
    pub fn handler_data(
        &mut self,
        (handler, data, a, old_order, old_atom): (Rva, Rva, &Function, &Order, &Atom),
        (other_data, b, new_order, new_atom): (Rva, &Function, &Order, &Atom),
    ) -> Result<(), Outcome> {
        let name = self.sides.old.handler_name(handler);
        let read = |program: &Program, atom: &Atom, data: Rva| {
            program.exception_tables(&name, atom, data).map_err(|what| Outcome::Unresolved(Difference::at(0, 0, what)))
        };
        let old = read(self.sides.old, old_atom, data)?;
        let new = read(self.sides.new, new_atom, other_data)?;
        if old.items.len() != new.items.len() {
            return different(0, 0, "the exception tables differ in length");
        }
        let place = |rva: Rva, atom: &Atom, code: &Code, order: &Order| {
            u32::try_from(rva.distance_from(atom.rva))
                .ok()
                .filter(|offset| *offset <= atom.size)
                .map(|offset| order.end_position_of(code, offset))
        };
        for (x, y) in old.items.into_iter().zip(new.items) {
            let same = match (x, y) {
                (Item::Number(x), Item::Number(y)) => x == y,
                (Item::Code(x), Item::Code(y)) => {
                    match (place(x, old_atom, &a.code, old_order), place(y, new_atom, &b.code, new_order)) {
                        (Some(p), Some(q)) => p == q,
                        (None, None) => matches!(self.match_address(x, y, Use::Direct), Match::Same(_)),
                        _ => false,
                    }
                }
                (Item::Funclet(x), Item::Funclet(y)) => {
                    // A funclet that begins where its function ends is not inside it.
                    let inside = |rva: Rva, atom: &Atom, code: &Code, order: &Order| {
                        place(rva, atom, code, order).filter(|_| rva < atom.end())
                    };
                    match (inside(x, old_atom, &a.code, old_order), inside(y, new_atom, &b.code, new_order)) {
                        (Some(p), Some(q)) => p == q,
                        (None, None) => self.funclet(x, y),
                        _ => false,
                    }
                }
                (Item::Data(x), Item::Data(y)) => matches!(self.match_address(x, y, Use::Direct), Match::Same(_)),
                _ => false,
            };
            if !same {
                return different(0, 0, "the exception tables differ");
            }
        }
        Ok(())
    }

    /// Funclets are parts of their function: what counts is what they do, whatever their names.
    fn funclet(&mut self, old: Rva, new: Rva) -> bool {
        match (self.sides.old.locate(old), self.sides.new.locate(new)) {
            (Location::Atom { atom: a, offset: 0 }, Location::Atom { atom: b, offset: 0 }) => {
                if (a, b) != (self.old, self.new) {
                    self.claims.insert(Claim::Content(a, b));
                }
                true
            }
            _ => false,
        }
    }
}
