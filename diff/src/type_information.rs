//! Of which functions a PDB has the types, and of which it has names or source lines alone.
//!
//! Compilers can leave types out (`-g0`, `-gline-tables-only`, Rust's `debuginfo=1`; gcc without CodeView; assembly). A function without a
//! procedure symbol, or with one without a type, plainly has none. With line tables alone, clang still writes what the functions themselves take
//! and give, but only announces the structures behind pointers, and rustc says of all that they are `void ()`: what gives these away is that no
//! function of the file has parameters or locals. Microsoft's compiler knows no such thing. Link-time optimisation makes one file of
//! many, so that nothing but a function's own records tells of it, and where these can tell nothing, those of its source file's other functions (see
//! `typed_sources`); that is where it may be taken for one without types.

use std::collections::{BTreeSet, HashMap};

use ms_codeview::syms::{InlineSite, InlineSite2, InlineSite2Fixed, InlineSiteFixed, SymData, SymIter, SymKind};
use ms_codeview::types::{TypeData, TypeIndex};
use ms_pdb::Pdb;
use ms_pdb::tpi::TypeStream;
use zerocopy::IntoBytes;

use crate::atoms::{Atom, AtomIndex};
use crate::error::Error;
use crate::pdb::{self, Udt};
use crate::program::Program;
use crate::rva::Rva;
use crate::shapes::Shape;
use crate::symbols::{ModuleIndex, Symbols};
use crate::typed_sources;

/// What a PDB has of the types of some modules' functions.
#[derive(Debug, Default)]
pub(crate) struct TypeInformation {
    procedures: HashMap<Rva, Vec<Described>>,
    modules: HashMap<ModuleIndex, Compiled>,
    /// Classes that the PDB defines nowhere, and of which a procedure is a member, or a function that it inlined.
    undefined_classes: HashMap<Rva, BTreeSet<UndefinedClass>>,
    /// Functions that show no types themselves, and whose instructions' source files do.
    known_by_source: BTreeSet<Rva>,
}

/// A class that a PDB announces and defines nowhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UndefinedClass {
    /// Unique name.
    pub key: String,
    /// Name in the source's terms.
    pub name: String,
}

impl UndefinedClass {
    /// The class of a unique name, where it is announced only. Much of the standard library's templates is in files that come with the compiler;
    /// Microsoft's compiler leaves out the lambdas that it inlined.
    pub fn of(symbols: &Symbols, key: &str) -> Option<UndefinedClass> {
        let is_of_interest = |name: &&String| !name.starts_with("std::") && !name.contains("<lambda");
        let name = symbols.announced.get(key).filter(is_of_interest)?.clone();
        Some(UndefinedClass { key: key.to_owned(), name })
    }
}

/// What a procedure's symbols have besides its name.
#[derive(Debug, Clone, Copy)]
struct Described {
    module: ModuleIndex,
    type_: OwnType,
    /// Parameters or locals of its own, not those of calls that were inlined; rustc's of these, too.
    has_locals: bool,
}

/// A procedure's own type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnType {
    None,
    /// `void ()`
    Empty,
    /// A result, and no parameters.
    Result,
    Values,
}

/// What a module's symbols have.
#[derive(Debug, Clone, Default)]
struct Compiled {
    /// `CV_CFL_LANG`; none where the module does not say.
    language: Option<u8>,
    /// The compiler with its version.
    compiler: String,
    /// Some function's types stand in the PDB for sure, or a variable's.
    has_types: bool,
}

/// `CV_CFL_MASM` and rustc's number.
const ASSEMBLY: u8 = 0x03;
const RUST: u8 = 0x15;

impl TypeInformation {
    /// Reads the modules that some functions came from. Where the PDB cannot be read any more, nothing has a type.
    pub fn of(program: &Program, functions: impl IntoIterator<Item = AtomIndex>) -> TypeInformation {
        let functions: Vec<AtomIndex> = functions.into_iter().collect();
        let wanted: BTreeSet<ModuleIndex> = functions.iter().filter_map(|index| program.atom(*index)?.module).collect();
        let path = &program.symbols.pdb_path;
        let found = pdb::with_open(path, &program.image, |pdb| {
            let stream = pdb.read_type_stream().map_err(|e| Error::pdb(path, e.to_string()))?;
            let ids = pdb.read_ipi_stream().map_err(|e| Error::pdb(path, e.to_string()))?;
            let (found, members) = (TypeInformation::default(), HashMap::new());
            let mut reader = Reader { program, stream: &stream, ids: &ids, found, members };
            reader.modules(pdb, &wanted).map_err(|e| Error::pdb(path, e.to_string()))?;
            reader.variables();
            Ok(reader.found)
        });
        let mut found = found.unwrap_or_default();
        found.known_by_source = typed_sources::functions_of(program, &found, &functions);
        found
    }

