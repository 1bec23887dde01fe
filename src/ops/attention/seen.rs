//! Which keys a few query rows see: what a block computes, and what it hides.

use std::ops::Range;

use super::block::LANES;
use super::{Heads, Layout};

/// Which of some keys each of some query rows sees, counted from the first key.
pub(super) struct Seen {
    /// The first query row, from which they are counted.
    first: usize,
    rows: Vec<Range<usize>>,
}

impl Seen {
    pub(super) fn new(layout: &Layout, heads: &Heads, rows: Range<usize>, keys: &Range<usize>) -> Self {
        Self { first: rows.start, rows: rows.map(|row| layout.seen(row, keys, heads)).collect() }
    }

    /// The query rows that `rows` are.
    pub(super) fn queries(&self, rows: &Range<usize>) -> Range<usize> {
        self.first + rows.start..self.first + rows.end
    }

    /// Whether row `i` sees any.
    pub(super) fn any(&self, i: usize) -> bool {
        !self.rows[i].is_empty()
    }

    /// The columns that hold all keys that any of `rows` sees, whole vectors, the last perhaps past the last key;
    /// none if no key is seen.
    pub(super) fn columns_of(&self, rows: Range<usize>) -> Range<usize> {
        let keys = span(self.rows[rows].iter().filter(|seen| !seen.is_empty()).cloned());
        keys.start / LANES * LANES..keys.end.next_multiple_of(LANES)
    }

    /// Makes the scores of row `i`, those of `columns`, -inf where it does not see the key.
    pub(super) fn hide(&self, i: usize, columns: &Range<usize>, scores: &mut [f32]) {
        let seen = &self.rows[i];
        let (start, end) = match seen.is_empty() {
            true => (0, 0),
            false => (seen.start - columns.start, seen.end - columns.start),
        };
        scores[..start].fill(f32::NEG_INFINITY);
        scores[end..].fill(f32::NEG_INFINITY);
    }

    /// The rows from the first to the last that sees any of `keys`; empty if there is none.
    pub(super) fn rows_of(&self, keys: &Range<usize>) -> Range<usize> {
        let sees = |&i: &usize| self.rows[i].start < keys.end && keys.start < self.rows[i].end;
        span((0..self.rows.len()).filter(sees).map(|i| i..i + 1))
    }
}

fn span(ranges: impl Iterator<Item = Range<usize>>) -> Range<usize> {
    ranges.reduce(|all, next| all.start.min(next.start)..all.end.max(next.end)).unwrap_or(0..0)
}
