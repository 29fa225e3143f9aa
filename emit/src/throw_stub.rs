//! The code that throws what only the payload describes.
//!
//! `_CxxThrowException(object, info)` of Microsoft's runtime asks `RtlPcToFileHeader` which module contains the `ThrowInfo`, and passes the module's base
//! on with the exception: all addresses of the description count from it. A region is in no module. So the payload's calls come here: what the
//! payload describes is raised as that function does it, with the base that the payload's tables count from (`FORMAT.md` 2.5);
//! everything else, a rethrow among it, goes on to the function itself.
//!
//! Sources: `throw.cpp` and `ehdata.h` of Microsoft's runtime (`EH_EXCEPTION_NUMBER`, `EH_MAGIC_NUMBER1`, `EH_EXCEPTION_PARAMETERS`).

/// Bytes of the code.
pub(crate) const SIZE: u32 = CODE.len() as u32;

/// Bytes of each of these fields; it ends its instruction, and distances count from there.
pub(crate) const FIELD: i64 = 4;
/// To the first constant of the region.
pub(crate) const FIRST: u32 = 0x03;
/// How many bytes of constants there are.
pub(crate) const LENGTH: u32 = 0x0f;
/// To the function that throws everything else.
pub(crate) const ORIGINAL: u32 = 0x16;
/// To a field of four bytes that holds its own distance from the base.
pub(crate) const BASE: u32 = 0x34;
/// To the import slot of `RaiseException`.
pub(crate) const RAISE: u32 = 0x59;

/// RCX is the object, RDX its description.
#[rustfmt::skip]
pub(crate) const CODE: [u8; 0x5e] = [
    0x4c, 0x8d, 0x05, 0, 0, 0, 0,                         // 00  lea r8, [constants]
    0x48, 0x89, 0xd0,                                     // 07  mov rax, rdx
    0x4c, 0x29, 0xc0,                                     // 0a  sub rax, r8
    0x48, 0x3d, 0, 0, 0, 0,                               // 0d  cmp rax, length
    0x72, 0x05,                                           // 13  jb 1a
    0xe9, 0, 0, 0, 0,                                     // 15  jmp original
    0x48, 0x83, 0xec, 0x48,                               // 1a  sub rsp, 48
    0x48, 0xc7, 0x44, 0x24, 0x20, 0x20, 0x05, 0x93, 0x19, // 1e  mov qword [rsp+20], 19930520  the kind of tables
    0x48, 0x89, 0x4c, 0x24, 0x28,                         // 27  mov [rsp+28], rcx             the object
    0x48, 0x89, 0x54, 0x24, 0x30,                         // 2c  mov [rsp+30], rdx             its description
    0x48, 0x8d, 0x05, 0, 0, 0, 0,                         // 31  lea rax, [base]
    0x8b, 0x08,                                           // 38  mov ecx, [rax]
    0x48, 0x29, 0xc8,                                     // 3a  sub rax, rcx
    0x48, 0x89, 0x44, 0x24, 0x38,                         // 3d  mov [rsp+38], rax             what its addresses count from
    0x4c, 0x8d, 0x4c, 0x24, 0x20,                         // 42  lea r9, [rsp+20]
    0x41, 0xb8, 0x04, 0x00, 0x00, 0x00,                   // 47  mov r8d, 4                    parameters
    0xba, 0x01, 0x00, 0x00, 0x00,                         // 4d  mov edx, 1                    not continuable
    0xb9, 0x63, 0x73, 0x6d, 0xe0,                         // 52  mov ecx, 0e06d7363            an exception of C++
    0xff, 0x15, 0, 0, 0, 0,                               // 57  call [RaiseException]
    0xcc,                                                 // 5d  int3
];

/// Its `UNWIND_INFO`: version 1, no handler, the prologue of 1e bytes ends with an allocation of 48. What stands before that is a leaf.
pub(crate) const UNWIND_INFO: [u8; 8] = [0x01, 0x1e, 0x01, 0x00, 0x1e, 0x82, 0x00, 0x00];
