//! The seeded mode: approximate instructions err as far as their documentation allows.
//!
//! Without a seed they give the correctly rounded result, which no hardware promises. With one, each result
//! moves by a fraction of the documented maximum error that depends on the seed and the input alone.
//! A kernel whose result then leaves its tolerance relies on more than PTX promises.

/// Moves `result` of an instruction whose input bits are `input` by at most `relative` of itself.
/// Zero, infinite and NaN results and results of a zero input are exact in hardware, too.
#[inline]
pub fn perturb(result: f32, input: u64, relative: f32, seed: u64) -> f32 {
    if result == 0.0 || !result.is_finite() || input & 0x7FFF_FFFF == 0 {
        return result;
    }
    // 53 bits of the hash as a number in -1..1
    let fraction = (mix(seed ^ mix(input)) >> 11) as f64 / 2.0_f64.powi(52) - 1.0;
    let moved = f64::from(result) * (1.0 + f64::from(relative) * fraction);
    // towards the exact result, so that rounding never exceeds the promised error
    let nearest = moved as f32;
    if (f64::from(nearest) - f64::from(result)).abs() > f64::from((relative * result).abs()) {
        return result;
    }
    nearest
}

/// SplitMix64's finaliser (Steele, Lea & Flood 2014): every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stay_within_the_promise_and_use_it() {
        let relative = 2.0_f32.powi(-20);
        let mut largest: f64 = 0.0;
        for input in 1..10_000_u64 {
            let result = 1.0 + input as f32 / 7.0;
            let moved = perturb(result, input, relative, 5);
            assert_eq!(moved, perturb(result, input, relative, 5));
            let error = (f64::from(moved) - f64::from(result)).abs() / f64::from(result);
            assert!(error <= f64::from(relative), "{input}");
            largest = largest.max(error);
        }
        assert!(largest > 0.9 * f64::from(relative));
        let differ =
            (1..100).filter(|&i| perturb(3.0, i, relative, 1) != perturb(3.0, i, relative, 2)).count();
        assert!(differ > 80);
    }

    #[test]
    fn special_values_are_exact() {
        assert_eq!(perturb(0.0, 9, 0.5, 1), 0.0);
        assert_eq!(perturb(f32::INFINITY, 9, 0.5, 1), f32::INFINITY);
        assert_eq!(perturb(1.0, 0, 0.5, 1), 1.0);
        assert_eq!(perturb(1.0, 0x8000_0000, 0.5, 1), 1.0);
    }
}
