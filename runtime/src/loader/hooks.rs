//! Calling a payload's hooks: `int32_t hook(void)`, one after the other, on a thread that runs as any other.

use super::call::call;
use super::process::Process;
use crate::ProcessError;
use crate::format::HookKind;

/// A hook that said no.
pub(super) struct Veto {
    pub address: u64,
    pub code: i32,
}

/// Calls the hooks of a kind in order, up to the first that says no; of a kind that cannot say no, all.
///
/// # Errors
/// When a hook could not be called, or did not return in time: its code must stay where it is then.
pub(super) fn run(process: &Process, hooks: &[(HookKind, u64)], kind: HookKind) -> Result<Option<Veto>, ProcessError> {
    let can_veto = matches!(kind, HookKind::PreApply | HookKind::PreRollback);
    for (_, address) in hooks.iter().filter(|(own, _)| *own == kind) {
        // SAFETY: the payload's author marked the function as a hook, which takes nothing and returns a number; its region is in place,
        // with its unwind data.
        let code = unsafe { call(process, *address, [0; 3])? }.cast_signed();
        if can_veto && code != 0 {
            return Ok(Some(Veto { address: *address, code }));
        }
    }
    Ok(None)
}
