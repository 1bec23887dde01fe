//! The innermost product: 6 x 16 values of the output stay in registers, 12 of AVX's 16 vectors, while k runs over rows
//! of b; a's values are broadcast from where they lie. Every sum has the order of k.

/// Rows of the output in registers.
pub const ROWS: usize = 6;

/// Columns of the output in registers, two vectors of AVX.
pub(super) const COLS: usize = 16;

/// Whether this host multiplies and adds in one instruction on vectors; if not, this is slow.
pub(super) fn is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Asks for a value's line, to be in cache when it is used.
pub(super) fn fetch(value: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which no address makes invalid.
        #[expect(unsafe_code, reason = "the intrinsic takes a pointer")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(value.cast());
        }
    }
}

/// `out = scale * a b`, or `out += scale * a b` when `accumulate`: raw, since tiles of strided matrices overlap as slices.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) out: *mut f32,
    /// Values from a row of the output to the next; the values of a row have no gaps.
    pub(super) out_stride: usize,
    pub(super) a: *const f32,
    /// Values from a row of a to the next, and from a column to the next: one of them is 1.
    pub(super) a_strides: [usize; 2],
    pub(super) b: *const f32,
    /// Values from a row of b to the next; the values of a row have no gaps.
    pub(super) b_stride: usize,
    /// Values of k.
    pub(super) depth: usize,
    pub(super) scale: f32,
    pub(super) accumulate: bool,
}

impl Block {
    /// The first `m` rows and `n` columns.
    ///
    /// # Safety
    ///
    /// The operands' `m` x depth and depth x `n` values and the output's `m` x `n` are the caller's.
    #[expect(unsafe_code, reason = "raw strided operands")]
    pub(super) unsafe fn all(self, m: usize, n: usize) {
        #[cfg(target_arch = "x86_64")]
        if is_fast() {
            // SAFETY: the host has what it is compiled for; the rest is this function's own condition.
            return unsafe { avx::all(self, m, n) };
        }
        // SAFETY: this function's own condition.
        unsafe { self.plain(m, n) }
    }

    /// As [`Self::all`], on any host; its bits are not those of AVX, which rounds a product and its addition once.
    ///
    /// # Safety
    ///
    /// As for [`Self::all`].
    #[expect(unsafe_code, reason = "raw strided operands")]
    pub(super) unsafe fn plain(self, m: usize, n: usize) {
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            // SAFETY: i < m and j < n, and k runs below the depth.
            unsafe {
                let a = |k| *self.a.add(i * self.a_strides[0] + k * self.a_strides[1]);
                let b = |k| *self.b.add(k * self.b_stride + j);
                let sum = self.scale * (0..self.depth).fold(0.0, |sum, k| sum + a(k) * b(k));
                let out = self.out.add(i * self.out_stride + j);
                *out = if self.accumulate { *out + sum } else { sum };
            }
        }
    }

    /// The block that starts at (row, column) of this one.
    fn at(self, row: usize, column: usize) -> Self {
        Self {
            out: self.out.wrapping_add(row * self.out_stride + column),
            a: self.a.wrapping_add(row * self.a_strides[0]),
            b: self.b.wrapping_add(column),
            ..self
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "raw strided operands")]
mod avx {
    use std::arch::x86_64::{
        __m256, __m256i, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_setzero_si256, _mm256_storeu_ps,
    };

    use super::{Block, COLS, ROWS};

    /// Values of a vector.
    const LANES: usize = 8;

    /// Values of k between two steps of the pointers.
    const UNROLLED: usize = 4;

