//! The first values of variables that a payload brings, as far as they are computed: each function that does so is called once,
//! while no thread is stopped and no entry leads to the new code. A variable that an earlier payload brought has its value.

use super::call::call;
use super::process::Process;
use crate::ApplyError;
use crate::format::Payload;
use crate::link::TakenOver;

/// A function that has to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// Region offset.
    function: u32,
    /// Another result than 0 keeps the payload out.
    checked: bool,
    /// It registers a function that the process calls when it ends.
    pub at_exit: bool,
}

/// The functions whose variables are new to the process, in their order.
///
/// # Errors
/// When a function would give a variable its first value a second time.
pub(super) fn due(payload: &Payload, taken_over: &[TakenOver]) -> Result<Vec<Due>, ApplyError> {
    let is_there = |variable: u32| taken_over.iter().any(|existing| existing.offset == variable);
    let mut due: Vec<Due> = Vec::new();
    for record in &payload.initialisers {
        let Some(function) = record.function.filter(|_| !is_there(record.variable)) else { continue };
        if !due.iter().any(|known| known.function == function) {
            due.push(Due { function, checked: record.checked, at_exit: record.at_exit });
        }
    }
    let mut again = payload.initialisers.iter().filter(|record| is_there(record.variable));
    if let Some(record) = again.find(|record| due.iter().any(|due| record.function == Some(due.function))) {
        let variable = payload.variables.iter().find(|variable| variable.offset == record.variable);
        return Err(ApplyError::InitialisedBefore {
            function: name(payload, record.function.unwrap_or_default()),
            variable: variable.map(|variable| variable.name.clone()).unwrap_or_default(),
        });
    }
    Ok(due)
}

/// Calls them, and says whether one may have registered a function that the process calls when it ends.
///
/// # Errors
/// When one says that it failed; or could not be called, or did not return in time: its code must stay where it is then.
pub(super) fn run(
    process: &Process,
    region: u64,
    payload: &Payload,
    due: &[Due],
    registers_exit: &mut bool,
) -> Result<(), ApplyError> {
    for Due { function, checked, at_exit } in due {
        *registers_exit |= *at_exit;
        // SAFETY: the payload's author marked the function as one that takes nothing, and it was proven to write the payload's own
        // variables only; its region is in place, with its unwind data.
        let code = unsafe { call(process, region + u64::from(*function), [0; 3])? }.cast_signed();
        if *checked && code != 0 {
            return Err(ApplyError::Initialiser { function: name(payload, *function), code });
        }
    }
    Ok(())
}

fn name(payload: &Payload, offset: u32) -> String {
    let function = payload.functions.iter().find(|function| function.offset == offset);
    function.map_or_else(|| format!("the function at region offset {offset:#x}"), |function| function.name.clone())
}
