//! What a machine needs to build, test and show hpgen: `cargo xtask setup`, `programs`, `fixtures`, `test`.
//!
//! It is a library as well, so that the live tests start Windows programs ([`wine`]) and find them ([`workspace`]) the
//! way `cargo xtask` does.

pub mod bless;
pub mod check;
pub mod digest;
pub mod edit;
pub mod fixtures;
pub mod jobs;
pub mod programs;
pub mod setup;
pub mod sources;
pub mod toolchain;
pub mod transcript;
pub mod wine;
pub mod workspace;
