//! Learning rates: update number in, rate out.
//!
//! ```text
//! rate(s) = peak (s + 1) / W                            s < W     (no update is wasted at rate 0)
//!           peak (S - s) / (S - W)                      linear
//!           peak (1 + cos(pi (s - W) / (S - W))) / 2    cosine
//!           peak                                        constant
//! ```
//!
//! s counts updates from 0, S is their number in all, W those of the warm-up. A pure function of the
//! update, so that a resumed run needs no schedule in its checkpoint.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// In a line to 0.
    #[default]
    Linear,
    /// Half a cosine to 0.
    Cosine,
    /// Not at all.
    Constant,
}

/// The rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// W.
    pub warmup: u64,
    /// S.
    pub updates: u64,
    /// How the rate falls.
    pub decay: Decay,
}

impl Schedule {
    /// The rate of update `s`, from 0.
    pub fn rate(&self, s: u64) -> f64 {
        if s < self.warmup {
            return self.peak * (s + 1) as f64 / self.warmup as f64;
        }
        let (done, all) = ((s - self.warmup) as f64, self.updates.saturating_sub(self.warmup).max(1) as f64);
        match self.decay {
            Decay::Linear => self.peak * (1.0 - done / all).max(0.0),
            Decay::Cosine => self.peak * 0.5 * (1.0 + (PI * (done / all).min(1.0)).cos()),
            Decay::Constant => self.peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points() {
        let schedule = |decay| Schedule { peak: 4.0, warmup: 2, updates: 10, decay };
        let linear = schedule(Decay::Linear);
        assert_eq!([0, 1, 2, 6, 9].map(|s| linear.rate(s)), [2.0, 4.0, 4.0, 2.0, 0.5]);
        let cosine = schedule(Decay::Cosine);
        assert_eq!([0, 1, 2].map(|s| cosine.rate(s)), [2.0, 4.0, 4.0]);
        assert!((cosine.rate(6) - 2.0).abs() < 1e-12);
        assert_eq!(schedule(Decay::Constant).rate(9), 4.0);
        assert_eq!(Schedule { peak: 1.0, warmup: 0, updates: 1, decay: Decay::Linear }.rate(0), 1.0);
    }
}
