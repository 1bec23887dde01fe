//! From text to kernels: tokens, declarations, operands, decoded instructions.

pub mod builder;
pub mod module;
pub mod operand;
