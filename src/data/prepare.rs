//! The pass over a whole data set before it is used: every line is encoded once, so that nothing is wrong
//! with an example in the middle of a run.

use rayon::prelude::*;

use super::{Dataset, Encoder, Tokenized};
use crate::base::{Error, Result};

/// How many lines are encoded at a time; bounds the memory of the pass.
const LINES_AT_A_TIME: usize = 1024;

/// What the pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Examples to use.
    pub examples: usize,
    /// Examples whose prompt lost tokens.
    pub truncated: usize,
    /// Lines of text that became several examples.
    pub split: usize,
    /// Bad lines that are left out, those found by the index included.
    pub skipped: u64,
    /// Tokens of all examples.
    pub tokens: u64,
    /// Tokens that carry loss.
    pub trained_tokens: u64,
    /// Tokens of the longest example.
    pub longest: usize,
}

impl Dataset {
    /// Encodes every example once: leaves out bad ones as far as `skip_bad` allows, and splits long texts
    /// into examples with the ids `id`, `id#1`, `id#2`, ...
    pub fn prepare(&mut self, encoder: &Encoder) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut kept = Vec::with_capacity(self.len());
        for start in (0..self.len()).step_by(LINES_AT_A_TIME) {
            let chunk = start..self.len().min(start + LINES_AT_A_TIME);
            let encoded: Vec<_> = chunk
                .clone()
                .into_par_iter()
                .map(|i| self.line(i).map(|line| encoder.encode(&line)))
                .collect();
            for (i, encoded) in chunk.zip(encoded) {
                let entry = &self.entries[i];
                let encoded = match encoded? {
                    Ok(encoded) => encoded,
                    Err(error) => {
                        self.skip(entry.line, error)?;
                        continue;
                    }
                };
                counts.truncated += usize::from(encoded.truncated);
                for example in &encoded.examples {
                    counts.tokens += example.input_ids.len() as u64;
                    counts.trained_tokens += example.trained_tokens() as u64;
                    counts.longest = counts.longest.max(example.input_ids.len());
                }
                let parts = if self.format() == super::Format::Text { encoded.examples.len() } else { 1 };
                counts.split += usize::from(parts > 1);
                kept.extend((0..parts).map(|part| entry.part_of_text(part as u32)));
            }
        }
        self.entries = kept;
        if self.is_empty() {
            return Err(Error::input("found no example that can be used").file(self.path()));
        }
        self.check_ids()?;
        counts.examples = self.len();
        counts.skipped = self.skipped();
        tracing::info!(
            "{}: {} examples, {} of {} tokens trained, longest {}; {} truncated, {} texts split, {} lines skipped",
            self.path().display(),
            counts.examples,
            counts.trained_tokens,
            counts.tokens,
            counts.longest,
            counts.truncated,
            counts.split,
            counts.skipped,
        );
        Ok(counts)
    }

    /// The tokens of an example: one, or of a preference the chosen and the rejected.
    pub fn tokenized(&self, example: usize, encoder: &Encoder) -> Result<Vec<Tokenized>> {
        let encoded = encoder.encode(&self.line(example)?).map_err(|e| self.at(example, e))?;
        let mut examples = encoded.examples;
        if self.format() == super::Format::Text {
            let part = self.entries[example].part as usize;
            if part >= examples.len() {
                let error = Error::input("the text has fewer parts than when it was prepared");
                return Err(self.at(example, error.hint("use the encoder that it was prepared with")));
            }
            examples = vec![examples.swap_remove(part)];
        }
        Ok(examples)
    }
}
