//! The seven formats of a line, and how to tell them apart.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::object;
use crate::base::{Error, Result};

/// What a line of a dataset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A multiple-choice question.
    Mcqa,
    /// A prompt and its completion.
    PromptCompletion,
    /// A conversation.
    Messages,
    /// An instruction, an input to it and the output.
    Instruction,
    /// Plain text.
    Text,
    /// A prompt with a chosen and a rejected completion.
    Preference,
    /// Token ids and labels.
    Tokens,
}

/// Each format's name and the keys that tell it, the most telling formats first.
const FORMATS: [(Format, &str, &[&str]); 7] = [
    (Format::Mcqa, "mcqa", &["question", "options", "answer"]),
    (Format::Preference, "preference", &["prompt", "chosen", "rejected"]),
    (Format::PromptCompletion, "prompt-completion", &["prompt", "completion"]),
    (Format::Messages, "messages", &["messages"]),
    (Format::Instruction, "instruction", &["instruction", "output"]),
    (Format::Tokens, "tokens", &["input_ids", "labels"]),
    (Format::Text, "text", &["text"]),
];

impl Format {
    /// The format whose keys the line has; for commands that have no configuration.
    pub fn detect(line: &[u8]) -> Result<Self> {
        let object = object(line)?;
        let found = FORMATS.iter().find(|(_, _, keys)| keys.iter().all(|key| object.contains_key(*key)));
        found.map(|(format, ..)| *format).ok_or_else(|| {
            let known = FORMATS.map(|(_, name, keys)| format!("{name} ({})", keys.join(", ")));
            Error::input(format!("the line has the keys of no format; the formats are {}", known.join("; ")))
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FORMATS.iter().find(|(format, ..)| format == self).map_or("", |(_, name, _)| name);
        f.write_str(name)
    }
}
