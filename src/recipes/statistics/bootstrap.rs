//! The paired bootstrap over questions and seeds.

use crate::base::philox::{Philox, Purpose};

/// Resamples of an interval.
pub const RESAMPLES: u32 = 10_000;

/// The 95 % percentile interval of the mean of `differences`, `[S][n]`: for each seed and question 1 where only the
/// first was right, -1 where only the second was, else 0.
///
/// A resample draws S seeds and n questions with replacement and takes all their pairs, so the interval speaks of
/// other seeds and other questions (Owen, "The pigeonhole bootstrap", 2007). Resample r draws from the stream
/// `[r, 0, 0]` of `seed`, seeds first. Quantiles are interpolated between neighbours, as numpy does.
pub fn interval(differences: &[Vec<i8>], resamples: u32, seed: u64) -> [f64; 2] {
    let (seeds, questions) = (differences.len(), differences.first().map_or(0, Vec::len));
    let philox = Philox::new(seed, Purpose::Resampling);
    let mut means: Vec<f64> = (0..resamples)
        .map(|resample| {
            let mut stream = philox.stream([resample, 0, 0]);
            let mut of_question = vec![0i64; questions];
            for _ in 0..seeds {
                let drawn = &differences[stream.below(seeds as u32) as usize];
                of_question.iter_mut().zip(drawn).for_each(|(sum, &d)| *sum += i64::from(d));
            }
            let sum: i64 = (0..questions).map(|_| of_question[stream.below(questions as u32) as usize]).sum();
            sum as f64 / (seeds * questions) as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|share| {
        let place = share * (means.len() - 1) as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(means.len() - 1);
        means[below] + part * (means[above] - means[below])
    })
}
