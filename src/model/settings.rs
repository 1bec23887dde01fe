//! The `[model]` table.

use serde::{Deserialize, Serialize};

/// How weights are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightStorage {
    /// `f32` where it takes at most half of the free memory, else `stored`.
    #[default]
    Auto,
    /// An f32 copy: fastest.
    F32,
    /// As the file stores them, widened one weight at a time as they are used.
    Stored,
}

/// The `[model]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A Hugging Face directory or a `.gguf` file. Required.
    pub path: String,
    /// How weights are held in memory.
    pub weights: WeightStorage,
}
