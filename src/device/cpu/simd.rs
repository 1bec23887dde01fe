//! Loops that the compiler turns into vector instructions, at the width that the host has.
//!
//! A build for plain x86-64 may use SSE2 only: 4 values an instruction. What `widest!` wraps is compiled twice,
//! for the build's own target and for AVX2, 8 values an instruction, and the host's features choose when it runs.
//! Rust neither contracts `a * b + c` nor reorders sums, so both forms give the same bits.

/// Values that reductions keep apart, so that they vectorise: sum i takes the values at i, i + LANES, ...
pub const LANES: usize = 16;

/// Defines functions that run at the host's widest vectors. Bodies call only what is `#[inline(always)]`, or that
/// part is compiled for the build's target.
macro_rules! widest {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block)+) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the host has the one feature that `avx2` is compiled for.
                    #[expect(unsafe_code, reason = "the compiler cannot know the host's features")]
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    )+};
}

pub(crate) use widest;

/// The largest value; NaN is ignored, and of no values it is -inf.
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The sum over i of `term([x[i], y[i], ...])` for columns x, y, ... of one length, in f64.
#[inline(always)]
pub fn sum<const K: usize>(columns: [&[f32]; K], term: impl Fn([f32; K]) -> f64) -> f64 {
    let chunks = columns.map(<[f32]>::as_chunks::<LANES>);
    let mut lanes = [0.0; LANES];
    for i in 0..chunks[0].0.len() {
        let chunk = chunks.map(|(chunks, _)| &chunks[i]);
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += term(chunk.map(|values| values[l]));
        }
    }
    let rest = (0..chunks[0].1.len()).map(|i| term(chunks.map(|(_, rest)| rest[i])));
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::exp;

    widest! {
        fn total(x: &[f32], y: &[f32]) -> f64 {
            sum([x, y], |[x, y]| f64::from(exp(x) * y))
        }
    }

    /// The lanes' order is part of the result: 0 and 1, one short of, at and past the lanes, many.
    #[test]
    fn the_widest_form_has_the_bits_of_the_plain_one() {
        for len in [0, 1, LANES - 1, LANES, LANES + 1, 10 * LANES + 3] {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin() * 20.0).collect();
            let y: Vec<f32> = x.iter().map(|x| x.cos()).collect();
            let term = |i: usize| f64::from(exp(x[i]) * y[i]);
            let whole = len / LANES * LANES;
            let lane = |l: usize| (l..whole).step_by(LANES).map(term).fold(0.0, |sum, term| sum + term);
            let plain = (0..LANES).map(lane).sum::<f64>() + (whole..len).map(term).sum::<f64>();
            assert_eq!(total(&x, &y).to_bits(), plain.to_bits(), "{len} values");
        }
    }

    #[test]
    fn the_largest_is_found_in_every_place_and_nan_is_not() {
        for len in [1, LANES - 1, LANES, 2 * LANES + 3] {
            for place in 0..len {
                let mut values = vec![-2.0; len];
                values[place] = -1.0;
                values[(place + 1) % len] = if len > 1 { f32::NAN } else { -1.0 };
                assert_eq!(max(&values), -1.0, "at {place} of {len}");
            }
        }
        assert_eq!(max(&[]), f32::NEG_INFINITY);
    }
}
