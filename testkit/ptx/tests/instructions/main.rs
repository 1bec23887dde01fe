//! Every family of instructions against truth that shares no code with it: i128, f64, the `half` crate,
//! definitions written out.

#![allow(clippy::type_complexity, reason = "tables of names and functions")]

mod arithmetic;
mod atomics;
mod bits;
mod compare;
mod control;
mod convert;
mod exchange;
mod float;
mod float16;
mod harness;
mod memory;
mod modules;
mod registers;
