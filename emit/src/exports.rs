//! New functions of an image that the payloads for other images of the same release import: they are found in its region by name.

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::image::{Import, ImportedSymbol};
use hpgen_diff::program::{Location, Program};

use crate::correspondence::Correspondence;

/// The change set's reason for an export that came, went, or leads elsewhere.
pub(crate) const REASON: &str = "export-changed";

/// The new function that the new build exports under a name.
///
/// # Errors
/// Says why it cannot be found in a region by that name.
pub(crate) fn function(programs: &Correspondence<'_>, name: &str) -> Result<AtomIndex, String> {
    let new = programs.new;
    let export = new.image.exports.iter().find(|export| export.name == name);
    match export.map(|export| new.locate(export.rva)) {
        Some(Location::Atom { atom, offset: 0 }) if new.function(atom).is_some() => {
            if !programs.comparison.pairing.old_of(atom).is_empty() {
                return Err("is exported now, and the old build has it without exporting it".to_owned());
            }
            if new.atom(atom).map(|atom| new.linkage_name(atom)).as_deref() != Some(name) {
                return Err("is exported now, under another name than its own".to_owned());
            }
            Ok(atom)
        }
        _ => Err("is exported now, and is no function".to_owned()),
    }
}

/// The new names that an import asks an image for: the old build does not export it, the new one does.
pub fn asked_for<'a>(import: &'a Import, old: &Program, new: &Program) -> Option<&'a str> {
    let ImportedSymbol::Name(name) = &import.symbol else { return None };
    let exports = |program: &Program| program.image.exports.iter().any(|export| export.name == *name);
    let is_it = old.image.file_name().eq_ignore_ascii_case(&import.dll);
    (is_it && !exports(old) && exports(new)).then_some(name)
}
