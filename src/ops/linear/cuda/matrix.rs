//! Matrices inside device memory: what kernels with row strides read and write.

use std::ops::Range;

use half::bf16;

use crate::base::Result;
use crate::device::cuda::{Arg, Element, Slice, TensorMap, View, ViewMut};

/// `rows` x `cols` elements from `first` on, rows `stride` apart.
#[derive(Clone, Copy, Debug)]
struct Layout {
    first: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Layout {
    fn whole(len: usize, cols: usize) -> Self {
        assert!(cols > 0 && len > 0 && len.is_multiple_of(cols), "{len} values are no rows of {cols}");
        Self { first: 0, rows: len / cols, cols, stride: cols }
    }

    fn columns(self, columns: Range<usize>) -> Self {
        assert!(
            columns.start < columns.end && columns.end <= self.cols,
            "{columns:?} of {} columns",
            self.cols
        );
        Self { first: self.first + columns.start, cols: columns.len(), ..self }
    }

    fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows, "{rows:?} of {} rows", self.rows);
        Self { first: self.first + rows.start * self.stride, rows: rows.len(), ..self }
    }

    /// From the first element to the last one; kernels copy 8 elements at a time.
    fn range(self) -> Range<usize> {
        let Self { first, rows, cols, stride } = self;
        let fits = [first, cols, stride].iter().all(|n| n.is_multiple_of(8));
        assert!(fits, "a matrix from {first} on, {cols} columns, {stride} apart: needed multiples of 8");
        first..first + (rows - 1) * stride + cols
    }
}

/// A matrix to be read.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a Slice<bf16>,
    layout: Layout,
}

impl<'a> Matrix<'a> {
    /// The whole slice, in rows of `cols`.
    pub fn new(values: &'a Slice<bf16>, cols: usize) -> Self {
        Self { values, layout: Layout::whole(values.len(), cols) }
    }

    /// Some of the rows.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> Self {
        Self { layout: self.layout.rows(rows), ..self }
    }

    /// Some of the columns.
    #[must_use]
    pub fn columns(self, columns: Range<usize>) -> Self {
        Self { layout: self.layout.columns(columns), ..self }
    }

    /// (rows, columns)
    pub fn shape(&self) -> (usize, usize) {
        (self.layout.rows, self.layout.cols)
    }

    pub(in crate::ops) fn view(&self) -> View<'a, bf16> {
        self.values.part(self.layout.range())
    }

    pub(in crate::ops) fn stride(&self) -> Arg<'static> {
        Arg::int(self.layout.stride)
    }

    /// Its map, in tiles of so many rows and columns.
    pub(in crate::ops) fn tensor_map(&self, tile: [u32; 2]) -> Result<TensorMap<'a>> {
        let Layout { rows, cols, stride, .. } = self.layout;
        TensorMap::new(self.view(), [rows, cols], stride, tile)
    }
}

/// A matrix to be written.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    values: &'a mut Slice<T>,
    layout: Layout,
}

impl<'a, T: Element> MatrixMut<'a, T> {
    /// The whole slice, in rows of `cols`.
    pub fn new(values: &'a mut Slice<T>, cols: usize) -> Self {
        Self { layout: Layout::whole(values.len(), cols), values }
    }

    /// Some of the columns.
    #[must_use]
    pub fn columns(self, columns: Range<usize>) -> Self {
        Self { layout: self.layout.columns(columns), ..self }
    }

    /// (rows, columns)
    pub fn shape(&self) -> (usize, usize) {
        (self.layout.rows, self.layout.cols)
    }

    pub(in crate::ops) fn view(&mut self) -> ViewMut<'_, T> {
        self.values.part_mut(self.layout.range())
    }

    pub(in crate::ops) fn stride(&self) -> Arg<'static> {
        Arg::int(self.layout.stride)
    }
}
