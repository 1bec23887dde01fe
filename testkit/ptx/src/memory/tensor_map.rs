//! Stand-in until the tensor branch lands.

/// A tensor map.
#[derive(Clone, Debug)]
pub struct TensorMap;
