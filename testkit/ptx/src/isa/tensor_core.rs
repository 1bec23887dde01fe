//! How tensor cores add: the rule of an H100, for one sum. Many at once: [`super::tensor_sums`].
//!
//! d = a * b + c of one instruction is one sum for each element, of all its products and c. Its terms are aligned
//! before they are added, and no more is kept of them than fits:
//!
//! 1. Products are exact. The exponent of one is the sum of its factors' exponents, so its significand is in 1..4.
//! 2. Each term is cut, towards zero, to a multiple of 2^-25 of the largest term's power of two: two bits below the
//!    last one of an f32.
//! 3. What is left is added without an error.
//! 4. The sum is cut, towards zero, to the 24 significant bits of an f32.
//!
//! Cutting is biased: over a long sum the errors of step 4 add up, where those of rounding to nearest would cancel.
//!
//! Measured on an H100: the 16384 raw results of mma.sync m16n8k16 and m16n8k8, bf16 and f16, are these bit for bit
//! (conformance/matrix.cu), and no other block of terms, number of bits or rounding gives them; and every product of
//! the kernels' cases, by mma and by wgmma, has the same errors there and here, to the last digit. Taken over without
//! a measurement: tf32, accumulators of f16 (rounded to nearest at the end). Unknown: the exponent of a subnormal
//! factor, sums that are no f32 (infinite here), the sign of a zero. Other architectures differ: an A100 adds 8
//! products at a time and keeps a bit less.
//!
//! Source of the form of the rule: Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021.

use super::float::canonical;

/// Bits that a term keeps behind the largest exponent.
pub(super) const KEPT: i32 = 25;
/// What is added to the exponent of an f32 before it is stored.
const BIAS: i32 = 127;

/// The 24 uppermost significant bits.
#[inline(always)]
pub(super) fn cut(value: f64) -> f64 {
    f64::from_bits(value.to_bits() & !0x1FFF_FFFF)
}

