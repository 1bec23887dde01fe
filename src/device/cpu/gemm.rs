//! f32 matrix products on the CPU, over strided views.
//!
//! The `gemm` crate cuts the depth k by shape alone and sums in a fixed order, so a product has the same
//! bits for any number of threads; `tests/determinism.rs` holds it to that.

use gemm::Parallelism;

use super::Cpu;

/// A borrowed matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
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

    /// Values from the first to the last, both included.
    fn span(&self) -> usize {
        match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * self.row_stride + (cols - 1) * self.col_stride + 1,
        }
    }
}

impl Cpu {
    /// `out = scale * a b`, or `out += scale * a b` when `accumulate`; `out` is row-major without gaps.
    pub fn gemm(&self, out: &mut [f32], a: Mat<'_>, b: Mat<'_>, scale: f32, accumulate: bool) {
        self.run(|| product(out, b.cols, a, b, scale, accumulate, Parallelism::Rayon(0)));
    }
}

/// As [`Cpu::gemm`], on the calling thread; rows of `out` are `out_stride` values apart.
pub fn gemm_serial(out: &mut [f32], out_stride: usize, a: Mat<'_>, b: Mat<'_>, scale: f32, accumulate: bool) {
    product(out, out_stride, a, b, scale, accumulate, Parallelism::None);
}

#[expect(unsafe_code, reason = "the gemm crate takes raw pointers")]
fn product(
    out: &mut [f32],
    out_stride: usize,
    a: Mat<'_>,
    b: Mat<'_>,
    scale: f32,
    accumulate: bool,
    parallelism: Parallelism,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(b.rows, k, "gemm: {m} x {k} times {} x {n}", b.rows);
    if m == 0 || n == 0 {
        return;
    }
    assert!(out_stride >= n && out.len() >= (m - 1) * out_stride + n, "gemm: out is too small");
    assert!(a.data.len() >= a.span() && b.data.len() >= b.span(), "gemm: an operand is too small");
    // SAFETY: the assertions above keep every element (i, j) of the three matrices inside its slice;
    // `out` is borrowed mutably, so it overlaps neither operand; strides fit isize because they are
    // smaller than a slice's length.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
