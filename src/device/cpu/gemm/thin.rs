//! Products with few rows or columns, straight from where the operands lie.
//!
//! A GEMM packs its operands, which pays when each is used hundreds of times.

use super::block::{Block, ROWS, fetch};
use super::{Mat, OutPointer, Term};

/// Values of a row of b up to which a block reads all of k at once. The rows of a wider b may lie in memory far
/// apart, where the processor reads ahead in a few rows, but not in hundreds.
const NARROW: usize = 64;

/// Values of k at a time where b is wide.
const DEPTH: usize = 16;

/// Rows of a up to which [`product_of_columns`] has room.
pub(super) const MOST_TURNED: usize = 48;

/// `out = scale * a b`, or `out += scale * a b` when `accumulate`, on the calling thread.
///
/// Rows of `out` are `out_stride` values apart; those of b have no gaps between their values.
pub fn thin(out: &mut [f32], out_stride: usize, a: Mat<'_>, b: Mat<'_>, scale: f32, accumulate: bool) {
    let (m, n) = (a.rows, b.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert!(out_stride >= n && out.len() >= (m - 1) * out_stride + n, "gemm: out is too small");
    product(OutPointer(out.as_mut_ptr()), out_stride, Term { a, b, scale }, accumulate);
}

/// As [`thin`], where the m x n values of `out` belong to the caller.
pub(super) fn product(out: OutPointer, out_stride: usize, term: Term<'_>, accumulate: bool) {
    let (b, depth) = (term.b, depth(term.b));
    for (i, step) in steps(out, out_stride, term, accumulate).enumerate() {
        if term.a.rows > ROWS {
            // attention's products have no more, and their b is in cache already
            let next = [(i + 1) * depth, (i + 2) * depth].map(|k| k.min(b.rows));
            b.rows(next[0]..next[1]).lines().for_each(fetch);
        }
        // SAFETY: `steps` checked the operands; callers hold the m x n values of `out` alone.
        #[expect(unsafe_code, reason = "blocks of strided matrices, which slices cannot express")]
        unsafe {
            step.all(term.a.rows, term.b.cols);
        }
    }
}

/// Values of k at a time.
fn depth(b: Mat<'_>) -> usize {
    if b.cols <= NARROW { b.rows.max(1) } else { DEPTH }
}

/// The whole product as blocks, each of some values of k, to be computed in this order.
fn steps(
    out: OutPointer,
    out_stride: usize,
    term: Term<'_>,
    accumulate: bool,
) -> impl Iterator<Item = Block> {
    let Term { a, b, scale } = term;
    let k = a.cols;
    assert_eq!((b.rows, b.col_stride), (k, 1), "gemm: {} x {k} times {} x {}", a.rows, b.rows, b.cols);
    assert!(a.row_stride == 1 || a.col_stride == 1, "gemm: neither rows nor columns of a are without gaps");
    assert!(a.data.len() >= a.span() && b.data.len() >= b.span(), "gemm: an operand is too small");
    let depth = depth(b);
    (0..k.max(1)).step_by(depth).map(move |first| Block {
        out: out.0,
        out_stride,
        a: a.data.as_ptr().wrapping_add(first * a.col_stride),
        a_strides: [a.row_stride, a.col_stride],
        b: b.data.as_ptr().wrapping_add(first * b.row_stride),
        b_stride: b.row_stride,
        depth: depth.min(k - first),
        scale,
        accumulate: accumulate || first > 0,
    })
}

/// As [`product`], but it is the columns of b that have no gaps, as where b is a weight's transpose: b is read row by
/// row of that weight, a is turned.
pub(super) fn product_of_columns(out: OutPointer, out_stride: usize, term: Term<'_>, accumulate: bool) {
    let Term { a, b, scale } = term;
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!((b.rows, b.row_stride), (k, 1), "gemm: {m} x {k} times {} x {n}", b.rows);
    let mut turned = vec![0.0; k * m];
    a.turn_into(&mut turned, m);
    let mut columns = [0.0; ROWS * MOST_TURNED];
    for first in (0..n).step_by(ROWS) {
        let range = first..(first + ROWS).min(n);
        let columns = &mut columns[..range.len() * m];
        thin(columns, m, b.cols(range).t(), Mat::new(&turned, k, m), scale, false);
        put_columns(OutPointer(out.0.wrapping_add(first)), out_stride, columns, m, accumulate);
    }
}

/// As [`product`], but b is narrow and it is a's columns that have no gaps, as in the gradient of an adapter's B: the
/// output's transpose is computed, whose b is then a's.
pub(super) fn product_turned(out: OutPointer, out_stride: usize, term: Term<'_>, accumulate: bool) {
    let Term { a, b, scale } = term;
    let (m, n) = (a.rows, b.cols);
    let mut columns = vec![0.0; n * m];
    thin(&mut columns, m, b.t(), a.t(), scale, false);
    put_columns(out, out_stride, &columns, m, accumulate);
}

/// Writes or adds columns of `m` values, one after the other, to the rows of the output, which has room for them.
fn put_columns(out: OutPointer, out_stride: usize, columns: &[f32], m: usize, accumulate: bool) {
    for (j, column) in columns.chunks_exact(m).enumerate() {
        for (i, value) in column.iter().enumerate() {
            // SAFETY: row i and column j are the caller's.
            #[expect(unsafe_code, reason = "the output is a tile of a strided matrix")]
            unsafe {
                let out = out.0.add(i * out_stride + j);
                *out = if accumulate { *out + value } else { *value };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every count of rows and of columns around a block's, a depth past one step, both layouts of a; exact, since
    /// whole numbers below 2^24 are.
    #[test]
    fn a_thin_product_is_that_of_its_elements() {
        let value = |i: usize| ((i * 31) % 13) as f32 - 6.0;
        for m in (1..=8).chain([13]) {
            for n in (1..=18).chain([31, 66]) {
                for (k, accumulate) in [(1, false), (5, true), (40, true), (0, false)] {
                    let (a, b): (Vec<f32>, Vec<f32>) =
                        ((0..m * k).map(value).collect(), (0..k * (n + 3)).map(value).collect());
                    let start: Vec<f32> = (0..m * (n + 1)).map(value).collect();
                    let b_mat = Mat::strided(&b, k, n, n + 3);
                    for a_mat in [Mat::new(&a, m, k), Mat::new(&a, k, m).t()] {
                        let mut out = start.clone();
                        thin(&mut out, n + 1, a_mat, b_mat, 0.5, accumulate);
                        if a_mat.col_stride == 1 {
                            let mut b_turned = vec![0.0; n * k];
                            for (i, j) in (0..k).flat_map(|i| (0..n).map(move |j| (i, j))) {
                                b_turned[j * k + i] = b[i * (n + 3) + j];
                            }
                            let (mut same, of_columns) = (start.clone(), Mat::new(&b_turned, n, k).t());
                            let at = OutPointer(same.as_mut_ptr());
                            let term = Term { a: a_mat, b: of_columns, scale: 0.5 };
                            product_of_columns(at, n + 1, term, accumulate);
                            assert_eq!(same, out, "{m} x {k} x {n}, by columns");
                        }
                        for (i, j) in (0..m).flat_map(|i| (0..=n).map(move |j| (i, j))) {
                            let at = i * (n + 1) + j;
                            let of_a = |k| a[i * a_mat.row_stride + k * a_mat.col_stride];
                            let sum: f32 = (0..k).map(|k| of_a(k) * b[k * (n + 3) + j]).sum();
                            let expected = match (j < n, accumulate) {
                                (false, _) => start[at],
                                (true, false) => 0.5 * sum,
                                (true, true) => start[at] + 0.5 * sum,
                            };
                            assert_eq!(out[at], expected, "{m} x {k} x {n}, element {i}, {j}");
                        }
                    }
                }
            }
        }
    }

    /// What AVX computes and what any host can, on the same numbers, each within its own roundings of f64: 2 for each
    /// value of k, one for each step, the scale and what was there. Odd sizes: parts of a block, of a vector, of a step.
    #[test]
    #[expect(unsafe_code, reason = "both forms take raw strided operands")]
    fn both_forms_are_near_the_product_in_f64() {
        type Form = unsafe fn(Block, usize, usize);
        let forms: [(&str, Form); 2] = [("the host's", Block::all), ("the plain", Block::plain)];
        let value = |i: usize| ((i * 7919) % 1009) as f32 / 1009.0 - 0.4;
        let (scale, stride) = (0.3, 131);
        for (m, n, k) in [(1, 1, 1), (5, 7, 3), (6, 16, 64), (7, 17, 129), (13, 71, 37), (48, 131, 50)] {
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 5)).collect();
            let start: Vec<f32> = (0..m * stride).map(|i| value(i + 11)).collect();
            for (a_mat, accumulate) in [(Mat::new(&a, m, k), false), (Mat::new(&a, k, m).t(), true)] {
                let term = Term { a: a_mat, b: Mat::new(&b, k, n), scale };
                for (name, form) in forms {
                    let mut out = start.clone();
                    for step in steps(OutPointer(out.as_mut_ptr()), stride, term, accumulate) {
                        // SAFETY: `steps` checked the operands; `out` has m rows of `stride` >= n values.
                        unsafe { form(step, m, n) };
                    }
                    for (i, j) in (0..m).flat_map(|i| (0..stride).map(move |j| (i, j))) {
                        let (found, was) = (out[i * stride + j], start[i * stride + j]);
                        if j >= n {
                            assert_eq!(
                                found, was,
                                "{name} form, {m} x {k} x {n}, beside the product: {i}, {j}"
                            );
                            continue;
                        }
                        let product = |l: usize| {
                            let of_a = a[i * a_mat.row_stride + l * a_mat.col_stride];
                            f64::from(scale) * f64::from(of_a) * f64::from(b[l * n + j])
                        };
                        let was = if accumulate { f64::from(was) } else { 0.0 };
                        let expected = was + (0..k).map(product).sum::<f64>();
                        let size = was.abs() + (0..k).map(|l| product(l).abs()).sum::<f64>();
                        let limit = (2 * k + k.div_ceil(DEPTH) + 2) as f64 * 2.0_f64.powi(-24) * size;
                        let gap = (f64::from(found) - expected).abs();
                        assert!(gap <= limit, "{name} form, {m} x {k} x {n}: {i}, {j} is off by {gap:e}");
                    }
                }
            }
        }
    }
}
