//! A micro-batch as the decoder reads it: the forest, cut for attention, and which tokens the head needs.

use crate::base::philox::Philox;
use crate::ops::attention::Layout;
use crate::tensor::Forest;

/// LoRA dropout in one update.
#[derive(Clone, Copy, Debug)]
pub struct DropoutRun {
    /// The run's dropout stream.
    pub philox: Philox,
    /// Share of inputs that are dropped, in (0, 1).
    pub rate: f32,
    /// Update number.
    pub update: u32,
}

/// A set of tokens that rows of a buffer stand for.
#[derive(Debug)]
pub(super) struct TokenRows {
    /// Position of each row.
    pub(super) positions: Vec<u32>,
    /// (example's place in the update, token's place in the example) of each row.
    pub(super) names: Vec<(u32, u32)>,
    /// The batch's token that each row is.
    pub(super) tokens: Vec<u32>,
    pub(super) layout: Layout,
}

impl TokenRows {
    fn new(forest: &Forest, layout: Layout) -> Self {
        let segment = forest.segment_of_token();
        let tokens = layout.query_tokens().to_vec();
        let positions: Vec<u32> = tokens.iter().map(|&t| forest.positions[t as usize]).collect();
        let example = |&t: &u32| forest.segments[segment[t as usize] as usize].example;
        let names = tokens.iter().map(example).zip(positions.iter().copied()).collect();
        Self { positions, names, tokens, layout }
    }

    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }
}

/// A micro-batch.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) forest: &'a Forest,
    pub(super) all: TokenRows,
    /// The rows whose hidden state is wanted; `None` = all.
    pub(super) wanted: Option<TokenRows>,
}

impl<'a> Batch<'a> {
    /// A batch whose final hidden states are wanted at `tokens` only (ascending, each once).
    pub fn new(forest: &'a Forest, tokens: Vec<u32>) -> Self {
        let all = TokenRows::new(forest, Layout::of_all(forest));
        let wanted =
            (tokens.len() < forest.len()).then(|| TokenRows::new(forest, Layout::new(forest, tokens)));
        Self { forest, all, wanted }
    }

    /// A batch whose final hidden states are wanted at the loss sites.
    pub fn at_sites(forest: &'a Forest) -> Self {
        Self::new(forest, forest.site_tokens())
    }

    /// The forest.
    pub fn forest(&self) -> &Forest {
        self.forest
    }

    /// The token of each row of the final hidden states.
    pub fn rows(&self) -> &[u32] {
        self.wanted.as_ref().unwrap_or(&self.all).layout.query_tokens()
    }
}
