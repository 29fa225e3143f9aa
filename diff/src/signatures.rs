//! How functions are called, as far as the PDB's types and parameters tell.
//!
//! Read from the PDB's type stream and its modules' symbols when functions changed, and only then. Two signatures are compared by what a
//! caller and a function have to agree on: how many values go in and come out, of which kind and size; not by what they are called, whether
//! they are signed or constant, or what a pointer leads to.

use std::collections::{BTreeMap, HashMap};

use ms_codeview::syms::{SymData, SymIter};
use ms_codeview::types::{TypeData, TypeIndex};
use ms_pdb::Pdb;
use ms_pdb::tpi::TypeStream;
use zerocopy::IntoBytes;

use crate::error::Error;
use crate::pdb::{self, Udt, primitive_size};
use crate::program::Program;
use crate::rva::Rva;
use crate::symbols::{ModuleIndex, TypeLayout};

/// A value that goes into a function or comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// `void`.
    Nothing,
    /// An integer, character, truth value or enumeration of that many bytes.
    Integer(u64),
    /// A floating-point number of that many bytes.
    Float(u64),
    /// A pointer or reference.
    Pointer,
    /// A structure, class, union or array of that many bytes.
    Aggregate(u64),
    /// `...`
    Variable,
    /// The PDB does not tell.
    Unknown,
}

/// The values that go into a function and come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    pub result: Value,
    /// `this` first.
    pub parameters: Vec<Value>,
    /// Values go in vector registers (`__vectorcall`).
    is_vector: bool,
}

/// What a PDB says about one procedure.
#[derive(Debug, Clone)]
pub(crate) struct Procedure {
    pub name: String,
    /// None where the PDB has no type for it.
    pub signature: Option<Signature>,
    /// Names of its parameters, in the order of their records.
    pub parameters: Vec<String>,
    /// Registers (CodeView's numbers) that parameters are in where the function begins.
    pub registers: BTreeMap<String, u16>,
    /// Another procedure of its module has its name and type.
    pub shares_name: bool,
}

/// All procedures of a program, by address.
pub(crate) type Procedures = HashMap<Rva, Vec<Procedure>>;

/// Reads the procedures of a program; empty where its PDB cannot be read any more.
pub(crate) fn read(program: &Program) -> Procedures {
    let path = &program.symbols.pdb_path;
    let found = pdb::with_open(path, &program.image, |pdb| {
        let stream = pdb.read_type_stream().map_err(|e| Error::pdb(path, e.to_string()))?;
        let layouts = &program.symbols.layouts;
        let size = |key: &str| {
            let sizes = layouts.get(key)?.iter().map(|layout: &TypeLayout| layout.size);
            let (first, last) = (sizes.clone().min()?, sizes.max()?);
            (first == last).then_some(first)
        };
        let mut reader = Reader {
            program,
            types: Types { stream: &stream, size: &size },
            known: HashMap::new(),
            found: HashMap::new(),
            same: HashMap::new(),
        };
        reader.modules(pdb).map_err(|e| Error::pdb(path, e.to_string()))?;
        Ok(reader.finish())
    });
    found.unwrap_or_default()
}

impl Signature {
    /// Why a caller that was made for `self` cannot call a function that is like `new`; none where it can.
    pub fn conflict(&self, new: &Signature) -> Option<String> {
        if self.is_vector != new.is_vector {
            return Some("its calling convention changed".to_owned());
        }
        if !result_fits(self.result, new.result) {
            return Some(format!("its result was {} and is {}", words(self.result), words(new.result)));
        }
        // A definition without a prototype takes what comes.
        let unknown = |parameters: &[Value]| matches!(parameters, [] | [Value::Variable]);
        if unknown(&self.parameters) && unknown(&new.parameters) {
            return None;
        }
        if self.parameters.len() != new.parameters.len() {
            let (old, new) = (self.parameters.len(), new.parameters.len());
            return Some(format!("the number of its parameters was {old} and is {new}"));
        }
        let mut both = self.parameters.iter().zip(&new.parameters).zip(1..);
        let other = both.find(|((old, new), _)| old != new && **old != Value::Unknown && **new != Value::Unknown);
        other.map(|((old, new), number)| format!("its parameter {number} was {} and is {}", words(*old), words(*new)))
    }
}

impl Procedure {
    /// Why callers of `self` cannot call `new`; none where they can, as far as is known.
    pub fn conflict(&self, new: &Procedure) -> Option<String> {
        let by_type = self.signature.as_ref().zip(new.signature.as_ref()).and_then(|(old, new)| old.conflict(new));
        by_type.or_else(|| self.other_order(new))
    }

