//! f32 matrix products on the CPU, over strided views.
//!
//! The output is cut into tiles by its shape alone, a tile a task; all terms of a sum are added while the tile is in cache.
//! Whatever computes a tile cuts the depth k by shape and sums in a fixed order, so a product has the same bits for any
//! number of threads; `tests/determinism.rs` holds it to that.

mod block;
mod mat;
mod packed;
mod thin;
mod turn;

use gemm::Parallelism;
use rayon::prelude::*;

use super::Cpu;

pub use block::ROWS as THIN_ROWS;
pub use mat::Mat;
pub use thin::thin;

/// Values of k that a task of [`Cpu::deep`] sums.
const DEEP: usize = 2048;

/// Columns of a tile, at most about, where the gemm crate packs both operands.
const TILE: usize = 144;

/// Rows up to which a term's operands are not packed.
const THIN: usize = thin::MOST_TURNED;

/// `scale * a b`
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// a, rows x k.
    pub a: Mat<'a>,
    /// b, k x cols.
    pub b: Mat<'a>,
    /// The factor.
    pub scale: f32,
}

impl<'a> Term<'a> {
    /// `a b`
    pub fn new(a: Mat<'a>, b: Mat<'a>) -> Self {
        Self { a, b, scale: 1.0 }
    }

    /// Whether its transpose is one of few rows that can be computed from where the operands lie.
    fn is_narrow(&self) -> bool {
        self.b.cols <= THIN && self.a.row_stride == 1
    }
}

/// `out = sum of terms`, or `out += sum of terms`; `out` is row-major without gaps.
#[derive(Debug)]
pub struct Sum<'a> {
    /// Where it goes.
    pub out: &'a mut [f32],
    /// At least one.
    pub terms: Vec<Term<'a>>,
    /// Whether `out` is one more term.
    pub accumulate: bool,
}

impl<'a> Sum<'a> {
    /// `out = scale * a b`, or `out += scale * a b` when `accumulate`.
    pub fn of(out: &'a mut [f32], a: Mat<'a>, b: Mat<'a>, scale: f32, accumulate: bool) -> Self {
        Self { out, terms: vec![Term { a, b, scale }], accumulate }
    }
}

impl Cpu {
    /// `out = scale * a b`, or `out += scale * a b` when `accumulate`; `out` is row-major without gaps.
    pub fn gemm(&self, out: &mut [f32], a: Mat<'_>, b: Mat<'_>, scale: f32, accumulate: bool) {
        if a.rows <= THIN && b.col_stride == 1 && a.cols >= 2 * DEEP {
            self.deep(out, a, b, scale, accumulate);
        } else {
            self.sums(vec![Sum::of(out, a, b, scale, accumulate)]);
        }
    }

    /// As [`Self::gemm`] where the output is small and k is large: tasks share k, whose rows of b they read from end to
    /// end; their sums are added in order.
    fn deep(&self, out: &mut [f32], a: Mat<'_>, b: Mat<'_>, scale: f32, accumulate: bool) {
        let (n, k) = (b.cols, a.cols);
        assert_eq!(out.len(), a.rows * n, "gemm: length of out, {} x {n}", a.rows);
        if !self.computes || out.is_empty() {
            return;
        }
        let mut parts = vec![0.0; k.div_ceil(DEEP) * out.len()];
        self.run(|| {
            parts.par_chunks_exact_mut(out.len()).enumerate().for_each(|(i, part)| {
                let depth = i * DEEP..((i + 1) * DEEP).min(k);
                thin(part, n, a.cols(depth.clone()), b.rows(depth), scale, false);
            });
        });
        if !accumulate {
            out.fill(0.0);
        }
        for part in parts.chunks_exact(out.len()) {
            for (out, part) in out.iter_mut().zip(part) {
                *out += part;
            }
        }
    }

    /// All tiles of all `sums`, side by side.
    pub fn sums(&self, sums: Vec<Sum<'_>>) {
        if !self.computes {
            return;
        }
        let packs = packed::pays();
        let sums: Vec<Tiled<'_>> = sums.into_iter().map(|sum| Tiled::new(sum, packs)).collect();
        let tasks: Vec<(&Tiled<'_>, usize)> =
            sums.iter().flat_map(|sum| (0..sum.tiles()).map(move |tile| (sum, tile))).collect();
        self.run(|| tasks.into_par_iter().with_max_len(1).for_each(|(sum, tile)| sum.compute(tile)));
    }
}

/// A sum whose output is written tile by tile.
struct Tiled<'a> {
    out: OutPointer,
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
    terms: Vec<Term<'a>>,
    accumulate: bool,
    packs: bool,
}

