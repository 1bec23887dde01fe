//! The mean over seeds, and what it leaves open.

/// The mean of one value per seed.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The 95 % interval of the mean for other seeds, by Student's t; None for fewer than two values.
pub fn interval(values: &[f64]) -> Option<[f64; 2]> {
    let freedom = values.len().checked_sub(1).filter(|&f| f > 0)?;
    let mean = mean(values);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / freedom as f64;
    let half = quantile(freedom) * (variance / values.len() as f64).sqrt();
    Some([mean - half, mean + half])
}

/// The t with P(|T| <= t) = 0.95 for `freedom` degrees of freedom, by bisection.
fn quantile(freedom: usize) -> f64 {
    let (mut low, mut high) = (1.9, 13.0); // 12.71 for one degree, 1.96 for infinitely many
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if inside(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    high
}

/// P(|T| <= t): the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn inside(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cos } else { 1.0 };
    let mut sum = 0.0;
    // the exponents of cos: 1, 3, .., freedom - 2 or 0, 2, .., freedom - 2
    let mut exponent = usize::from(odd);
    while exponent + 2 <= freedom {
        sum += term;
        term *= cos * cos * (exponent + 1) as f64 / (exponent + 2) as f64;
        exponent += 2;
    }
    if odd { std::f64::consts::FRAC_2_PI * (angle + sin * sum) } else { sin * sum }
}
