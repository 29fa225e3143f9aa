//! The Windows Event Log.

use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE, RegisterEventSourceW,
    ReportEventW,
};

use crate::Severity;

/// The source that events are written under. It needs no registration: without one the viewer shows the text with a remark.
const SOURCE: &str = "hpgen";
/// One id for all events; what happened is in the text.
const ID: u32 = 1;

/// Writes a text to the application log of this machine. `false` when the system did not take it.
pub fn write_event_log(severity: Severity, text: &str) -> bool {
    let wide = |text: &str| text.encode_utf16().filter(|unit| *unit != 0).chain([0]).collect::<Vec<u16>>();
    let (source, text) = (wide(SOURCE), wide(text));
    let kind = match severity {
        Severity::Done => EVENTLOG_INFORMATION_TYPE,
        Severity::Refused => EVENTLOG_WARNING_TYPE,
        Severity::Failed => EVENTLOG_ERROR_TYPE,
    };
    // SAFETY: the name ends with zero; no other machine is asked.
    let log = unsafe { RegisterEventSourceW(std::ptr::null(), source.as_ptr()) };
    if log.is_null() {
        return false;
    }
    let texts = [text.as_ptr()];
    // SAFETY: the handle was just made; one text that ends with zero, no user, no data.
    let taken = unsafe { ReportEventW(log, kind, 0, ID, std::ptr::null_mut(), 1, 0, texts.as_ptr(), std::ptr::null()) };
    // SAFETY: made above.
    unsafe { DeregisterEventSource(log) };
    taken != 0
}
