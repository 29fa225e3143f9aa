//! The payload file: types, encoder and decoder. `FORMAT.md` is the specification; section numbers below are its.

mod compression;
mod decode;
mod encode;
mod file;
mod file_name;
mod layout;
mod numbers;
mod part;
mod signature;
mod trampoline;

use alloc::string::String;
use alloc::vec::Vec;

pub use compression::compress;
pub use decode::{FormatError, seal_file, unseal};
pub use encode::EncodeError;
pub use file::{MAX_IMAGES, PayloadFile};
pub(crate) use file_name::same_name;
pub use signature::{PublicKey, SignatureError, SigningMessage, append_signature};
pub use trampoline::{Body, CALLER_LEN, Demand, Gap, JUMP8_LEN, JUMP32_LEN, Trampoline, TrampolineForm};

/// PE `Machine` value of x64 images.
pub const MACHINE_X64: u16 = 0x8664;
/// Granularity of segments, and the part at a region's start that belongs to the loader.
pub const PAGE: u32 = 0x1000;
/// Largest decompressed body that is accepted.
pub const MAX_BODY: u64 = 64 << 20;
/// Largest region that is accepted.
pub const MAX_REGION: u64 = 1 << 30;
/// Name of the functions that throw objects of types which only the payload describes (section 2.5).
pub const THROW_STUB: &str = "hpgen:throw";

/// What a file holds for one image (section 2). Every range in it was checked: see [`PayloadFile::decode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The image that the payload fits.
    pub identity: Identity,
    /// Memory of the region, by rising offset.
    pub segments: Vec<Segment>,
    /// Fields to fill in once the bases are known, by rising place.
    pub relocations: Vec<Relocation>,
    /// Entries of old functions to redirect, by rising RVA.
    pub trampolines: Vec<Trampoline>,
    /// The functions in the region, by rising offset.
    pub functions: Vec<Function>,
    /// Addresses that the loader looks up.
    pub imports: Vec<Import>,
    /// The function table to register.
    pub unwind: Unwind,
    /// Variables that the payload brings, by rising offset.
    pub variables: Vec<Variable>,
    /// Functions to call on the way in and out, in this order.
    pub hooks: Vec<Hook>,
    /// Variables of the image that get a new value together with the new code, by rising RVA.
    pub assignments: Vec<Assignment>,
    /// Where the code of the redirected functions is, by rising entry and start.
    pub bodies: Vec<Body>,
    /// Functions that give variables their first value, in the order in which they are called.
    pub initialisers: Vec<Initialiser>,
    /// How the patch is watched once it is in; none where it is not.
    pub probation: Option<Probation>,
}

/// What a loaded module must be for the payload to fit (section 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PDB GUID as stored in the image's `RSDS` record.
    pub guid: [u8; 16],
    /// PDB age from the same record.
    pub age: u32,
    /// `TimeDateStamp` of the file header.
    pub timestamp: u32,
    /// `SizeOfImage` in bytes.
    pub size_of_image: u32,
    /// `AddressOfEntryPoint`, an RVA.
    pub entry_point: u32,
    /// `ImageBase` that expected bytes were taken at.
    pub image_base: u64,
    /// The image's file name, without folders.
    pub image_name: String,
    /// Place among the payloads of this image: a higher one replaces a lower one. At least 1.
    pub series: u32,
    /// The region is never given back.
    pub stays: bool,
}

/// How a segment's pages are mapped once it is filled (section 2.2). None is writable and executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Code.
    ReadExecute,
    /// Constants, unwind data, import slots.
    Read,
    /// Variables.
    ReadWrite,
}

/// A run of pages of the region (section 2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Region offset, a multiple of [`PAGE`].
    pub offset: u32,
    /// Size in memory; what `content` does not cover is zero.
    pub size: u32,
    /// Protection after filling.
    pub protection: Protection,
    /// Initial bytes, at most `size`.
    pub content: Vec<u8>,
}

/// Which field a relocation fills, and how (section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelocationKind {
    /// Signed 32-bit distance from the field.
    Rel32,
    /// 64-bit address.
    Addr64,
    /// Unsigned 32-bit distance from the function table base.
    Rva32,
    /// Distance from the base of the old image, 31 bits: code adds that base to it. The region must be above the image.
    Image32,
}

impl RelocationKind {
    /// Bytes of the field.
    pub fn width(self) -> u32 {
        match self {
            RelocationKind::Rel32 | RelocationKind::Rva32 | RelocationKind::Image32 => 4,
            RelocationKind::Addr64 => 8,
        }
    }
}

/// What a relocation's target counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Target is an RVA of the old image.
    Image,
    /// Target is a region offset.
    Region,
}

/// One field to fill in (section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relocation {
    /// Region offset of the field.
    pub place: u32,
    /// Width and formula.
    pub kind: RelocationKind,
    /// What `target` counts from.
    pub space: Space,
    /// RVA or region offset.
    pub target: u32,
    /// Added to the target.
    pub addend: i32,
}