/// Where a tile starts. Tiles do not overlap, so that threads may share it.
#[derive(Clone, Copy)]
struct OutPointer(*mut f32);

// SAFETY: the pointer is only written through by what computes a tile, and each tile is one task's.
#[expect(unsafe_code, reason = "tiles of one matrix are strided, which slices cannot express")]
unsafe impl Send for OutPointer {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "tiles of one matrix are strided, which slices cannot express")]
unsafe impl Sync for OutPointer {}

impl<'a> Tiled<'a> {
    /// `packs`: whether `packed` computes what it can, else the gemm crate.
    fn new(sum: Sum<'a>, packs: bool) -> Self {
        let Sum { out, terms, accumulate } = sum;
        let (rows, cols) = (terms[0].a.rows, terms[0].b.cols);
        assert_eq!(out.len(), rows * cols, "gemm: length of out, {rows} x {cols}");
        let (tile_rows, tile_cols) = tile_shape(rows, cols, if packs { packed::TILE } else { TILE });
        let out = OutPointer(out.as_mut_ptr());
        Self { out, rows, cols, tile_rows, tile_cols, terms, accumulate, packs }
    }

    fn tiles(&self) -> usize {
        self.rows.div_ceil(self.tile_rows) * self.cols.div_ceil(self.tile_cols)
    }

    /// Tiles that share columns follow each other, and so do their uses of b.
    fn compute(&self, tile: usize) {
        let down = self.rows.div_ceil(self.tile_rows);
        let part = |index: usize, step: usize, all: usize| index * step..((index + 1) * step).min(all);
        let rows = part(tile % down, self.tile_rows, self.rows);
        let cols = part(tile / down, self.tile_cols, self.cols);
        let start = rows.start * self.cols + cols.start;
        // Stays inside the matrix, whose length `new` checked.
        let out = OutPointer(self.out.0.wrapping_add(start));
        let of_tile = |term: &Term<'a>| {
            let Term { a, b, scale } = *term;
            assert_eq!((a.rows, b.cols), (self.rows, self.cols), "gemm: shapes of a sum's terms");
            assert_eq!(a.cols, b.rows, "gemm: depths of a term's factors");
            Term { a: a.rows(rows.clone()), b: b.cols(cols.clone()), scale }
        };
        let terms: Vec<Term<'_>> = self.terms.iter().map(of_tile).collect();
        if self.packs && rows.len() > THIN && !terms.iter().all(Term::is_narrow) {
            return packed::sum(out, self.cols, &terms, self.accumulate);
        }
        for (i, &term) in terms.iter().enumerate() {
            product(out, self.cols, term, self.accumulate || i > 0);
        }
    }
}

/// Rows and columns of a tile: large, since a task packs what it reads, but small enough that a product of the sizes
/// of small models gives every thread several. Rows come in whole groups of 6, 8 or 12, as kernels have them.
fn tile_shape(rows: usize, cols: usize, most_cols: usize) -> (usize, usize) {
    const NARROW: usize = 48;
    let tile_cols = even_part(cols, most_cols, 16);
    let most_rows = if tile_cols > NARROW { 640 } else { 96 };
    (even_part(rows, most_rows, 24), tile_cols)
}

/// The size of the parts if `all` is cut into as few as possible of about `most`, all nearly alike and but for the
/// last a multiple of `unit`.
fn even_part(all: usize, most: usize, unit: usize) -> usize {
    all.div_ceil(all.div_ceil(most).max(1)).next_multiple_of(unit).max(unit)
}

