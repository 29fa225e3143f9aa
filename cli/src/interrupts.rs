//! Ctrl+C, a closed console, a request to end: all wait until the process at hand is not in the middle of a change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// How often a pause looks whether it was cut short.
const TICK: Duration = Duration::from_millis(50);

/// From here on, a request to end only sets a mark. (Windows ends a process some seconds after its console was closed all the same;
/// a change takes milliseconds.)
pub fn hold() -> Result<()> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::SeqCst)).context("cannot hold Ctrl+C back")
}

/// Whether somebody wants this program to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Waits for so long, or until somebody wants this program to end.
pub fn pause(time: Duration) {
    let end = Instant::now() + time;
    while !requested() && Instant::now() < end {
        std::thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
    }
}
