//! The smallest difference that a paired comparison would have shown.

/// Normal quantiles of a two-sided test at 5 % and of 80 % power.
const Z_LEVEL: f64 = 1.959_963_984_540_054;
const Z_POWER: f64 = 0.841_621_233_572_914_3;

/// The smallest difference of accuracy that McNemar's test at the 5 % level finds with a chance of 80 %, given how
/// often the two differ; None where they differ so rarely that no difference would be found.
///
/// `differences` are the d_k of S `seeds`. With n questions, m the mean of (d_k / S)^2 (for one seed: the share of
/// questions on which the two differ), the difference x solves `n x^2 = (z_level sqrt(m) + z_power sqrt(m - x^2))^2`,
/// and is at most the mean of |d_k| / S.
/// Source: Connor, "Sample size for testing differences in proportions for the paired-sample design", 1987.
pub fn detectable(differences: &[i32], seeds: usize) -> Option<f64> {
    let n = differences.len() as f64;
    let mean =
        |of: fn(f64) -> f64| differences.iter().map(|&d| of(f64::from(d) / seeds as f64)).sum::<f64>() / n;
    let (largest, mean_square) = (mean(f64::abs), mean(|d| d * d));
    let is_missed = |x: f64| {
        let needed = Z_LEVEL * mean_square.sqrt() + Z_POWER * (mean_square - x * x).max(0.0).sqrt();
        n.sqrt() * x < needed
    };
    if largest == 0.0 || is_missed(largest) {
        return None;
    }
    let (mut low, mut high) = (0.0, largest);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if is_missed(middle) { low = middle } else { high = middle }
    }
    Some(high)
}
