//! The sums of `tensor_core`, a whole tile at once, in vectors.
//!
//! The largest exponent comes from products of powers of two. Products that are scaled by it are cut to integers of 32
//! bits by one conversion: each is below 2^27, sixteen of them below 2^31. Where an exponent is too far from those of
//! usual numbers for that, each sum is made by itself.

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

use super::tensor_core::{KEPT, cut, sum};

/// Lanes of one vector.
const VECTOR: usize = 8;
/// The place of an f32's exponent, and its bits.
const EXPONENT: u32 = 23;
const EXPONENTS: u32 = 0xFF << EXPONENT;
/// The powers of two of the largest terms that the quick way takes: what is cut of terms is then at least 2^-115, far
/// from where f32 ends.
const LEAST: f32 = f32::from_bits((127 - 90) << EXPONENT);
const GREATEST: f32 = f32::from_bits((127 + 66) << EXPONENT);

/// `N` factors for each k.
pub struct Factors<const K: usize, const N: usize> {
    values: [[f32; N]; K],
    powers: [[f32; N]; K],
    /// Whether each is zero or normal.
    usual: bool,
}

impl<const K: usize, const N: usize> Factors<K, N> {
    /// Of these values.
    #[inline(always)]
    pub fn new(values: [[f32; N]; K]) -> Self {
        let mut powers = values;
        powers.as_flattened_mut().iter_mut().for_each(|value| *value = power(*value));
        Self { usual: usual(values.as_flattened()), values, powers }
    }
}

/// The power of two of a number.
#[inline(always)]
fn power(value: f32) -> f32 {
    f32::from_bits(value.to_bits() & EXPONENTS)
}

/// The greater one, as one instruction: `f32::max` also knows NaN.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The lesser one.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Whether each value is zero or normal.
#[inline(always)]
fn usual(values: &[f32]) -> bool {
    let normal = 1 << EXPONENT..EXPONENTS;
    let usual = |value: &f32| {
        let magnitude = value.to_bits() & 0x7FFF_FFFF;
        (magnitude == 0) | (magnitude.wrapping_sub(normal.start) < normal.end - normal.start)
    };
    values.iter().fold(true, |all, value| all & usual(value))
}

/// `sums += lines * factors`: the sum at (line, lane) gets the products of `lines[line][k]` and `factors[k][lane]`.
#[inline(always)]
pub fn multiply_add<const LINES: usize, const N: usize, const K: usize>(
    lines: &[[f32; K]; LINES],
    factors: &Factors<K, N>,
    sums: &mut [[f32; N]; LINES],
) {
    // `as` would also look for what does not fit, lane by lane
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = V3::try_new() {
        let whole = |values| pulp::cast(simd.avx._mm256_cvttps_epi32(pulp::cast(values)));
        return simd.vectorize(|| each(lines, factors, sums, whole));
    }
    each(lines, factors, sums, |values| values.map(|value| value as i32));
}

#[inline(always)]
fn each<const LINES: usize, const N: usize, const K: usize>(
    lines: &[[f32; K]; LINES],
    factors: &Factors<K, N>,
    sums: &mut [[f32; N]; LINES],
    whole: impl Fn([f32; VECTOR]) -> [i32; VECTOR] + Copy,
) {
    for (line, sums) in lines.iter().zip(sums) {
        if factors.usual && usual(line) && quick(line, factors, sums, whole) {
            continue;
        }
        for (lane, total) in sums.iter_mut().enumerate() {
            *total = sum::<K>(std::array::from_fn(|k| (line[k], factors.values[k][lane])), *total);
        }
    }
}

