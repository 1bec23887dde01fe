//! From dataset lines to token forests: formats, templates, loss masks, packing.

pub mod example;
pub mod pack;

pub use example::Tokenized;
