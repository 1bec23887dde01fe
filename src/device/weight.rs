//! A weight as it is stored: f32, bf16, f16 or quantised blocks, in a mapped file or in memory.

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
        /// Rows of a head whose rotary pairs stand side by side; 0 where rows stand as they are used.
        paired: usize,
    },
    Owned(Arc<Vec<f32>>),
}

impl Weight {
    /// A matrix whose elements are `bytes` of `file`, or a widened copy if they are not aligned there.
    ///
    /// `bytes` must lie inside the file and hold `rows * cols` elements.
    pub fn mapped(file: &Arc<Mmap>, bytes: Range<usize>, dtype: DType, rows: usize, cols: usize) -> Self {
        assert_eq!(bytes.len(), dtype.bytes(rows * cols), "a weight's bytes and shape disagree");
        let stored_bytes = &file[bytes.clone()];
        if stored_bytes.as_ptr().align_offset(dtype.alignment()) == 0 {
            let source = Source::Mapped { file: Arc::clone(file), bytes, dtype, paired: 0 };
            return Self { source, rows, cols };
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

    /// Whether it is read where it is, as f32.
    pub fn is_f32(&self) -> bool {
        match &self.source {
            Source::Mapped { dtype, paired, .. } => *dtype == DType::F32 && *paired == 0,
            Source::Owned(_) => true,
        }
    }

    /// The same matrix, whose stored rows 2i and 2i + 1 of each head of `head` rows are the rows i and
    /// i + `head`/2 that it is used with: GGUF keeps the two rows of a rotary pair side by side where
    /// Hugging Face keeps them half a head apart.
    ///
    /// `head` is even and divides the number of rows.
    #[must_use]
    pub fn with_paired_rows(mut self, head: usize) -> Self {
        assert!(head.is_multiple_of(2) && self.rows.is_multiple_of(head), "heads of {head} rows");
        match &mut self.source {
            Source::Mapped { paired, .. } => *paired = head,
            Source::Owned(values) => {
                let row = |row| &values[row * self.cols..(row + 1) * self.cols];
                let rows = (0..self.rows).flat_map(|r| row(stored_row(r, head))).copied().collect();
                *values = Arc::new(rows);
            }
        }
        self
    }

    /// Rows `range` as f32, row-major: borrowed where they are stored so, else widened into a new buffer.
    pub fn rows_f32(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        match &self.source {
            Source::Owned(values) => Cow::Borrowed(&values[range.start * self.cols..range.end * self.cols]),
            Source::Mapped { file, bytes, dtype, paired } => {
                let stored = |rows: Range<usize>| {
                    let [start, end] = [rows.start, rows.end].map(|row| dtype.bytes(row * self.cols));
                    &file[bytes.start + start..bytes.start + end]
                };
                if *paired > 0 {
                    let row = |row| stored::widen(stored(row..row + 1), *dtype);
                    return Cow::Owned(range.flat_map(|r| row(stored_row(r, *paired))).collect());
                }
                let stored = stored(range);
                match dtype {
                    DType::F32 => Cow::Borrowed(bytemuck::cast_slice(stored)),
                    DType::BF16 => Cow::Owned(
                        bytemuck::cast_slice::<_, bf16>(stored).iter().map(|x| x.to_f32()).collect(),
                    ),
                    DType::F16 => Cow::Owned(
                        bytemuck::cast_slice::<_, f16>(stored).iter().map(|x| x.to_f32()).collect(),
                    ),
                    DType::Block(block) => Cow::Owned(block.widen(stored)),
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

/// Where row `row` of a matrix is stored if the rotary pairs of its heads of `head` rows stand side by side.
fn stored_row(row: usize, head: usize) -> usize {
    let (start, i) = (row - row % head, row % head);
    start + 2 * (i % (head / 2)) + i / (head / 2)
}
