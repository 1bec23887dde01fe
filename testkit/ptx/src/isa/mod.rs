//! What each instruction does.
//!
//! A decoder turns a mnemonic and its operands into a [`Step`]. Most steps are closures over registers
//! that work on the 32 lanes at once; the rest steer the warp. [`table::DECODERS`] lists all of them.

mod address;
pub mod approximate;
pub mod arithmetic;
pub mod async_copy;
pub mod atomic;
pub mod bits;
pub mod bulk;
pub mod compare;
pub mod control;
pub mod convert;
mod convert_packed;
pub mod decode;
pub mod exchange;
pub mod fence;
pub mod float;
pub mod float16;
pub mod fragments;
pub mod half;
pub mod integer;
pub mod load_store;
pub mod matrix;
pub mod mbarrier;
pub mod mma;
mod mnemonic;
pub mod moves;
mod operands;
pub mod rounding;
pub mod shared_address;
pub mod special;
mod special_registers;
pub mod table;
mod tensor_core;
pub mod tensor_sums;
pub mod types;
pub mod uses;
pub mod values;
pub mod wgmma;
pub mod whole_warp;

use crate::machine::Mask;
use crate::machine::block::Block;
use crate::machine::registers::Pred;
use crate::machine::warp::Warp;

/// A decoded instruction.
pub struct Instruction {
    /// The lanes that execute it; all where absent.
    pub guard: Option<Guard>,
    /// What it does.
    pub step: Step,
    /// The registers that it reads and writes.
    pub uses: uses::Uses,
    /// Where it comes from.
    pub place: Place,
    /// Its full mnemonic: an index into the kernel's `mnemonics`.
    pub mnemonic: u32,
    /// What it is counted as.
    pub class: Class,
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// The predicate.
    pub pred: Pred,
    /// Whether its negation is meant.
    pub negated: bool,
}

/// A line of the source, from `.loc`; 0 where the module says none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Index into the module's `files`.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
}

/// Does something with the lanes of a mask.
pub type Execute = Box<dyn Fn(&mut Execution<'_, '_>, Mask) -> Flow + Send + Sync>;

/// What an instruction does to a warp.
pub enum Step {
    /// Works on lanes and goes on.
    Execute(Execute),
    /// `bra`: to an instruction of the kernel.
    Branch(u32),
    /// `ret`, `exit`.
    Exit,
    /// `bar`, `barrier`: decoded in `sync`.
    Barrier(crate::machine::barrier::Use),
}

/// Whether the warp goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To the next instruction, but other warps first: something is waited for in a loop.
    Yield,
    /// The same instruction again, when the named lanes that are still missing have arrived.
    Wait(Mask),
}

/// What an instruction may touch while it runs.
pub struct Execution<'a, 'g> {
    /// Its warp.
    pub warp: &'a mut Warp,
    /// Its block.
    pub block: &'a mut Block<'g>,
    /// The instruction itself, for findings and counters.
    pub at: At,
    /// Lanes that an instruction waits for will never come: it must report them and go on.
    pub last_resort: bool,
}

/// Which instruction of the kernel is being executed.
#[derive(Clone, Copy, Debug, Default)]
pub struct At {
    /// Its index.
    pub pc: u32,
    /// Where it comes from.
    pub place: Place,
    /// Its mnemonic's index.
    pub mnemonic: u32,
}

/// Kinds of instructions, as counters show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Integer arithmetic, logic, moves, conversions between integers.
    Integer,
    /// Floating point arithmetic of any width.
    Float,
    /// Special functions: ex2, lg2, rcp, rsqrt, sqrt, sin, cos, tanh.
    Special,
    /// Conversions to or from floating point.
    Convert,
    /// Predicates and selection.
    Compare,
    /// Branches, exits, barriers.
    Control,
    /// Exchange between lanes.
    Shuffle,
    /// Loads and stores of any space, atomics.
    Memory,
    /// cp.async, TMA, mbarrier.
    Async,
    /// ldmatrix, stmatrix.
    MatrixMove,
    /// mma, wgmma.
    Mma,
}
