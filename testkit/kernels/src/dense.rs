//! Dense matrices in f64: the truth of products.

use half::bf16;

use crate::inputs::widen;
use crate::tensor_core;

/// A matrix, row by row.
#[derive(Clone, Debug)]
pub struct Dense {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// rows x cols values.
    pub values: Vec<f64>,
}

impl Dense {
    /// The values in rows of `cols`.
    pub fn of(values: &[f32], cols: usize) -> Self {
        assert!(values.len().is_multiple_of(cols), "{} values are no rows of {cols}", values.len());
        Self { rows: values.len() / cols, cols, values: widen(values) }
    }

    /// Columns for rows.
    #[must_use]
    pub fn t(&self) -> Self {
        let values = (0..self.cols).flat_map(|c| (0..self.rows).map(move |r| self.values[r * self.cols + c]));
        Self { rows: self.cols, cols: self.rows, values: values.collect() }
    }

    /// The product with `other`.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.cols, other.rows, "shapes of a product");
        let mut values = vec![0.0; self.rows * other.cols];
        for (row, sums) in self.values.chunks(self.cols).zip(values.chunks_mut(other.cols)) {
            for (&factor, others) in row.iter().zip(other.values.chunks(other.cols)) {
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += factor * other);
            }
        }
        Self { rows: self.rows, cols: other.cols, values }
    }

    /// The product as tensor cores sum it, k ascending: the plain form of every f32 that a kernel sums there.
    pub fn times_on_tensor_cores(&self, other: &Self) -> Vec<f32> {
        assert_eq!(self.cols, other.rows, "shapes of a product");
        let columns = other.t();
        let columns: Vec<_> = columns.values.chunks(columns.cols).map(tensor_core::with_exponents).collect();
        let rows = self.values.chunks(self.cols).map(tensor_core::with_exponents);
        rows.flat_map(|row| columns.iter().map(|column| tensor_core::dot(&row, column)).collect::<Vec<_>>())
            .collect()
    }

    /// Element by element with another matrix of the same shape.
    #[must_use]
    pub fn zip(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!((self.rows, self.cols), (other.rows, other.cols), "shapes");
        let values = self.values.iter().zip(&other.values).map(|(&a, &b)| combine(a, b)).collect();
        Self { values, ..*self }
    }

    /// Each element by itself.
    #[must_use]
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self { values: self.values.iter().copied().map(change).collect(), ..*self }
    }

    /// Each element rounded to bf16.
    #[must_use]
    pub fn rounded(&self) -> Self {
        self.map(|x| bf16::from_f64(x).to_f64())
    }

    /// Some of the columns.
    #[must_use]
    pub fn columns(&self, first: usize, cols: usize) -> Self {
        let values = self.values.chunks(self.cols).flat_map(|row| &row[first..first + cols]).copied();
        Self { rows: self.rows, cols, values: values.collect() }
    }

    /// The values in f32.
    pub fn narrowed(&self) -> Vec<f32> {
        self.values.iter().map(|&x| x as f32).collect()
    }
}
