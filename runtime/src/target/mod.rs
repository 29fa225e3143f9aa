//! What the loader has to know about another process's memory, without any call of the system: reading headers, exports and
//! the loader's own records, and finding a place. All of it is tested on every system.
#![cfg_attr(not(windows), allow(dead_code))]

pub(crate) mod baseline;
pub(crate) mod claim;
pub(crate) mod exports;
pub(crate) mod image;
pub(crate) mod journal;
pub(crate) mod memory;
pub(crate) mod reach;
pub(crate) mod record;
pub(crate) mod stack_walk;
pub(crate) mod unwind;
pub(crate) mod zones;
