//! A weight as it is stored: f32, bf16 or f16, in a mapped file or in memory.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;

use super::buffer::PartMut;
use crate::tensor::{DType, stored};

/// A row-major matrix (or, with one row, a vector). Only full fine-tuning changes it.
#[derive(Clone, Debug)]
pub struct Weight {
    source: Source,
    rows: usize,
    cols: usize,
}

#[derive(Clone, Debug)]
enum Source {
    /// A range of bytes of a mapped file, aligned for its type.
    Mapped {
        file: Arc<Mmap>,
        bytes: Range<usize>,
        dtype: DType,
    },
    Owned(Arc<Vec<f32>>),
}

impl Weight {
    /// A matrix whose elements are `bytes` of `file`, or a widened copy if they are not aligned there.
    ///
    /// `bytes` must lie inside the file and hold `rows * cols` elements.
    pub fn mapped(file: &Arc<Mmap>, bytes: Range<usize>, dtype: DType, rows: usize, cols: usize) -> Self {
        assert_eq!(bytes.len(), rows * cols * dtype.size(), "a weight's bytes and shape disagree");
        let stored_bytes = &file[bytes.clone()];
        if stored_bytes.as_ptr().align_offset(dtype.size()) == 0 {
            return Self { source: Source::Mapped { file: Arc::clone(file), bytes, dtype }, rows, cols };
        }
        Self::owned(stored::widen(stored_bytes, dtype), rows, cols)
    }

    /// A matrix in memory.
    pub fn owned(values: Vec<f32>, rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "a weight's values and shape disagree");
        Self { source: Source::Owned(Arc::new(values)), rows, cols }
    }

    /// Number of rows; for a linear, its outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns; for a linear, its inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The type it is stored in.
    pub fn dtype(&self) -> DType {
        match &self.source {
            Source::Mapped { dtype, .. } => *dtype,
            Source::Owned(_) => DType::F32,
        }
    }

    /// Rows `range` as f32, row-major: borrowed where they are stored so, else widened into a new buffer.
    pub fn rows_f32(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        let elements = range.start * self.cols..range.end * self.cols;
        match &self.source {
            Source::Owned(values) => Cow::Borrowed(&values[elements]),
            Source::Mapped { file, bytes, dtype } => {
                let size = dtype.size();
                let stored = &file[bytes.start + elements.start * size..bytes.start + elements.end * size];
                match dtype {
                    DType::F32 => Cow::Borrowed(bytemuck::cast_slice(stored)),
                    DType::BF16 => Cow::Owned(
                        bytemuck::cast_slice::<_, bf16>(stored).iter().map(|x| x.to_f32()).collect(),
                    ),
                    DType::F16 => Cow::Owned(
                        bytemuck::cast_slice::<_, f16>(stored).iter().map(|x| x.to_f32()).collect(),
                    ),
                }
            }
        }
    }

    /// All of it as f32, row-major.
    pub fn f32(&self) -> Cow<'_, [f32]> {
        self.rows_f32(0..self.rows)
    }

    /// All of it as f32, to be changed: it moves into memory where it is not there yet, and other clones
    /// of it keep their values.
    pub fn f32_mut(&mut self) -> PartMut<'_> {
        if !matches!(self.source, Source::Owned(_)) {
            *self = Self::owned(self.f32().into_owned(), self.rows, self.cols);
        }
        match &mut self.source {
            Source::Owned(values) => PartMut::new(Arc::make_mut(values).as_mut_slice()),
            Source::Mapped { .. } => unreachable!("it was just moved into memory"),
        }
    }

    /// The same matrix held in memory as f32.
    #[must_use]
    pub fn widened(&self) -> Self {
        match self.f32() {
            Cow::Borrowed(_) => self.clone(),
            Cow::Owned(values) => Self::owned(values, self.rows, self.cols),
        }
    }
}
