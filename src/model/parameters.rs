//! A model's weights as one table, in the order of the forward pass.
//!
//! ```text
//! gradients, m, v  [ embed_tokens | layer 0: input_layernorm, q_proj, ... | layer 1 | ... | norm | lm_head ]
//! ```
//!
//! A row names a weight, holds it, and says where its gradient and its moments stand in arenas of this layout.
//! A tied head has no row of its own: its gradient is added to the embedding's.

use std::ops::Range;

use crate::device::Weight;
use crate::tensor::DType;

/// The row of a weight in its model's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) usize);

/// One weight of a model.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in Hugging Face files.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Its type there.
    pub stored: DType,
    /// Its place in arenas of gradients and moments.
    pub range: Range<usize>,
    /// Its values.
    pub weight: Weight,
}
