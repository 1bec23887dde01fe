//! Stand-in until the parse branch lands.

use crate::isa::Instruction;
use crate::machine::registers::Layout;

/// A module.
#[derive(Default)]
pub struct Module {
    /// Kernels.
    pub kernels: Vec<Kernel>,
    /// Source files.
    pub files: Vec<String>,
}

/// A parameter.
#[derive(Clone, Debug)]
pub struct Parameter;

/// A kernel.
#[derive(Default)]
pub struct Kernel {
    /// Entry.
    pub name: String,
    /// Code.
    pub code: Vec<Instruction>,
    /// Mnemonics.
    pub mnemonics: Vec<String>,
    /// Registers.
    pub layout: Layout,
    /// Bytes.
    pub static_shared: u32,
    /// Bytes.
    pub local_bytes: u32,
    /// Bytes.
    pub parameter_bytes: u32,
    /// Threads.
    pub max_threads: Option<u32>,
}
