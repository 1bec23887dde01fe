//! What a decoder reads and returns: a mnemonic, its operands, the decoded step.

pub use super::address::{Address, Base};
pub use super::mnemonic::Mnemonic;
pub use super::operands::{Operands, Slot};
use super::{Class, Execute, Execution, Flow, Step};
use crate::machine::Mask;

/// Turns one form of an instruction into what it does; `Err` says what it does not know.
pub type Decoder = fn(&Mnemonic<'_>, &mut Operands<'_>) -> Result<Decoded, String>;

/// A decoded instruction without its guard and place.
pub struct Decoded {
    /// What it does.
    pub step: Step,
    /// What it is counted as.
    pub class: Class,
}

impl Decoded {
    /// An instruction that works on lanes.
    pub fn execute<F>(class: Class, execute: F) -> Self
    where
        F: Fn(&mut Execution<'_, '_>, Mask) -> Flow + Send + Sync + 'static,
    {
        let execute: Execute = Box::new(execute);
        Self { step: Step::Execute(execute), class }
    }
}
