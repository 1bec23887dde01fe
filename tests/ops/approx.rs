//! Arithmetic that knows how far f32 may be off: running error analysis (Higham, "Accuracy and stability of
//! numerical algorithms", chapter 3.3).
//!
//! One operation is off by at most 2^-24 of its result, so 2^-23 leaves room for a second rounding. A sum of k
//! terms makes k roundings, each of at most 2^-24 of the sum of |terms|, in an order that we do not know: they
//! add up like a random walk, to about sqrt(k) of them, and 8 * 2^-23 sqrt(k) is 16 times that (for k up to
//! 256 it is also what no order can exceed).

use std::ops::{Add, Div, Mul, Sub};

/// What one operation's result may be off by, relative to it.
const ROUNDING: f64 = 1.0 / (1 << 23) as f64;

/// How much finer f64 is than f32.
const F64_TO_F32: f64 = 1.0 / (1 << 29) as f64;

/// The exact value of an expression, and how far from it f32 may end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Approx {
    pub(crate) value: f64,
    pub(crate) error: f64,
}

/// An input: what f32 holds exactly.
pub(crate) fn exact(value: impl Into<f64>) -> Approx {
    Approx { value: value.into(), error: 0.0 }
}

/// As [`exact`], for many.
pub(crate) fn exact_all(values: &[f32]) -> Vec<Approx> {
    values.iter().map(|&v| exact(v)).collect()
}

/// The sum of k terms, in any order: the terms' own errors, and 8 * 2^-23 sqrt(k) of the sum of |terms|.
pub(crate) fn sum(terms: impl IntoIterator<Item = Approx>) -> Approx {
    let (mut k, mut value, mut magnitude, mut error) = (0.0_f64, 0.0, 0.0, 0.0);
    for term in terms {
        k += 1.0;
        value += term.value;
        magnitude += term.value.abs();
        error += term.error;
    }
    Approx { value, error: error + 8.0 * ROUNDING * k.sqrt() * magnitude }
}

/// The sum of products of pairs, as [`sum`]; a product is not rounded on its own.
pub(crate) fn dot<'a>(pairs: impl IntoIterator<Item = (&'a Approx, &'a Approx)>) -> Approx {
    sum(pairs.into_iter().map(|(x, y)| x.times_unrounded(*y)))
}

impl Approx {
    /// A result whose operands bring `carried`; results below f32's normal range may vanish.
    fn rounded(value: f64, carried: f64) -> Self {
        Self { value, error: carried + ROUNDING * value.abs() + f64::from(f32::MIN_POSITIVE) }
    }

    fn times_unrounded(self, other: Self) -> Self {
        let error =
            self.value.abs() * other.error + other.value.abs() * self.error + self.error * other.error;
        Self { value: self.value * other.value, error }
    }

    /// e^x; its implementation may make one rounding more.
    pub(crate) fn exp(self) -> Self {
        let value = self.value.exp();
        Self::rounded(value, value * (self.error.exp_m1() + ROUNDING))
    }

    pub(crate) fn ln(self) -> Self {
        let value = self.value.ln();
        Self::rounded(value, -(-self.error / self.value).ln_1p() + ROUNDING * value.abs())
    }

    pub(crate) fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        Self::rounded(value, value - (self.value - self.error).max(0.0).sqrt())
    }

    /// tanh x; its slope is at most 1. Beyond 10 it is less than half a rounding from 1, and so is 1.
    pub(crate) fn tanh(self) -> Self {
        if self.value.abs() - self.error > 10.0 {
            return exact(self.value.signum());
        }
        let value = self.value.tanh();
        Self::rounded(value, self.error + ROUNDING * value.abs())
    }
}

impl Add for Approx {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::rounded(self.value + other.value, self.error + other.error)
    }
}

impl Sub for Approx {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::rounded(self.value - other.value, self.error + other.error)
    }
}

