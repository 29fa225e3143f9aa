//! Processes by the name of an image that they run.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};

use super::modules::Modules;
use super::process::{Access, Process};
use crate::format::same_name;
use crate::{ProcessError, RunningProcess};

/// Processes whose EXE, or one of whose DLLs, has this file name. Processes that may not be looked into count by their EXE only.
pub(super) fn find(image: &str) -> Result<Vec<RunningProcess>, ProcessError> {
    let mut found = all()?;
    found.retain(|process| same_name(&process.image_name, image) || has_module(process.pid, image));
    for process in &mut found {
        process.started =
            Process::open(process.pid, Access::Look).ok().and_then(|process| process.started()).unwrap_or(0);
    }
    Ok(found)
}

fn has_module(pid: u32, image: &str) -> bool {
    // The idle process and the system's own have no modules.
    if pid <= 4 {
        return false;
    }
    let modules = Process::open(pid, Access::Look).and_then(|process| Modules::read(&process));
    modules.is_ok_and(|modules| modules.named(image).next().is_some())
}

fn all() -> Result<Vec<RunningProcess>, ProcessError> {
    // SAFETY: takes only numbers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(Process::own().failed("CreateToolhelp32Snapshot"));
    }
    // SAFETY: just made, and nobody else's.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    // SAFETY: a record of numbers.
    let mut entry: PROCESSENTRY32W = unsafe { std::mem::zeroed() };
    entry.dwSize = size_of_val(&entry) as u32;
    let mut processes = Vec::new();
    // SAFETY: the handle is open, and the record says its size.
    let mut more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        let name = entry.szExeFile.split(|unit| *unit == 0).next().unwrap_or_default();
        processes.push(RunningProcess {
            pid: entry.th32ProcessID,
            image_name: String::from_utf16_lossy(name),
            started: 0,
        });
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Ok(processes)
}
