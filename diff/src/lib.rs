//! Compares two builds of a PE image by meaning, not by bytes: layout, base addresses and padding do not count.
//!
//! Data flows one way: path -> [`image::Image`] and [`symbols::Symbols`] -> [`program::Program`] -> [`pairing::Pairing`] ->
//! [`compare::Comparison`] -> [`report::Report`]. The mistake that this crate prefers to make is to call an unchanged function changed:
//! never the other way round.
#![deny(unsafe_code)]

mod after_calls;
mod arguments;
pub mod asm;
pub mod atoms;
mod auto_imports;
pub mod change_set;
mod closures;
mod comdat_constants;
pub mod compare;
pub mod contracts;
mod cosmetic;
mod cut_constants;
pub mod dataflow;
pub mod demangle;
mod discriminants;
pub mod effects;
pub mod enumerators;
pub mod error;
pub mod exact_fields;
pub mod exceptions;
mod exchanged_variables;
pub mod explain;
pub mod exports;
mod file_names;
mod fixups;
mod funclets;
mod function_users;
mod held_tables;
mod identity;
pub mod image;
mod index_bounds;
pub mod initialisers;
mod inline_sites;
mod known_calls;
mod layout_words;
pub mod layouts;
pub mod lines;
mod linker_tables;
pub mod listing;
mod mangling;
mod mapped_file;
mod matching;
mod memory_reach;
mod moved_imports;
pub mod new_part;
mod objects;
pub mod operand_alignment;
mod ordinals;
pub mod pairing;
pub mod passed_addresses;
pub mod pdb;
pub mod program;
mod recognised;
mod renamed_types;
mod replaced_callbacks;
pub mod report;
mod resources;
pub mod rtti;
mod run_through;
pub mod rva;
pub mod shapes;
mod signatures;
pub mod static_guards;
pub mod symbols;
pub mod tables;
#[cfg(test)]
mod testing;
mod type_information;
pub mod type_users;
mod typed_sources;
mod undefined_types;
mod untyped_files;
pub mod unwind;
mod value_numbers;
mod variable_storage;
pub mod variable_types;
mod visible_users;
mod vtable_extents;
mod whole_texts;
pub mod x64;

pub use error::Error;
