//! What a machine needs to build, test and show hpgen: see `main.rs` for the commands.
//!
//! It is a library as well, so that the live tests start Windows programs ([`wine`]) and find them ([`workspace`]) the
//! way `cargo xtask` does.

pub mod bench;
pub mod binaries;
pub mod binary_patches;
pub mod bless;
pub mod check;
pub mod child;
pub mod corpus;
pub mod demo;
pub mod digest;
pub mod edit;
pub mod fixtures;
pub mod forms;
pub mod jobs;
pub mod live;
pub mod msvc_abi;
pub mod programs;
pub mod release_jump;
pub mod runtime_library;
pub mod setup;
pub mod sizes;
pub mod sources;
pub mod steps;
pub mod suite;
pub mod toolchain;
pub mod transcript;
pub mod wine;
pub mod workspace;