    /// Whether the PDB has a function's types, as far as that can be told.
    pub fn has_types(&self, program: &Program, atom: &Atom) -> bool {
        let Some(module) = atom.module else { return false };
        if self.known_by_source.contains(&atom.rva) {
            return true;
        }
        let is_merged = self.is_merged(program, module);
        let own = self.own(atom);
        if own.is_empty() {
            return if is_merged { is_made_by_compiler(atom) } else { self.module_has_types(module) };
        }
        own.iter().any(|procedure| {
            procedure.type_ != OwnType::None
                && (self.is_proof(procedure) || !is_merged && self.module_has_types(procedure.module))
        })
    }

    /// The classes that a function and what it inlined are members of, where the PDB says nothing of what they consist of.
    pub fn undefined_classes(&self, atom: &Atom) -> impl Iterator<Item = &UndefinedClass> {
        self.undefined_classes.get(&atom.rva).into_iter().flatten()
    }

    /// Whether a function is known to be given nothing. (What rustc's line tables say of all functions, `void ()`, counts for nothing.)
    pub fn takes_nothing(&self, atom: &Atom) -> bool {
        let own = self.own(atom);
        !own.is_empty() && own.iter().all(|procedure| procedure.type_ == OwnType::Result)
    }

    /// Whether a function's own records show its types.
    pub fn shows_types(&self, atom: &Atom) -> bool {
        self.own(atom).iter().any(|procedure| self.is_proof(procedure))
    }

    /// Whether a function's own records can show no types: it takes nothing, and keeps nothing.
    pub fn has_nothing_to_show(&self, atom: &Atom) -> bool {
        let is_bare = |procedure: &Described| matches!(procedure.type_, OwnType::Empty | OwnType::Result);
        let own = self.own(atom);
        !own.is_empty() && own.iter().all(is_bare) && !self.shows_types(atom)
    }

    /// Whether some function of a module takes something, and its records do not show what: a file of the module has no types.
    pub fn hides_parameters(&self, module: ModuleIndex) -> bool {
        let mut procedures = self.procedures.values().flatten().filter(|procedure| procedure.module == module);
        procedures.any(|procedure| procedure.type_ == OwnType::Values && !self.is_proof(procedure))
    }

    fn own(&self, atom: &Atom) -> &[Described] {
        self.procedures.get(&atom.rva).map_or(&[][..], Vec::as_slice)
    }

    /// Whether a module is what link-time optimisation made of several files.
    pub fn is_merged(&self, program: &Program, module: ModuleIndex) -> bool {
        let mut names = program.symbols.modules.iter().map(|module| module.short_name());
        let is_of_linker = names.clone().nth(module).is_some_and(|name| name.starts_with("lto."));
        // rustc does it before the linker sees anything, and then nothing is left of the standard library's own file.
        is_of_linker || self.is_rust(module) && !names.any(|name| name.starts_with("std-"))
    }

    /// The versions of rustc that made the modules.
    pub fn rust_compilers(&self) -> BTreeSet<&str> {
        let rust = self.modules.values().filter(|compiled| compiled.language == Some(RUST));
        rust.map(|compiled| compiled.compiler.as_str()).collect()
    }

    fn module_has_types(&self, module: ModuleIndex) -> bool {
        self.modules.get(&module).is_some_and(|compiled| compiled.has_types)
    }

    /// Whether rustc made a module.
    pub fn is_rust(&self, module: ModuleIndex) -> bool {
        self.modules.get(&module).is_some_and(|compiled| compiled.language == Some(RUST))
    }

    /// Whether its own records show that its compiler wrote types.
    fn is_proof(&self, procedure: &Described) -> bool {
        let Some(compiled) = self.modules.get(&procedure.module) else { return false };
        let is_microsoft = compiled.compiler.starts_with("Microsoft") && compiled.language != Some(ASSEMBLY);
        match procedure.type_ {
            OwnType::None => false,
            OwnType::Result | OwnType::Values if compiled.language == Some(RUST) => true,
            OwnType::Empty | OwnType::Result | OwnType::Values => procedure.has_locals || is_microsoft,
        }
    }
}

