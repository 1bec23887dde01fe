//! Products in which b is packed and a is read where it lies.
//!
//! A task's columns of b are copied once, 16 at a time, in the order in which registers take them, and stay in the second
//! level cache; 6 rows of a stay in the first one while all of these columns pass. All terms of a sum are added while a
//! block of the output is in cache. Against a GEMM that packs both, a is not copied once a tile.

use std::cell::RefCell;
use std::ops::Range;

use super::block::{self, Block, COLS, ROWS};
use super::{Mat, OutPointer, Term};

/// Columns of a tile, at most about: several tiles a thread in products of small models.
pub(super) const TILE: usize = 96;

/// Values of k that are packed at a time, over all terms: 126 KiB, since a core's second level is often shared. It is half
/// of 576 and a fifth of 1536 with room for an adapter.
const DEPTH: usize = 336;

/// Rows of an a whose rows have gaps between their values: so many are turned at a time.
const TURNED: usize = 48;

thread_local! {
    /// What a task packs: its thread's own, so that it neither asks for memory nor clears it.
    static PANELS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Whether this host is thought to be faster so: measured with AVX2. For vectors of 512 bits the gemm crate has wider blocks.
pub(super) fn pays() -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return false;
    }
    block::is_fast()
}

/// `out = sum of terms`, or `out += sum of terms` when `accumulate`; rows of `out` are `out_stride` values apart. The
/// terms' rows x columns values of `out` belong to the caller.
pub(super) fn sum(out: OutPointer, out_stride: usize, terms: &[Term<'_>], accumulate: bool) {
    PANELS.with_borrow_mut(|panels| {
        for (i, parts) in packs(terms).iter().enumerate() {
            add(out, out_stride, parts, panels, accumulate || i > 0);
        }
    });
}

/// The terms, cut along k and grouped so that each group is packed at once.
fn packs<'a>(terms: &[Term<'a>]) -> Vec<Vec<Term<'a>>> {
    let mut packs: Vec<Vec<Term<'a>>> = Vec::new();
    let mut free = 0;
    for term in terms {
        let k = term.a.cols;
        let step = k.div_ceil(k.div_ceil(DEPTH).max(1)).max(1);
        for first in (0..k.max(1)).step_by(step) {
            let depth = first..(first + step).min(k);
            if packs.is_empty() || depth.len() > free {
                packs.push(Vec::new());
                free = DEPTH;
            }
            free -= depth.len();
            let part = Term { a: term.a.cols(depth.clone()), b: term.b.rows(depth), ..*term };
            packs.last_mut().expect("one was just opened").push(part);
        }
    }
    packs
}

