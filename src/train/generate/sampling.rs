//! From logits to the next token: temperature, then top-p, then one draw that has a name.

use crate::base::philox::{Philox, Purpose};

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most probable token, the first of equals.
    pub temperature: f64,
    /// Draws from the smallest set of most probable tokens that has this probability, in (0, 1]
    /// (Holtzman et al. 2020).
    pub top_p: f64,
    /// The run's seed.
    pub seed: u64,
}

/// A chosen token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// ln of its probability among all tokens at temperature 1, whatever the sampling.
    pub log_probability: f64,
}

impl Sampling {
    /// Always the most probable token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: 0 };

    /// Chooses token number `index` of sample `sample` of the prompt with the number `place`.
    ///
    /// The draw depends on these and the seed alone, so a batch's other sequences do not change it.
    pub(super) fn choose(&self, logits: &[f32], place: u32, sample: u32, index: u32) -> Drawn {
        let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        let token = if self.temperature == 0.0 {
            best
        } else {
            let [high, low, ..] = Philox::new(self.seed, Purpose::Sampling).block([index, sample, place, 0]);
            let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
            self.draw(logits, logits[best], bits as f64 / (1_u64 << 53) as f64)
        };
        let max = f64::from(logits[best]);
        let sum: f64 = logits.iter().map(|&z| (f64::from(z) - max).exp()).sum();
        Drawn { token: token as u32, log_probability: f64::from(logits[token]) - max - sum.ln() }
    }

    /// The token at `uniform`, in [0, 1), of the nucleus; `max` is the largest logit.
    fn draw(&self, logits: &[f32], max: f32, uniform: f64) -> usize {
        let weight = |&z: &f32| (f64::from(z - max) / self.temperature).exp();
        let sum: f64 = logits.iter().map(weight).sum();
        // Tokens below this have less than 1 - top_p in all, so none of them is in the nucleus.
        let least = (1.0 - self.top_p) / logits.len() as f64 * sum;
        let mut kept: Vec<(usize, f64)> =
            logits.iter().map(weight).enumerate().filter(|&(_, w)| w >= least && w > 0.0).collect();
        kept.sort_by(|(i, a), (j, b)| b.total_cmp(a).then(i.cmp(j)));
        let (mut mass, mut size) = (0.0, 0);
        while size < kept.len() && (size == 0 || mass < self.top_p * sum) {
            mass += kept[size].1;
            size += 1;
        }
        let mut left = uniform * mass;
        for &(token, weight) in &kept[..size] {
            if left < weight {
                return token;
            }
            left -= weight;
        }
        kept[size - 1].0 // rounding alone leads here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln of 0.5, 0.25, 0.15, 0.1, up to a constant.
    fn logits() -> Vec<f32> {
        [0.15_f32, 0.5, 0.1, 0.25].map(|p| p.ln() + 3.0).to_vec()
    }

    fn shares(sampling: Sampling, samples: u32) -> [f64; 4] {
        let mut counts = [0.0; 4];
        for sample in 0..samples {
            counts[sampling.choose(&logits(), 0, sample, 0).token as usize] += 1.0;
        }
        counts.map(|count| count / f64::from(samples))
    }

    #[test]
    fn draws_follow_the_distribution() {
        const SAMPLES: u32 = 40_000;
        let close = |found: [f64; 4], expected: [f64; 4]| {
            for (found, p) in found.iter().zip(expected) {
                // five standard deviations of a share; exact where p is 0
                let deviation = (p * (1.0 - p) / f64::from(SAMPLES)).sqrt();
                assert!((found - p).abs() <= 5.0 * deviation, "{found} for {p}");
            }
        };
        let plain = Sampling { temperature: 1.0, top_p: 1.0, seed: 7 };
        close(shares(plain, SAMPLES), [0.15, 0.5, 0.1, 0.25]);
        // 0.5 + 0.25 reach 0.7; 0.5 alone reaches 0.5 up to rounding, so just below it
        close(shares(Sampling { top_p: 0.7, ..plain }, SAMPLES), [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
        close(shares(Sampling { top_p: 0.499, ..plain }, SAMPLES), [0.0, 1.0, 0.0, 0.0]);
        // temperature 1/2 squares the probabilities
        let squares = [0.0225, 0.25, 0.01, 0.0625].map(|s| s / 0.345);
        close(shares(Sampling { temperature: 0.5, ..plain }, SAMPLES), squares);
    }

    #[test]
    fn greedy_takes_the_best_and_tells_its_probability() {
        let drawn = Sampling::GREEDY.choose(&logits(), 1, 2, 3);
        assert_eq!(drawn.token, 1);
        assert!((drawn.log_probability - 0.5_f64.ln()).abs() < 1e-6);
        assert_eq!(Sampling::GREEDY.choose(&[1.0, 2.0, 2.0], 0, 0, 0).token, 1);
    }

    #[test]
    fn each_draw_has_its_own_number() {
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, seed: 1 };
        let even = vec![0.0; 1 << 16];
        let draws = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)];
        let tokens: std::collections::BTreeSet<u32> = draws
            .iter()
            .map(|&(place, sample, index)| sampling.choose(&even, place, sample, index).token)
            .collect();
        assert_eq!(tokens.len(), 4);
        let other = Sampling { seed: 2, ..sampling };
        assert_ne!(other.choose(&even, 0, 0, 0).token, sampling.choose(&even, 0, 0, 0).token);
    }
}
