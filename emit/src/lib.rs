//! From a change set to a hotpatch payload: what must be carried, where it goes, and the bytes.
//!
//! Data flows one way: [`hpgen_diff::change_set::ChangeSet`] -> [`plan::Plan`] -> [`build::payload`] -> [`build::file`]. The mistake
//! that this crate prefers to make is to refuse a function that could have been patched.
#![forbid(unsafe_code)]

mod bodies;
pub mod build;
mod callers;
mod correspondence;
pub mod disassembly;
pub mod exports;
mod gaps;
mod hooks;
pub mod initialisers;
pub mod islands;
mod kept_entries;
mod layout;
mod own_tables;
pub mod plan;
mod readings;
pub mod rules;
pub mod sites;
pub mod symbol_file;
mod throw_stub;
mod throws;
pub mod trampoline;
