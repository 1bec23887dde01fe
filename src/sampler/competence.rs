//! Competence: each update draws from the easiest items, from a pool that grows with the square root of
//! the updates done.
//!
//! ```text
//! c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2))     c0 = 0.01, t = 0 .. T-1, T = updates of the epoch
//! ```
//!
//! Update t draws from the floor(c(t) n) easiest of the n items, but always from at least as many as a
//! full batch holds. A draw is uniform, without replacement inside an update and independent between
//! updates: over an epoch easy items come often and a few hard ones not at all.
//! Source: Platanios et al. 2019, equation for the square-root competence, with c0 as in CMCL
//! (arXiv 2206.14579); the floor of one batch and the draw without replacement are ours.

use crate::base::philox::Stream;
use crate::base::{Error, Result};

const INITIAL_COMPETENCE: f64 = 0.01;

/// As many draws as there are items; `pool` holds the items, easiest first.
pub(super) fn order(mut pool: Vec<u32>, batch_size: usize, mut stream: Stream) -> Result<Vec<u32>> {
    if batch_size == 0 {
        return Err(Error::input("found 0, needed at least 1 example per update").key("train.batch_size"));
    }
    let n = pool.len();
    let updates = n.div_ceil(batch_size);
    let mut order = Vec::with_capacity(n);
    for update in 0..updates {
        let open = ((competence(update, updates) * n as f64) as usize).max(batch_size).min(n);
        let draws = batch_size.min(n - order.len());
        // The first draws of a Fisher-Yates shuffle of the open part. What an earlier update moved stays
        // inside the part that was open then, so the open part always holds the easiest items.
        for place in 0..draws {
            pool.swap(place, place + stream.below((open - place) as u32) as usize);
        }
        order.extend_from_slice(&pool[..draws]);
    }
    Ok(order)
}

/// The share of the items, easiest first, that update `t` of `updates` may draw from.
fn competence(t: usize, updates: usize) -> f64 {
    let square = INITIAL_COMPETENCE * INITIAL_COMPETENCE;
    (t as f64 * (1.0 - square) / updates as f64 + square).sqrt().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn competence_starts_at_c0_and_grows_as_a_square_root() {
        // sqrt(t * 0.9999 / 100 + 0.0001), by hand
        for (t, expected) in [(0, 0.01), (1, 0.100_493_781), (25, 0.500_074_994), (100, 1.0)] {
            assert!((competence(t, 100) - expected).abs() < 1e-8, "c({t}) = {}", competence(t, 100));
        }
    }
}
