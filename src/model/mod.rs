//! Decoder families as one specification: weights, forward and backward.
//!
//! Llama, Mistral, Qwen2, Qwen3 and Gemma 3 (text) differ in values of [`Spec`], not in code paths of their
//! own. `decoder.rs` holds one block's forward pass and, under it in mirrored order, its backward pass.

pub mod batch;
pub mod cache;
mod decoder;
pub mod directory;
pub mod files;
mod gguf;
pub mod init;
pub mod parameters;
pub mod pass;
mod rope;
pub mod settings;
pub mod spec;
pub mod weights;

pub use batch::{Batch, DropoutRun};
pub use cache::Cache;
pub use files::Files;
pub use parameters::Parameter;
pub use pass::Pass;
pub use settings::Settings;
pub use spec::Spec;
pub use weights::Model;