/// Writes or adds the sum of `parts`, whose b fit in one pack.
fn add(out: OutPointer, out_stride: usize, parts: &[Term<'_>], panels: &mut Vec<f32>, accumulate: bool) {
    let (m, n) = (parts[0].a.rows, parts[0].b.cols);
    let depth: usize = parts.iter().map(|part| part.a.cols).sum();
    pack(parts, depth, panels);
    let turns = parts.iter().any(|part| part.a.col_stride != 1);
    let mut turned = vec![0.0; if turns { TURNED * depth } else { 0 }];
    for first in (0..m).step_by(TURNED) {
        let rows = first..(first + TURNED).min(m);
        let of_rows = readable(parts, &rows, &mut turned);
        for (row, col) in
            (0..rows.len()).step_by(ROWS).flat_map(|i| (0..n).step_by(COLS).map(move |j| (i, j)))
        {
            let mut b = &panels[col * depth..];
            for (i, (a, part)) in of_rows.iter().zip(parts).enumerate() {
                let a = a.rows(row..(row + ROWS).min(rows.len()));
                let block = Block {
                    out: out.0.wrapping_add((first + row) * out_stride + col),
                    out_stride,
                    a: a.data.as_ptr(),
                    a_strides: [a.row_stride, 1],
                    b: b.as_ptr(),
                    b_stride: COLS,
                    depth: a.cols,
                    scale: part.scale,
                    accumulate: accumulate || i > 0,
                };
                assert!(
                    a.data.len() >= a.span() && b.len() >= a.cols * COLS,
                    "gemm: an operand is too small"
                );
                // SAFETY: the assertion holds the operands; the rows and columns of the output are the caller's.
                #[expect(unsafe_code, reason = "blocks of strided matrices, which slices cannot express")]
                unsafe {
                    block.all(a.rows, COLS.min(n - col));
                }
                b = &b[a.cols * COLS..];
            }
        }
    }
}

/// Every 16 columns of all parts' b, one part under the other: a panel of `depth` rows of 16 values.
fn pack(parts: &[Term<'_>], depth: usize, panels: &mut Vec<f32>) {
    let n = parts[0].b.cols;
    panels.resize(panels.len().max(depth * n.next_multiple_of(COLS)), 0.0);
    for first in (0..n).step_by(COLS) {
        let mut panel = &mut panels[first * depth..];
        for part in parts {
            let (of_part, rest) = panel.split_at_mut(part.b.rows * COLS);
            pack_columns(part.b.cols(first..(first + COLS).min(n)), of_part);
            panel = rest;
        }
    }
}

/// At most 16 columns of b; what is past the last one is never read.
fn pack_columns(b: Mat<'_>, panel: &mut [f32]) {
    if b.row_stride == 1 {
        return b.t().turn_into(panel, COLS);
    }
    assert_eq!(b.col_stride, 1, "gemm: neither rows nor columns of b are without gaps");
    for (row, packed) in panel.as_chunks_mut::<COLS>().0.iter_mut().enumerate() {
        let values = &b.data[row * b.row_stride..];
        match values.first_chunk::<COLS>() {
            Some(values) if b.cols == COLS => *packed = *values,
            _ => packed[..b.cols].copy_from_slice(&values[..b.cols]),
        }
    }
}

/// The parts' a at some rows, without gaps between the values of a row: turned where its columns have none.
fn readable<'a>(parts: &[Term<'a>], rows: &Range<usize>, turned: &'a mut [f32]) -> Vec<Mat<'a>> {
    let mut free = turned;
    let of_part = |part: &Term<'a>| {
        let a = part.a.rows(rows.clone());
        if a.col_stride == 1 {
            return a;
        }
        assert_eq!(a.row_stride, 1, "gemm: neither rows nor columns of a are without gaps");
        let out;
        (out, free) = std::mem::take(&mut free).split_at_mut(a.rows * a.cols);
        a.t().turn_into(out, a.cols);
        Mat::new(out, a.rows, a.cols)
    };
    parts.iter().map(of_part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Depths of one pack, one more, and several; a second term that shares a pack; parts of blocks; operands as they lie
    /// and turned. Each sum is within its own roundings of f64: 2 for each value of k, 2 for each part, its scale and its
    /// addition, and there are at most 2 parts more than whole packs.
    #[test]
    fn a_sum_is_near_that_in_f64() {
        let value = |i: usize| ((i * 7919) % 1009) as f32 / 1009.0 - 0.4;
        let at = |x: &Mat<'_>, i: usize, j: usize| f64::from(x.data[i * x.row_stride + j * x.col_stride]);
        for (m, n, depths) in
            [(1, 1, [1, 1]), (6, 16, [336, 16]), (55, 97, [337, 16]), (50, 33, [1536, 64]), (49, 7, [16, 0])]
        {
            let a = depths.map(|k| (0..m * k).map(value).collect::<Vec<f32>>());
            let b = depths.map(|k| (0..k * n).map(|i| value(i + 5)).collect::<Vec<f32>>());
            let start: Vec<f32> = (0..m * n).map(|i| value(i + 11)).collect();
            for (turned, accumulate) in [(false, false), (false, true), (true, false), (true, true)] {
                let terms: [Term<'_>; 2] = std::array::from_fn(|i| {
                    let (a, b, k) = (&a[i], &b[i], depths[i]);
                    let scale = [0.3, 2.0][i];
                    if turned {
                        Term { a: Mat::new(a, k, m).t(), b: Mat::new(b, n, k).t(), scale }
                    } else {
                        Term { a: Mat::new(a, m, k), b: Mat::new(b, k, n), scale }
                    }
                });
                let mut out = start.clone();
                sum(OutPointer(out.as_mut_ptr()), n, &terms, accumulate);
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let was = if accumulate { f64::from(start[i * n + j]) } else { 0.0 };
                    let (mut expected, mut size) = (was, was.abs());
                    for Term { a, b, scale } in &terms {
                        for l in 0..a.cols {
                            let product = f64::from(*scale) * at(a, i, l) * at(b, l, j);
                            expected += product;
                            size += product.abs();
                        }
                    }
                    let depth: usize = depths.iter().sum();
                    let limit = (2 * depth + 2 * (depth / DEPTH + 2)) as f64 * 2.0_f64.powi(-24) * size;
                    let gap = (f64::from(out[i * n + j]) - expected).abs();
                    let what = format!("turned {turned}, accumulate {accumulate}");
                    assert!(gap <= limit, "{m} x {depths:?} x {n}, {what}: {i}, {j} is off by {gap:e}");
                }
            }
        }
    }
}
