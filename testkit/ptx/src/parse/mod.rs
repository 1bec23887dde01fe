//! From text to kernels: tokens, declarations, operands, decoded instructions.

mod body;
pub mod builder;
mod declaration;
pub mod lexer;
pub mod module;
pub mod operand;
