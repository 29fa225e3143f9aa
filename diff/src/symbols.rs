//! What a PDB says about an image, in hpgen's own words: nothing behind this stage knows how a PDB is stored.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use crate::enumerators::Constants;
use crate::rva::Rva;
use crate::shapes::Shape;

/// Everything that the comparison uses of one PDB.
#[derive(Debug, Default)]
pub struct Symbols {
    /// The PDB that they come from.
    pub pdb_path: PathBuf,
    /// Compilands, in the PDB's order.
    pub modules: Vec<Module>,
    /// Procedures with their extents (`S_GPROC32`, `S_LPROC32`, `S_THUNK32`).
    pub procedures: Vec<Procedure>,
    /// Procedures that are pieces of others by their names, each with the procedure that it is a piece of.
    pub funclets: Vec<(Rva, Rva)>,
    /// Variables with addresses (`S_GDATA32`, `S_LDATA32`).
    pub variables: Vec<Variable>,
    /// Linkage names (`S_PUB32`).
    pub publics: Vec<Public>,
    /// Which module each piece of a section came from, by rising RVA.
    pub contributions: Vec<Contribution>,
    /// Parts of sections that the linker kept together, by name, where the linker says (`S_COFFGROUP`).
    pub groups: Vec<SectionGroup>,
    /// Relocations as the linker recorded them, where it was asked to; nothing was compared with the image.
    pub fixups: Vec<Fixup>,
    /// Layouts of user-defined types by unique name; several where modules disagree about what the name means.
    pub layouts: HashMap<String, BTreeSet<TypeLayout>>,
    /// Enumerators that code names, with their numbers (`S_CONSTANT`).
    pub constants: Constants,
    /// Names of the types that the PDB announces and defines nowhere, by unique name.
    pub announced: HashMap<String, String>,
}

/// Index into [`Symbols::modules`].
pub type ModuleIndex = usize;

/// One object file that the linker read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Object file or archive member, as the linker wrote it.
    pub path: String,
    /// The archive that held it, or the object file itself.
    pub object_file: String,
}

impl Module {
    /// The file name without folders, by which modules of two builds are recognised. lld names what it made by link-time optimisation
    /// after the image (`program.exe.lto.obj`), which may have another name in each build: `lto.obj`.
    pub fn short_name(&self) -> &str {
        let name = self.path.rsplit(['/', '\\']).next().unwrap_or(&self.path);
        let made_by_linker = name.find(".lto.").filter(|_| name.ends_with(".obj"));
        made_by_linker.and_then(|dot| name.get(dot + 1..)).unwrap_or(name)
    }
}

/// A relocation that the linker applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixup {
    /// `IMAGE_REL_AMD64_*`.
    pub kind: u16,
    /// The field.
    pub place: Rva,
    /// Start of the symbol or section that the field is tied to.
    pub base: Rva,
}

/// A function as its compiler described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Procedure {
    /// First byte.
    pub rva: Rva,
    /// Bytes of code, jump tables after the code included where the compiler counts them.
    pub size: u32,
    /// Name in the source's terms.
    pub name: String,
    /// Where it was compiled.
    pub module: ModuleIndex,
    /// Visible outside its module.
    pub is_global: bool,
}

/// A variable or constant with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// First byte.
    pub rva: Rva,
    /// Size from its type, where the PDB gives it.
    pub size: Option<u32>,
    /// What its bytes are.
    pub shape: Shape,
    /// Name in the source's terms.
    pub name: String,
    /// The function whose local static it is.
    pub scope: Option<String>,
    /// Where it was compiled, if the PDB says so.
    pub module: Option<ModuleIndex>,
    /// Visible outside its module.
    pub is_global: bool,
}

/// A linkage name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// Its address.
    pub rva: Rva,
    /// Name as the linker saw it.
    pub name: String,
}

/// A piece of a section that one module contributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// Its addresses.
    pub range: Range<Rva>,
    /// Who contributed it.
    pub module: ModuleIndex,
    /// The linker's checksum of its bytes before relocation.
    pub checksum: u32,
    /// A section that the linker may leave out or share (`IMAGE_SCN_LNK_COMDAT`): compilers put one object into each.
    pub is_comdat: bool,
}

/// A part of a section: what the object files had in sections of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionGroup {
    /// The name in the object files, for example `.CRT$XCU`.
    pub name: String,
    /// Its addresses.
    pub range: Range<Rva>,
}

/// Size and members of a user-defined type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TypeLayout {
    /// Name in the source's terms.
    pub name: String,
    /// An enumeration: its members are the enumerators, with their values in place of offsets.
    pub is_enumeration: bool,
    /// Size in bytes.
    pub size: u64,
    /// Bases and data members in declaration order.
    pub members: Vec<Member>,
}

/// One data member or base of a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its name; for a base, the name of the base's type.
    pub name: String,
    /// Offset in bytes from the object's start.
    pub offset: u64,
    /// Size in bytes, where known.
    pub size: Option<u32>,
    /// What its bytes are.
    pub shape: Shape,
    /// First bit and number of bits of a bit field.
    pub bits: Option<(u8, u8)>,
}

impl Symbols {
    /// The contribution that holds an address.
    pub fn contribution_at(&self, rva: Rva) -> Option<&Contribution> {
        let index = self.contributions.partition_point(|c| c.range.start <= rva).checked_sub(1)?;
        self.contributions.get(index).filter(|c| c.range.contains(&rva))
    }
}
