//! Things that a patch does to a process besides its memory, each undone when it is dropped before it is kept.

use super::call::call_ntdll;
use super::fault;
use super::modules::{Modules, exe_base};
use super::process::Process;
use super::system::insist;
use crate::link::FunctionTable;
use crate::{ApplyError, ProcessError};

/// A reference to the patched DLL, so that the process cannot unload it. The EXE needs none.
pub(super) struct HeldModule<'p> {
    process: &'p Process,
    modules: &'p Modules,
    base: Option<u64>,
}

impl<'p> HeldModule<'p> {
    pub fn hold(process: &'p Process, modules: &'p Modules, base: u64) -> Result<Self, ProcessError> {
        let mut held = HeldModule { process, modules, base: None };
        if base != exe_base(process)? {
            if fault::point("LdrAddRefDll") {
                return Err(process.bad_memory(base, "the module is being unloaded"));
            }
            // SAFETY: `LdrAddRefDll(flags, base)` checks the base against the loaded modules.
            let status = unsafe { call_ntdll(process, modules, "LdrAddRefDll", [0, base, 0])? };
            if status.cast_signed() < 0 {
                return Err(process.bad_memory(base, "the module is being unloaded"));
            }
            held.base = Some(base);
        }
        Ok(held)
    }

    pub fn keep(mut self) {
        self.base = None;
    }
}

impl Drop for HeldModule<'_> {
    fn drop(&mut self) {
        if let Some(base) = self.base {
            release_module(self.process, self.modules, base);
        }
    }
}

/// Takes back the reference that [`HeldModule::hold`] took.
pub(super) fn release_module(process: &Process, modules: &Modules, base: u64) {
    if exe_base(process).is_ok_and(|exe| exe != base) {
        // The worst that a failure does is that the module stays loaded.
        // SAFETY: `LdrUnloadDll(base)` checks the base against the loaded modules.
        let _ = unsafe { call_ntdll(process, modules, "LdrUnloadDll", [base, 0, 0]) };
    }
}

/// A registered function table.
pub(super) struct Registration<'p> {
    process: &'p Process,
    modules: &'p Modules,
    table: Option<u64>,
}

impl<'p> Registration<'p> {
    pub fn register(
        process: &'p Process,
        modules: &'p Modules,
        table: Option<FunctionTable>,
    ) -> Result<Self, ApplyError> {
        let mut registration = Registration { process, modules, table: None };
        if let Some(FunctionTable { address, count, base }) = table {
            if fault::point("RtlAddFunctionTable") {
                return Err(ApplyError::Unwind("RtlAddFunctionTable returned FALSE"));
            }
            let arguments = [address, count.into(), base];
            // SAFETY: the table is filled, is read-only, and stays until it is deleted.
            let accepted = unsafe { call_ntdll(process, modules, "RtlAddFunctionTable", arguments)? };
            if accepted & 0xff == 0 {
                return Err(ApplyError::Unwind("RtlAddFunctionTable returned FALSE"));
            }
            registration.table = Some(address);
        }
        Ok(registration)
    }

    pub fn keep(mut self) {
        self.table = None;
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        if let Some(table) = self.table {
            delete_function_table(self.process, self.modules, table);
        }
    }
}

/// Afterwards there is no such table, whether there was one or not. `false` when the process could not be asked for it: what the table
/// describes must stay then.
pub(super) fn delete_function_table(process: &Process, modules: &Modules, table: u64) -> bool {
    insist(|| {
        // SAFETY: `RtlDeleteFunctionTable(table)` looks the address up among the registered ones.
        unsafe { call_ntdll(process, modules, "RtlDeleteFunctionTable", [table, 0, 0]) }.is_ok()
    })
}
