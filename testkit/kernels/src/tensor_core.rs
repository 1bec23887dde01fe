//! What tensor cores make of a sum in f32, written down once more: in integers, and apart from the interpreter.
//!
//! Sixteen products and the sum so far are added at once. Each is cut to a multiple of 2^-25 of the largest one's power
//! of two (a product's is that of its factors), and the sum is cut to 24 bits, always towards zero. So the error of
//! a long sum grows with its length, and faster than where f32 is rounded: no order of the products and no kernel
//! can avoid that, and a yardstick that rounds would ask for it.
//!
//! Measured on an H100: `testkit/ptx/src/isa/tensor_core.rs` says how.

/// Products of one instruction.
const AT_ONCE: usize = 16;
/// Bits that a term keeps behind the largest exponent, and those of an f32.
const KEPT: i32 = 25;
const PRECISION: u32 = 24;

/// Numbers, each with its exponent.
pub(crate) type Numbers = Vec<(f64, i32)>;

/// Finds the exponents; that of zero is below all others.
pub(crate) fn with_exponents(values: &[f64]) -> Numbers {
    values.iter().map(|&value| (value, exponent(value))).collect()
}

fn exponent(value: f64) -> i32 {
    (value.to_bits() >> 52 & 0x7FF) as i32 - 1023
}

/// The sum of products of numbers that tensor cores can hold, from zero on.
pub(crate) fn dot(a: &[(f64, i32)], b: &[(f64, i32)]) -> f32 {
    let steps = a.chunks(AT_ONCE).zip(b.chunks(AT_ONCE));
    steps.fold(0.0, |sum, (a, b)| step(sum, a, b)) as f32
}

fn step(sum: f64, a: &[(f64, i32)], b: &[(f64, i32)]) -> f64 {
    let pairs = || a.iter().zip(b);
    let largest = pairs().map(|(a, b)| a.1 + b.1).fold(exponent(sum), i32::max);
    // no product of two f32 is as small: all are zero
    if largest < -400 {
        return 0.0;
    }
    // conversions to integers cut towards zero
    let (units, unit) = (power(KEPT - largest), power(largest - KEPT));
    let total = pairs().map(|(a, b)| (a.0 * b.0 * units) as i64).sum::<i64>() + (sum * units) as i64;
    let surplus = (i64::BITS - total.unsigned_abs().leading_zeros()).saturating_sub(PRECISION);
    (total / (1 << surplus) * (1 << surplus)) as f64 * unit
}

/// A power of two.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot_of(a: &[f64], b: &[f64]) -> f32 {
        dot(&with_exponents(a), &with_exponents(b))
    }

    #[test]
    fn nothing_is_lost_where_all_fits() {
        assert_eq!(dot_of(&[1.5, -2.0, 0.0, 3.0], &[2.0, 0.25, 7.0, -1.0]), -0.5);
        assert_eq!(dot_of(&[0.0; 40], &[1.0; 40]), 0.0);
        assert_eq!(dot_of(&[], &[]), 0.0);
    }

    #[test]
    fn sums_are_cut_and_terms_keep_two_bits_more() {
        let small = 2.0_f64.powi(-25);
        let sum =
            |first: f64, count: usize| dot_of(&[&[first][..], &vec![small; count]].concat(), &[1.0; 16]);
        // four of 2^-25 are one of the last place beside 1, and each is lost by itself beside 2
        assert_eq!(sum(1.0, 3), 1.0);
        assert_eq!(sum(1.0, 4), 1.0 + f32::EPSILON);
        assert_eq!(sum(1.0, 15), 1.0 + 3.0 * f32::EPSILON);
        assert_eq!(sum(-1.0, 1), -1.0 + f32::EPSILON / 2.0);
        assert_eq!(sum(2.0, 15), 2.0);
        // the exponent of a product is that of its factors, not its own
        assert_eq!(dot_of(&[1.5, -1.5, small], &[1.5, 1.5, 1.0]), small as f32);
        assert_eq!(dot_of(&[2.25, -2.25, small], &[1.0; 3]), 0.0);
    }

    #[test]
    fn the_seventeenth_product_meets_a_cut_sum() {
        let (third, ones) = (2.0_f64.powi(-25) * 3.0, [1.0; 34]);
        let mut terms = vec![0.0; 34];
        (terms[0], terms[1], terms[16]) = (1.0, third, third);
        assert_eq!(dot_of(&terms, &ones), 1.0, "in one step they would be more than the last place");
        (terms[2], terms[16]) = (third, 0.0);
        assert_eq!(dot_of(&terms, &ones), 1.0 + f32::EPSILON);
    }
}
