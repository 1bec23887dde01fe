//! e^x in f32 without a branch or a call, so that a loop over it vectorises.
//!
//! ```text
//! n = round(x log2 e)      r = x - n ln 2, |r| <= ln2/2 + 2^-17      e^x = 2^n sum_{k<=7} r^k / k!
//! ```
//!
//! In units of 2^-24, which is the last place of a mantissa in [0.70, 1) and half of it in [1, 1.42): the last
//! addition rounds by 1/2 or 1, what is added (below 0.42) by 1/4, what is added there by at most 1/16, its factors by
//! 1/8 in all, r by 1/4 times the slope 0.35 of the terms that use it; the series stops 2^-27.5 = 0.09 short. That is
//! at most 1.1 and 0.8 units in the last place; of all 2^32 inputs none is off by more than 0.94 (of a denormal
//! result: of the denormals' spacing). Overflow is inf, underflow 0, NaN stays NaN.

/// ln 2 in two parts: the first has 9 bits, so that n times it is exact; the second is the rest.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// 1.5 * 2^23: added to a number below 2^22, it leaves that number rounded in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// Below the first, e^x rounds to 0; above the second it is infinite; neither is near the other's exponent.
const LEAST: f32 = -104.0;
const MOST: f32 = 89.0;

/// e^x
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(LEAST, MOST);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let (high, low) = (x - n * LN_2_HIGH, n * LN_2_LOW);
    let r = high - low;
    // Horner's scheme of r^2/2! + ... + r^7/7!, over r^2
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];
    let rest = series.iter().fold(1.0 / 5040.0, |sum, term| sum * r + term);
    // the first term is not r but its exact parts
    let mantissa = 1.0 + (high + (r * r * rest - low));
    // 2^n is not always a number of f32, its two halves are; only the second product rounds
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let half = n >> 1;
    mantissa * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// 2^n, for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far `found` is from e^x, in units of the last place of the nearest f32.
    fn units_off(x: f32, found: f32) -> f64 {
        let truth = f64::from(x).exp();
        let spacing = f64::from(truth as f32).max(f64::from(f32::MIN_POSITIVE)).log2().floor() - 23.0;
        (f64::from(found) - truth).abs() / spacing.exp2()
    }

    /// Every 1009th f32 of both signs, and all that lie around the ends.
    #[test]
    fn it_is_off_by_less_than_a_unit_in_the_last_place() {
        let around = |x: f32| x.to_bits() - 2000..x.to_bits() + 2000;
        let ends =
            [-104.0, -103.972_08, -103.278_93, -87.336_55, 88.722_84, 89.0, 0.346_573_6, 1e-38].map(around);
        let bits = (0..=u32::MAX).step_by(1009).chain(ends.into_iter().flatten());
        for x in bits.map(f32::from_bits).filter(|x| !x.is_nan()) {
            let (found, truth) = (exp(x), f64::from(x).exp());
            if truth as f32 == f32::INFINITY {
                assert_eq!(found, f32::INFINITY, "e^{x:e}");
            } else {
                let off = units_off(x, found);
                assert!(off < 1.0, "e^{x:e} is {found:e}, off by {off} units in the last place");
            }
        }
    }

    #[test]
    fn it_is_exact_where_the_result_is() {
        let exact = [(0.0, 1.0), (-0.0, 1.0), (f32::NEG_INFINITY, 0.0), (f32::INFINITY, f32::INFINITY)];
        for (x, truth) in exact.into_iter().chain([(f32::MIN, 0.0), (f32::MAX, f32::INFINITY)]) {
            assert_eq!(exp(x), truth, "e^{x:e}");
        }
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
        assert_eq!(exp(-103.0), f32::from_bits(1), "a denormal");
    }
}
