//! The one rule by which a kernel's output is right.

use half::bf16;
use serde::{Deserialize, Serialize};

/// An absolute error that is nothing, whatever the yardstick.
const FLOOR: f64 = 1e-6;

/// An output beside the truth.
///
/// A kernel may be at most twice as wrong as the plain form that computes in f32 (or better) and rounds where
/// the kernel's contract says that it rounds: two orders of summation may fall on two sides of a rounding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// The output's name.
    pub what: String,
    /// The kernel's largest distance from the truth.
    pub error: f64,
    /// The plain form's.
    pub yardstick: f64,
    /// Values that are not finite where the truth is, or the other way round. A maximum would ignore NaN.
    pub non_finite: usize,
}

impl Comparison {
    /// `found` beside the truth; `plain` is what the plain form gives.
    pub fn new(what: impl Into<String>, found: &[f32], plain: &[f32], truth: &[f64]) -> Self {
        assert_eq!((found.len(), plain.len()), (truth.len(), truth.len()), "outputs of different lengths");
        let distance = |values: &[f32]| {
            let pairs = values.iter().zip(truth).map(|(&value, &truth)| (f64::from(value), truth));
            pairs
                .filter(|(a, b)| a.is_finite() && b.is_finite())
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max)
        };
        let odd = |(value, truth): (&f32, &f64)| {
            let same = f64::from(*value) == *truth || (value.is_nan() && truth.is_nan());
            !(same || value.is_finite() && truth.is_finite())
        };
        Self {
            what: what.into(),
            error: distance(found),
            yardstick: distance(plain),
            non_finite: found.iter().zip(truth).filter(|&pair| odd(pair)).count(),
        }
    }

    /// A bf16 output whose only rounding is that of the store: the plain form is the truth, rounded.
    pub fn stored_in_bf16(what: impl Into<String>, found: &[f32], truth: &[f64]) -> Self {
        let plain: Vec<f32> = truth.iter().map(|&x| bf16::from_f64(x).to_f32()).collect();
        Self::new(what, found, &plain, truth)
    }

    /// An output that must be equal, bit for bit; its error is the number of values that are not.
    pub fn exact(what: impl Into<String>, found: &[f32], expected: &[f32]) -> Self {
        assert_eq!(found.len(), expected.len(), "outputs of different lengths");
        let wrong = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        Self { what: what.into(), error: wrong as f64, yardstick: 0.0, non_finite: 0 }
    }

    /// The largest error that passes.
    pub fn limit(&self) -> f64 {
        2.0 * self.yardstick + FLOOR
    }

    /// The error as a part of what passes; above 1 it fails.
    pub fn ratio(&self) -> f64 {
        self.error / self.limit()
    }

    /// Whether the output is right.
    pub fn passes(&self) -> bool {
        self.non_finite == 0 && self.error <= self.limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_yardstick_passes_and_no_more() {
        let compare = |found: f32| Comparison::new("y", &[found], &[1.25], &[1.0]).passes();
        assert!(compare(1.5) && compare(0.5));
        assert!(!compare(1.6) && !compare(f32::NAN) && !compare(f32::INFINITY));
    }

    #[test]
    fn infinities_must_be_the_truths() {
        let inf = f32::INFINITY;
        assert!(Comparison::new("y", &[inf, 1.0], &[inf, 1.0], &[f64::INFINITY, 1.0]).passes());
        assert_eq!(Comparison::new("y", &[-inf, 1.0], &[inf, 1.0], &[f64::INFINITY, 1.0]).non_finite, 1);
        assert_eq!(Comparison::new("y", &[1.0], &[inf], &[f64::INFINITY]).non_finite, 1);
    }

    #[test]
    fn bits_are_compared_where_bits_count() {
        assert!(Comparison::exact("y", &[1.0, f32::NAN], &[1.0, f32::NAN]).passes());
        assert!(!Comparison::exact("y", &[0.0], &[-0.0]).passes());
    }
}
