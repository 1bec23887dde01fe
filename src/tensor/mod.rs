//! Shapes without arithmetic: element types, views of stored weights, and the token forest.

pub mod dtype;
pub mod forest;

pub use dtype::DType;
pub use forest::{Forest, Segment, Site};
