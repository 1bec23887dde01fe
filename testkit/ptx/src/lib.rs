//! Executes the PTX of CUDA kernels on the CPU, with checks that no number shows.
//!
//! ```text
//! text --parse--> Module --launch--> Report { findings, counters }
//!                   |                   ^
//!                   |                   | every access of memory, every barrier
//!                   `--> machine: blocks on threads, warps in turns, 32 lanes at once
//! ```
//!
//! - [`parse`] turns text into kernels; an unknown instruction is an error by name and line.
//! - [`isa`] holds what each instruction does, one file a family, one table row an instruction.
//! - [`machine`] runs blocks: warps, divergence, barriers.
//! - [`memory`] holds global and shared bytes; [`check`] shadows them; [`count`] counts requests.
//!
//! Blocks run on all cores; the result, the findings and the counters do not depend on how many.
//! Source of all semantics: the PTX ISA document, 8.7 to 9.x.

#![forbid(unsafe_code)]

pub mod check;
pub mod count;
pub mod isa;
pub mod machine;
pub mod memory;
pub mod parse;

pub use check::{Check, Finding};
pub use count::Counters;
pub use machine::grid::{Launch, Options, Report, launch};
pub use memory::global::Memory;
pub use memory::tensor_map::TensorMap;
pub use parse::module::{Kernel, Module, Parameter};
