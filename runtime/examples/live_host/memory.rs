//! What the pages of a process with patches are, and a process that may not be looked into.

use std::process::Command;
use std::time::Duration;

use windows_sys::Win32::Security::{
    ACL, ACL_REVISION, DACL_SECURITY_INFORMATION, InitializeAcl, InitializeSecurityDescriptor, SECURITY_DESCRIPTOR,
    SetKernelObjectSecurity, SetSecurityDescriptorDacl,
};
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEMORY_BASIC_INFORMATION, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_EXECUTE_WRITECOPY,
    PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE, VirtualQuery,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::{adding, answer, apply_to_self};
use crate::payloads::*;
use hpgen_runtime::*;

/// Runs of committed pages from `start` on, up to `end`: address, size, protection.
fn pages(start: u64, end: u64) -> Vec<(u64, u64, u32)> {
    let (mut next, mut found) = (start, vec![]);
    while next < end {
        let mut info: MEMORY_BASIC_INFORMATION = unsafe { std::mem::zeroed() };
        if unsafe { VirtualQuery(next as *const _, &raw mut info, size_of_val(&info)) } == 0 {
            break;
        }
        let (base, size) = (info.BaseAddress as u64, info.RegionSize as u64);
        if info.State == MEM_COMMIT {
            found.push((base, size, info.Protect));
        }
        next = base + size;
    }
    found
}

/// None is writable and executable.
fn is_safe(all: &[(u64, u64, u32)]) -> bool {
    all.iter().all(|(.., protection)| protection & (PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY) == 0)
}

pub fn check_memory() {
    let everything = || pages(0, 0x7fff_ffff_0000);
    assert!(is_safe(&everything()), "before");
    let applied = apply_to_self(&adding(5), &seal(70), &ApplyOptions::default()).unwrap();
    let status = applied.status().unwrap().remove(0);
    let region = pages(status.region_base, status.region_base + status.region_size);
    let offsets: Vec<(u64, u64, u32)> =
        region.iter().map(|(at, size, p)| (at - status.region_base, *size, *p)).collect();
    let expected = [
        (0, 0x1000, PAGE_READWRITE),
        (u64::from(CODE), 0x1000, PAGE_EXECUTE_READ),
        (0x2000, 0x1000, PAGE_NOACCESS),
        (u64::from(CONSTANTS), 0x1000, PAGE_READONLY),
        (0x4000, 0x1000, PAGE_NOACCESS),
        (u64::from(VARIABLES), 0x1000, PAGE_READWRITE),
        (0x6000, 0x1000, PAGE_NOACCESS),
        (0x7000, 0x1000, PAGE_READONLY),
        (0x8000, 0x1000, PAGE_NOACCESS),
    ];
    assert_eq!(offsets, expected, "{offsets:x?}");
    assert_eq!(answer(1), 6);
    assert!(is_safe(&everything()), "while it is patched");
    applied.rollback().unwrap();
    assert!(is_safe(&everything()), "afterwards");

    let mut shut = Command::new(std::env::current_exe().unwrap()).arg("shut").spawn().unwrap();
    let pid = shut.id();
    let denied = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        matches!(status_process(pid), Err(ProcessError::AccessDenied(denied)) if denied == pid)
    });
    let error = super::apply_to_process(pid, &adding(5), &seal(71), &ApplyOptions::default()).unwrap_err();
    shut.kill().unwrap();
    shut.wait().unwrap();
    assert!(denied && matches!(&error, ApplyError::Process(ProcessError::AccessDenied(_))), "{error}");
    println!("every page is writable or executable or neither, and {error}");
    println!("memory: all done");
}

/// Lets nobody in, and waits.
pub fn shut() {
    let mut acl: ACL = unsafe { std::mem::zeroed() };
    let mut descriptor: SECURITY_DESCRIPTOR = unsafe { std::mem::zeroed() };
    let place = (&raw mut descriptor).cast();
    unsafe {
        assert_ne!(InitializeAcl(&raw mut acl, size_of_val(&acl) as u32, ACL_REVISION), 0);
        assert_ne!(InitializeSecurityDescriptor(place, 1), 0);
        assert_ne!(SetSecurityDescriptorDacl(place, 1, &raw const acl, 0), 0);
        assert_ne!(SetKernelObjectSecurity(GetCurrentProcess(), DACL_SECURITY_INFORMATION, place), 0);
    }
    std::thread::sleep(Duration::from_secs(60));
}
