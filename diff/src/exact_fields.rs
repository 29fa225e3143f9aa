//! Fields of an image that are known exactly, from what the linker or the compiler left behind, and not from what instructions show.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::fixups;
use crate::image::Image;
use crate::objects;
use crate::rva::Rva;
use crate::symbols::Symbols;
use crate::x64::Evidence;

/// All exact fields of an image, by where they are known from.
#[derive(Debug, Default)]
pub struct ExactFields {
    /// From the fixups of the PDB.
    pub fixups: FieldSet,
    /// From object files.
    pub objects: FieldSet,
}

/// Fields that one source tells.
#[derive(Debug, Default)]
pub struct FieldSet {
    fields: BTreeMap<Rva, ExactField>,
    /// Contributions of which all fields are told, by rising start.
    covered: Vec<Range<Rva>>,
}

/// A field that holds an address in some form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactField {
    /// Form of the field.
    pub kind: FieldKind,
    /// The address that it leads to.
    pub target: Rva,
    /// The object that is meant, where a symbol of its own is named rather than a section.
    pub symbol: Option<Rva>,
}

/// Forms of relocated fields (`IMAGE_REL_AMD64_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Distance from the field's instruction (`REL32` and its variants).
    Relative,
    /// 64-bit address (`ADDR64`).
    Address,
    /// RVA (`ADDR32NB`).
    Rva,
    /// Offset from the start of the target's section (`SECREL`).
    SectionOffset,
}

impl FieldSet {
    /// Collects fields and the contributions whose fields they are.
    pub(crate) fn new(
        fields: impl IntoIterator<Item = (Rva, ExactField)>,
        covered: impl IntoIterator<Item = Range<Rva>>,
    ) -> FieldSet {
        let mut covered: Vec<_> = covered.into_iter().collect();
        covered.sort_by_key(|range| range.start);
        FieldSet { fields: fields.into_iter().collect(), covered }
    }

    /// The field at exactly this address.
    pub fn at(&self, place: Rva) -> Option<&ExactField> {
        self.fields.get(&place)
    }

    /// All fields inside a range.
    pub fn inside(&self, range: Range<Rva>) -> impl Iterator<Item = (Rva, &ExactField)> {
        self.fields.range(range).map(|(place, field)| (*place, field))
    }

    /// Whether all fields of an address's contribution are told.
    pub fn covers(&self, rva: Rva) -> bool {
        let index = self.covered.partition_point(|range| range.start <= rva);
        index.checked_sub(1).and_then(|index| self.covered.get(index)).is_some_and(|range| range.contains(&rva))
    }

    /// Addresses of the objects that fields name.
    fn named_addresses(&self) -> impl Iterator<Item = Rva> {
        self.fields.values().filter_map(|field| match field.kind {
            FieldKind::Address => field.symbol.or(Some(field.target)),
            // Without a symbol, an RVA may be the end of a function (the function table), a distance that of a table's entry.
            FieldKind::Rva | FieldKind::Relative | FieldKind::SectionOffset => field.symbol,
        })
    }
}

impl ExactFields {
    /// Reads what there is.
    pub(crate) fn load(image: &Image, symbols: &Symbols) -> ExactFields {
        ExactFields { fixups: fixups::check(image, symbols), objects: objects::load(image, symbols) }
    }

    /// The source that tells all fields of an address's contribution.
    pub(crate) fn covering(&self, rva: Rva) -> Option<(Evidence, &FieldSet)> {
        let sources = [(Evidence::Fixups, &self.fixups), (Evidence::Objects, &self.objects)];
        sources.into_iter().find(|(_, set)| set.covers(rva))
    }

    /// The field at exactly this address.
    pub fn at(&self, place: Rva) -> Option<&ExactField> {
        self.fixups.at(place).or_else(|| self.objects.at(place))
    }

    /// All fields inside a range, by rising address.
    pub fn inside(&self, range: Range<Rva>) -> impl Iterator<Item = (Rva, &ExactField)> {
        let mut fields: BTreeMap<Rva, &ExactField> = self.objects.inside(range.clone()).collect();
        fields.extend(self.fixups.inside(range));
        fields.into_iter()
    }

    /// Addresses of the objects that fields name by symbols of their own.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = Rva> {
        let fields = self.fixups.fields.values().chain(self.objects.fields.values());
        fields.filter_map(|field| field.symbol)
    }

    /// Addresses of the objects that fields name.
    pub fn named_addresses(&self) -> impl Iterator<Item = Rva> {
        self.fixups.named_addresses().chain(self.objects.named_addresses())
    }
}
