//! Functions that the new build imports by the same name from another DLL. What the one has handed out (blocks of a heap, handles, files), the other
//! one does not know.

use std::collections::{BTreeMap, BTreeSet};

use crate::change_set::Reason;
use crate::image::{Image, Import, ImportedSymbol};

/// A reason for each import that another DLL has taken over.
pub(crate) fn reasons(old: &Image, new: &Image) -> Vec<Reason> {
    let imports = |image: &Image| image.imports.iter().map(|slot| slot.import.clone()).collect::<BTreeSet<Import>>();
    let (olds, news) = (imports(old), imports(new));
    let gone: BTreeMap<&str, &Import> =
        olds.difference(&news).filter_map(|import| Some((name(import)?, import))).collect();
    news.difference(&olds)
        .filter_map(|import| {
            let before = gone.get(name(import)?)?;
            Some(Reason {
                code: "import-moved",
                symbol: name(import)?.to_owned(),
                message: format!(
                    "the new build imports {import} in place of {before}: what the running process got from the one, the other may not know"
                ),
            })
        })
        .collect()
}

fn name(import: &Import) -> Option<&str> {
    match &import.symbol {
        ImportedSymbol::Name(name) => Some(name),
        ImportedSymbol::Ordinal(_) => None,
    }
}
