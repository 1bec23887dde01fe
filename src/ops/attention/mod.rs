//! Attention over the token forest.
//!
//! ```text
//! s[q,k] = scale * Q[q] . K[k]      for k an ancestor-or-self token of q with position[q] - position[k] < window
//! p = softmax over k of s           O[q] = sum_k p[q,k] V[k]           lse[q] = ln sum_k e^s[q,k]
//! dP = dO V^T      dS = p (dP - rowsum(dO O))      dQ = scale dS K      dK = scale dS^T Q      dV = p^T dO
//! ```
//!
//! Shapes: Q, O Nq x (H E); K, V N x (K E); lse Nq x H. Query head h uses key-value head h / (H/K). Query rows
//! may be any ascending subset of the tokens: the last block asks only at loss sites.
//!
//! The backward pass has two halves, one that owns dQ and one that owns dK and dV (7 products instead of
//! 5): every output element is summed by one task in a fixed order, so the bits do not depend on threads.
//! Sources: Vaswani et al. 2017; Dao et al. 2022 (recomputation from lse); docs/math.md#attention.

mod backward;
mod block;
pub mod cuda;
mod forward;
mod layout;
mod seen;
mod shares;

pub use backward::{Saved, backward};
pub use forward::forward;
pub use layout::{CachedRun, Layout};

use crate::device::Buffer;
use crate::device::cpu::Mat;

/// Head counts and the constants of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// H, query heads.
    pub query: usize,
    /// K, key-value heads; divides H.
    pub key_value: usize,
    /// E, head width.
    pub width: usize,
    /// Factor of the scores, usually 1/sqrt(E).
    pub scale: f32,
    /// Sliding window: how many positions a query sees, itself included.
    pub window: Option<u32>,
}

impl Heads {
    fn group(&self) -> usize {
        self.query / self.key_value
    }

    /// The query heads that share key-value head `kv`.
    fn queries_of(&self, kv: usize) -> std::ops::Range<usize> {
        kv * self.group()..(kv + 1) * self.group()
    }

    /// Rows `rows` of head `head` of a buffer that holds `heads` heads a row.
    fn view<'a>(&self, x: &'a Buffer, heads: usize, head: usize, rows: std::ops::Range<usize>) -> Mat<'a> {
        let stride = heads * self.width;
        let data = if rows.is_empty() { &[] } else { &x.values()[rows.start * stride + head * self.width..] };
        Mat::strided(data, rows.len(), self.width, stride)
    }

    fn queries<'a>(&self, x: &'a Buffer, head: usize, rows: std::ops::Range<usize>) -> Mat<'a> {
        self.view(x, self.query, head, rows)
    }

    fn keys<'a>(&self, x: &'a Buffer, head: usize, tokens: std::ops::Range<usize>) -> Mat<'a> {
        self.view(x, self.key_value, head, tokens)
    }

    /// How far back the window lets a query at `position` see.
    fn first_position(&self, position: u32) -> u32 {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}
