//! Shapes without arithmetic: element types, stored tensors, and the token forest.

pub mod block;
pub mod checkpoint;
pub mod dtype;
pub mod forest;
pub mod gguf;
pub mod mapped;
pub mod stored;

pub use block::Block;
pub use checkpoint::Checkpoint;
pub use dtype::DType;
pub use forest::{Forest, Segment, Site};
pub use gguf::Gguf;
pub use stored::{Stored, StoredFile};
