//! A view of f32 values as a matrix.

use std::ops::Range;

use super::turn::{SIDE, turn};
use crate::device::Buffer;

/// Values of a line of the cache.
const LINE: usize = 16;

/// A borrowed matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a> Mat<'a> {
    /// All of a buffer.
    pub fn of(x: &'a Buffer) -> Self {
        Self::new(x.values(), x.rows(), x.cols())
    }

    /// `rows` x `cols`, row-major without gaps.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `rows` x `cols`, rows `row_stride` values apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose; nothing moves.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn count_rows(&self) -> usize {
        self.rows
    }

    /// Writes its transpose to `out`, whose rows are `stride` values apart; its own rows have no gaps.
    pub fn turn_into(self, out: &mut [f32], stride: usize) {
        assert!(self.col_stride == 1 && self.rows <= stride, "gemm: cannot turn {} rows", self.rows);
        if self.cols == 0 {
            return;
        }
        for first in (0..self.rows).step_by(SIDE) {
            let count = SIDE.min(self.rows - first);
            let rows = std::array::from_fn(|i| {
                let start = (first + i.min(count - 1)) * self.row_stride;
                &self.data[start..start + self.cols]
            });
            turn(rows, count, &mut out[first..], stride);
        }
    }

    /// Some of its rows.
    pub(super) fn rows(self, range: Range<usize>) -> Self {
        // past the slice where no row is asked for behind the last one's gap, and where rows have no values
        let start = (range.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }

    /// Some of its columns.
    pub(super) fn cols(self, range: Range<usize>) -> Self {
        self.t().rows(range).t()
    }

    /// A value of each line of the cache that it lies in, at the least.
    pub(super) fn lines(&self) -> impl Iterator<Item = *const f32> + use<'a> {
        let whole = if self.col_stride == 1 { *self } else { self.t() };
        (0..whole.rows).flat_map(move |row| {
            (0..whole.cols).step_by(LINE).map(move |col| whole.data[row * whole.row_stride + col..].as_ptr())
        })
    }

    /// Values from the first to the last, both included.
    pub(super) fn span(&self) -> usize {
        match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * self.row_stride + (cols - 1) * self.col_stride + 1,
        }
    }
}
