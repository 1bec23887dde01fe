//! The CPU's blocks: a few query rows of one head against some keys.
//!
//! A block's scores stay in the innermost cache. It covers the keys that any of its rows sees, and no more than whole
//! vectors need, so that little of the causal half is computed in vain.

use std::ops::Range;

use super::{Heads, Layout};
use crate::device::cpu::Mat;

/// Query rows of a block: as many as `thin` holds in registers.
pub(super) const ROWS: usize = 6;

/// Most keys of a block: their turned rows are read once a block and fit the innermost cache.
pub(super) const KEYS: usize = 128;

/// Scores are computed in vectors of this many: a tail of single values would take longer than the rest of a row.
pub(super) const LANES: usize = 8;

/// Cuts `range` into parts of at most `step`.
pub(super) fn cut(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |start| start..(start + step).min(end))
}

/// Keys or values of one head turned into columns, E x keys, so that scores are sums of rows.
pub(super) struct Turned {
    values: Vec<f32>,
    width: usize,
    stride: usize,
}

impl Turned {
    pub(super) fn new(width: usize) -> Self {
        Self { values: Vec::new(), width, stride: 0 }
    }

    /// Turns `x`, keys x E. Rows have room for whole vectors, and lie half a cache line off a whole number of lines,
    /// or all would share a few sets of the cache.
    pub(super) fn fill(&mut self, x: Mat<'_>) {
        self.stride = x.count_rows().next_multiple_of(16) + 8;
        self.values.resize(self.width * self.stride, 0.0);
        x.turn_into(&mut self.values, self.stride);
    }

    pub(super) fn columns(&self, range: &Range<usize>) -> Mat<'_> {
        Mat::strided(&self.values[range.start..], self.width, range.len(), self.stride)
    }
}

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

/// Parts of a matrix that tasks write: for each of `tiles`, which ascend, and each of its `heads` groups of columns, a
/// slice a row.
pub(super) fn shares<'a, 'b>(
    x: &'a mut [f32],
    heads: usize,
    width: usize,
    tiles: impl Iterator<Item = &'b Range<usize>>,
) -> Vec<Vec<&'a mut [f32]>> {
    let mut rows = x.chunks_exact_mut(heads * width).enumerate();
    let mut shares = Vec::new();
    for tile in tiles {
        let first = shares.len();
        shares.resize_with(first + heads, || Vec::with_capacity(tile.len()));
        let of_tile = rows.by_ref().skip_while(|(row, _)| *row < tile.start).take(tile.len());
        for (_, row) in of_tile {
            for (share, values) in shares[first..].iter_mut().zip(row.chunks_exact_mut(width)) {
                share.push(values);
            }
        }
    }
    shares
}

/// Copies `computed`, heads x rows x width, to `share`'s rows.
pub(super) fn put(share: Vec<&mut [f32]>, computed: &[f32], width: usize) {
    let rows = share.len();
    for (row, out) in share.into_iter().enumerate() {
        for (head, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (head * rows + row) * width;
            out.copy_from_slice(&computed[at..at + width]);
        }
    }
}
