//! Continuing prompts token by token, many sequences at once over one cache.

mod sampling;
mod text;

pub use sampling::{Drawn, Sampling};
pub use text::{Finish, Transcript};

use crate::adapter::Lora;
use crate::data::{Tokenized, pack};
use crate::device::{Buffer, Device};
use crate::model::{Cache, Model};
use crate::ops::cross_entropy;

/// A model that writes.
#[derive(Clone, Copy, Debug)]
pub struct Generator<'a> {
    /// Where it computes.
    pub device: &'a Device,
    /// The base.
    pub model: &'a Model,
    /// The adapter on it.
    pub adapter: Option<&'a Lora>,
    /// Tokens of prompts that are computed at a time: a matter of memory, not of results.
    pub tokens_at_a_time: usize,
}

/// What is to be continued.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// Names its random numbers: the same place, seed and sample give the same draws.
    pub place: u32,
    /// How many times it is continued.
    pub samples: u32,
    /// The most tokens of a continuation, at least 1.
    pub most: usize,
}

/// A sequence that is being written.
struct Sequence {
    prompt: usize,
    sample: u32,
    run: usize,
    /// Number of tokens so far; the last one is not computed yet.
    len: u32,
    last: u32,
}

impl Generator<'_> {
    /// Splits `prompts` into groups to [`Generator::run`] one after the other, in order: as many sequences as
    /// make good use of a pass over the weights, as long as their cache takes a quarter of the free memory.
    pub fn groups(&self, prompts: &[Prompt<'_>]) -> Vec<std::ops::Range<usize>> {
        const SEQUENCES: usize = 64;
        let free = crate::device::free_memory().unwrap_or(4 << 30);
        let most_rows = free / 4 / Cache::bytes_per_token(self.model);
        let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
        let (mut sequences, mut rows) = (0, 0);
        for (i, prompt) in prompts.iter().enumerate() {
            let (samples, own) =
                (prompt.samples as usize, prompt.tokens.len() + prompt.samples as usize * prompt.most);
            match groups.last_mut() {
                Some(group) if sequences + samples <= SEQUENCES && rows + own <= most_rows => {
                    group.end = i + 1;
                    (sequences, rows) = (sequences + samples, rows + own);
                }
                _ => {
                    groups.push(i..i + 1);
                    (sequences, rows) = (samples, own);
                }
            }
        }
        groups
    }

    /// Continues all prompts at once. Calls `each` with (index of the prompt, sample, token) for each token
    /// that is drawn; a sequence ends when it returns false, or has the most tokens it may have.
    ///
    /// Common prefixes of prompts are computed once, each step reads the weights once for all sequences.
    pub fn run(
        &self,
        prompts: &[Prompt<'_>],
        sampling: &Sampling,
        mut each: impl FnMut(usize, usize, Drawn) -> bool,
    ) {
        let positions = prompts.iter().map(|p| p.tokens.len() + p.most).max().unwrap_or(0);
        let rows = prompts.iter().map(|p| p.tokens.len() + p.samples as usize * p.most).sum();
        let mut cache = Cache::new(self.device, self.model, self.adapter, rows, positions);
        let mut draw = |logits: &[f32], sequence: &mut Sequence| {
            let prompt = &prompts[sequence.prompt];
            let drawn = sampling.choose(logits, prompt.place, sequence.sample, sequence.len);
            (sequence.last, sequence.len) = (drawn.token, sequence.len + 1);
            each(sequence.prompt, sequence.sample as usize, drawn) && (sequence.len as usize) < prompt.most
        };

        // The prompts as one forest, whose sites are their last tokens.
        let examples: Vec<Tokenized> = prompts.iter().map(|p| Tokenized::prompt(p.tokens)).collect();
        let placed: Vec<(u32, &Tokenized)> = (0..).zip(&examples).collect();
        let forest = pack::forest(&placed, true);
        let mut sequences = Vec::new();
        cache.extend_by(&forest, None, &forest.site_tokens(), self.tokens_at_a_time, |tokens, hidden| {
            let logits = self.logits(hidden);
            for (row, token) in tokens.iter().enumerate() {
                for site in forest.sites.iter().filter(|site| site.token == *token) {
                    for sample in 0..prompts[site.example as usize].samples {
                        let mut sequence =
                            Sequence { prompt: site.example as usize, sample, run: 0, len: 0, last: 0 };
                        if draw(logits.row(row), &mut sequence) {
                            sequences.push((site.token, sequence));
                        }
                    }
                }
            }
        });
        let mut sequences: Vec<Sequence> = sequences
            .into_iter()
            .map(|(after, sequence)| {
                let room = prompts[sequence.prompt].most - 1; // the last token is not computed
                Sequence { run: cache.reserve(Some(after), room), ..sequence }
            })
            .collect();

        while !sequences.is_empty() {
            let tokens: Vec<[u32; 1]> = sequences.iter().map(|s| [s.last]).collect();
            let parts: Vec<(usize, &[u32])> =
                sequences.iter().zip(&tokens).map(|(s, token)| (s.run, &token[..])).collect();
            let wanted: Vec<u32> = sequences.iter().map(|s| cache.next_row(s.run)).collect();
            let logits = self.logits(&cache.extend(&parts, &wanted));
            let mut row = 0;
            sequences.retain_mut(|sequence| {
                row += 1;
                draw(logits.row(row - 1), sequence)
            });
        }
    }

    fn logits(&self, hidden: &Buffer) -> Buffer {
        cross_entropy::logits(self.device, hidden, self.model.head())
    }
}
