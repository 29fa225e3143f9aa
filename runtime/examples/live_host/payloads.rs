//! Payloads made by hand for functions of this very program.

use hpgen_runtime::format::*;

pub const CODE: u32 = 0x1000;
pub const CONSTANTS: u32 = 0x3000;
pub const VARIABLES: u32 = 0x5000;

/// What the running program's own headers say.
pub fn own_identity() -> Identity {
    let path = std::env::current_exe().unwrap();
    identity(own_base(), path.file_name().unwrap().to_str().unwrap())
}

/// What the headers of a loaded image say.
pub fn identity(base: u64, name: &str) -> Identity {
    let word = |at: u64| unsafe { std::ptr::read_unaligned((base + at) as *const u32) };
    let nt = u64::from(word(0x3c));
    let mut identity = Identity {
        guid: [0; 16],
        age: 0,
        timestamp: word(nt + 8),
        size_of_image: word(nt + 24 + 56),
        entry_point: word(nt + 24 + 16),
        image_base: base,
        image_name: name.to_owned(),
        series: 1,
        stays: false,
    };
    let (debug, size) = (u64::from(word(nt + 24 + 112 + 48)), u64::from(word(nt + 24 + 112 + 52)));
    for entry in (debug..debug + size).step_by(28) {
        let record = u64::from(word(entry + 20));
        if word(entry + 12) == 2 && word(record) == u32::from_le_bytes(*b"RSDS") {
            identity.guid = unsafe { std::ptr::read((base + record + 4) as *const [u8; 16]) };
            identity.age = word(record + 20);
        }
    }
    identity
}

pub fn own_base() -> u64 {
    unsafe { windows_sys::Win32::System::LibraryLoader::GetModuleHandleW(std::ptr::null()) as u64 }
}

pub fn rva(function: usize) -> u32 {
    (function as u64 - own_base()) as u32
}

pub fn first_bytes(function: usize, count: usize) -> Vec<u8> {
    unsafe { std::slice::from_raw_parts(function as *const u8, count) }.to_vec()
}

fn segment(offset: u32, protection: Protection, content: Vec<u8>) -> Segment {
    Segment { offset, size: 0x1000, protection, content }
}

/// Redirects the function of this program at `old` to `code`, at the start of the code segment.
pub fn redirect(old: usize, name: &str, code: Vec<u8>) -> Payload {
    redirect_in(own_base(), own_identity(), old, name, code)
}

/// The same in a module of that base and identity.
pub fn redirect_in(base: u64, identity: Identity, old: usize, name: &str, code: Vec<u8>) -> Payload {
    let rva = (old as u64 - base) as u32;
    let function =
        Function { offset: CODE, size: code.len() as u32, old_rva: Some(rva), name: name.to_owned(), exported: false };
    let trampoline = Trampoline {
        entry_rva: rva,
        target: CODE,
        form: TrampolineForm::Jump32,
        demand: Demand::Entry,
        expected: first_bytes(old, 8),
        rebased_at: None,
        gap: None,
        callers: vec![],
    };
    Payload {
        identity,
        segments: vec![
            segment(CODE, Protection::ReadExecute, code),
            segment(CONSTANTS, Protection::Read, vec![0; 0x40]),
            segment(VARIABLES, Protection::ReadWrite, vec![0; 0x40]),
        ],
        relocations: vec![],
        trampolines: vec![trampoline],
        functions: vec![function],
        imports: vec![],
        unwind: Unwind::default(),
        variables: vec![],
        hooks: vec![],
        assignments: vec![],
        bodies: vec![Body::unchecked(rva, rva, 8)],
        initialisers: vec![],
        probation: None,
    }
}

/// `sub rsp, 40; <code>; add rsp, 40; ret`, with unwind data for it at the start of the constants.
pub fn with_frame(payload: &mut Payload) {
    let code = &payload.segments[0].content;
    assert_eq!(code[..4], [0x48, 0x83, 0xec, 0x28]);
    let end = code.len() as u32;
    let constants = &mut payload.segments[1].content;
    // UNWIND_INFO at +16: version 1, prologue of 4 bytes, one code: at 4, UWOP_ALLOC_SMALL of 40.
    constants[16..22].copy_from_slice(&[1, 4, 1, 0, 4, 0x42]);
    let rva32 =
        |place, target| Relocation { place, kind: RelocationKind::Rva32, space: Space::Region, target, addend: 0 };
    payload.relocations.extend([
        rva32(CONSTANTS, CODE),
        rva32(CONSTANTS + 4, CODE + end),
        rva32(CONSTANTS + 8, CONSTANTS + 16),
    ]);
    payload.unwind = Unwind { table: CONSTANTS, count: 1 };
}

pub fn seal(number: u8) -> Seal {
    Seal([number; 32])
}
