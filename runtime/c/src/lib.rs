//! The runtime for C and C++. `include/hpgen_runtime.h` is what callers read; every exported function is described there, and
//! `header_tests.rs` proves that header and library say the same.
//!
//! No panic leaves a function: it becomes `HPGEN_DEFECT` ([`answer`]). Nothing that is handed out must be freed but the handles, and those
//! by the function that the header names. A caller's pointers are used during the call only.

mod answer;
#[cfg(feature = "watching")]
mod follower;
mod patcher;
#[cfg(feature = "watching")]
mod probation;
mod records;
mod text;

#[cfg(test)]
#[cfg(feature = "watching")]
mod header_tests;