/// Functions that compilers add, and describe to nobody: what ends the program where an exception leaves `noexcept`, what leads to thread-local
/// variables, parts that were cut out, rustc's allocator and entry point.
fn is_made_by_compiler(atom: &Atom) -> bool {
    const PREFIXES: [&str; 9] = [
        "__clang_call_terminate",
        "_ZTW",
        "_ZTH",
        "__cxx_global_",
        "_GLOBAL__",
        "OUTLINED_FUNCTION_",
        "__rust_",
        "__rdl_",
        "__rg_",
    ];
    atom.names.iter().any(|name| PREFIXES.iter().any(|prefix| name.key.starts_with(prefix)))
}

struct Reader<'a> {
    program: &'a Program,
    stream: &'a TypeStream<Vec<u8>>,
    ids: &'a TypeStream<Vec<u8>>,
    found: TypeInformation,
    /// Classes without definitions by the types of their functions.
    members: HashMap<TypeIndex, Option<UndefinedClass>>,
}

/// A procedure's symbols.
struct Procedure {
    rva: Rva,
    described: Described,
    /// Its own type, and the functions that it inlined.
    type_: TypeIndex,
    inlined: BTreeSet<TypeIndex>,
}

impl Reader<'_> {
    fn modules(&mut self, pdb: &Pdb<&[u8]>, wanted: &BTreeSet<ModuleIndex>) -> anyhow::Result<()> {
        for (number, module) in pdb.read_modules()?.iter().enumerate().filter(|(number, _)| wanted.contains(number)) {
            let records = pdb.read_module_symbols(&module)?;
            let (compiled, procedures) = self.records(number, records.as_bytes());
            self.found.modules.insert(number, compiled);
            let mut has_types = false;
            for procedure in procedures {
                has_types |= self.found.is_proof(&procedure.described);
                let types = procedure.inlined.iter().filter_map(|id| self.type_of_inlined(*id));
                let types: BTreeSet<TypeIndex> = types.chain([procedure.type_]).collect();
                let classes: Vec<_> = types.into_iter().filter_map(|index| self.undefined_class(index)).collect();
                if !classes.is_empty() {
                    self.found.undefined_classes.entry(procedure.rva).or_default().extend(classes);
                }
                self.found.procedures.entry(procedure.rva).or_default().push(procedure.described);
            }
            self.note_types(number, has_types);
        }
        Ok(())
    }

    fn note_types(&mut self, module: ModuleIndex, has_types: bool) {
        if let Some(compiled) = self.found.modules.get_mut(&module) {
            compiled.has_types |= has_types;
        }
    }

    fn records(&self, module: ModuleIndex, records: &[u8]) -> (Compiled, Vec<Procedure>) {
        let mut compiled = Compiled::default();
        let mut procedures: Vec<Procedure> = Vec::new();
        // The scopes that are open in the procedure, true for those of inlined calls.
        let mut scopes: Vec<bool> = Vec::new();
        let mut is_open = false;
        for record in SymIter::for_module_syms(records) {
            // rustc divides a program by crates, and has the types of all or of none that a crate inlined of others.
            if is_local(record.kind)
                && is_open
                && (compiled.language == Some(RUST) || !scopes.contains(&true))
                && let Some(procedure) = procedures.last_mut()
            {
                procedure.described.has_locals = true;
                continue;
            }
            match record.parse() {
                Ok(SymData::Compile3(compile)) => {
                    compiled.language = compile.fixed.flags.get().to_le_bytes().first().copied();
                    compiled.compiler = compile.name.to_string();
                }
                Ok(SymData::Proc(procedure)) => {
                    let place = procedure.fixed.offset_segment;
                    let rva = pdb::rva_in_section(&self.program.image, place.segment(), place.offset());
                    let type_ = procedure.fixed.proc_type.get();
                    let described = Described { module, type_: self.own_type(type_), has_locals: false };
                    let inlined = BTreeSet::new();
                    procedures.extend(rva.map(|rva| Procedure { rva, described, type_, inlined }));
                    is_open = rva.is_some();
                    scopes.clear();
                }
                Ok(
                    SymData::InlineSite(InlineSite { fixed: InlineSiteFixed { inlinee, .. }, .. })
                    | SymData::InlineSite2(InlineSite2 { fixed: InlineSite2Fixed { inlinee, .. }, .. }),
                ) => {
                    scopes.push(true);
                    if let Some(procedure) = procedures.last_mut().filter(|_| is_open) {
                        procedure.inlined.insert(TypeIndex(inlinee.get()));
                    }
                }
                Ok(SymData::Block(_) | SymData::Thunk(_)) => scopes.push(false),
                Ok(SymData::End | SymData::InlineSiteEnd) => is_open &= scopes.pop().is_some(),
                _ => {}
            }
        }
        (compiled, procedures)
    }

    fn own_type(&self, index: TypeIndex) -> OwnType {
        if self.stream.is_primitive(index) {
            return OwnType::None;
        }
        let Ok(record) = self.stream.record(index) else { return OwnType::None };
        match record.parse() {
            Ok(TypeData::Proc(procedure))
                if procedure.return_value.get() == VOID && procedure.num_params.get() == 0 =>
            {
                OwnType::Empty
            }
            Ok(TypeData::Proc(procedure)) if procedure.num_params.get() == 0 => OwnType::Result,
            Ok(_) => OwnType::Values,
            Err(_) => OwnType::None,
        }
    }

    /// The type of a member function that was inlined.
    fn type_of_inlined(&self, id: TypeIndex) -> Option<TypeIndex> {
        match self.ids.record(id).ok()?.parse().ok()? {
            TypeData::MFuncId(function) => Some(function.fixed.func_type.get()),
            _ => None,
        }
    }

    fn undefined_class(&mut self, index: TypeIndex) -> Option<UndefinedClass> {
        if let Some(known) = self.members.get(&index) {
            return known.clone();
        }
        let found = self.find_undefined_class(index);
        self.members.insert(index, found.clone());
        found
    }

    fn find_undefined_class(&self, index: TypeIndex) -> Option<UndefinedClass> {
        let record = |index| self.stream.record(index).ok().filter(|_| !self.stream.is_primitive(index));
        let TypeData::MemberFunc(function) = record(index)?.parse().ok()? else { return None };
        // A static one has no object, as its class may have none.
        if function.this.get().0 == 0 {
            return None;
        }
        let class = record(function.class.get())?.parse().ok()?;
        UndefinedClass::of(&self.program.symbols, &Udt::of(&class)?.key())
    }

    /// Who writes the types of variables writes all.
    fn variables(&mut self) {
        let symbols = &self.program.symbols;
        let typed = symbols.variables.iter().filter(|variable| variable.shape != Shape::Opaque);
        let modules: BTreeSet<ModuleIndex> =
            typed.filter_map(|v| v.module.or_else(|| Some(symbols.contribution_at(v.rva)?.module))).collect();
        for module in modules {
            self.note_types(module, true);
        }
    }
}

