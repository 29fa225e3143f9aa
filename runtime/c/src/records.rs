//! What the library tells, in records that C reads.

use std::ffi::c_char;
use std::time::UNIX_EPOCH;

use runtime::{PatchState, PatchStatus, RegionFate, RolledBack};

use crate::text::fixed;

/// `hpgen_patch`
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Patch {
    pub sequence: u64,
    pub image_base: u64,
    pub region_base: u64,
    pub region_size: u64,
    pub applied_at: u64,
    pub stopped_us: u64,
    pub state: u32,
    pub series: u32,
    pub threads_stopped: u32,
    pub functions: u32,
    pub redirected: u32,
    pub reserved: u32,
    pub patch_id: [c_char; 24],
    pub image: [c_char; 264],
}

/// `hpgen_applied`
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Applied {
    pub stopped_us: u64,
    pub images: u32,
    pub functions: u32,
    pub threads_stopped: u32,
    pub series: u32,
    pub patch_id: [c_char; 24],
}

/// `hpgen_rolled_back`
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Rollback {
    pub stopped_us: u64,
    pub functions: u32,
    pub threads_stopped: u32,
    pub memory_kept: u32,
    pub kept_by_thread: u32,
    pub patch_id: [c_char; 24],
}

/// `HPGEN_PREPARED` and so on.
pub fn state_code(state: PatchState) -> u32 {
    match state {
        PatchState::Prepared => 1,
        PatchState::Applied => 2,
        PatchState::Retired => 3,
        PatchState::Replaced => 4,
    }
}

impl From<&PatchStatus> for Patch {
    fn from(status: &PatchStatus) -> Patch {
        let redirected = status.functions.iter().filter(|function| function.redirected).count();
        Patch {
            sequence: status.sequence,
            image_base: status.image_base,
            region_base: status.region_base,
            region_size: status.region_size,
            applied_at: status.applied_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            stopped_us: status.stopped.as_micros() as u64,
            state: state_code(status.state),
            series: status.series,
            threads_stopped: status.threads_stopped,
            functions: status.functions.len() as u32,
            redirected: redirected as u32,
            reserved: 0,
            patch_id: fixed(&status.patch_id),
            image: fixed(&status.image_name),
        }
    }
}

impl From<&[PatchStatus]> for Applied {
    fn from(images: &[PatchStatus]) -> Applied {
        let any = images.first();
        Applied {
            stopped_us: any.map_or(0, |status| status.stopped.as_micros() as u64),
            images: images.len() as u32,
            functions: images.iter().map(|status| status.functions.len() as u32).sum(),
            threads_stopped: any.map_or(0, |status| status.threads_stopped),
            series: any.map_or(0, |status| status.series),
            patch_id: fixed(any.map_or("", |status| &status.patch_id)),
        }
    }
}

impl From<&RolledBack> for Rollback {
    fn from(done: &RolledBack) -> Rollback {
        let (memory_kept, kept_by_thread) = match done.region {
            RegionFate::Freed => (0, 0),
            RegionFate::Kept { thread } => (1, thread),
            RegionFate::Unfreed | RegionFate::KeptForExit => (1, 0),
        };
        Rollback {
            stopped_us: done.stopped.as_micros() as u64,
            functions: done.functions as u32,
            threads_stopped: done.threads_stopped,
            memory_kept,
            kept_by_thread,
            patch_id: fixed(&done.patch_id),
        }
    }
}
