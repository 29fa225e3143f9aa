//! By which numbers rustc tells the variants of an enumeration apart: constants beside the types of the variants (`compiler/rustc_codegen_llvm/src/
//! debuginfo/metadata/enums/cpp_like.rs`). A variant that comes or goes within an enumeration moves the numbers of those around it.

use std::collections::{BTreeSet, HashMap};

use ms_codeview::syms::Constant;

use crate::ordinals::stable_name;
use crate::shapes::{Layouts, Shape};
use crate::symbols::Member;

/// How the names of members begin that stand for such a number.
pub(crate) const DISCRIMINANT: &str = "discriminant ";

/// Numbers of variants, by the key of the variant's type.
#[derive(Debug, Default)]
pub(crate) struct Discriminants(HashMap<String, BTreeSet<(String, u64)>>);

impl Discriminants {
    /// Takes a constant that is one. Where a variant has all numbers that no other one has, its range follows from theirs.
    pub fn add(&mut self, constant: &Constant<'_>) {
        let name = constant.name.to_string();
        let Some((of, which)) = name.rsplit_once("::") else { return };
        if !matches!(which, "DISCR_EXACT" | "DISCR128_EXACT_LO" | "DISCR128_EXACT_HI") {
            return;
        }
        let value = u64::try_from(constant.value).ok();
        let value = value.or_else(|| i64::try_from(constant.value).ok().map(i64::cast_unsigned));
        if let Some(value) = value {
            let of = stable_name(of).into_owned();
            self.0.entry(of).or_default().insert((format!("{DISCRIMINANT}{which}"), value));
        }
    }

    /// Makes them members of the variants' types.
    pub fn add_to(self, layouts: &mut Layouts) {
        for (of, numbers) in self.0 {
            let Some(all) = layouts.get_mut(&of) else { continue };
            let with_numbers = std::mem::take(all).into_iter().map(|mut layout| {
                layout.members.extend(numbers.iter().map(|(name, value)| Member {
                    name: name.clone(),
                    offset: *value,
                    size: None,
                    shape: Shape::Opaque,
                    bits: None,
                }));
                layout
            });
            *all = with_numbers.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use ms_codeview::parser::Parse;

    use super::*;
    use crate::symbols::TypeLayout;

    /// `S_CONSTANT`: a type, a number below 0x8000, and a name.
    fn constant(name: &str, value: u16) -> Vec<u8> {
        let mut bytes = 0x20_u32.to_le_bytes().to_vec();
        bytes.extend(value.to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn numbers_of_variants_become_members_of_their_types() {
        let variant = "enum2$<core::option::Option<app::Fault> >::Variant0";
        let mut layouts = Layouts::new();
        let layout = TypeLayout { name: variant.to_owned(), size: 1, ..TypeLayout::default() };
        layouts.insert(variant.to_owned(), BTreeSet::from([layout]));
        let mut found = Discriminants::default();
        for (which, value) in [("DISCR_EXACT", 2), ("NAME", 0), ("DISCR_BEGIN", 1)] {
            let bytes = constant(&format!("{variant}::{which}"), value);
            found.add(&Constant::parse(&bytes).unwrap());
        }
        found.add_to(&mut layouts);
        let members = &layouts[variant].first().unwrap().members;
        let members: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.offset)).collect();
        assert_eq!(members, [("discriminant DISCR_EXACT", 2)]);
    }
}