impl Mul for Approx {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let product = self.times_unrounded(other);
        Self::rounded(product.value, product.error)
    }
}

impl Div for Approx {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        let smallest = other.value.abs() - other.error;
        let carried =
            if smallest > 0.0 { (self.error + value.abs() * other.error) / smallest } else { f64::INFINITY };
        Self::rounded(value, carried)
    }
}

/// Holds every computed value to its truth; NaN never passes.
pub(crate) fn assert_close(what: &str, computed: &[f32], truth: &[Approx]) {
    assert_eq!(computed.len(), truth.len(), "{what}: number of values");
    for (i, (&found, truth)) in computed.iter().zip(truth).enumerate() {
        let gap = (f64::from(found) - truth.value).abs();
        assert!(
            gap <= truth.error,
            "{what}: value {i} is {found:e}, needed {:e} +- {:e}, off by {gap:e}",
            truth.value,
            truth.error
        );
    }
}

/// Holds the tolerance itself to a hundredth of the values: wider, it could hide a mistake.
pub(crate) fn assert_sharp(what: &str, truth: &[Approx]) {
    let (error, size) = truth.iter().fold((0.0, 0.0), |(e, s), t| (e + t.error, s + t.value.abs()));
    assert!(error <= 0.01 * size, "{what}: tolerances of {error:e} in all for values of {size:e}");
}

/// The derivative of `f` by each of `x`, by central differences of step h and h/2 in f64.
///
/// Richardson's extrapolation removes the error in h^2, so what is left is less than the two differ; the
/// arithmetic's own error is that of f32, scaled to f64.
pub(crate) fn differences(x: &[f32], f: impl Fn(&[Approx]) -> Approx) -> Vec<Approx> {
    const H: f64 = 1.0 / 1024.0;
    let at = |i: usize, h: f64| {
        let mut x = exact_all(x);
        x[i].value += h;
        f(&x)
    };
    let difference = |i: usize, h: f64| {
        let (up, down) = (at(i, h), at(i, -h));
        let error = (up.error + down.error) * F64_TO_F32 / (2.0 * h);
        Approx { value: (up.value - down.value) / (2.0 * h), error }
    };
    let extrapolated = |i: usize| {
        let (coarse, fine) = (difference(i, H), difference(i, H / 2.0));
        let error = (coarse.value - fine.value).abs() + coarse.error + 2.0 * fine.error;
        Approx { value: (4.0 * fine.value - coarse.value) / 3.0, error }
    };
    (0..x.len()).map(extrapolated).collect()
}

/// Holds a gradient's f64 form to [`differences`] of the forward pass.
pub(crate) fn assert_gradient(what: &str, gradient: &[Approx], differences: &[Approx]) {
    assert_eq!(gradient.len(), differences.len(), "{what}: number of values");
    for (i, (g, d)) in gradient.iter().zip(differences).enumerate() {
        let (gap, allowed) = ((g.value - d.value).abs(), d.error + g.error * F64_TO_F32);
        assert!(gap <= allowed, "{what}: gradient {i} is {:e}, needed {:e} +- {allowed:e}", g.value, d.value);
    }
}

/// A sum of k equal terms may be off by what its k says, and not by more.
#[test]
fn a_sum_knows_its_error() {
    let third = exact(1.0_f32 / 3.0);
    let total = sum(std::iter::repeat_n(third, 100));
    assert_eq!(total.error, 8.0 * ROUNDING * 10.0 * total.value);
    assert!(std::panic::catch_unwind(|| assert_close("nan", &[f32::NAN], &[total])).is_err());
}

#[test]
fn differences_find_the_slope_and_their_own_error() {
    let slope = differences(&[0.5, -2.0], |x| x[0] * x[0] * x[0] + x[1].exp());
    for (slope, truth) in slope.iter().zip([0.75, (-2.0_f64).exp()]) {
        assert!((slope.value - truth).abs() <= slope.error && slope.error < 1e-6, "{slope:?} {truth}");
    }
}