    /// # Safety
    ///
    /// As for [`Block::all`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn all(block: Block, m: usize, n: usize) {
        for row in (0..m).step_by(ROWS) {
            let block = block.at(row, 0);
            // SAFETY: the rows from `row` on are a part of the caller's.
            unsafe {
                match m - row {
                    1 => rows::<1>(block, n),
                    2 => rows::<2>(block, n),
                    3 => rows::<3>(block, n),
                    4 => rows::<4>(block, n),
                    5 => rows::<5>(block, n),
                    _ => rows::<ROWS>(block, n),
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn rows<const R: usize>(block: Block, n: usize) {
        let mut column = 0;
        // SAFETY: each step takes no more columns than are left.
        unsafe {
            while n - column >= COLS {
                block.at(0, column).compute::<R, 2, false>(_mm256_setzero_si256());
                column += COLS;
            }
            if n - column >= LANES {
                block.at(0, column).compute::<R, 1, false>(_mm256_setzero_si256());
                column += LANES;
            }
            if n > column {
                block.at(0, column).compute::<R, 1, true>(first_lanes(n - column));
            }
        }
    }

    /// A mask of the first `count` lanes, below [`LANES`].
    #[inline]
    #[target_feature(enable = "avx2")]
    fn first_lanes(count: usize) -> __m256i {
        let lanes: [i32; LANES] = std::array::from_fn(|lane| -i32::from(lane < count));
        // SAFETY: reads the whole array.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    impl Block {
        /// R rows of V vectors; where `PART`, only the lanes of `mask` exist.
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn compute<const R: usize, const V: usize, const PART: bool>(self, mask: __m256i) {
            let mut sums = [[_mm256_setzero_ps(); V]; R];
            // SAFETY: the caller's R x depth values of a and depth x (V vectors) of b.
            unsafe {
                match self.a_strides {
                    [_, 1] => self.add::<R, V, PART, true>(mask, &mut sums),
                    _ => self.add::<R, V, PART, false>(mask, &mut sums),
                }
            }
            let scale = _mm256_set1_ps(self.scale);
            for (i, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    // SAFETY: the caller's R x (V vectors) values of the output.
                    unsafe {
                        let out = self.out.add(i * self.out_stride + v * LANES);
                        let value = if self.accumulate {
                            _mm256_fmadd_ps(scale, sum, load::<PART>(out, mask))
                        } else {
                            _mm256_mul_ps(scale, sum)
                        };
                        if PART {
                            _mm256_maskstore_ps(out, mask, value);
                        } else {
                            _mm256_storeu_ps(out, value);
                        }
                    }
                }
            }
        }

        /// Adds the products of all values of k. Either a's rows have no gaps or its columns have none, and knowing which
        /// spares the loop most of its address arithmetic.
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn add<const R: usize, const V: usize, const PART: bool, const ROWS_WHOLE: bool>(
            self,
            mask: __m256i,
            sums: &mut [[__m256; V]; R],
        ) {
            let a_strides = if ROWS_WHOLE { [self.a_strides[0], 1] } else { [1, self.a_strides[1]] };
            let (mut a, mut b, mut left) = (self.a, self.b, self.depth);
            // SAFETY: the caller's values, since no more steps are taken than are left.
            unsafe {
                while left >= UNROLLED {
                    for step in 0..UNROLLED {
                        let a = a.add(step * a_strides[1]);
                        add_one::<R, V, PART>(a, a_strides[0], b.add(step * self.b_stride), mask, sums);
                    }
                    a = a.wrapping_add(UNROLLED * a_strides[1]);
                    b = b.wrapping_add(UNROLLED * self.b_stride);
                    left -= UNROLLED;
                }
                for _ in 0..left {
                    add_one::<R, V, PART>(a, a_strides[0], b, mask, sums);
                    a = a.wrapping_add(a_strides[1]);
                    b = b.wrapping_add(self.b_stride);
                }
            }
        }
    }

    /// Adds the products of one value of k: a value of a for each row, and a row of b.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add_one<const R: usize, const V: usize, const PART: bool>(
        a: *const f32,
        a_stride: usize,
        b: *const f32,
        mask: __m256i,
        sums: &mut [[__m256; V]; R],
    ) {
        let mut of_b = [_mm256_setzero_ps(); V];
        // SAFETY: the caller's values.
        unsafe {
            for (v, of_b) in of_b.iter_mut().enumerate() {
                *of_b = load::<PART>(b.add(v * LANES), mask);
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let of_a = _mm256_broadcast_ss(&*a.add(i * a_stride));
                for (sum, &of_b) in sums.iter_mut().zip(&of_b) {
                    *sum = _mm256_fmadd_ps(of_a, of_b, *sum);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load<const PART: bool>(from: *const f32, mask: __m256i) -> __m256 {
        // SAFETY: the caller's values, as many as the mask says where `PART`.
        unsafe { if PART { _mm256_maskload_ps(from, mask) } else { _mm256_loadu_ps(from) } }
    }
}
