//! The one rule by which a kernel's output is right.

use half::bf16;
use serde::{Deserialize, Serialize};

/// An absolute error that is nothing, whatever the yardstick.
const FLOOR: f64 = 1e-6;

/// An output beside the truth.
///
/// A kernel may be at most twice as wrong as the plain form that computes in f32 (or better) and rounds where
/// the kernel's contract says that it rounds: two orders of summation may fall on two sides of a rounding. Sums
/// in f32 that a kernel leaves to tensor cores are made as those make them: [`crate::dense::Dense`].
/// A maximum hardly moves when something is rounded twice, but the root mean square does: see [`Self::rms_limit`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// The output's name.
    pub what: String,
    /// The kernel's largest distance from the truth.
    pub error: f64,
    /// The plain form's.
    pub yardstick: f64,
    /// The root mean square of the kernel's distances from the truth.
    pub rms: f64,
    /// The plain form's.
    pub rms_yardstick: f64,
    /// How many values there are.
    pub count: usize,
    /// Values that are not finite where the truth is, or the other way round. A maximum would ignore NaN.
    pub non_finite: usize,
}

impl Comparison {
    /// `found` beside the truth; `plain` is what the plain form gives.
    pub fn new(what: impl Into<String>, found: &[f32], plain: &[f32], truth: &[f64]) -> Self {
        assert_eq!((found.len(), plain.len()), (truth.len(), truth.len()), "outputs of different lengths");
        let distances = |values: &[f32]| {
            let pairs = values.iter().zip(truth).map(|(&value, &truth)| (f64::from(value), truth));
            let finite = pairs.filter(|(a, b)| a.is_finite() && b.is_finite());
            let (most, squares) = finite.fold((0.0_f64, 0.0), |(most, squares), (a, b)| {
                (most.max((a - b).abs()), squares + (a - b).powi(2))
            });
            (most, (squares / values.len().max(1) as f64).sqrt())
        };
        let ((error, rms), (yardstick, rms_yardstick)) = (distances(found), distances(plain));
        let odd = |(value, truth): (&f32, &f64)| {
            let same = f64::from(*value) == *truth || (value.is_nan() && truth.is_nan());
            !(same || value.is_finite() && truth.is_finite())
        };
        Self {
            what: what.into(),
            error,
            yardstick,
            rms,
            rms_yardstick,
            count: found.len(),
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
        Self {
            what: what.into(),
            error: wrong as f64,
            yardstick: 0.0,
            rms: 0.0,
            rms_yardstick: 0.0,
            count: found.len(),
            non_finite: 0,
        }
    }

    /// The largest error that passes.
    pub fn limit(&self) -> f64 {
        2.0 * self.yardstick + FLOOR
    }

    /// The largest root mean square that passes: the plain form's times the fourth root of 2, with room for chance.
    ///
    /// Roundings are independent, so their mean squares add: one more rounding like the last one doubles the mean
    /// square and makes the root sqrt(2) times as large. The limit is half way there, as a factor. A rounding
    /// error is uniform in +-u/2: its square has mean u^2/12 and variance u^4/180, so the root mean square of n
    /// errors is off by sqrt(0.2 / n) of itself, that of one beside another by sqrt(0.4 / n); three times that
    /// is allowed.
    pub fn rms_limit(&self) -> f64 {
        let chance = 1.0 + 3.0 * (0.4 / self.count.max(1) as f64).sqrt();
        2.0_f64.powf(0.25) * chance * self.rms_yardstick + FLOOR
    }

    /// The error as a part of what passes; above 1 it fails.
    pub fn ratio(&self) -> f64 {
        (self.error / self.limit()).max(self.rms / self.rms_limit())
    }

    /// Whether no value is too wrong.
    pub fn within_maximum(&self) -> bool {
        self.non_finite == 0 && self.error <= self.limit()
    }

    /// Whether the values together are not too wrong.
    pub fn within_rms(&self) -> bool {
        self.rms <= self.rms_limit()
    }

    /// Whether the output is right.
    pub fn passes(&self) -> bool {
        self.within_maximum() && self.within_rms()
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
    fn a_second_rounding_shows_in_the_root_mean_square() {
        // a product whose first factor is rounded too; the factors fill their significands evenly
        let factors: Vec<(f64, f64)> = (0..4096)
            .map(|i| (1.0 + (i * 37 % 4093) as f64 / 4093.0, 1.0 + (i * 101 % 4091) as f64 / 4091.0))
            .collect();
        let truth: Vec<f64> = factors.iter().map(|(a, b)| a * b).collect();
        let once: Vec<f32> = truth.iter().map(|&x| bf16::from_f64(x).to_f32()).collect();
        let twice: Vec<f32> =
            factors.iter().map(|&(a, b)| bf16::from_f64(bf16::from_f64(a).to_f64() * b).to_f32()).collect();
        assert!(Comparison::stored_in_bf16("y", &once, &truth).passes());
        let compared = Comparison::stored_in_bf16("y", &twice, &truth);
        assert!(compared.within_maximum() && !compared.within_rms(), "{compared:?}");
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