    /// Two parameters changed places: who goes on calling as before passes each as the other.
    fn other_order(&self, new: &Procedure) -> Option<String> {
        let place = |name: &String| new.parameters.iter().position(|other| other == name);
        let places: Vec<(usize, &String)> =
            self.parameters.iter().filter_map(|name| Some((place(name)?, name))).collect();
        let swapped = places.windows(2).find_map(|pair| match pair {
            [(first, name), (second, other)] if first > second => Some((name, other)),
            _ => None,
        });
        swapped.map(|(name, other)| format!("its parameters {name} and {other} changed places"))
    }

    /// A parameter that is in another register where the function begins: the optimiser gave it other arguments.
    pub fn moved_parameter(&self, new: &Procedure) -> Option<&str> {
        let moved = |(name, register): &(&String, &u16)| new.registers.get(*name).is_some_and(|new| new != *register);
        self.registers.iter().find(moved).map(|(name, _)| name.as_str())
    }
}

/// Who expects nothing does not look at what comes, unless it has to say where that goes.
fn result_fits(old: Value, new: Value) -> bool {
    match (old, new) {
        (Value::Unknown, _) | (_, Value::Unknown) => true,
        (Value::Nothing, Value::Aggregate(_)) => false,
        (Value::Nothing, _) => true,
        _ => old == new,
    }
}

fn words(value: Value) -> String {
    match value {
        Value::Nothing => "nothing".to_owned(),
        Value::Integer(size) => format!("an integer of {size} bytes"),
        Value::Float(size) => format!("a floating-point number of {size} bytes"),
        Value::Pointer => "a pointer".to_owned(),
        Value::Aggregate(size) => format!("an object of {size} bytes"),
        Value::Variable => "any number of values".to_owned(),
        Value::Unknown => "unknown".to_owned(),
    }
}

struct Reader<'a> {
    program: &'a Program,
    types: Types<'a>,
    /// Signatures by the index of their type.
    known: HashMap<u32, Option<Signature>>,
    found: HashMap<Rva, Vec<(Procedure, Identity)>>,
    /// How many procedures have a name and a type in a module.
    same: HashMap<Identity, usize>,
}

/// What several procedures have in common that are made of one function.
type Identity = (ModuleIndex, String, u32);

/// `CV_LVARFLAGS.fIsParam`.
const IS_PARAMETER: u16 = 1;

impl Reader<'_> {
    fn modules(&mut self, pdb: &Pdb<&[u8]>) -> anyhow::Result<()> {
        for (number, module) in pdb.read_modules()?.iter().enumerate() {
            let records = pdb.read_module_symbols(&module)?;
            self.records(number, records.as_bytes());
        }
        Ok(())
    }

    fn records(&mut self, module: ModuleIndex, records: &[u8]) {
        // The procedure that is open, how many blocks are open in it, and the parameter that was named last.
        let mut open: Option<(Rva, Procedure, Identity)> = None;
        let (mut depth, mut parameter) = (0_u32, None);
        for record in SymIter::for_module_syms(records) {
            let Ok(symbol) = record.parse() else { continue };
            match symbol {
                SymData::Proc(procedure) => {
                    self.close(open.take());
                    let place = procedure.fixed.offset_segment;
                    let rva = pdb::rva_in_section(&self.program.image, place.segment(), place.offset());
                    let (name, kind) = (procedure.name.to_string(), procedure.fixed.proc_type.get().0);
                    open = rva.map(|rva| (rva, self.procedure(name.clone(), kind), (module, name, kind)));
                    (depth, parameter) = (0, None);
                }
                SymData::Thunk(_) | SymData::Block(_) | SymData::InlineSite(_) | SymData::InlineSite2(_) => depth += 1,
                SymData::End | SymData::InlineSiteEnd if depth == 0 => self.close(open.take()),
                SymData::End | SymData::InlineSiteEnd => depth -= 1,
                SymData::Local(local) => {
                    let is_own = depth == 0 && local.fixed.flags.get() & IS_PARAMETER != 0;
                    parameter = is_own.then(|| local.name.to_string());
                    if let (Some((_, procedure, _)), Some(name)) = (&mut open, &parameter) {
                        procedure.parameters.push(name.clone());
                    }
                }
                SymData::DefRangeRegister(range) => {
                    // `LVarAddrRange`: offset, section, size.
                    let start = range.gaps.first_chunk::<6>().and_then(|&[a, b, c, d, e, f]| {
                        let (offset, section) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
                        pdb::rva_in_section(&self.program.image, section, offset)
                    });
                    if let (Some((rva, procedure, _)), Some(name)) = (&mut open, &parameter)
                        && start == Some(*rva)
                    {
                        procedure.registers.entry(name.clone()).or_insert(range.fixed.reg.get());
                    }
                }
                _ => {}
            }
        }
        self.close(open);
    }

    fn procedure(&mut self, name: String, kind: u32) -> Procedure {
        let Reader { types, known, .. } = self;
        let signature = known.entry(kind).or_insert_with(|| types.signature(TypeIndex(kind))).clone();
        Procedure { name, signature, parameters: Vec::new(), registers: BTreeMap::new(), shares_name: false }
    }

    fn close(&mut self, open: Option<(Rva, Procedure, Identity)>) {
        if let Some((rva, procedure, identity)) = open {
            *self.same.entry(identity.clone()).or_default() += 1;
            self.found.entry(rva).or_default().push((procedure, identity));
        }
    }

    fn finish(self) -> Procedures {
        let Reader { found, same, .. } = self;
        let shared = |(procedure, identity): (Procedure, Identity)| Procedure {
            shares_name: same.get(&identity).is_some_and(|count| *count > 1),
            ..procedure
        };
        found.into_iter().map(|(rva, all)| (rva, all.into_iter().map(shared).collect())).collect()
    }
}

