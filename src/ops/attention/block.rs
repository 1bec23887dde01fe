//! The CPU's blocks: a few query rows of one head against some keys.
//!
//! A block's scores stay in the innermost cache. It covers the keys that any of its rows sees, and no more than whole
//! vectors need, so that little of the causal half is computed in vain.

use std::ops::Range;

use crate::device::cpu::{Mat, THIN_ROWS};

/// Query rows of a block: as many as `thin` holds in registers.
pub(super) const ROWS: usize = THIN_ROWS;

/// Most keys of a block: their turned rows are read once a block and fit the innermost cache.
pub(super) const KEYS: usize = 128;

/// Scores are computed in vectors of this many: a tail of single values would take longer than the rest of a row.
pub(super) const LANES: usize = 8;

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
