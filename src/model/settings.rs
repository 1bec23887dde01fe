//! The `[model]` table.

use serde::{Deserialize, Serialize};

use crate::device::free_memory;

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

impl WeightStorage {
    /// Whether matrices that are not f32 are copied, if the copies take `bytes`.
    pub fn widens(self, bytes: usize) -> bool {
        match self {
            Self::F32 => true,
            Self::Stored => false,
            Self::Auto => free_memory().is_none_or(|free| bytes <= free / 2),
        }
    }
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
