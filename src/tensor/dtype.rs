//! Element types of stored tensors, as values.

use std::fmt;

use safetensors::tensor::Dtype;

use super::block::Block;

/// An element type that weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of an f32.
    BF16,
    /// Quantised: elements that stand side by side share their scales.
    Block(Block),
}

impl DType {
    /// As safetensors files name it; `None` for quantised blocks, which they do not hold.
    pub fn stored(self) -> Option<Dtype> {
        match self {
            Self::F32 => Some(Dtype::F32),
            Self::F16 => Some(Dtype::F16),
            Self::BF16 => Some(Dtype::BF16),
            Self::Block(_) => None,
        }
    }

    /// Elements that are stored together; a row holds a whole number of these.
    pub fn group(self) -> usize {
        if let Self::Block(block) = self { block.elements() } else { 1 }
    }

    /// Bytes of `elements` elements, which are whole groups.
    pub fn bytes(self, elements: usize) -> usize {
        match self {
            Self::F32 => 4 * elements,
            Self::F16 | Self::BF16 => 2 * elements,
            Self::Block(block) => elements / block.elements() * block.bytes(),
        }
    }

    /// What an address must be a multiple of to be read in place.
    pub fn alignment(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Block(_) => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::F16 => f.write_str("f16"),
            Self::BF16 => f.write_str("bf16"),
            Self::Block(block) => f.write_str(block.name()),
        }
    }
}
