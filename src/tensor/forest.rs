//! The token forest: what a batch is.
//!
//! ```text
//! segment 0  [t t t t]            a shared prompt
//!   segment 1       [t t]         the rest of example 0
//!   segment 2       [t t t]       the rest of example 1
//! segment 3  [t t t]              example 2, which shares nothing
//! ```
//!
//! A segment is a run of consecutive tokens. A token attends to all tokens of its segment's ancestors
//! and, causally, to its own segment; its position continues from its ancestors. A plain packed batch is
//! a forest whose segments are all roots.
//!
//! Invariant: segments stand in pre-order, so the tokens of a segment and of all its descendants are one
//! consecutive run ([`Forest::subtree_end`]). The backward pass of attention rests on that.

/// A run of consecutive tokens that share all their ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of its first token.
    pub start: u32,
    /// Number of tokens, at least 1.
    pub len: u32,
    /// Index of the segment that it continues.
    pub parent: Option<u32>,
    /// The place in the update of the first example that uses it; names its dropout masks.
    pub example: u32,
}

impl Segment {
    /// Its tokens.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// A place that carries a loss: the hidden state of `token` predicts `target`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Index of the predicting token.
    pub token: u32,
    /// The id to predict.
    pub target: u32,
    /// Weight of this loss in the update, above 0.
    pub weight: f32,
    /// Label smoothing in [0, 1).
    pub smoothing: f32,
    /// The example's place in the update.
    pub example: u32,
}

/// Sequences that share what they have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forest {
    /// Token ids, `[N]`.
    pub tokens: Vec<u32>,
    /// Position of each token in its sequence, `[N]`.
    pub positions: Vec<u32>,
    /// Segments in pre-order; together they cover the tokens without gap.
    pub segments: Vec<Segment>,
    /// Loss sites, by token and then by example.
    pub sites: Vec<Site>,
}

impl Forest {
    /// A forest whose segments are all roots, one a sequence, without loss sites.
    pub fn of_sequences<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut forest = Self::default();
        for (example, tokens) in sequences.into_iter().enumerate().filter(|(_, tokens)| !tokens.is_empty()) {
            forest.push(tokens, None, 0, example as u32);
        }
        forest
    }

    /// Appends a segment whose first token has `position`; returns its index.
    pub fn push(&mut self, tokens: &[u32], parent: Option<u32>, position: u32, example: u32) -> u32 {
        let start = self.tokens.len() as u32;
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..tokens.len() as u32).map(|i| position + i));
        self.segments.push(Segment { start, len: tokens.len() as u32, parent, example });
        self.segments.len() as u32 - 1
    }

    /// Number of tokens, N.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Index of the segment of each token, `[N]`.
    pub fn segment_of_token(&self) -> Vec<u32> {
        self.segments
            .iter()
            .enumerate()
            .flat_map(|(i, s)| std::iter::repeat_n(i as u32, s.len as usize))
            .collect()
    }

    /// For each segment, the end of the run of tokens that it and its descendants occupy.
    pub fn subtree_end(&self) -> Vec<u32> {
        let mut end: Vec<u32> = self.segments.iter().map(|s| s.start + s.len).collect();
        for i in (0..self.segments.len()).rev() {
            if let Some(parent) = self.segments[i].parent {
                end[parent as usize] = end[parent as usize].max(end[i]);
            }
        }
        end
    }

    /// The chain of segments from the root to `segment`, both included.
    pub fn chain(&self, segment: u32) -> Vec<u32> {
        let mut chain: Vec<u32> =
            std::iter::successors(Some(segment), |&s| self.segments[s as usize].parent).collect();
        chain.reverse();
        chain
    }

    /// The tokens that carry a loss, ascending and each once: the rows that the head computes.
    pub fn site_tokens(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.sites.iter().map(|s| s.token).collect();
        rows.dedup();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_is_one_run_of_tokens() {
        let mut forest = Forest::default();
        let root = forest.push(&[1, 2, 3], None, 0, 0);
        let child = forest.push(&[4, 5], Some(root), 3, 0);
        let grandchild = forest.push(&[6], Some(child), 5, 0);
        forest.push(&[7], Some(root), 3, 1);
        forest.push(&[8, 9], None, 0, 2);
        assert_eq!(forest.subtree_end(), [7, 6, 6, 7, 9]);
        assert_eq!(forest.chain(grandchild), [0, 1, 2]);
        assert_eq!(forest.positions, [0, 1, 2, 3, 4, 5, 3, 0, 1]);
        assert_eq!(forest.segment_of_token(), [0, 0, 0, 1, 1, 2, 3, 4, 4]);
    }
}
