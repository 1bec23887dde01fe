//! The `[device]` table.

use serde::{Deserialize, Serialize};

/// Which device computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The best device present.
    #[default]
    Auto,
    /// The host's cores.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// The `[device]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which device.
    pub kind: Kind,
    /// CPU threads; 0 = all. Results do not depend on it.
    pub threads: usize,
    /// Which of several GPUs.
    pub index: usize,
}
