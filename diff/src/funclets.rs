//! Functions that are pieces of others: catch blocks, clean-ups, filters and `__finally` blocks.

use std::collections::{BTreeMap, BTreeSet};

use crate::atoms::{Atom, AtomIndex};
use crate::exceptions::Item;
use crate::program::{Location, Program};
use crate::rva::Rva;

/// Whether Microsoft's compiler named a procedure as a funclet of another one, which stands before it in its module's symbols:
/// `` `f'::`1'::dtor$0 `` is a piece of `f`, and so is `f$dtor$0` where `f` has C linkage. Types within the two names are not
/// written alike.
pub(crate) fn is_piece_of(funclet: &str, function: &str) -> bool {
    const KINDS: [&str; 4] = ["dtor", "catch", "filt", "fin"];
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((rest, number)) = funclet.rsplit_once('$') else { return false };
    let Some(rest) = KINDS.iter().find_map(|kind| rest.strip_suffix(kind)).filter(|_| is_number(number)) else {
        return false;
    };
    if let Some(owner) = rest.strip_suffix('$') {
        return owner == function;
    }
    let scope =
        rest.strip_prefix('`').and_then(|rest| rest.strip_suffix("'::")).and_then(|rest| rest.rsplit_once("'::`"));
    let function = function.split('<').next().unwrap_or(function);
    scope.is_some_and(|(owner, scope)| is_number(scope) && owner.starts_with(function))
}

impl Program {
    /// Functions that are pieces of others: they run on another function's frame, and only its exception tables lead to them.
    pub fn funclets(&self) -> BTreeSet<AtomIndex> {
        // `__finally` blocks that clang calls from where the tables lead to.
        let is_named = |atom: &Atom| {
            const PREFIXES: [&str; 4] = ["__fin_", "?fin$", "__filt_", "?filt$"];
            atom.names.iter().any(|name| PREFIXES.iter().any(|prefix| name.key.starts_with(prefix)))
        };
        let named = self.functions.iter().map(|function| function.atom);
        let named = named.filter(|index| self.atom(*index).is_some_and(is_named));
        self.exception_table_funclets()
            .map(|(_, funclet)| funclet)
            .chain(named)
            .chain(self.left_over_funclets())
            .collect()
    }

    /// Funclets by their names that neither code nor a pointer leads to: nothing runs them, whatever becomes of them.
    fn left_over_funclets(&self) -> BTreeSet<AtomIndex> {
        let named = self.symbols.funclets.iter().filter_map(|(funclet, _)| self.starts_at(*funclet));
        let mut left_over: BTreeSet<AtomIndex> = named.collect();
        if left_over.is_empty() {
            return left_over;
        }
        let from_code = self.functions.iter().flat_map(|function| {
            let code = function.code.references.iter().map(|reference| reference.target);
            code.chain(function.data_tables.iter().flat_map(|table| table.targets.iter().copied()))
        });
        let relocations = self.image.base_relocations.iter();
        let from_data = relocations.filter_map(|place| self.image.relocated_target(*place));
        let from_tables = self.exception_table_items().filter_map(|(_, item)| match item {
            Item::Code(rva) => Some(rva),
            Item::Funclet(_) | Item::Data(_) | Item::Number(_) => None,
        });
        for target in from_code.chain(from_data).chain(from_tables) {
            if let Location::Atom { atom, .. } = self.locate(target) {
                left_over.remove(&atom);
            }
        }
        left_over
    }

    fn starts_at(&self, rva: Rva) -> Option<AtomIndex> {
        match self.locate(rva) {
            Location::Atom { atom, offset: 0 } => Some(atom),
            _ => None,
        }
    }

    /// Each funclet with the functions that it is a piece of, which are no funclets: one, or several where the linker folded
    /// funclets of several functions into one body. Those are among them that only a name tells: Microsoft's compiler leaves a
    /// clean-up in the image whose destructor the tables of version 4 name themselves.
    pub fn funclet_parents(&self) -> BTreeMap<AtomIndex, BTreeSet<AtomIndex>> {
        let mut named_by: BTreeMap<AtomIndex, BTreeSet<AtomIndex>> = BTreeMap::new();
        for (function, funclet) in self.exception_table_funclets() {
            named_by.entry(funclet).or_default().insert(function);
        }
        for (funclet, function) in &self.symbols.funclets {
            if let (Some(funclet), Some(function)) = (self.starts_at(*funclet), self.starts_at(*function)) {
                named_by.entry(funclet).or_default().insert(function);
            }
        }
        // A catch block shares its function's tables, which name the catch block itself too.
        let parents = |funclet: &AtomIndex| {
            let (mut parents, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![*funclet]);
            while let Some(index) = open.pop() {
                match named_by.get(&index) {
                    Some(names) => open.extend(names.iter().copied().filter(|name| seen.insert(*name))),
                    None => drop(parents.insert(index)),
                }
            }
            parents
        };
        named_by.keys().map(|funclet| (*funclet, parents(funclet))).collect()
    }

    /// Functions, each with a funclet that its exception tables name.
    fn exception_table_funclets(&self) -> impl Iterator<Item = (AtomIndex, AtomIndex)> + '_ {
        self.exception_table_items().filter_map(move |(function, item)| match item {
            Item::Funclet(rva) => Some((function, self.starts_at(rva)?)),
            _ => None,
        })
    }

    /// Functions, each with a statement of its exception tables.
    fn exception_table_items(&self) -> impl Iterator<Item = (AtomIndex, Item)> + '_ {
        self.functions.iter().flat_map(move |function| {
            let atom = self.atom(function.atom);
            let tables = function.unwind.iter().filter_map(move |(_, info)| {
                let (handler, data) = info.handler?;
                self.exception_tables(&self.handler_name(handler), atom?, data).ok()
            });
            tables.flat_map(|tables| tables.items).map(|item| (function.atom, item))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_funclet_names_its_function() {
        for (funclet, function) in [
            ("`PtyClear'::`1'::dtor$0", "PtyClear"),
            ("`std::use_facet<std::ctype<char> >'::`1'::dtor$12", "std::use_facet<class std::ctype<char> >"),
            ("``Setup'::`2'::<lambda_2>::operator()'::`1'::catch$0", "`Setup'::`2'::<lambda_2>::operator()"),
            ("`main'::`1'::filt$0", "main"),
            ("`main'::`1'::fin$1", "main"),
            ("winpty_open$dtor$16", "winpty_open"),
            ("_ctrlfp$filt$0", "_ctrlfp"),
        ] {
            assert!(is_piece_of(funclet, function), "{funclet}");
        }
    }

    #[test]
    fn other_names_name_no_function() {
        for (other, function) in [
            ("PtyClear", "PtyClear"),
            ("`PtyClear'::`1'::dtor$0", "PtyResize"),
            ("`PtyClear'::`2'::<lambda_1>::operator()", "PtyClear"),
            ("`PtyClear'::`2'::dtor", "PtyClear"),
            ("`PtyClear'::`2'::table$1", "PtyClear"),
            ("`PtyClear'::dtor$0", "PtyClear"),
            ("`PtyClear'::`x'::dtor$0", "PtyClear"),
            ("winpty_open$dtor$0", "winpty"),
            ("winpty_open$dtor$", "winpty_open"),
            ("winpty_open$table$0", "winpty_open"),
            ("dtor$0", "dtor"),
            ("", ""),
        ] {
            assert!(!is_piece_of(other, function), "{other}");
        }
    }
}