/// A function in the region (section 2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Region offset of its first byte.
    pub offset: u32,
    /// Bytes of code.
    pub size: u32,
    /// RVA of the old function that it replaces; none for a new function.
    pub old_rva: Option<u32>,
    /// Linkage name, or the procedure's name.
    pub name: String,
    /// The file's payloads for other images import it by its name.
    pub exported: bool,
}

/// An imported symbol that the old image lacks (section 2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Region offset of the 8-byte slot.
    pub slot: u32,
    /// File name of the DLL.
    pub dll: String,
    /// Name or ordinal.
    pub symbol: ImportSymbol,
}

/// How an import is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportSymbol {
    /// By exported name.
    Name(String),
    /// By export ordinal.
    Ordinal(u16),
}

/// Where the region's function table stands (section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unwind {
    /// Region offset of the `RUNTIME_FUNCTION` array.
    pub table: u32,
    /// Number of entries.
    pub count: u32,
}

/// A variable that the payload brings (section 2.8). The next payload of the image takes it over, with its address and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Region offset of its first byte, in a writable segment.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// By which the next payload knows it: linkage name, for a local one with module and function.
    pub name: String,
}

/// When a hook runs (section 2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// Before the first entry is redirected. Returning another value than 0 keeps the payload out.
    PreApply,
    /// After all entries were redirected.
    PostApply,
    /// Before the first entry is restored. Returning another value than 0 keeps the payload in.
    PreRollback,
    /// After all entries were restored.
    PostRollback,
}

impl HookKind {
    /// All kinds by their number in the file, less one.
    pub const ALL: [HookKind; 4] =
        [HookKind::PreApply, HookKind::PostApply, HookKind::PreRollback, HookKind::PostRollback];

    /// The number in the file.
    pub fn code(self) -> u32 {
        match self {
            HookKind::PreApply => 1,
            HookKind::PostApply => 2,
            HookKind::PreRollback => 3,
            HookKind::PostRollback => 4,
        }
    }

    /// The kind with this number.
    pub fn from_code(code: u32) -> Option<HookKind> {
        HookKind::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// As `hpgen.toml`, section names and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            HookKind::PreApply => "pre-apply",
            HookKind::PostApply => "post-apply",
            HookKind::PreRollback => "pre-rollback",
            HookKind::PostRollback => "post-rollback",
        }
    }
}

/// A function of the payload that the loader calls: `int32_t hook(void)` (section 2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub kind: HookKind,
    /// Region offset of the function's first byte.
    pub function: u32,
}

/// A variable of the image that gets a new value (section 2.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// RVA of the variable.
    pub rva: u32,
    /// Region offset of the value.
    pub value: u32,
    /// Bytes.
    pub size: u32,
}

/// A variable of the payload whose first value is computed (section 2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initialiser {
    /// Region offset of the function that does so; none where the author leaves the variable as it is.
    pub function: Option<u32>,
    /// Region offset of the variable.
    pub variable: u32,
    /// The function returns a number, and another one than 0 keeps the payload out.
    pub checked: bool,
    /// It registers a function that the process calls when it ends: the region stays for good.
    pub at_exit: bool,
}

/// How a patch is watched once it is in (section 2.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probation {
    /// For how long, in milliseconds: at most [`MAX_PROBATION_MS`].
    pub window_ms: u32,
    /// How often its check is called, in milliseconds.
    pub interval_ms: u32,
    /// The first byte of a function that returns 0 where all is well.
    pub check: Option<(Space, u32)>,
}

/// The longest time that a patch can be watched: seven days.
pub const MAX_PROBATION_MS: u32 = 7 * 24 * 3600 * 1000;

/// Bytes that all assignments of a payload may have together: the loader keeps the old values.
pub const MAX_ASSIGNED: u32 = 2048;

/// SHA-256 over header and stored body (section 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seal(pub [u8; 32]);

impl Seal {
    /// The patch id: the first eight bytes in hexadecimal.
    pub fn patch_id(&self) -> String {
        hex(&self.0[..8])
    }
}

impl core::fmt::Debug for Seal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl core::fmt::Display for Seal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Payload {
    /// Whether code counts from the image's base to the region, so that the region must be above the image.
    pub fn must_be_above(&self) -> bool {
        self.relocations.iter().any(|r| r.kind == RelocationKind::Image32 && r.space == Space::Region)
    }

    /// Bytes of the region: the end of the last segment, rounded up to [`PAGE`].
    pub fn region_size(&self) -> u32 {
        let end = self.segments.last().map_or(PAGE, |s| s.offset.saturating_add(s.size));
        end.checked_next_multiple_of(PAGE).unwrap_or(!(PAGE - 1))
    }
}