/// Writes or adds a term; rows of the output are `out_stride` values apart.
#[expect(unsafe_code, reason = "the gemm crate takes raw pointers")]
fn product(out: OutPointer, out_stride: usize, term: Term<'_>, accumulate: bool) {
    let Term { a, b, scale } = term;
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(b.rows, k, "gemm: {m} x {k} times {} x {n}", b.rows);
    if m == 0 || n == 0 {
        return;
    }
    if m <= THIN && b.col_stride == 1 {
        return thin::product(out, out_stride, term, accumulate);
    }
    if m <= THIN && b.row_stride == 1 && a.col_stride == 1 {
        return thin::product_of_columns(out, out_stride, term, accumulate);
    }
    if term.is_narrow() {
        return thin::product_turned(out, out_stride, term, accumulate);
    }
    assert!(a.data.len() >= a.span() && b.data.len() >= b.span(), "gemm: an operand is too small");
    // SAFETY: the assertion above keeps every element (i, j) of the operands inside its slice. Callers checked that
    // the m x n elements of `out` lie in a slice that they borrow mutably and give to one task, so it overlaps
    // neither operand. Strides fit isize because they are smaller than a slice's length.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.0,
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
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row or column, one short of, at and past a tile; a tile's last columns; three terms, one of them deeper than
    /// what is packed at a time, and what was there; operands as they lie and turned.
    #[test]
    fn a_sum_of_products_is_that_of_its_elements() {
        const TERMS: [(usize, f32); 3] = [(7, 2.0), (400, 1.0), (16, 3.0)];
        let values = |len: usize, seed: usize| -> Vec<f32> {
            (0..len).map(|i| ((i * 31 + seed * 17) % 13) as f32 - 6.0).collect()
        };
        for (rows, cols) in [(1, 1), (5, 97), (49, 33), (257, 16), (641, 30), (650, 160), (0, 3), (3, 0)] {
            let a = TERMS.map(|(k, _)| values(rows * k, k));
            let b = TERMS.map(|(k, _)| values(k * cols, k + 1));
            for [a_turned, b_turned] in [[false, true], [false, false], [true, false], [true, true]] {
                let terms: Vec<Term<'_>> = (0..TERMS.len())
                    .map(|i| {
                        let (k, scale) = TERMS[i];
                        let (a, b) = (&a[i], &b[i]);
                        Term {
                            a: if a_turned { Mat::new(a, k, rows).t() } else { Mat::new(a, rows, k) },
                            b: if b_turned { Mat::new(b, cols, k).t() } else { Mat::new(b, k, cols) },
                            scale,
                        }
                    })
                    .collect();
                // whole numbers below 2^24: exact in any order
                let element = |row: usize, col: usize| -> f32 {
                    let of_term = |Term { a, b, scale }: &Term<'_>| {
                        let a = |k| a.data[row * a.row_stride + k * a.col_stride];
                        scale
                            * (0..b.rows)
                                .map(|k| a(k) * b.data[k * b.row_stride + col * b.col_stride])
                                .sum::<f32>()
                    };
                    terms.iter().map(of_term).sum()
                };
                let sums: Vec<f32> = (0..rows * cols).map(|i| element(i / cols, i % cols)).collect();
                for (accumulate, packs) in [(false, false), (true, false), (false, true), (true, true)] {
                    let start = values(rows * cols, 3);
                    let mut out = start.clone();
                    let tiled = Tiled::new(Sum { out: &mut out, terms: terms.clone(), accumulate }, packs);
                    (0..tiled.tiles()).for_each(|tile| tiled.compute(tile));
                    for (i, (&found, (&start, sum))) in out.iter().zip(start.iter().zip(&sums)).enumerate() {
                        let expected = sum + if accumulate { start } else { 0.0 };
                        let turned =
                            format!("turned {a_turned} {b_turned}, packs {packs}, accumulate {accumulate}");
                        assert_eq!(found, expected, "{rows} x {cols}, element {i}, {turned}");
                    }
                }
            }
        }
    }

    /// One part more than the deepest that is not cut, and its last part short; exact, as whole numbers are.
    #[test]
    fn a_deep_product_is_that_of_its_elements() {
        let cpu = Cpu::new(2).unwrap();
        let (m, n, k) = (3, 5, 2 * DEEP + 7);
        let value = |i: usize| ((i * 31) % 7) as f32 - 3.0;
        let (a, b): (Vec<f32>, Vec<f32>) = ((0..m * k).map(value).collect(), (0..k * n).map(value).collect());
        for accumulate in [false, true] {
            let mut out = vec![1.0; m * n];
            cpu.gemm(&mut out, Mat::new(&a, m, k), Mat::new(&b, k, n), 2.0, accumulate);
            for (i, &found) in out.iter().enumerate() {
                let sum: f32 = (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum();
                assert_eq!(found, 2.0 * sum + f32::from(accumulate), "element {i}");
            }
        }
    }

    #[test]
    fn parts_cover_and_are_nearly_alike() {
        for (most, unit) in [(96, 16), (144, 16), (640, 24), (96, 24)] {
            for all in 0..2000_usize {
                let part = even_part(all, most, unit);
                assert!(part.is_multiple_of(unit) && part < most + unit, "{all} -> {part}");
                assert!(all.div_ceil(part) <= all.div_ceil(most), "{all} -> parts of {part}");
            }
        }
    }
}
