//! The content of one data object of the new build, at its place in the process.

use hpgen_diff::atoms::{Atom, AtomIndex};
use hpgen_diff::program::{DataField, DataFieldKind, Location};
use hpgen_diff::rva::{Rva, span};
use hpgen_diff::x64::Named;

use crate::claims::{Looked, Origin};
use crate::meaning::{Meaning, Meant};
use crate::process::Place;
use crate::report::Finding;

/// Compares the first `size` bytes of an object with what is at `start`: bytes as they are, addresses by what they lead to.
pub(crate) fn look(meaning: Meaning<'_>, index: AtomIndex, start: u64, size: u32) -> Looked {
    let mut walk = DataWalk { meaning, index, start, looked: Looked::default() };
    if let Some(atom) = meaning.facts.new.atom(index) {
        walk.content(atom, size);
    }
    walk.looked
}

struct DataWalk<'a> {
    meaning: Meaning<'a>,
    index: AtomIndex,
    start: u64,
    looked: Looked,
}

impl DataWalk<'_> {
    fn finding(&mut self, offset: u32, expected: impl Into<String>, found: impl Into<String>) {
        self.looked.findings.push(Finding {
            code: "content",
            function: Some(self.meaning.facts.name(self.index)),
            offset: Some(offset),
            instruction: None,
            expected: expected.into(),
            found: found.into(),
        });
    }

    fn content(&mut self, atom: &Atom, size: u32) {
        let new = self.meaning.facts.new;
        let process = self.meaning.process;
        let mut expected = new.image.bytes_up_to(span(atom.rva, size)).to_vec();
        expected.resize(size as usize, 0);
        let Some(found) = process.read(self.start, size) else {
            let place = self.meaning.describe(self.start);
            return self.finding(
                0,
                format!("{size} bytes"),
                format!("the end of the section or segment behind {place}"),
            );
        };
        let fields = new.data_fields(atom, size);
        let is_field = |offset: usize| {
            let next = fields.partition_point(|field| field.offset as usize <= offset);
            let field = next.checked_sub(1).and_then(|index| fields.get(index));
            field.is_some_and(|field| offset < (field.offset.saturating_add(field.kind.width())) as usize)
        };
        let bytes = expected.iter().zip(found.iter()).enumerate();
        let differs = bytes.filter(|(at, (new, found))| new != found && !is_field(*at)).map(|(at, _)| at).next();
        if let Some(at) = differs {
            let byte = |bytes: &[u8]| bytes.get(at).map_or(String::new(), |byte| format!("{byte:#04x}"));
            let found = format!("{} at {}", byte(&found), self.meaning.describe(self.start.wrapping_add(at as u64)));
            self.finding(at as u32, byte(&expected), found);
        }
        for field in &fields {
            self.field(atom, field);
        }
    }

    fn field(&mut self, atom: &Atom, field: &DataField) {
        let process = self.meaning.process;
        let place = self.start.wrapping_add(field.offset.into());
        let found = match field.kind {
            DataFieldKind::Pointer => process.u64_at(place),
            DataFieldKind::Rva => process.u32_at(place).map(|rva| self.base().wrapping_add(rva.into())),
            DataFieldKind::Distance => self.distance_target(atom, field, place),
        };
        let Some(found) = found else {
            return self.finding(field.offset, "an address", "no bytes");
        };
        self.looked.references.add("pointer");
        let meant = match field.named {
            Some(named) => self.pointer(named, found),
            // An RVA of zero stands for nothing.
            None if field.kind == DataFieldKind::Rva && found == self.base() => Ok(Vec::new()),
            None => Err("an address inside the new image".to_owned()),
        };
        match meant {
            Ok(claims) => self.looked.claim(claims, Origin { atom: self.index, offset: field.offset }),
            Err(expected) => {
                let found = self.meaning.describe(found);
                self.finding(field.offset, expected, found);
            }
        }
    }

    /// What RVAs count from. Those of descriptions of what is thrown count from the function table's base in the region (2.5).
    fn base(&self) -> u64 {
        let process = self.meaning.process;
        let is_own = matches!(process.place(self.start), Place::Region(_));
        match process.linked.function_table {
            Some(table) if is_own && self.meaning.facts.is_throw_record(self.index) => table.base,
            _ => process.in_image(Rva(0)),
        }
    }

    /// A constant of the old image holds what the old linker wrote: its pointers may be ends and biased bases, which both builds show.
    fn pointer(&self, named: Named, found: u64) -> Meant {
        let meant = self.meaning.is_pointer(named, found);
        if meant.is_ok() || named.symbol.is_some() {
            return meant;
        }
        let is_old = matches!(self.meaning.process.place(self.start), Place::Image(_));
        let plain = match self.meaning.facts.new.locate(named.target) {
            Location::Atom { atom, offset } => crate::readings::Reading { atom, offset: offset.into() },
            _ => return meant,
        };
        match self.meaning.process.place(found) {
            Place::Image(rva) if is_old && !self.meaning.agreed(rva, named.target, plain).is_empty() => Ok(Vec::new()),
            _ => meant,
        }
    }

    /// Distances count from a place near the field, which is as far from it in both builds.
    fn distance_target(&self, atom: &Atom, field: &DataField, place: u64) -> Option<u64> {
        let image = &self.meaning.facts.new.image;
        let field_rva = atom.rva.checked_add(field.offset)?;
        let written = image.u32_at(field_rva)?.cast_signed();
        let origin = field.named?.target.distance_from(field_rva).checked_sub(written.into())?;
        let found = self.meaning.process.u32_at(place)?.cast_signed();
        place.checked_add_signed(origin.checked_add(found.into())?)
    }
}
