//! The `[data]` table of a configuration, and which tokens carry loss.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Format;

/// The `[data]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The JSONL, CSV or Parquet file to train on.
    pub train: PathBuf,
    /// The JSONL, CSV or Parquet file to evaluate on; empty for none.
    pub eval: PathBuf,
    /// What a line of these files is.
    pub format: Format,
    /// `exam`, `chat` (the model's own), or the path of a minijinja file.
    pub template: String,
    /// The most tokens of an example.
    pub max_seq_length: usize,
    /// Whether the end-of-sequence token follows a completion; never for `tokens`.
    pub append_eos: bool,
    /// How many bad lines of a file are skipped with a warning.
    pub skip_bad: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            train: PathBuf::new(),
            eval: PathBuf::new(),
            format: Format::Mcqa,
            template: "exam".into(),
            max_seq_length: 512,
            append_eos: true,
            skip_bad: 0,
        }
    }
}

/// Which tokens of an example carry loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LossOn {
    /// Those of completions.
    #[default]
    Completion,
    /// All but the first and the special tokens that the tokenizer puts first.
    All,
}