struct Types<'a> {
    stream: &'a TypeStream<Vec<u8>>,
    /// The size of a type by its unique name, where all definitions agree.
    size: &'a dyn Fn(&str) -> Option<u64>,
}

/// Modifiers of modifiers end somewhere in a sound PDB.
const MAX_TYPE_DEPTH: u32 = 16;

/// `CV_CALL_NEAR_VECTOR`.
const VECTOR_CALL: u8 = 0x18;

impl Types<'_> {
    fn signature(&self, index: TypeIndex) -> Option<Signature> {
        let record = self.stream.record(index).ok().filter(|_| !self.stream.is_primitive(index))?;
        let (result, call, this, arguments) = match record.parse().ok()? {
            TypeData::Proc(procedure) => (procedure.return_value.get(), procedure.call, None, procedure.arg_list.get()),
            TypeData::MemberFunc(function) => {
                let this = Some(function.this.get()).filter(|this| this.0 != 0);
                (function.return_value.get(), function.call, this, function.arg_list.get())
            }
            _ => return None,
        };
        let list = self.stream.record(arguments).ok().filter(|_| !self.stream.is_primitive(arguments))?;
        let TypeData::ArgList(list) = list.parse().ok()? else { return None };
        let arguments = list.args.iter().map(|argument| match argument.get() {
            TypeIndex(0) => Value::Variable,
            argument => self.value(argument, MAX_TYPE_DEPTH),
        });
        let parameters = this.map(|_| Value::Pointer).into_iter().chain(arguments).collect();
        Some(Signature { result: self.value(result, MAX_TYPE_DEPTH), parameters, is_vector: call == VECTOR_CALL })
    }

    fn value(&self, index: TypeIndex, depth: u32) -> Value {
        if self.stream.is_primitive(index) {
            return primitive(index.0);
        }
        self.record(index, depth).unwrap_or(Value::Unknown)
    }

    fn record(&self, index: TypeIndex, depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        let data = self.stream.record(index).ok()?.parse().ok()?;
        Some(match &data {
            TypeData::Modifier(modifier) => self.value(modifier.underlying_type.get(), depth),
            TypeData::Enum(e) => self.value(e.fixed.underlying_type.get(), depth),
            TypeData::Pointer(pointer) => match pointer.fixed.attr().size() {
                8 => Value::Pointer,
                size => Value::Aggregate(size.into()),
            },
            TypeData::Array(array) => Value::Aggregate(array.len.try_into().ok()?),
            _ => Value::Aggregate((self.size)(&Udt::of(&data)?.key())?),
        })
    }
}

/// A primitive type by its index (`cvinfo.h`, `CV_prmode_e` and `CV_type_e`).
fn primitive(index: u32) -> Value {
    let is_pointer = index & 0xf00 != 0;
    match (index & 0xff, primitive_size(index)) {
        _ if is_pointer => Value::Pointer,
        (0x03, _) => Value::Nothing,
        (0x40..=0x46, Some(size)) => Value::Float(size),
        (_, Some(size)) => Value::Integer(size),
        (_, None) => Value::Unknown,
    }
}

#[cfg(test)]
#[path = "signatures_tests.rs"]
mod tests;
