//! The normal distribution.

/// P(|Z| >= z) for a standard normal Z and z >= 0; relative error below 1e-12 where the result is normal.
///
/// The complementary error function of z / sqrt(2): its power series where that converges fast, else Laplace's
/// continued fraction (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub(super) fn two_sided(z: f64) -> f64 {
    const SERIES_BELOW: f64 = 2.0;
    const DEPTH: u32 = 200;
    let x = z / std::f64::consts::SQRT_2;
    let scale = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < SERIES_BELOW {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > sum * f64::EPSILON {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return (1.0 - 2.0 * scale * sum).clamp(0.0, 1.0);
    }
    let tail = (1..=DEPTH).rev().fold(0.0, |tail, k| f64::from(k) / 2.0 / (x + tail));
    scale / (x + tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_equal_scipys() {
        // 2 * scipy.stats.norm.sf(z)
        for (z, expected) in [
            (0.0, 1.0),
            (0.5, 0.617_075_077_451_973_8),
            (1.959_963_984_540_054, 0.05),
            (2.8, 0.005_110_260_660_855_76),
            (3.0, 0.002_699_796_063_260_189),
            (6.0, 1.973_175_290_075_396_4e-9),
            (20.0, 5.507_248_237_212_467e-89),
        ] {
            let found = two_sided(z);
            assert!((found - expected).abs() <= 1e-11 * expected, "{z}: {found}, needed {expected}");
        }
    }
}
