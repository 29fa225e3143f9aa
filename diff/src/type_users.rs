//! Which variables and functions use a type: directly, through pointers, or inside of other types.
//!
//! Read from the PDB's type stream and its modules' symbols when a type's layout changed, and only then.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ms_codeview::syms::{SymData, SymIter, SymKind};
use ms_codeview::types::visitor::{IndexVisitor, visit_type_indexes_in_record_slice};
use ms_codeview::types::{Leaf, TypeIndex};
use ms_pdb::Pdb;
use ms_pdb::tpi::TypeStream;
use zerocopy::IntoBytes;

use crate::error::Error;
use crate::pdb::{self, Udt};
use crate::program::Program;

/// Who uses a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeUsers {
    /// Variables, by name.
    pub variables: BTreeSet<String>,
    /// Functions with a parameter, a result or a local of it, by name.
    pub functions: BTreeSet<String>,
}

impl TypeUsers {
    /// Nobody.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.functions.is_empty()
    }
}

/// The users of each of some types, by the types' unique names; none where the PDB cannot be read any more.
pub fn users(program: &Program, types: &BTreeSet<&str>) -> Option<BTreeMap<String, TypeUsers>> {
    let path = &program.symbols.pdb_path;
    let found = pdb::with_open(path, &program.image, |pdb| {
        let stream = pdb.read_type_stream().map_err(|e| Error::pdb(path, e.to_string()))?;
        let graph = Graph::of(&stream);
        let reached = types.iter().map(|name| graph.reaching(name)).collect();
        let mut search = Search { types: types.iter().copied().collect(), reached, users: BTreeMap::new() };
        search.modules(pdb).map_err(|e| Error::pdb(path, e.to_string()))?;
        Ok(search.users)
    });
    found.ok()
}

/// Which type records name which.
struct Graph {
    /// For each record those that name it.
    named_by: HashMap<u32, Vec<u32>>,
    /// Records that define or announce a type, by its unique name.
    by_name: HashMap<String, Vec<u32>>,
    /// The unique name of such a record.
    names: HashMap<u32, String>,
    /// Records of function types: who can call what takes an object does not hold one.
    functions: BTreeSet<u32>,
}

/// Collects the type indices of a record.
struct Named<'a>(&'a mut Vec<u32>);

impl IndexVisitor for Named<'_> {
    fn type_index(&mut self, _: usize, value: TypeIndex) -> Result<(), ms_codeview::parser::ParserError> {
        self.0.push(value.0);
        Ok(())
    }
}

impl Graph {
    fn of(stream: &TypeStream<Vec<u8>>) -> Graph {
        let mut graph = Graph {
            named_by: HashMap::new(),
            by_name: HashMap::new(),
            names: HashMap::new(),
            functions: BTreeSet::new(),
        };
        let first = stream.type_index_begin().0;
        let mut named = Vec::new();
        for (index, record) in (first..=u32::MAX).zip(stream.iter_type_records()) {
            named.clear();
            if matches!(record.kind, Leaf::LF_PROCEDURE | Leaf::LF_MFUNCTION) {
                graph.functions.insert(index);
            }
            // A record that is no sound one names what was read so far.
            let _ = visit_type_indexes_in_record_slice(record.kind, record.data, Named(&mut named));
            for target in named.iter().filter(|target| **target >= first) {
                graph.named_by.entry(*target).or_default().push(index);
            }
            if let Ok(data) = record.parse()
                && let Some(udt) = Udt::of(&data)
            {
                graph.by_name.entry(udt.key()).or_default().push(index);
                graph.names.insert(index, udt.key());
            }
        }
        graph
    }

    /// All records that name a type, or name one that does.
    fn reaching(&self, name: &str) -> BTreeSet<u32> {
        let mut reached = BTreeSet::new();
        let mut queue: Vec<u32> = self.by_name.get(name).cloned().unwrap_or_default();
        while let Some(index) = queue.pop() {
            if !reached.insert(index) || self.functions.contains(&index) {
                continue;
            }
            queue.extend(self.named_by.get(&index).into_iter().flatten());
            // Who names a type often names only its announcement.
            let same = self.names.get(&index).and_then(|name| self.by_name.get(name));
            queue.extend(same.into_iter().flatten());
        }
        reached
    }
}

struct Search<'a> {
    types: Vec<&'a str>,
    /// For each of the types, the records that reach it.
    reached: Vec<BTreeSet<u32>>,
    users: BTreeMap<String, TypeUsers>,
}

impl Search<'_> {
    fn modules(&mut self, pdb: &Pdb<&[u8]>) -> anyhow::Result<()> {
        for module in pdb.read_modules()?.iter() {
            let records = pdb.read_module_symbols(&module)?;
            self.records(SymIter::for_module_syms(records.as_bytes()));
        }
        self.records(pdb.read_gss()?.iter_syms());
        Ok(())
    }

    fn records<'r>(&mut self, records: impl Iterator<Item = ms_codeview::syms::Sym<'r>>) {
        let mut function = String::new();
        for record in records {
            match record.parse() {
                Ok(SymData::Proc(procedure)) => {
                    function = procedure.name.to_string();
                    self.add(procedure.fixed.proc_type.get().0, None, &function);
                }
                Ok(SymData::Local(local)) => self.add(local.fixed.ty.get().0, None, &function),
                Ok(SymData::RegRel(local)) => self.add(local.fixed.ty.get().0, None, &function),
                Ok(SymData::Data(data)) => {
                    self.add(data.header.type_.get().0, Some(&data.name.to_string()), &function);
                }
                Ok(SymData::ThreadData(data)) => {
                    self.add(data.header.type_.get().0, Some(&data.name.to_string()), &function);
                }
                _ => {
                    // `S_BPREL32` has an offset before its type, `S_REGISTER` has the type first.
                    let at = match record.kind {
                        SymKind::S_BPREL32 => 4,
                        SymKind::S_REGISTER => 0,
                        _ => continue,
                    };
                    if let Some(Ok(index)) = record.data.get(at..at + 4).map(<[u8; 4]>::try_from) {
                        self.add(u32::from_le_bytes(index), None, &function);
                    }
                }
            }
        }
    }

    fn add(&mut self, index: u32, variable: Option<&str>, function: &str) {
        for (name, _) in self.types.iter().zip(&self.reached).filter(|(_, reached)| reached.contains(&index)) {
            let users = self.users.entry((*name).to_owned()).or_default();
            let (set, user) = match variable {
                Some(variable) => (&mut users.variables, variable),
                None => (&mut users.functions, function),
            };
            if !set.contains(user) {
                set.insert(user.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn variables_and_functions_that_use_a_type() {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures/struct_layout/old.exe");
        let program = Program::load(&image, None).unwrap();
        let (key, _) = program.symbols.layouts.iter().find(|(key, _)| key.contains("account")).unwrap();
        let found = users(&program, &BTreeSet::from([key.as_str(), "nowhere"])).unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let expected = TypeUsers { variables: names(&["account"]), functions: names(&["deposit", "show"]) };
        assert_eq!(found, BTreeMap::from([(key.clone(), expected)]));
    }
}