/// `T_VOID`
const VOID: TypeIndex = TypeIndex(0x03);

/// Parameters and locals in all the forms that compilers give them.
pub(crate) fn is_local(kind: SymKind) -> bool {
    matches!(kind, SymKind::S_LOCAL | SymKind::S_REGREL32 | SymKind::S_BPREL32 | SymKind::S_REGISTER)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pairing::indexed;

    /// Functions with names in a fixture's old build, each with whether its types are known.
    fn known(fixture: &str) -> Vec<(String, bool)> {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures").join(fixture).join("old.exe");
        let program = Program::load(&image, None).unwrap();
        let types = TypeInformation::of(&program, program.functions.iter().map(|function| function.atom));
        let named = indexed(&program).filter(|(_, atom)| atom.is_function() && !atom.names.is_empty());
        named.map(|(_, atom)| (program.linkage_name(atom), types.has_types(&program, atom))).collect()
    }

    #[test]
    fn files_of_gcc_have_no_types() {
        let untyped: BTreeSet<String> = known("untyped_file").into_iter().filter(|f| !f.1).map(|f| f.0).collect();
        let expected = ["account_copy", "account_left", "account_open", "account_use", "limit"];
        assert_eq!(untyped, BTreeSet::from(expected.map(str::to_owned)));
    }

    #[test]
    fn assembly_has_none_and_all_of_clang_has() {
        assert!(known("image_relative").iter().filter(|f| f.0.ends_with("_kept")).all(|f| !f.1));
        for fixture in ["overloads", "cpp_tables", "itanium_tables", "coroutine", "new_object", "signatures", "hooks"] {
            assert_eq!(known(fixture).iter().find(|f| !f.1), None, "{fixture}");
        }
    }

    #[test]
    fn after_link_time_optimisation_only_parameters_and_locals_tell() {
        let found = known("lto_statics");
        assert!(found.contains(&("kept".to_owned(), true)), "{found:?}");
        assert!(found.contains(&("changed".to_owned(), false)), "{found:?}");
    }
}
