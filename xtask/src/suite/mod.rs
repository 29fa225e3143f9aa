//! `cargo xtask suite`: proofs over whole programs that are too long for unit tests.

pub mod compile;
pub mod configuration;
pub mod link;
pub mod metamorphic;
pub mod msvc;
pub mod mutation;
pub mod relinked;
pub mod running;
pub mod subjects;
pub mod table;
pub mod variants;
