//! The formats that are a few texts: prompt-completion, instruction and preference.

use super::fields::Fields;
use crate::base::{Error, Result};

/// A prompt and what is to follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptCompletion {
    /// What is given; may be empty.
    pub prompt: String,
    /// What is learned.
    pub completion: String,
}

/// An instruction, an input to it, and the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// What to do.
    pub instruction: String,
    /// What to do it with; may be empty.
    pub input: String,
    /// What is learned.
    pub output: String,
}

/// A prompt with a better and a worse completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// What is given.
    pub prompt: String,
    /// The better completion.
    pub chosen: String,
    /// The worse completion.
    pub rejected: String,
}

impl PromptCompletion {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self> {
        Ok(Self { prompt: fields.text("prompt")?.into(), completion: fields.filled("completion")?.into() })
    }
}

impl Instruction {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self> {
        Ok(Self {
            instruction: fields.filled("instruction")?.into(),
            input: fields.text_or_empty("input")?.into(),
            output: fields.filled("output")?.into(),
        })
    }
}

impl Preference {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self> {
        let (chosen, rejected) = (fields.filled("chosen")?, fields.filled("rejected")?);
        if chosen == rejected {
            return Err(
                Error::input("found the same text as in `chosen`, needed a worse one").key("rejected")
            );
        }
        Ok(Self { prompt: fields.text("prompt")?.into(), chosen: chosen.into(), rejected: rejected.into() })
    }
}
