//! From dataset lines to token forests: formats, templates, loss masks, packing.

mod csv;
pub mod encode;
pub mod example;
pub mod file;
pub mod index;
pub mod line;
pub mod pack;
mod parquet;
pub mod prepare;
pub mod settings;
pub mod template;
pub mod tokenizer;
pub mod vocabulary;

pub use encode::{Encoded, Encoder, Letters};
pub use example::Tokenized;
pub use index::Dataset;
pub use line::{Body, Format, Line};
pub use prepare::Counts;
pub use settings::{LossOn, Settings};
pub use template::Template;
pub use tokenizer::Tokenizer;
pub use vocabulary::{Vocabulary, WordCounts};
