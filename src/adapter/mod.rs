//! LoRA adapters: which linears carry one, its parameters, PEFT files, merging.

pub mod lora;
pub mod merge;
pub mod peft;
pub mod settings;
pub mod targets;

pub use lora::{Lora, Module};
pub use settings::Settings;
pub use targets::{Linear, Projection};