/// The sums of one line, unless an exponent is unusual; `whole` cuts numbers below 2^31 to integers.
#[inline(always)]
fn quick<const N: usize, const K: usize>(
    line: &[f32; K],
    factors: &Factors<K, N>,
    sums: &mut [f32; N],
    whole: impl Fn([f32; VECTOR]) -> [i32; VECTOR],
) -> bool {
    // of a subnormal sum the number itself: too small to be taken, but not zero
    let mut largest = sums.map(|sum| greater(power(sum), lesser(sum.abs(), f32::MIN_POSITIVE)));
    for (value, powers) in line.iter().zip(&factors.powers) {
        let value = power(*value);
        for lane in 0..N {
            largest[lane] = greater(value * powers[lane], largest[lane]);
        }
    }
    let outside = |largest: &f32| (*largest != 0.0) & !(LEAST..=GREATEST).contains(largest);
    if largest.iter().fold(false, |any, largest| any | outside(largest)) {
        return false;
    }
    // where all terms are zero, any exponent will do
    let largest = largest.map(|largest| greater(largest, LEAST));
    // 2^KEPT over the largest, and the other way round
    let scales = largest.map(|power| f32::from_bits(((2 * 127 + KEPT as u32) << EXPONENT) - power.to_bits()));
    let units = largest.map(|power| f32::from_bits(power.to_bits() - ((KEPT as u32) << EXPONENT)));
    let mut totals = [0; N];
    for (value, factors) in line.iter().zip(&factors.values) {
        let mut terms = [0.0; N];
        for lane in 0..N {
            terms[lane] = value * factors[lane] * scales[lane];
        }
        for (totals, terms) in totals.as_chunks_mut::<VECTOR>().0.iter_mut().zip(terms.as_chunks().0) {
            let terms = whole(*terms);
            (0..VECTOR).for_each(|lane| totals[lane] += terms[lane]);
        }
    }
    let mut old = [0.0; N];
    (0..N).for_each(|lane| old[lane] = sums[lane] * scales[lane]);
    for (vector, old) in old.as_chunks().0.iter().enumerate() {
        let old = whole(*old);
        for (lane, old) in (VECTOR * vector..).zip(old) {
            sums[lane] = cut(f64::from(totals[lane]) + f64::from(old)) as f32 * units[lane];
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(state: &mut u32) -> u32 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *state >> 8
    }

    /// Numbers of 8 significant bits whose exponents are within `spread` of `middle`; some are zero.
    fn number(state: &mut u32, middle: i32, spread: u32) -> f32 {
        let (bits, exponent) = (random(state), random(state));
        let magnitude = (1.0 + (bits % 128) as f32 / 128.0)
            * 2.0_f32.powi(middle + (exponent % (2 * spread + 1)) as i32 - spread as i32);
        match bits >> 8 & 15 {
            0 => 0.0,
            odd if odd % 2 == 1 => -magnitude,
            _ => magnitude,
        }
    }

    fn check(middle: i32, spread: u32, old: i32) {
        let mut state = 7;
        for _ in 0..40 {
            let lines: [[f32; 16]; 8] =
                std::array::from_fn(|_| std::array::from_fn(|_| number(&mut state, middle, spread)));
            let values: [[f32; 16]; 16] =
                std::array::from_fn(|_| std::array::from_fn(|_| number(&mut state, middle, spread)));
            let first: [[f32; 16]; 8] = std::array::from_fn(|_| {
                std::array::from_fn(|_| number(&mut state, old, spread) * (1.0 + f32::EPSILON))
            });
            let mut sums = first;
            multiply_add(&lines, &Factors::new(values), &mut sums);
            let mut plain = first;
            each(&lines, &Factors::new(values), &mut plain, |values| values.map(|value| value as i32));
            for line in 0..8 {
                for lane in 0..16 {
                    let pairs = std::array::from_fn::<_, 16, _>(|k| (lines[line][k], values[k][lane]));
                    let right = sum(pairs, first[line][lane]);
                    assert_eq!(sums[line][lane], right, "{pairs:?} {}", first[line][lane]);
                    assert_eq!(plain[line][lane], right, "without vectors");
                }
            }
        }
    }

    #[test]
    fn many_sums_are_each_that_of_the_rule() {
        check(0, 1, 0);
        check(0, 12, 0);
        check(-4, 3, 20);
        check(-20, 30, -40);
    }

    #[test]
    fn unusual_exponents_take_the_long_way() {
        check(60, 50, 100);
        check(-50, 60, -100);
        check(-70, 2, -126);
    }

    #[test]
    fn the_largest_sums_fit() {
        // sixteen f16 products and a sum, all as large as their exponents allow
        let factor = 2.0 - 2.0_f32.powi(-10);
        for sign in [1.0, -1.0] {
            let mut sums = [[sign * (2.0 - f32::EPSILON); 8]];
            multiply_add(&[[sign * factor; 16]], &Factors::new([[factor; 8]; 16]), &mut sums);
            assert_eq!(sums[0][0], sum([(sign * factor, factor); 16], sign * (2.0 - f32::EPSILON)));
            assert!(sums[0][0].abs() > 63.9);
        }
    }
}