/// The sum of any products and c.
#[inline(never)]
pub(super) fn sum<const K: usize>(products: [(f32, f32); K], c: f32) -> f32 {
    let product = |&(a, b): &(f32, f32)| f64::from(a) * f64::from(b);
    let terms = || products.iter().map(product).chain([f64::from(c)]);
    if !terms().all(f64::is_finite) {
        return canonical(terms().sum::<f64>() as f32);
    }
    // subnormal numbers have the least exponent, zero has none
    let exponent = |value: f32| ((value.to_bits() >> 23 & 0xFF) as i32).max(1) - BIAS;
    let factors = products.iter().filter(|pair| product(pair) != 0.0);
    let exponents = factors.map(|&(a, b)| exponent(a) + exponent(b)).chain((c != 0.0).then(|| exponent(c)));
    let Some(largest) = exponents.max() else { return 0.0 };
    let unit = 2.0_f64.powi(largest - KEPT);
    let sum = unit * terms().map(|term| (term / unit).trunc()).sum::<f64>();
    let least = f64::from(f32::from_bits(1));
    match sum.abs() {
        size if size < f64::from(f32::MIN_POSITIVE) => ((sum / least).trunc() * least) as f32,
        // beyond the greatest f32 this rounds to infinity
        _ => cut(sum) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::super::half::{Bf16, F16, Float16};
    use super::*;

    /// Factors, c and the result of an H100, as bits.
    struct Seen {
        a: [u16; 16],
        b: [u16; 16],
        c: u32,
        d: u32,
    }

    /// mma.sync m16n8k16 of bf16: what rounding at the end, two blocks of 8, one bit less and one bit more would miss.
    const BF16: [Seen; 4] = [
        Seen {
            a: [
                0xBF00, 0x3F00, 0x3F21, 0x3F33, 0x3F7E, 0x3F17, 0xBF52, 0xBF1D, 0x3F61, 0xBF13, 0x3F77,
                0x3F53, 0x3F20, 0x3F00, 0xBF64, 0x3F5C,
            ],
            b: [
                0xBF39, 0x3F43, 0xBF59, 0x3F53, 0x3F38, 0x3F08, 0xBF2C, 0xBF34, 0x3F7F, 0xBF42, 0xBF34,
                0x3F55, 0x3F5E, 0xBF57, 0x3F02, 0x3F52,
            ],
            c: 0x3F79_0B0E,
            d: 0x40AE_B6E1,
        },
        Seen {
            a: [
                0xBF00, 0x3F00, 0x3F21, 0x3F33, 0x3F7E, 0x3F17, 0xBF52, 0xBF1D, 0x3F61, 0xBF13, 0x3F77,
                0x3F53, 0x3F20, 0x3F00, 0xBF64, 0x3F5C,
            ],
            b: [
                0x3F38, 0x3F1E, 0x3F35, 0xBF0C, 0x3F3B, 0x3F6F, 0xBF71, 0x3F2C, 0x3F7F, 0x3F77, 0xBF60,
                0xBF12, 0x3F0B, 0xBF7C, 0x3F62, 0xBF57,
            ],
            c: 0x3F7F_01FF,
            d: 0xBC2B_0040,
        },
        Seen {
            a: [
                0x3F5B, 0xBF45, 0x3F19, 0x3F6F, 0x3F4B, 0xBF7A, 0xBF79, 0xBF76, 0xBF28, 0xBF32, 0x3F28,
                0x3F03, 0x3F7A, 0xBF45, 0x3F6A, 0xBF66,
            ],
            b: [
                0x3F42, 0xBF6A, 0xBF2F, 0xBF1A, 0xBF40, 0xBF40, 0xBF42, 0xBF15, 0x3F7F, 0x3F7F, 0xBF7F,
                0x3F7F, 0xBF45, 0xBF1D, 0x3F26, 0x3F21,
            ],
            c: 0xBD84_2139,
            d: 0x3C12_B638,
        },
        Seen {
            a: [
                0xBF4E, 0x3F5F, 0x3F00, 0xBF00, 0xBF48, 0xBF75, 0xBF7F, 0xBF7F, 0xBF30, 0xBF20, 0x3F00,
                0xBF00, 0xBF2C, 0xBF16, 0xBF3F, 0x3F2A,
            ],
            b: [
                0xBF39, 0x3F43, 0xBF59, 0x3F53, 0x3F38, 0x3F08, 0xBF2C, 0xBF34, 0x3F7F, 0xBF42, 0xBF34,
                0x3F55, 0x3F5E, 0xBF57, 0x3F02, 0x3F52,
            ],
            c: 0x3D38_7055,
            d: 0xBE19_37EB,
        },
    ];

    /// The same of f16.
    const HALF: [Seen; 2] = [
        Seen {
            a: [
                0x38E2, 0xB983, 0x3B73, 0x3843, 0x387B, 0xBA49, 0x3A34, 0xB8D5, 0x3B57, 0x3B7B, 0xB983,
                0x3A5D, 0x394C, 0xB802, 0xBB59, 0xB86D,
            ],
            b: [
                0x3A6C, 0x3B16, 0xB9F8, 0xB9BE, 0x3B05, 0x3AA1, 0xB998, 0x39AE, 0x3800, 0x3800, 0x3B90,
                0xB9EA, 0xBB4A, 0x3B4C, 0x3B30, 0xBBB6,
            ],
            c: 0x3278_0000,
            d: 0xC07F_8FA7,
        },
        Seen {
            a: [
                0xBB48, 0xB968, 0xBB98, 0xBBF7, 0x3AEE, 0xBB8B, 0xB8E6, 0x3B26, 0x387C, 0x3A2E, 0xBBA6,
                0x3831, 0x3BFF, 0xB89D, 0xB935, 0x3A86,
            ],
            b: [
                0xB800, 0x3800, 0x3878, 0x3B85, 0x3800, 0x3800, 0xBBFF, 0x3BFF, 0x39A8, 0x39EE, 0xB985,
                0x3B62, 0x3996, 0x3A79, 0x38FB, 0xBB03,
            ],
            c: 0xBCAC_D902,
            d: 0x3FA8_FEFE,
        },
    ];

    fn computed(seen: &Seen, widen: fn(u16) -> f32) -> u32 {
        let pairs = std::array::from_fn::<_, 16, _>(|k| (widen(seen.a[k]), widen(seen.b[k])));
        sum(pairs, f32::from_bits(seen.c)).to_bits()
    }

    #[test]
    fn sums_are_those_of_an_h100() {
        for seen in &BF16 {
            assert_eq!(computed(seen, |bits| Bf16(bits).to_f32()), seen.d, "{:x}", seen.d);
        }
        for seen in &HALF {
            assert_eq!(computed(seen, |bits| F16(bits).to_f32()), seen.d, "{:x}", seen.d);
        }
    }

    #[test]
    fn a_term_keeps_two_bits_more_than_the_largest() {
        let small = |bits: i32| (2.0_f32.powi(-bits), 1.0);
        assert_eq!(sum([(1.0, 1.0), small(23)], 0.0), 1.0 + f32::EPSILON);
        // 2^-25 four times and twice, 2^-26 as often as there is room
        assert_eq!(sum([(1.0, 1.0), small(25), small(25), small(25), small(25)], 0.0), 1.0 + f32::EPSILON);
        assert_eq!(sum([(1.0, 1.0), small(25), small(25)], 0.0), 1.0);
        assert_eq!(sum([small(26); 15], 1.0), 1.0);
        // the exponent of a product is that of its factors: 1.5 * 1.5 has that of 1
        assert_eq!(sum([(1.5, 1.5), (-1.5, 1.5), small(25)], 0.0), 2.0_f32.powi(-25));
        assert_eq!(sum([(2.25, 1.0), (-2.25, 1.0), small(25)], 0.0), 0.0);
    }

    #[test]
    fn what_is_no_usual_number() {
        assert_eq!(sum([(0.0, 1.0)], 0.0), 0.0);
        assert_eq!(sum([(f32::INFINITY, 1.0)], 1.0), f32::INFINITY);
        assert_eq!(sum([(f32::INFINITY, 0.0)], 1.0).to_bits(), 0x7FFF_FFFF);
        assert_eq!(sum([(f32::MAX, 2.0)], 1.0), f32::INFINITY);
        assert_eq!(sum([(-1.5, f32::MIN_POSITIVE / 8_388_608.0)], 0.0), -f32::from_bits(1));
    }
}
