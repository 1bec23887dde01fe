//! Turning a matrix by squares of 8 x 8 in registers.

/// Rows that are turned side by side.
pub(super) const SIDE: usize = 8;

/// Writes element j of row i to `out[j * stride + i]`, for the first `count` rows, all of one length.
pub(super) fn turn(rows: [&[f32]; SIDE], count: usize, out: &mut [f32], stride: usize) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if count == SIDE && std::arch::is_x86_feature_detected!("avx2") {
        done = rows[0].len() / SIDE * SIDE;
        // SAFETY: the host has what it is compiled for.
        #[expect(unsafe_code, reason = "the compiler cannot know the host's features")]
        unsafe {
            avx::turn(rows, done, out, stride);
        }
    }
    for col in done..rows[0].len() {
        for (out, row) in out[col * stride..].iter_mut().zip(&rows[..count]) {
            *out = row[col];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vectors are loaded and stored by pointer")]
mod avx {
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps,
        _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    use super::SIDE;

    /// The first `cols` columns, a multiple of [`SIDE`].
    #[target_feature(enable = "avx2")]
    pub(super) fn turn(rows: [&[f32]; SIDE], cols: usize, out: &mut [f32], stride: usize) {
        for col in (0..cols).step_by(SIDE) {
            let mut square = [_mm256_setzero_ps(); SIDE];
            for (square, row) in square.iter_mut().zip(rows) {
                // SAFETY: a vector's values.
                *square = unsafe { _mm256_loadu_ps(row[col..col + SIDE].as_ptr()) };
            }
            for (i, column) in turned(square).into_iter().enumerate() {
                let out = &mut out[(col + i) * stride..][..SIDE];
                // SAFETY: as above.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), column) };
            }
        }
    }

    /// Rows change places with columns in pairs, then in fours, then in halves.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn turned(x: [__m256; SIDE]) -> [__m256; SIDE] {
        let (mut pairs, mut fours, mut all) = (x, x, x);
        for i in [0, 2, 4, 6] {
            pairs[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
        }
        for (i, [low, high]) in [[0, 2], [1, 3], [4, 6], [5, 7]].into_iter().enumerate() {
            fours[2 * i] = _mm256_shuffle_ps::<0x44>(pairs[low], pairs[high]);
            fours[2 * i + 1] = _mm256_shuffle_ps::<0xee>(pairs[low], pairs[high]);
        }
        for i in 0..SIDE / 2 {
            all[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
            all[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mat;

    /// Fewer rows than a square has, more, and whole ones; columns likewise; room between the turned rows untouched.
    #[test]
    fn every_element_goes_to_its_place() {
        for (rows, cols) in [(1, 1), (7, 16), (8, 8), (8, 13), (16, 24), (21, 35)] {
            let x: Vec<f32> = (0..rows * (cols + 2)).map(|i| i as f32).collect();
            let stride = rows + 3;
            let mut out = vec![-1.0; cols * stride];
            Mat::strided(&x, rows, cols, cols + 2).turn_into(&mut out, stride);
            for (i, &found) in out.iter().enumerate() {
                let (col, row) = (i / stride, i % stride);
                let expected = if row < rows { x[row * (cols + 2) + col] } else { -1.0 };
                assert_eq!(found, expected, "{rows} x {cols}: row {row}, column {col}");
            }
        }
    }
}
